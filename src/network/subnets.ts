import { isIPv4, isIPv6 } from 'node:net';
import { fail } from '../errors.ts';

/** Addresses and subnets of both families, as text, as numbers and as the bytes that go to the kernel. */

export type Family = 4 | 6;

export interface Address {
  readonly family: Family;
  /** 32 or 128 of them. */
  readonly bits: bigint;
}

/** A range of addresses with a common prefix, such as 172.17.0.0/16 or fd00:1::/64. */
export interface Subnet {
  readonly family: Family;
  /** The lowest address of the range. */
  readonly base: bigint;
  readonly prefixLength: number;
}

const widths: Readonly<Record<Family, number>> = { 4: 32, 6: 128 };

/** ::ffff:0:0/96 in its upper bits: an IPv4 address in IPv6's spelling. */
const MAPPED = 0xffffn;

/** Undefined for what is no address. An IPv4 address in IPv6's spelling is read as what it is; a zone is refused. */
export function readAddress(text: string): Address | undefined {
  if (isIPv4(text)) return { family: 4, bits: ipv4Bits(text) };
  if (!isIPv6(text) || text.includes('%')) return undefined;
  const bits = ipv6Bits(text);
  return bits >> 32n === MAPPED ? { family: 4, bits: bits & 0xffffffffn } : { family: 6, bits };
}

/** Throws 400 for what is no address, or none of the wanted family. */
export function parseAddress(text: string, family?: Family): Address {
  const address = readAddress(text);
  if (address === undefined || (family !== undefined && address.family !== family))
    throw fail.badRequest(`invalid ${family === undefined ? 'IP' : `IPv${family}`} address: ${text}`);
  return address;
}

/** As RFC 5952 wants it: lower case, no leading zeros, the longest run of zeros left out. */
export function formatAddress({ family, bits }: Address): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => (bits >> shift) & 0xffn).join('.');
  const groups = Array.from({ length: 8 }, (_, at) =>
    ((bits >> BigInt(112 - at * 16)) & 0xffffn).toString(16),
  );
  const zeros = groups.map((group) => (group === '0' ? '0' : 'x')).join('');
  const longest = (zeros.match(/0{2,}/g) ?? []).reduce((a, b) => (b.length > a.length ? b : a), '');
  if (longest === '') return groups.join(':');
  const at = zeros.indexOf(longest);
  return `${groups.slice(0, at).join(':')}::${groups.slice(at + longest.length).join(':')}`;
}

/** In network byte order, 4 or 16 bytes. */
export function addressBytes(address: Address | string): Buffer {
  const { family, bits } = typeof address === 'string' ? parseAddress(address) : address;
  const digits = widths[family] / 4;
  return Buffer.from(bits.toString(16).padStart(digits, '0'), 'hex');
}

/** Of 4 or 16 bytes in network byte order. */
export function addressOfBytes(bytes: Buffer): Address {
  return { family: bytes.length === 4 ? 4 : 6, bits: BigInt(`0x${bytes.toString('hex')}`) };
}

/** `172.17.0.1/16` names both an address and its subnet. Undefined where the text is no such thing. */
export function parseCidr(text: string): { address: Address; subnet: Subnet } | undefined {
  const [ip = '', length = '', more] = text.split('/');
  const address = readAddress(ip);
  if (more !== undefined || address === undefined || !/^(0|[1-9]\d{0,2})$/.test(length)) return undefined;
  const isPlain = address.family === 6 || isIPv4(ip);
  if (!isPlain || Number(length) > widths[address.family]) return undefined;
  return { address, subnet: subnetOf(address, Number(length)) };
}

/** The subnet of that size which an address lies in. */
export function subnetOf({ family, bits }: Address, prefixLength: number): Subnet {
  const hostBits = BigInt(widths[family] - prefixLength);
  return { family, base: (bits >> hostBits) << hostBits, prefixLength };
}

export function formatSubnet(subnet: Subnet): string {
  return `${formatAddress(baseOf(subnet))}/${subnet.prefixLength}`;
}

/** How many addresses it has. */
export function sizeOf({ family, prefixLength }: Subnet): bigint {
  return 1n << BigInt(widths[family] - prefixLength);
}

/** The lowest address of the range. */
export function baseOf({ family, base }: Subnet): Address {
  return { family, bits: base };
}

/** The highest address of the range: of an IPv4 subnet, its broadcast address. */
export function lastOf(subnet: Subnet): Address {
  return addressAt(subnet, sizeOf(subnet) - 1n);
}

/** The address so many places above the lowest one. */
export function addressAt({ family, base }: Subnet, offset: bigint): Address {
  return { family, bits: base + offset };
}

export function contains(subnet: Subnet, { family, bits }: Address): boolean {
  return family === subnet.family && bits >= subnet.base && bits < subnet.base + sizeOf(subnet);
}

/** All of `inner` lies in `outer`. */
export function isWithin(inner: Subnet, outer: Subnet): boolean {
  return inner.prefixLength >= outer.prefixLength && contains(outer, baseOf(inner));
}

export function isOverlapping(one: Subnet, other: Subnet): boolean {
  return isWithin(one, other) || isWithin(other, one);
}

function ipv4Bits(text: string): bigint {
  return text.split('.').reduce((bits, part) => bits * 256n + BigInt(part), 0n);
}

function ipv6Bits(text: string): bigint {
  const [head = '', tail] = text.split('::');
  const before = groupsOf(head);
  const after = groupsOf(tail ?? '');
  const missing = Array.from({ length: 8 - before.length - after.length }, () => 0n);
  return [...before, ...missing, ...after].reduce((bits, group) => (bits << 16n) | group, 0n);
}

/** The last two of them may be spelled as an IPv4 address. */
function groupsOf(text: string): bigint[] {
  if (text === '') return [];
  return text.split(':').flatMap((part) => {
    if (!part.includes('.')) return [BigInt(`0x${part}`)];
    const bits = ipv4Bits(part);
    return [bits >> 16n, bits & 0xffffn];
  });
}
