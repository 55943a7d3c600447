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

/**
 * Deflates (RFC 1951), one input after the other, in the same tables. Its loops keep what they use in local variables:
 * much of what they do is done before V8 has compiled them.
 */
export class Deflater {
  readonly #tables: Tables = { heads: new Int32Array(HASH_MASK + 1), chain: new Int32Array(WINDOW) };

  /** The whole of it. Throws `CORRUPT` for contents on which the search would take too long. */
  deflate(input: Buffer, shape: DeflateShape): Buffer {
    this.#tables.heads.fill(-1);
    this.#tables.chain.fill(-1);
    return new Deflation(input, shape, this.#tables).run();
  }
}

/** Places by hash, and for each place the one with the same hash before it; -1 for none. */
interface Tables {
  readonly heads: Int32Array;
  readonly chain: Int32Array;
}

class Deflation {
  readonly #input: Buffer;
  readonly #tuning: readonly [number, number, number, number];
  readonly #tables: Tables;
  readonly #block: Block;
  #looksLeft: number;
  /** Where the sliding window begins; the byte there is never matched, as its place stands for none. */
  #windowStart = 0;
  #matchStart = 0;

  constructor(input: Buffer, shape: DeflateShape, tables: Tables) {
    this.#input = input;
    this.#tables = tables;
    const tuning = tunings[shape.level];
    if (tuning === undefined) throw new RangeError(`no lazy matching at level ${shape.level}`);
    this.#tuning = tuning;
    this.#looksLeft = FREE_LOOKS + input.length * MOST_LOOKS;
    this.#block = new Block(input, shape);
  }

  run(): Buffer {
    const input = this.#input;
    const { heads, chain } = this.#tables;
    const block = this.#block;
    const [, lazyLength] = this.#tuning;
    const size = input.length;
    const hashedEnd = size - MIN_MATCH + 1;
    let hash = ((input[0] ?? 0) << HASH_SHIFT) ^ (input[1] ?? 0);
    let windowStart = 0;
    let matchLength = MIN_MATCH - 1;
    let isMatchAvailable = false;
    let at = 0;
    while (at < size) {
      if (windowStart + WINDOW * 2 - at < MIN_LOOKAHEAD) this.#windowStart = windowStart += WINDOW;
      let head = -1;
      if (at < hashedEnd) {
        hash = ((hash << HASH_SHIFT) ^ (input[at + 2] ?? 0)) & HASH_MASK;
        head = heads[hash] ?? -1;
        chain[at & WINDOW_MASK] = head;
        heads[hash] = at;
      }
      const previousLength = matchLength;
      const previousStart = this.#matchStart;
      matchLength = MIN_MATCH - 1;
      if (head > windowStart && previousLength < lazyLength && at - head <= MAX_DISTANCE) {
        matchLength = this.#longestMatch(at, head, previousLength);
        if (matchLength === MIN_MATCH && at - this.#matchStart > TOO_FAR) matchLength = MIN_MATCH - 1;
      }
      if (previousLength >= MIN_MATCH && matchLength <= previousLength) {
        const isFull = block.match(at - 1 - previousStart, previousLength, at);
        const end = at - 1 + previousLength;
        for (const last = Math.min(end, hashedEnd); ++at < last; ) {
          hash = ((hash << HASH_SHIFT) ^ (input[at + 2] ?? 0)) & HASH_MASK;
          chain[at & WINDOW_MASK] = heads[hash] ?? -1;
          heads[hash] = at;
        }
        at = end;
        isMatchAvailable = false;
        matchLength = MIN_MATCH - 1;
        if (isFull) block.flush(at, windowStart, false);
      } else {
        if (isMatchAvailable && block.literal(input[at - 1] ?? 0, at)) block.flush(at, windowStart, false);
        isMatchAvailable = true;
        at++;
      }
    }
    if (isMatchAvailable) block.literal(input[at - 1] ?? 0, at);
    return block.flush(at, windowStart, true);
  }

  #longestMatch(at: number, head: number, previousLength: number): number {
    const input = this.#input;
    const { chain } = this.#tables;
    const [good, , nice, mostLooks] = this.#tuning;
    const most = Math.min(MAX_MATCH, input.length - at);
    const enough = Math.min(nice, most);
    const limit = Math.max(this.#windowStart, at - MAX_DISTANCE);
    const looks = previousLength >= good ? mostLooks >> 2 : mostLooks;
    let left = looks;
    const first = input[at];
    const second = input[at + 1];
    let best = previousLength;
    let beforeLast = input[at + best - 1];
    let last = input[at + best];
    for (let candidate = head; ; ) {
      if (
        input[candidate + best] === last &&
        input[candidate + best - 1] === beforeLast &&
        input[candidate] === first &&
        input[candidate + 1] === second
      ) {
        let length = 2;
        while (length < most && input[candidate + length] === input[at + length]) length++;
        if (length > best) {
          this.#matchStart = candidate;
          best = length;
          if (length >= enough) break;
          beforeLast = input[at + best - 1];
          last = input[at + best];
        }
      }
      candidate = chain[candidate & WINDOW_MASK] ?? -1;
      if (candidate <= limit || --left === 0) break;
    }
    this.#looksLeft -= looks - left;
    if (this.#looksLeft < 0) throw fail.corrupt('delta: a gzip member takes too long to make');
    return Math.min(best, most);
  }
}
