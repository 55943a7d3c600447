import { codeOf } from '../errors.ts';
import type { Netlink } from '../host/netlink.ts';
import { attribute, NLM, readAttributes } from '../lib/netlink.ts';
import { addressBytes, parseAddress } from './subnets.ts';

// include/uapi/linux/netfilter/nfnetlink_conntrack.h
const CONNTRACK = 1 << 8;
const MESSAGE = { GET: 1, DELETE: 2 } as const;
const CTA = { TUPLE_ORIGINAL: 1, TUPLE_REPLY: 2, ID: 12 } as const;
const TUPLE = { ADDRESSES: 1, PROTOCOL: 2 } as const;
const SOURCE = { 4: 1, 6: 3 } as const;
const FIELD = { PROTOCOL_NUMBER: 1, DESTINATION_PORT: 3 } as const;
const UDP = 17;
const protocolFamilies = { 4: 2, 6: 10 } as const;

/** Few enough for the socket's buffers, also if each one is answered with an error. */
const PER_REQUEST = 100;

/** Which tracked connections to forget: all with this container, and those to these UDP ports of the host. */
export interface Forgettable {
  /** Of either family; only connections of that family are looked at. */
  readonly containerIp: string;
  readonly udpPorts: readonly number[];
}

/**
 * Makes the kernel forget connections that rules would treat differently by now. It translates each packet of a
 * known connection as it did the first one: a UDP client that never pauses would otherwise miss a port published
 * later, or send to a container that is gone for as long as it lives.
 */
export async function forgetConnections(netlink: Netlink, what: Forgettable): Promise<void> {
  const { family } = parseAddress(what.containerIp);
  const header = Buffer.of(protocolFamilies[family], 0, 0, 0);
  const listed = await netlink.request([{ type: CONNTRACK | MESSAGE.GET, flags: NLM.DUMP, body: header }]);
  const messages = listed.flatMap(({ body }) => {
    const attributes = readAttributes(body.subarray(header.length));
    const original = attributes.get(CTA.TUPLE_ORIGINAL);
    const reply = attributes.get(CTA.TUPLE_REPLY);
    if (original === undefined || reply === undefined || !isMeant(original, reply, what)) return [];
    const parts = [header, attribute(CTA.TUPLE_ORIGINAL | 0x8000, original)];
    const id = attributes.get(CTA.ID); // so that a connection begun meanwhile is not mistaken for it
    if (id !== undefined) parts.push(attribute(CTA.ID, id));
    return [{ type: CONNTRACK | MESSAGE.DELETE, flags: 0, body: Buffer.concat(parts) }];
  });
  for (let at = 0; at < messages.length; at += PER_REQUEST)
    await netlink.request(messages.slice(at, at + PER_REQUEST)).catch(ignoreEnded);
}

/** A connection may have ended by itself meanwhile. */
function ignoreEnded(cause: unknown): void {
  if (codeOf(cause) !== 'ENOENT') throw cause;
}

function isMeant(original: Buffer, reply: Buffer, { containerIp, udpPorts }: Forgettable): boolean {
  const container = addressBytes(containerIp);
  const sent = readTuple(original);
  if ([sent, readTuple(reply)].some(({ source }) => source?.equals(container))) return true;
  return sent.protocol === UDP && udpPorts.includes(sent.destinationPort ?? 0);
}

function readTuple(tuple: Buffer): {
  source: Buffer | undefined;
  protocol: number | undefined;
  destinationPort: number | undefined;
} {
  const parts = readAttributes(tuple);
  const addresses = readAttributes(parts.get(TUPLE.ADDRESSES) ?? Buffer.alloc(0));
  const protocol = readAttributes(parts.get(TUPLE.PROTOCOL) ?? Buffer.alloc(0));
  return {
    source: addresses.get(SOURCE[4]) ?? addresses.get(SOURCE[6]),
    protocol: protocol.get(FIELD.PROTOCOL_NUMBER)?.readUInt8(0),
    destinationPort: protocol.get(FIELD.DESTINATION_PORT)?.readUInt16BE(0),
  };
}
