import type { Member } from './tar-index.ts';

/** A file's features: of all its strings of this length, those whose hashes are least in each of several orders. */
const STRING_BYTES = 32;
const ORDERS = 8;
/** Files above this are told by their names; below the other there is nothing to tell. */
const MOST_BYTES = 16 << 20;
const LEAST_BYTES = 256;
/** As many features must be shared. */
const LEAST_SHARED = 2;

/** Finds files that have long strings in common (Broder, "On the resemblance and containment of documents"). */
export class Sketches {
  readonly #byFeature = new Map<number, Member[]>();

  constructor(files: readonly Member[], read: (file: Member) => Buffer) {
    for (const file of files) {
      if (file.contentBytes < LEAST_BYTES || file.contentBytes > MOST_BYTES) continue;
      for (const feature of featuresOf(read(file))) {
        const known = this.#byFeature.get(feature);
        if (known === undefined) this.#byFeature.set(feature, [file]);
        else if (known.length < ORDERS) known.push(file);
      }
    }
  }

  find(content: Buffer): Member | undefined {
    if (content.length > MOST_BYTES) return undefined;
    const shared = new Map<Member, number>();
    for (const feature of featuresOf(content)) {
      for (const file of this.#byFeature.get(feature) ?? []) shared.set(file, (shared.get(file) ?? 0) + 1);
    }
    let best: Member | undefined;
    let most = LEAST_SHARED - 1;
    for (const [file, count] of shared) if (count > most) [best, most] = [file, count];
    return best;
  }
}

const multipliers = [
  0x9e3779b1, 0x85ebca77, 0xc2b2ae3d, 0x27d4eb2f, 0x165667b1, 0xd3a2646d, 0xfd7046c5, 0xb55a4f09,
].map((n) => n | 0);

function featuresOf(bytes: Buffer): number[] {
  const least = new Uint32Array(ORDERS).fill(0xffffffff);
  const power = powerOf(STRING_BYTES);
  let hash = 0;
  for (let at = 0; at < bytes.length; at++) {
    hash = (Math.imul(hash, FACTOR) + (bytes[at] ?? 0) + 1) | 0;
    if (at >= STRING_BYTES) hash = (hash - Math.imul(power, (bytes[at - STRING_BYTES] ?? 0) + 1)) | 0;
    // one string in eight, chosen by itself, is enough
    if (at < STRING_BYTES - 1 || (hash >>> 20) % 8 !== 0) continue;
    for (let order = 0; order < ORDERS; order++) {
      const value = Math.imul(hash ^ (hash >>> 15), multipliers[order] ?? 1) >>> 0;
      if (value < (least[order] ?? 0)) least[order] = value;
    }
  }
  return [...least]
    .map((value, order) => value * ORDERS + order)
    .filter((_, order) => least[order] !== 0xffffffff);
}

const FACTOR = 0x01000193;

function powerOf(exponent: number): number {
  let power = 1;
  for (let n = 0; n < exponent; n++) power = Math.imul(power, FACTOR);
  return power;
}
