import { isIPv4 } from 'node:net';
import { fail } from '../errors.ts';

/** A range of IPv4 addresses with a common prefix, such as 172.17.0.0/16. Addresses are 32-bit numbers in here. */
export interface Subnet {
  /** The lowest address of the range. */
  readonly base: number;
  readonly prefixLength: number;
}

/** `172.17.0.1/16` names both an address and its subnet. Undefined where the text is no such thing. */
export function parseCidr(text: string): { address: number; subnet: Subnet } | undefined {
  const [ip = '', length, more] = text.split('/');
  const prefixLength = Number(length);
  if (more !== undefined || !isIPv4(ip) || !/^\d{1,2}$/.test(length ?? '') || prefixLength > 32)
    return undefined;
  const address = parseAddress(ip);
  return { address, subnet: subnetOf(address, prefixLength) };
}

/** The subnet of that size which an address lies in. */
export function subnetOf(address: number, prefixLength: number): Subnet {
  return { base: address - (address % sizeOf(prefixLength)), prefixLength };
}

/** Throws 400 for what is no IPv4 address. */
export function parseAddress(text: string): number {
  if (!isIPv4(text)) throw fail.badRequest(`invalid IPv4 address: ${text}`);
  return text.split('.').reduce((number, part) => number * 256 + Number(part), 0);
}

export function formatAddress(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join('.');
}

export function formatSubnet({ base, prefixLength }: Subnet): string {
  return `${formatAddress(base)}/${prefixLength}`;
}

/** The highest address of the range: its broadcast address. */
export function lastOf({ base, prefixLength }: Subnet): number {
  return base + sizeOf(prefixLength) - 1;
}

export function contains(subnet: Subnet, address: number): boolean {
  return address >= subnet.base && address <= lastOf(subnet);
}

export function isOverlapping(one: Subnet, other: Subnet): boolean {
  return contains(one, other.base) || contains(other, one.base);
}

function sizeOf(prefixLength: number): number {
  return 2 ** (32 - prefixLength);
}
