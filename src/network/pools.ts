import {
  addressAt,
  baseOf,
  contains,
  type Family,
  isOverlapping,
  lastOf,
  parseAddress,
  parseCidr,
  type Subnet,
  sizeOf,
  subnetOf,
} from './subnets.ts';

/** A range that networks without a subnet of their own lie in, cut into subnets of one size. */
export interface PoolRange {
  readonly base: Subnet;
  /** The prefix length of what is cut. */
  readonly size: number;
}

/** dockerd's own list; it has none of IPv6. */
export const defaultPools: readonly PoolRange[] = [
  ...Array.from({ length: 15 }, (_, at) => rangeOf(`172.${17 + at}.0.0/16`, 16)),
  rangeOf('192.168.0.0/16', 20),
];

function rangeOf(text: string, size: number): PoolRange {
  const address = parseAddress(text.slice(0, text.indexOf('/')));
  return { base: subnetOf(address, Number(text.slice(text.indexOf('/') + 1))), size };
}

/** As `default-address-pools` has them; each was checked when it was configured. */
export function poolRanges(entries: readonly { base: string; size: number }[]): PoolRange[] {
  return entries.flatMap(({ base, size }) => {
    const subnet = parseCidr(base)?.subnet;
    return subnet === undefined ? [] : [{ base: subnet, size }];
  });
}

/**
 * Gives out the subnets of its ranges in turn: one that was given back comes again after all the others, because
 * hosts remember who had it. No subnet is looked at that lies in one which is known to be in the way, so that a range
 * may be as large as it likes.
 */
export class PoolSupply {
  readonly #ranges: readonly PoolRange[];
  /** By family: the range that gave the last subnet, and the first address behind that. */
  readonly #next = new Map<Family, { range: number; bits: bigint }>();

  constructor(ranges: readonly PoolRange[]) {
    this.#ranges = ranges;
  }

  /** The next subnet that overlaps none of those; the first of the lists that leaves one free is good enough. */
  take(family: Family, choices: readonly (readonly Subnet[])[]): Subnet | undefined {
    for (const inTheWay of choices) {
      for (const { range, from, at } of this.#inTurn(family)) {
        const subnet = firstFree(range, from, inTheWay);
        if (subnet === undefined) continue;
        this.#next.set(family, { range: at, bits: subnet.base + sizeOf(subnet) });
        return subnet;
      }
    }
    return undefined;
  }

  #inTurn(family: Family): { range: PoolRange; from: bigint; at: number }[] {
    const all = this.#ranges
      .map((range, at) => ({ range, from: range.base.base, at }))
      .filter(({ range }) => range.base.family === family);
    const next = this.#next.get(family);
    if (next === undefined) return all;
    const later = all.filter(({ at }) => at > next.range);
    const begun = all.filter(({ at }) => at === next.range).map((each) => ({ ...each, from: next.bits }));
    return [...begun, ...later, ...all.filter(({ at }) => at <= next.range)];
  }
}

function firstFree({ base, size }: PoolRange, from: bigint, inTheWay: readonly Subnet[]): Subnet | undefined {
  let subnet = subnetOf({ family: base.family, bits: from }, size);
  while (contains(base, baseOf(subnet))) {
    const other = inTheWay.find((each) => isOverlapping(each, subnet));
    if (other === undefined) return subnet;
    const behind =
      other.prefixLength < size ? lastOf(other).bits + 1n : addressAt(subnet, sizeOf(subnet)).bits;
    subnet = { ...subnet, base: behind };
  }
  return undefined;
}
