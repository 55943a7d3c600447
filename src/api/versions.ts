import { fail } from '../errors.ts';
import { type Gate, gates } from './gates.ts';

/** Where upstream daemons let the minimum be lowered to; from 1.45 on no further than 1.24. */
const OLDEST = '1.12';
const OLDEST_FROM_1_45 = '1.24';
/** Requests come in a handful of versions; strangers' inventions must not fill the memory. */
const MAX_KEPT = 64;

/**
 * Orders two API versions: dot by dot, as numbers. What is missing or no number counts as 0, so that `1.41.0` is
 * `1.41`, `v1.` is 1.0 and `1.41.2` is newer than `1.41`.
 */
export function compareVersions(a: string, b: string): number {
  const left = a.split('.');
  const right = b.split('.');
  for (let at = 0; at < Math.max(left.length, right.length); at++) {
    const difference = numberOf(left[at]) - numberOf(right[at]);
    if (difference !== 0) return difference;
  }
  return 0;
}

function numberOf(part: string | undefined): number {
  return part !== undefined && /^\d+$/.test(part) ? Number(part) : 0;
}

/** The two versions that decide how one request is understood and answered. */
export class Axes {
  readonly request: string;
  readonly ceiling: string;
  readonly #has = new Set<Gate>();
  readonly #knows = new Set<Gate>();

  constructor(request: string, ceiling: string) {
    this.request = request;
    this.ceiling = ceiling;
    for (const [gate, [axis, from]] of Object.entries(gates) as [Gate, readonly [string, string]][]) {
      if (compareVersions(ceiling, from) < 0) continue;
      this.#knows.add(gate);
      if (axis === 'ceiling' || compareVersions(request, from) >= 0) this.#has.add(gate);
    }
  }

  /** The newer behaviour holds for this request. */
  has(gate: Gate): boolean {
    return this.#has.has(gate);
  }

  /** The daemon is of a generation that knows the newer behaviour, whether or not this request gets it. */
  knows(gate: Gate): boolean {
    return this.#knows.has(gate);
  }
}

/** The span of API versions that this daemon speaks, and what follows from it for a request. */
export class Versions {
  readonly ceiling: string;
  readonly floor: string;
  readonly #axes = new Map<string, Axes>();

  /** Throws `CONFIG` for a floor above the ceiling, or below what a daemon of that ceiling can be lowered to. */
  constructor({ ceiling, floor }: { ceiling: string; floor: string }) {
    const lowest = compareVersions(ceiling, '1.45') < 0 ? OLDEST : OLDEST_FROM_1_45;
    if (compareVersions(floor, lowest) < 0) {
      throw fail.config(`minimum API version ${floor} is not supported: it must be ${lowest} or newer`);
    }
    if (compareVersions(floor, ceiling) > 0) {
      throw fail.config(`minimum API version ${floor} is above the maximum ${ceiling}`);
    }
    this.ceiling = ceiling;
    this.floor = floor;
  }

  /** The axes of a request; without a prefix it is of the ceiling's version. Throws 400 outside of the span. */
  axesOf(prefix: string | undefined): Axes {
    const request = prefix ?? this.ceiling;
    const kept = this.#axes.get(request);
    if (kept !== undefined) return kept;
    if (compareVersions(request, this.floor) < 0) throw fail.clientTooOld(request, this.floor);
    if (compareVersions(request, this.ceiling) > 0) throw fail.clientTooNew(request, this.ceiling);
    if (this.#axes.size >= MAX_KEPT) this.#axes.clear();
    const axes = new Axes(request, this.ceiling);
    this.#axes.set(request, axes);
    return axes;
  }

  /** Clients from before JSON errors get bare text; a prefix that is refused counts as well. */
  isTextOnly(prefix: string | undefined): boolean {
    if (prefix === undefined || this.axesOf(undefined).has('G125')) return false;
    return compareVersions(prefix, '1.23') <= 0;
  }
}
