import { fail } from '../errors.ts';
import {
  type Address,
  baseOf,
  contains,
  formatAddress,
  isOverlapping,
  lastOf,
  parseAddress,
  readAddress,
  type Subnet,
  subnetOf,
} from './subnets.ts';

/** Where a network that was given no subnet may lie, in order of preference: dockerd's own list. */
function* candidates(): Iterable<Subnet> {
  for (let second = 17; second <= 31; second++) yield subnetOf(parseAddress(`172.${second}.0.0`), 16);
  for (let third = 0; third < 256; third += 16) yield subnetOf(parseAddress(`192.168.${third}.0`), 20);
}

/**
 * The first subnet that hides nothing from the host: it overlaps none of those in use, and none of the name servers
 * (given as text; what is no address cannot clash) lies in it.
 */
export function chooseSubnet(inUse: readonly Subnet[], nameServers: readonly string[] = []): Subnet {
  const servers = nameServers.flatMap((server) => readAddress(server) ?? []);
  for (const subnet of candidates()) {
    if (inUse.some((other) => isOverlapping(subnet, other))) continue;
    if (!servers.some((server) => contains(subnet, server))) return subnet;
  }
  throw fail.network('could not find an available, non-overlapping IPv4 address pool among the defaults');
}

/** The MAC address that goes with an IPv4 address: who gets the address next is still found by its neighbours. */
export function hardwareAddress(address: string): string {
  const bytes = [0x02, 0x42, ...address.split('.').map(Number)];
  return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/**
 * Who has which address of a subnet. Gives out the lowest one that is free, never the subnet's first and last
 * address nor the gateway. Keeps nothing anywhere: after a restart the owner takes what is in use once more.
 */
export class AddressPool {
  readonly #subnet: Subnet;
  readonly #range: Subnet;
  readonly #reserved: ReadonlySet<bigint>;
  readonly #taken = new Set<bigint>();

  /** `range`: the part of the subnet that addresses come from when none is asked for. */
  constructor(o: { subnet: Subnet; range?: Subnet; gateway: string }) {
    this.#subnet = o.subnet;
    this.#range = o.range ?? o.subnet;
    // a subnet of one or two addresses has none to spare (RFC 3021)
    const ends = o.subnet.prefixLength > 30 ? [] : [baseOf(o.subnet), lastOf(o.subnet)];
    this.#reserved = new Set([...ends, parseAddress(o.gateway)].map(({ bits }) => bits));
  }

  /** The lowest free address, or the wanted one. */
  take(wanted?: string): string {
    const address =
      wanted === undefined ? this.#lowestFree() : this.#check(parseAddress(wanted, this.#subnet.family));
    this.#taken.add(address.bits);
    return formatAddress(address);
  }

  /** Gives an address back; one that is not taken stays so. */
  release(address: string): void {
    this.#taken.delete(parseAddress(address).bits);
  }

  #lowestFree(): Address {
    const { family, base } = this.#range;
    const last = lastOf(this.#range).bits;
    for (let bits = base; bits <= last; bits++) if (!this.#isTaken({ family, bits })) return { family, bits };
    throw fail.network("no available IPv4 addresses on this network's address pools");
  }

  #check(address: Address): Address {
    if (!contains(this.#subnet, address))
      throw fail.network('Requested address is out of range', { status: 400 });
    if (this.#isTaken(address)) throw fail.network('Address already in use', { status: 403 });
    return address;
  }

  #isTaken({ bits }: Address): boolean {
    return this.#taken.has(bits) || this.#reserved.has(bits);
  }
}
