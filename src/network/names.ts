import { addressBytes, type Family } from './subnets.ts';

/** A container's place on a network that has names. */
export interface Membership {
  networkId: string;
  networkName: string;
  /** Other networks of the container are asked before it. */
  isInternal: boolean;
  containerId: string;
  /** Empty: none. */
  ipAddress: string;
  ipv6Address: string;
  /** What everybody on the network may call it; the first is what its address stands for. */
  names: readonly string[];
  /** What this container alone calls others on the network: its word, and their name. */
  links: Readonly<Record<string, string>>;
}

/** The places of a network, and by lower-case name. */
interface Roll {
  readonly places: Map<string, Membership>;
  readonly byName: Map<string, Set<Membership>>;
}

/**
 * Who is called what on which network. A container sees the names of the networks that it is on and no others. Letters
 * in either case are the same. Pure; after a restart the owner lets everybody join once more.
 */
export class Names {
  readonly #networks = new Map<string, Roll>();
  /** The places of each container, in the order in which it asks its networks. */
  readonly #homes = new Map<string, Membership[]>();

  /** Takes the place of what the container was called on that network before. */
  join(place: Membership): void {
    const { networkId, containerId } = place;
    this.leave(networkId, containerId);
    const roll = this.#networks.get(networkId) ?? { places: new Map(), byName: new Map() };
    this.#networks.set(networkId, roll);
    roll.places.set(containerId, place);
    for (const name of place.names) {
      const key = name.toLowerCase();
      roll.byName.set(key, (roll.byName.get(key) ?? new Set()).add(place));
    }
    this.#homes.set(containerId, [...(this.#homes.get(containerId) ?? []), place].sort(inOrder));
  }

  /** One that is not there is fine. */
  leave(networkId: string, containerId: string): void {
    const roll = this.#networks.get(networkId);
    const place = roll?.places.get(containerId);
    if (roll === undefined || place === undefined) return;
    roll.places.delete(containerId);
    for (const name of place.names) {
      const key = name.toLowerCase();
      const named = roll.byName.get(key);
      named?.delete(place);
      if (named?.size === 0) roll.byName.delete(key);
    }
    if (roll.places.size === 0) this.#networks.delete(networkId);
    const left = (this.#homes.get(containerId) ?? []).filter((home) => home !== place);
    if (left.length > 0) this.#homes.set(containerId, left);
    else this.#homes.delete(containerId);
  }

  /** The container's places, in the order in which it asks its networks. */
  placesOf(containerId: string): readonly Membership[] {
    return this.#homes.get(containerId) ?? [];
  }

  /**
   * The addresses behind a name as the container sees it, each once: none where the name has none of that family.
   * Undefined if nobody there is called so. `a.b` may be `a.b` on any of its networks, or `a` on network `b`.
   */
  addressesOf(containerId: string, asked: string, family: Family): string[] | undefined {
    const homes = this.placesOf(containerId);
    const whole = asked.toLowerCase();
    for (let at = whole.length; at > 0; at = whole.lastIndexOf('.', at - 1)) {
      const name = whole.slice(0, at);
      const network = asked.slice(at + 1);
      const on = homes.filter(({ networkName }) => network === '' || networkName === network);
      const found = this.#linked(on, name) ?? this.#named(on, name);
      if (found !== undefined) return addresses(found, family);
    }
    return undefined;
  }

  /** What the address of a container is called on a network that it shares with this one: `name.network`. */
  nameOf(containerId: string, address: Buffer): string | undefined {
    for (const { networkId, networkName } of this.placesOf(containerId)) {
      for (const { names, ipAddress, ipv6Address } of this.#networks.get(networkId)?.places.values() ?? []) {
        const text = address.length === 4 ? ipAddress : ipv6Address;
        if (names[0] !== undefined && text !== '' && addressBytes(text).equals(address))
          return `${names[0]}.${networkName}`;
      }
    }
    return undefined;
  }

  #linked(homes: readonly Membership[], name: string): Iterable<Membership> | undefined {
    for (const { networkId, links } of homes) {
      const target = linkTarget(links, name);
      const found = target && this.#networks.get(networkId)?.byName.get(target.toLowerCase());
      if (found) return found;
    }
    return undefined;
  }

  /** A link's word hides who is called so. */
  #named(homes: readonly Membership[], name: string): Iterable<Membership> | undefined {
    for (const { networkId, links } of homes) {
      if (linkTarget(links, name) !== undefined) continue;
      const found = this.#networks.get(networkId)?.byName.get(name);
      if (found !== undefined) return found;
    }
    return undefined;
  }
}

function linkTarget(links: Readonly<Record<string, string>>, name: string): string | undefined {
  return Object.entries(links).find(([word]) => word.toLowerCase() === name)?.[1];
}

function addresses(found: Iterable<Membership>, family: Family): string[] {
  const all = [...found].map((place) => (family === 4 ? place.ipAddress : place.ipv6Address));
  return [...new Set(all)].filter((address) => address !== '');
}

/** libnetwork's order: networks with a way out first, then by name. */
function inOrder(one: Membership, other: Membership): number {
  if (one.isInternal !== other.isInternal) return one.isInternal ? 1 : -1;
  return one.networkName < other.networkName ? -1 : 1;
}
