/** A run of the target, and where in the source its like lies. */
export interface Aligned {
  readonly start: number;
  readonly length: number;
  readonly source: number;
}

/** How much is compared to find a place, how densely the source is indexed, and what a change of place must gain. */
interface Tuning {
  readonly seedBytes: 8 | 12;
  readonly stride: number;
  readonly gainBytes: number;
}

const fine: Tuning = { seedBytes: 8, stride: 1, gainBytes: 8 };
const coarse: Tuning = { seedBytes: 12, stride: 4, gainBytes: 16 };
/** Sources above this are indexed coarsely: every fourth place, in a table of 64 MiB at most. */
const FINE_BYTES = 4 << 20;
const MOST_INDEX_BITS = 24;
/** As long as so much goes on as before, no other place is looked for. */
const STAY_BYTES = 24;

/**
 * Lays the target against the source, as bsdiff does (Percival, "Naive differences of executable code"): runs that
 * are alike although bytes in them differ, so that a program whose addresses moved is told by the differences. bsdiff
 * sorts all suffixes for that and needs 17 times the size; this looks up hashes of short strings, and lives with
 * the places that it misses. What no run covers is new.
 */
export function align(source: Buffer, target: Buffer): Aligned[] {
  const tuning = source.length <= FINE_BYTES ? fine : coarse;
  return source.length < tuning.seedBytes ? [] : new Alignment(source, target, tuning).run();
}

class Alignment {
  readonly #source: Buffer;
  readonly #target: Buffer;
  readonly #tuning: Tuning;
  readonly #places: Int32Array;
  readonly #shift: number;
  readonly #found: Aligned[] = [];
  /** Up to where the target is settled, and the place in the source that goes with it. */
  #settled = 0;
  #settledSource = 0;
  #candidate = 0;

  constructor(source: Buffer, target: Buffer, tuning: Tuning) {
    this.#source = source;
    this.#target = target;
    this.#tuning = tuning;
    const bits = Math.min(
      MOST_INDEX_BITS,
      Math.max(8, Math.ceil(Math.log2(source.length / tuning.stride)) + 1),
    );
    this.#shift = 32 - bits;
    this.#places = new Int32Array(1 << bits);
    // backwards, so that of equal strings the first is found
    const last = source.length - tuning.seedBytes;
    for (let at = last - (last % tuning.stride); at >= 0; at -= tuning.stride)
      this.#places[this.#hash(source, at)] = at + 1;
  }

  run(): Aligned[] {
    const { gainBytes } = this.#tuning;
    const size = this.#target.length;
    let [scan, length, offset] = [0, 0, 0];
    while (scan < size) {
      scan += length;
      let [score, scored] = [0, scan];
      for (; scan < size; scan++) {
        const going = this.#commonLength(scan + offset, scan);
        if (going >= STAY_BYTES) {
          [length, score] = [going, going];
          this.#candidate = scan + offset;
          break;
        }
        length = this.#search(scan);
        if (going >= length && going > 0) {
          length = going;
          this.#candidate = scan + offset;
        }
        if (scored < scan) [score, scored] = [0, scan];
        for (; scored < scan + length; scored++) if (this.#isAlike(scored + offset, scored)) score++;
        if ((length === score && length !== 0) || length > score + gainBytes) break;
        if (this.#isAlike(scan + offset, scan)) score--;
      }
      if (length === score && scan < size) continue;
      this.#settle(Math.min(scan, size));
      offset = this.#candidate - scan;
    }
    this.#take(this.#settled, this.#forward(size), this.#settledSource);
    return this.#found;
  }

  /** From the old place forwards and from the new one backwards, as far as more than half of the bytes agree. */
  #settle(scan: number): void {
    let forward = this.#forward(scan);
    let backward = scan < this.#target.length ? this.#backward(scan) : 0;
    const overlap = this.#settled + forward - (scan - backward);
    if (overlap > 0) {
      const keep = this.#division(scan, forward, backward, overlap);
      forward += keep - overlap;
      backward -= keep;
    }
    this.#take(this.#settled, forward, this.#settledSource);
    this.#settled = scan - backward;
    this.#settledSource = this.#candidate - backward;
  }

  #forward(scan: number): number {
    const most = Math.min(scan - this.#settled, this.#source.length - this.#settledSource);
    let [score, best, length] = [0, 0, 0];
    for (let n = 0; n < most; ) {
      if (this.#source[this.#settledSource + n] === this.#target[this.#settled + n]) score++;
      n++;
      if (score * 2 - n > best) [best, length] = [score * 2 - n, n];
    }
    return length;
  }

  #backward(scan: number): number {
    const most = Math.min(scan - this.#settled, this.#candidate);
    let [score, best, length] = [0, 0, 0];
    for (let n = 1; n <= most; n++) {
      if (this.#source[this.#candidate - n] === this.#target[scan - n]) score++;
      if (score * 2 - n > best) [best, length] = [score * 2 - n, n];
    }
    return length;
  }

  /** How much of what both claim the old place keeps. */
  #division(scan: number, forward: number, backward: number, overlap: number): number {
    const [oldTarget, newTarget] = [this.#settled + forward - overlap, scan - backward];
    const [oldSource, newSource] = [this.#settledSource + forward - overlap, this.#candidate - backward];
    let [score, best, keep] = [0, 0, 0];
    for (let n = 0; n < overlap; n++) {
      if (this.#target[oldTarget + n] === this.#source[oldSource + n]) score++;
      if (this.#target[newTarget + n] === this.#source[newSource + n]) score--;
      if (score > best) [best, keep] = [score, n + 1];
    }
    return keep;
  }

  #take(start: number, length: number, source: number): void {
    if (length > 0) this.#found.push({ start, length, source });
  }

  /** The length of the best place's match, with the place in `#candidate`; 0 if there is none. */
  #search(at: number): number {
    if (at + this.#tuning.seedBytes > this.#target.length) return 0;
    const place = (this.#places[this.#hash(this.#target, at)] ?? 0) - 1;
    if (place < 0) return 0;
    const length = this.#commonLength(place, at);
    if (length < this.#tuning.seedBytes) return 0;
    this.#candidate = place;
    return length;
  }

  #commonLength(source: number, target: number): number {
    if (source < 0) return 0;
    const most = Math.min(this.#target.length - target, this.#source.length - source);
    let length = 0;
    while (length < most && this.#source[source + length] === this.#target[target + length]) length++;
    return length;
  }

  #isAlike(source: number, target: number): boolean {
    return source >= 0 && source < this.#source.length && this.#source[source] === this.#target[target];
  }

  #hash(bytes: Buffer, at: number): number {
    let hash = Math.imul(word(bytes, at), 0x9e3779b1) ^ Math.imul(word(bytes, at + 4), 0x85ebca77);
    if (this.#tuning.seedBytes === 12)
      hash = Math.imul(hash ^ (hash >>> 15), 0xc2b2ae3d) ^ Math.imul(word(bytes, at + 8), 0x27d4eb2f);
    hash ^= hash >>> 15;
    return Math.imul(hash, 0x2c1b3c6d) >>> this.#shift;
  }
}

function word(bytes: Buffer, at: number): number {
  return (
    (bytes[at] ?? 0) |
    ((bytes[at + 1] ?? 0) << 8) |
    ((bytes[at + 2] ?? 0) << 16) |
    ((bytes[at + 3] ?? 0) << 24)
  );
}
