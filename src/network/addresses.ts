import { addressAt, formatAddress, parseCidr } from './subnets.ts';

/** Addresses that follow from others. */

/** The longest prefix that leaves room for a MAC address. */
const MAX_PREFIX = 80;

/** The MAC address that goes with an IPv4 address: who gets the address next is still found by its neighbours. */
export function hardwareAddress(address: string): string {
  return formatMac(Buffer.of(0x02, 0x42, ...address.split('.').map(Number)));
}

/** `02:42:ac:11:00:02` */
export function formatMac(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/**
 * The IPv6 address that goes with a MAC address in that subnet, which dockerd gives to containers of its default bridge;
 * undefined where there is no room for it.
 */
export function addressOfMac(subnetText: string, macAddress: string): string | undefined {
  const subnet = parseCidr(subnetText)?.subnet;
  if (subnet?.family !== 6 || subnet.prefixLength > MAX_PREFIX) return undefined;
  return formatAddress(addressAt(subnet, BigInt(`0x${macAddress.replaceAll(/[:-]/g, '')}`)));
}
