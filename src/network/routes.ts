import type { Netlink } from '../host/netlink.ts';
import { attribute, type NetlinkMessage, NLM, readAttributes } from '../lib/netlink.ts';
import {
  type Address,
  addressBytes,
  addressOfBytes,
  type Family,
  formatAddress,
  lastOf,
  parseAddress,
  type Subnet,
  subnetOf,
} from './subnets.ts';

/** Addresses of interfaces, and routes, of both families through rtnetlink (rtnetlink(7)). */

const RTM = { NEWADDR: 20, DELADDR: 21, GETADDR: 22, NEWROUTE: 24, DELROUTE: 25, GETROUTE: 26 } as const;
const IFA = { ADDRESS: 1, LOCAL: 2, BROADCAST: 4 } as const;
const IFA_F_NODAD = 2;
const RTA = { DESTINATION: 1, OUTPUT: 4, GATEWAY: 5 } as const;
const families: Readonly<Record<Family, number>> = { 4: 2, 6: 10 };
const TABLE_MAIN = 254;
const FROM_BOOT = 3;
const SCOPE = { everywhere: 0, link: 253 } as const;
const UNICAST = 1;

/** An interface's address and the length of its subnet's prefix. */
export interface InterfaceAddress {
  address: string;
  prefixLength: number;
}

/** An address that an interface has beside its own: of 169.254.0.0/16 or fe80::/64, as dockerd takes it. */
export function linkLocalAddress(address: string): InterfaceAddress {
  return { address, prefixLength: parseAddress(address).family === 4 ? 16 : 64 };
}

/** A way in the main table: to `destination`, or everywhere, by a gateway, or what is reached directly by an interface. */
export interface Route {
  destination?: Subnet;
  gateway?: string;
  /** An interface's index; needed without a gateway, and with a link-local one. */
  output?: number;
  /** Of a default route without a gateway. */
  family?: Family;
}

/** The addresses of one interface, the first one first; of IPv6 the link-local ones too. */
export async function addressesOf(
  netlink: Netlink,
  index: number,
  family: Family = 4,
): Promise<InterfaceAddress[]> {
  const body = addressHeader(family, 0, 0);
  const replies = await netlink.request([{ type: RTM.GETADDR, flags: NLM.DUMP, body }]);
  return replies
    .filter((reply) => isOf(family, reply.body) && reply.body.readUInt32LE(4) === index)
    .flatMap((reply) => {
      const attributes = readAttributes(reply.body.subarray(8));
      const bytes = attributes.get(IFA.LOCAL) ?? attributes.get(IFA.ADDRESS);
      if (bytes === undefined) return [];
      return [{ address: formatAddress(addressOfBytes(bytes)), prefixLength: reply.body.readUInt8(1) }];
    });
}

/**
 * Every subnet that the main table has a route to, except the default route; and whether it is next to the host or
 * behind a router.
 */
export async function routesOf(
  netlink: Netlink,
  family: Family,
): Promise<{ subnet: Subnet; isDirect: boolean }[]> {
  const body = routeHeader(family);
  body.writeUInt8(0, 4); // every table: not all kernels filter
  const replies = await netlink.request([{ type: RTM.GETROUTE, flags: NLM.DUMP, body }]);
  return replies.flatMap((reply) => {
    // a kernel without IPv6 answers with what it has
    if (!isOf(family, reply.body) || reply.body.readUInt8(4) !== TABLE_MAIN) return [];
    const attributes = readAttributes(reply.body.subarray(12));
    const destination = attributes.get(RTA.DESTINATION);
    if (destination === undefined) return [];
    const subnet = subnetOf(addressOfBytes(destination), reply.body.readUInt8(1));
    return [{ subnet, isDirect: !attributes.has(RTA.GATEWAY) }];
  });
}

/**
 * The message that gives an interface an address. An IPv6 one is usable at once: nobody else can have it, and looking
 * for one who has would take a second.
 */
export function addAddressMessage(
  index: number,
  { address, prefixLength }: InterfaceAddress,
): NetlinkMessage {
  const own = parseAddress(address);
  const parts = [attribute(IFA.LOCAL, addressBytes(own)), attribute(IFA.ADDRESS, addressBytes(own))];
  if (own.family === 4 && prefixLength < 31)
    parts.push(attribute(IFA.BROADCAST, addressBytes(lastOf(subnetOf(own, prefixLength)))));
  const header = addressHeader(own.family, index, prefixLength);
  if (own.family === 6) header.writeUInt8(IFA_F_NODAD, 2);
  const flags = NLM.ACK | NLM.CREATE | NLM.EXCLUSIVE;
  return { type: RTM.NEWADDR, flags, body: Buffer.concat([header, ...parts]) };
}

/** The message that takes an address from an interface. */
export function removeAddressMessage(
  index: number,
  { address, prefixLength }: InterfaceAddress,
): NetlinkMessage {
  const own = parseAddress(address);
  const body = [
    addressHeader(own.family, index, prefixLength),
    attribute(IFA.LOCAL, addressBytes(own)),
    // IPv6 goes by this one, IPv4 by both
    attribute(IFA.ADDRESS, addressBytes(own)),
  ];
  return { type: RTM.DELADDR, flags: NLM.ACK, body: Buffer.concat(body) };
}

export function addRouteMessage(route: Route): NetlinkMessage {
  const flags = NLM.ACK | NLM.CREATE | NLM.EXCLUSIVE;
  return { type: RTM.NEWROUTE, flags, body: routeBody(route) };
}

export function removeRouteMessage(route: Route): NetlinkMessage {
  return { type: RTM.DELROUTE, flags: NLM.ACK, body: routeBody(route) };
}

function routeBody({ destination, gateway, output, family }: Route): Buffer {
  const via: Address | undefined = gateway === undefined ? undefined : parseAddress(gateway);
  const header = routeHeader(via?.family ?? destination?.family ?? family ?? 4);
  const parts = [header];
  if (destination !== undefined) {
    header.writeUInt8(destination.prefixLength, 1);
    const { family: of, base: bits } = destination;
    parts.push(attribute(RTA.DESTINATION, addressBytes({ family: of, bits })));
  }
  // IPv6 knows no scopes, and takes none into account
  if (via === undefined) header.writeUInt8(SCOPE.link, 6);
  else parts.push(attribute(RTA.GATEWAY, addressBytes(via)));
  if (output !== undefined) parts.push(attribute(RTA.OUTPUT, output));
  return Buffer.concat(parts);
}

function isOf(family: Family, header: Buffer): boolean {
  return header.readUInt8(0) === families[family];
}

/** `struct ifaddrmsg`. */
function addressHeader(family: Family, index: number, prefixLength: number): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(families[family], 0);
  header.writeUInt8(prefixLength, 1);
  header.writeUInt32LE(index, 4);
  return header;
}

/** `struct rtmsg` of a route to everywhere in the main table. */
function routeHeader(family: Family): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt8(families[family], 0);
  header.writeUInt8(TABLE_MAIN, 4);
  header.writeUInt8(FROM_BOOT, 5);
  header.writeUInt8(SCOPE.everywhere, 6);
  header.writeUInt8(UNICAST, 7);
  return header;
}
