import { codeOf, fail, messageOf } from '../errors.ts';
import type { Netlink } from '../host/netlink.ts';
import { attribute, type NetlinkMessage, NLM, nested, readAttributes } from '../lib/netlink.ts';

/**
 * Network interfaces through rtnetlink (rtnetlink(7)): bridges, pairs of veth, what is plugged in where. By netlink
 * and not by `ip`, because a container start would spawn that twice: 6 ms here, five times as much on a small board.
 */

/** An interface as the kernel describes it. */
export interface Link {
  index: number;
  name: string;
  /** `bridge`, `veth`; undefined for hardware. */
  kind: string | undefined;
  mtu: number;
  /** {@link OUR_GROUP} if it was made here. */
  group: number;
  /** The bridge that it is plugged into, by index. */
  bridge: number | undefined;
  /** Of a bridge's port: no frames from and to other such ports. */
  isIsolated: boolean;
}

const RTM = { NEWLINK: 16, DELLINK: 17, GETLINK: 18, SETLINK: 19 } as const;
const IFLA = {
  ADDRESS: 1,
  IFNAME: 3,
  MTU: 4,
  MASTER: 10,
  PROTINFO: 12,
  LINKINFO: 18,
  NET_NS_PID: 19,
  GROUP: 27,
} as const;
const INFO = { KIND: 1, DATA: 2, PORT_DATA: 5 } as const;
const VETH_PEER = 1;
const BRPORT = { HAIRPIN: 4, ISOLATED: 33 } as const;
const IFF_UP = 1;

/**
 * The device group that everything made here is in from its first moment, so that after a crash it is told from what
 * others made, Docker's bridges of like names among them. The letters skr.
 */
export const OUR_GROUP = 0x736b72;

const AF_BRIDGE = 7;

/** The interface with that name; undefined if there is none. */
export async function findLink(netlink: Netlink, name: string): Promise<Link | undefined> {
  try {
    const [reply] = await netlink.request([linkByName(RTM.GETLINK, name)]);
    return reply === undefined ? undefined : readLink(reply.body);
  } catch (cause) {
    if (codeOf(cause) === 'ENODEV') return undefined;
    throw cause;
  }
}

/** What is plugged into a bridge. */
export async function portsOf(netlink: Netlink, bridge: number): Promise<Link[]> {
  // the kernel could filter by bridge, but older ones ignore that and list all
  const replies = await netlink.request([{ type: RTM.GETLINK, flags: NLM.DUMP, body: linkHeader(0) }]);
  return replies.map(({ body }) => readLink(body)).filter((link) => link.bridge === bridge);
}

/** The bridge with that name, made if need be, its MTU set, up. A new one gets the MAC address, an old one keeps its own. */
export async function ensureBridge(
  netlink: Netlink,
  { name, mtu, macAddress }: { name: string; mtu: number; macAddress: string },
): Promise<Link> {
  const found = await findLink(netlink, name);
  if (found !== undefined && found.kind !== 'bridge')
    throw fail.network(`interface ${name} exists and is not a bridge`);
  if (found === undefined) {
    const parts = [
      attribute(IFLA.IFNAME, name),
      attribute(IFLA.MTU, mtu),
      // a bridge without an address of its own takes its lowest port's, and changes it as ports come and go
      attribute(IFLA.ADDRESS, macBytes(macAddress)),
      nested(IFLA.LINKINFO, attribute(INFO.KIND, 'bridge')),
    ];
    await make(netlink, name, parts);
  } else {
    await netlink.request([linkByName(RTM.SETLINK, name, [attribute(IFLA.MTU, mtu)], 'up')]);
  }
  const bridge = await findLink(netlink, name);
  if (bridge === undefined) throw fail.network(`bridge ${name} vanished while it was set up`);
  return bridge;
}

/** One end in `bridge`, up; the other one, not up yet, with its own name and address in the network of process `pid`. */
export interface VethPair {
  name: string;
  mtu: number;
  bridge: number;
  inside: { name: string; macAddress: string; pid: number };
}

/** Makes a pair of interfaces. Throws EEXIST where the host's name is taken. */
export async function addVeth(netlink: Netlink, { name, mtu, bridge, inside }: VethPair): Promise<void> {
  const peer = Buffer.concat([
    linkHeader(0),
    attribute(IFLA.IFNAME, inside.name),
    attribute(IFLA.MTU, mtu),
    attribute(IFLA.ADDRESS, macBytes(inside.macAddress)),
    attribute(IFLA.NET_NS_PID, inside.pid),
  ]);
  const kind = nested(
    IFLA.LINKINFO,
    attribute(INFO.KIND, 'veth'),
    nested(INFO.DATA, attribute(VETH_PEER, peer)),
  );
  const parts = [attribute(IFLA.IFNAME, name), attribute(IFLA.MTU, mtu)];
  await make(netlink, name, [...parts, attribute(IFLA.MASTER, bridge), kind]);
}

