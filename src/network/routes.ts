import type { Netlink } from '../host/netlink.ts';
import { attribute, type NetlinkMessage, NLM, readAttributes } from '../lib/netlink.ts';
import { formatAddress, lastOf, parseAddress, type Subnet, subnetOf } from './subnets.ts';

/** IPv4 addresses of interfaces, and routes, through rtnetlink (rtnetlink(7)). */

const RTM = { NEWADDR: 20, DELADDR: 21, GETADDR: 22, NEWROUTE: 24, GETROUTE: 26 } as const;
const IFA = { ADDRESS: 1, LOCAL: 2, BROADCAST: 4 } as const;
const RTA = { DESTINATION: 1, OUTPUT: 4, GATEWAY: 5 } as const;
const AF_INET = 2;
const TABLE_MAIN = 254;
const FROM_BOOT = 3;
const UNICAST = 1;

/** An interface's address and the length of its subnet's prefix. */
export interface InterfaceAddress {
  address: string;
  prefixLength: number;
}

/** The IPv4 addresses of one interface, the first one first. */
export async function addressesOf(netlink: Netlink, index: number): Promise<InterfaceAddress[]> {
  const body = addressHeader(0, 0);
  const replies = await netlink.request([{ type: RTM.GETADDR, flags: NLM.DUMP, body }]);
  return replies
    .filter((reply) => reply.body.readUInt32LE(4) === index)
    .flatMap((reply) => {
      const address = readAttributes(reply.body.subarray(8)).get(IFA.LOCAL)?.readUInt32BE(0);
      return address === undefined
        ? []
        : [{ address: formatAddress(address), prefixLength: reply.body.readUInt8(1) }];
    });
}

/** Every subnet that the main table has a route to, except the default route; `except` leaves out one interface's. */
export async function routedSubnets(netlink: Netlink, except?: number): Promise<Subnet[]> {
  const body = routeHeader();
  body.writeUInt8(0, 4); // every table: not all kernels filter
  const replies = await netlink.request([{ type: RTM.GETROUTE, flags: NLM.DUMP, body }]);
  return replies.flatMap((reply) => {
    const attributes = readAttributes(reply.body.subarray(12));
    const destination = attributes.get(RTA.DESTINATION);
    const isOther = attributes.get(RTA.OUTPUT)?.readUInt32LE(0) !== except || except === undefined;
    if (reply.body.readUInt8(4) !== TABLE_MAIN || destination === undefined || !isOther) return [];
    return [subnetOf(destination.readUInt32BE(0), reply.body.readUInt8(1))];
  });
}

/** The message that gives an interface an address. */
export function addAddressMessage(
  index: number,
  { address, prefixLength }: InterfaceAddress,
): NetlinkMessage {
  const number = parseAddress(address);
  const parts = [attribute(IFA.LOCAL, u32(number)), attribute(IFA.ADDRESS, u32(number))];
  if (prefixLength < 31) parts.push(attribute(IFA.BROADCAST, u32(lastOf(subnetOf(number, prefixLength)))));
  return {
    type: RTM.NEWADDR,
    flags: NLM.ACK | NLM.CREATE | NLM.EXCLUSIVE,
    body: Buffer.concat([addressHeader(index, prefixLength), ...parts]),
  };
}

/** The message that takes an address from an interface. */
export function removeAddressMessage(
  index: number,
  { address, prefixLength }: InterfaceAddress,
): NetlinkMessage {
  const body = [addressHeader(index, prefixLength), attribute(IFA.LOCAL, u32(parseAddress(address)))];
  return { type: RTM.DELADDR, flags: NLM.ACK, body: Buffer.concat(body) };
}

/** The message that makes `gateway` the way to everywhere else. */
export function defaultRouteMessage(gateway: string): NetlinkMessage {
  const body = [routeHeader(), attribute(RTA.GATEWAY, u32(parseAddress(gateway)))];
  return { type: RTM.NEWROUTE, flags: NLM.ACK | NLM.CREATE | NLM.EXCLUSIVE, body: Buffer.concat(body) };
}

/** `struct ifaddrmsg`. */
function addressHeader(index: number, prefixLength: number): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(AF_INET, 0);
  header.writeUInt8(prefixLength, 1);
  header.writeUInt32LE(index, 4);
  return header;
}

/** `struct rtmsg` of a route to everywhere in the main table. */
function routeHeader(): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt8(AF_INET, 0);
  header.writeUInt8(TABLE_MAIN, 4);
  header.writeUInt8(FROM_BOOT, 5);
  header.writeUInt8(UNICAST, 7);
  return header;
}

/** Addresses go in network byte order. */
function u32(address: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(address);
  return bytes;
}
