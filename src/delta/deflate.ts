import { fail } from '../errors.ts';
import { Block, type DeflateShape } from './deflate-block.ts';

const MIN_MATCH = 3;
const MAX_MATCH = 258;
const WINDOW = 32768;
const WINDOW_MASK = WINDOW - 1;
const MIN_LOOKAHEAD = MAX_MATCH + MIN_MATCH + 1;
const MAX_DISTANCE = WINDOW - MIN_LOOKAHEAD;
/** Three bytes are not worth a reference to farther away. */
const TOO_FAR = 4096;
const HASH_MASK = 32767;
const HASH_SHIFT = 5;

/** Places looked at for each byte, on average, before a search is taken for an attack: text needs some fifty. */
const MOST_LOOKS = 256;
/** What small inputs may take in all. */
const FREE_LOOKS = 1 << 20;

/** By level: good, lazy, nice, chain (the configuration table of both programs). */
const tunings: Readonly<Record<number, readonly [number, number, number, number]>> = {
  4: [4, 4, 16, 16],
  5: [8, 16, 32, 32],
  6: [8, 16, 128, 128],
  7: [8, 32, 128, 256],
  8: [32, 128, 258, 1024],
  9: [32, 258, 258, 4096],
};

/** Deflates the whole (RFC 1951). Throws `CORRUPT` for contents on which the search would take too long. */
export function deflate(input: Buffer, shape: DeflateShape): Buffer {
  return new Deflation(input, shape).run();
}

class Deflation {
  readonly #input: Buffer;
  readonly #tuning: readonly [number, number, number, number];
  readonly #heads = new Int32Array(HASH_MASK + 1).fill(-1);
  readonly #chain = new Int32Array(WINDOW).fill(-1);
  readonly #block: Block;
  #hash = 0;
  #looksLeft: number;
  /** Where the sliding window begins; the byte there is never matched, as its place stands for none. */
  #windowStart = 0;
  #matchStart = 0;

  constructor(input: Buffer, shape: DeflateShape) {
    this.#input = input;
    const tuning = tunings[shape.level];
    if (tuning === undefined) throw new RangeError(`no lazy matching at level ${shape.level}`);
    this.#tuning = tuning;
    this.#looksLeft = FREE_LOOKS + input.length * MOST_LOOKS;
    this.#block = new Block(input, shape);
    this.#hash = ((input[0] ?? 0) << HASH_SHIFT) ^ (input[1] ?? 0);
  }

  run(): Buffer {
    const [, lazyLength] = this.#tuning;
    const size = this.#input.length;
    let matchLength = MIN_MATCH - 1;
    let isMatchAvailable = false;
    let at = 0;
    while (at < size) {
      if (this.#windowStart + WINDOW * 2 - at < MIN_LOOKAHEAD) this.#windowStart += WINDOW;
      const head = size - at >= MIN_MATCH ? this.#insert(at) : -1;
      const [previousLength, previousStart] = [matchLength, this.#matchStart];
      matchLength = MIN_MATCH - 1;
      if (head > this.#windowStart && previousLength < lazyLength && at - head <= MAX_DISTANCE) {
        matchLength = this.#longestMatch(at, head, previousLength);
        if (matchLength === MIN_MATCH && at - this.#matchStart > TOO_FAR) matchLength = MIN_MATCH - 1;
      }
      if (previousLength >= MIN_MATCH && matchLength <= previousLength) {
        const isFull = this.#block.match(at - 1 - previousStart, previousLength, at);
        const end = at - 1 + previousLength;
        while (++at < end) if (at <= size - MIN_MATCH) this.#insert(at);
        isMatchAvailable = false;
        matchLength = MIN_MATCH - 1;
        if (isFull) this.#block.flush(at, this.#windowStart, false);
      } else {
        if (isMatchAvailable && this.#block.literal(this.#input[at - 1] ?? 0, at))
          this.#block.flush(at, this.#windowStart, false);
        isMatchAvailable = true;
        at++;
      }
    }
    if (isMatchAvailable) this.#block.literal(this.#input[at - 1] ?? 0, at);
    return this.#block.flush(at, this.#windowStart, true);
  }

  /** Enters the string that begins here; the one with the same hash before it, or -1. */
  #insert(at: number): number {
    this.#hash = ((this.#hash << HASH_SHIFT) ^ (this.#input[at + 2] ?? 0)) & HASH_MASK;
    const head = this.#heads[this.#hash] ?? -1;
    this.#chain[at & WINDOW_MASK] = head;
    this.#heads[this.#hash] = at;
    return head;
  }

  #longestMatch(at: number, head: number, previousLength: number): number {
    const input = this.#input;
    const [good, , nice, chain] = this.#tuning;
    const most = Math.min(MAX_MATCH, input.length - at);
    const enough = Math.min(nice, most);
    const limit = Math.max(this.#windowStart, at - MAX_DISTANCE);
    let left = previousLength >= good ? chain >> 2 : chain;
    let best = previousLength;
    for (let candidate = head; ; ) {
      if (
        input[candidate + best] === input[at + best] &&
        input[candidate + best - 1] === input[at + best - 1] &&
        input[candidate] === input[at] &&
        input[candidate + 1] === input[at + 1]
      ) {
        let length = 2;
        while (length < most && input[candidate + length] === input[at + length]) length++;
        if (length > best) {
          this.#matchStart = candidate;
          best = length;
          if (length >= enough) break;
        }
      }
      candidate = this.#chain[candidate & WINDOW_MASK] ?? -1;
      if (--this.#looksLeft < 0) throw fail.corrupt('delta: a gzip member takes too long to make');
      if (candidate <= limit || --left === 0) break;
    }
    return Math.min(best, most);
  }
}