async function make(netlink: Netlink, name: string, parts: Buffer[]): Promise<void> {
  const body = Buffer.concat([linkHeader(0, 'up'), ...parts]);
  try {
    await netlink.request([{ type: RTM.NEWLINK, flags: NLM.ACK | NLM.CREATE | NLM.EXCLUSIVE, body }]);
  } catch (cause) {
    if (codeOf(cause) === 'EEXIST') throw cause;
    throw fail.network(`failed to add interface ${name}: ${messageOf(cause)}`, { cause });
  }
}

/**
 * How a bridge treats one of its ports. Hairpin: frames may leave by the port they came in. Isolated (Linux 4.18):
 * none from and to other isolated ports; throws if the kernel has no such thing, instead of leaving the port open.
 */
export async function setPort(
  netlink: Netlink,
  name: string,
  { isHairpin, isIsolated }: { isHairpin: boolean; isIsolated: boolean },
): Promise<void> {
  const port = await findLink(netlink, name);
  if (port === undefined) throw fail.network(`interface ${name} vanished while it was set up`);
  const flags = nested(
    IFLA.PROTINFO,
    attribute(BRPORT.HAIRPIN, Buffer.of(Number(isHairpin))),
    attribute(BRPORT.ISOLATED, Buffer.of(Number(isIsolated))),
  );
  const body = Buffer.concat([linkHeader(port.index, undefined, AF_BRIDGE), flags]);
  await netlink.request([{ type: RTM.SETLINK, flags: NLM.ACK, body }]);
  if (isIsolated && !(await findLink(netlink, name))?.isIsolated)
    throw fail.network('icc=false needs a kernel with isolated bridge ports (Linux 4.18)');
}

/** Plugs an interface into a bridge and sets it up. */
export async function plugIn(netlink: Netlink, name: string, bridge: number): Promise<void> {
  await netlink.request([linkByName(RTM.SETLINK, name, [attribute(IFLA.MASTER, bridge)], 'up')]);
}

/** Takes an interface out of its bridge and down, so that nothing passes any more; 0.2 ms. One that is gone is fine. */
export async function unplug(netlink: Netlink, name: string): Promise<void> {
  await unlessGone(netlink.request([linkByName(RTM.SETLINK, name, [attribute(IFLA.MASTER, 0)], 'down')]));
}

/** Removes an interface; a veth takes its other end with it. The kernel takes 20 ms. One that is gone is fine. */
export async function removeLink(netlink: Netlink, name: string): Promise<void> {
  await unlessGone(netlink.request([linkByName(RTM.DELLINK, name)]));
}

async function unlessGone(request: Promise<unknown>): Promise<void> {
  try {
    await request;
  } catch (cause) {
    if (codeOf(cause) !== 'ENODEV') throw cause;
  }
}

/** The message that brings an interface up. */
export function upMessage(index: number): NetlinkMessage {
  return { type: RTM.SETLINK, flags: NLM.ACK, body: linkHeader(index, 'up') };
}

/** Throws 400 for what is no address of a single Ethernet interface. */
export function macBytes(text: string): Buffer {
  const bytes = Buffer.from(text.replaceAll(/[:.-]/g, ''), 'hex');
  const isWritten = /^(?:(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4})$/i.test(text);
  const isAddress = isWritten && ((bytes[0] ?? 1) & 1) === 0;
  if (!isAddress) throw fail.badRequest(`invalid MAC address: ${text}`);
  return bytes;
}

function linkByName(type: number, name: string, parts: Buffer[] = [], wish?: 'up' | 'down'): NetlinkMessage {
  const body = Buffer.concat([linkHeader(0, wish), attribute(IFLA.IFNAME, name), ...parts]);
  return { type, flags: NLM.ACK, body };
}

/** `struct ifinfomsg`. */
export function linkHeader(index: number, wish?: 'up' | 'down', family = 0): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt8(family, 0);
  header.writeInt32LE(index, 4);
  if (wish !== undefined) {
    header.writeUInt32LE(wish === 'up' ? IFF_UP : 0, 8);
    header.writeUInt32LE(IFF_UP, 12); // which of the flags are meant
  }
  return header;
}

function readLink(body: Buffer): Link {
  const attributes = readAttributes(body.subarray(16));
  const info = readAttributes(attributes.get(IFLA.LINKINFO) ?? Buffer.alloc(0));
  const port = readAttributes(info.get(INFO.PORT_DATA) ?? Buffer.alloc(0));
  return {
    index: body.readInt32LE(4),
    name: readText(attributes.get(IFLA.IFNAME)) ?? '',
    kind: readText(info.get(INFO.KIND)),
    mtu: attributes.get(IFLA.MTU)?.readUInt32LE(0) ?? 0,
    group: attributes.get(IFLA.GROUP)?.readUInt32LE(0) ?? 0,
    bridge: attributes.get(IFLA.MASTER)?.readUInt32LE(0),
    isIsolated: port.get(BRPORT.ISOLATED)?.readUInt8(0) === 1,
  };
}

function readText(bytes: Buffer | undefined): string | undefined {
  return bytes?.toString().replace(/\0.*$/s, '');
}
