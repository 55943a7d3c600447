import { buildCode, codesOf, type HuffmanCode } from './deflate-tree.ts';

/**
 * A compressor that gives the very bytes that gzip or zlib gave (deflate.c and trees.c of both, lazy matching only): a
 * `.gz` inside a layer can then be told by its content. Where the two differ, {@link DeflateShape} says how.
 */
export interface DeflateShape {
  /** gzip's levels 4 to 9. */
  readonly level: number;
  /** Symbols after which a block ends. */
  readonly blockSymbols: number;
  /** gzip looks every 4096 symbols whether a block had better end; zlib does not. */
  readonly isTruncating: boolean;
}

const MIN_MATCH = 3;
const extraLengthBits = [
  0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
];
const extraDistanceBits = [
  0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13,
];
const lengthOrder = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const END_OF_BLOCK = 256;

const lengthBases = basesOf(extraLengthBits.slice(0, 28));
const lengthCodes = Uint8Array.from({ length: 256 }, (_, length) =>
  length === 255 ? 28 : lengthBases.findLastIndex((base) => base <= length),
);
const distanceBases = basesOf(extraDistanceBits);
const nearCodes = Uint8Array.from({ length: 256 }, (_, distance) => codeOf(distance));
const farCodes = Uint8Array.from({ length: 256 }, (_, distance) => codeOf(distance << 7));
const distanceCode = (distance: number) =>
  (distance < 256 ? nearCodes[distance] : farCodes[distance >> 7]) ?? 0;

const staticLengths = Uint8Array.from({ length: 288 }, (_, n) =>
  n < 144 ? 8 : n < 256 ? 9 : n < 280 ? 7 : 8,
);
const staticLiterals = { lengths: staticLengths, codes: codesOf(staticLengths, 15) };
const staticDistances = {
  lengths: new Uint8Array(30).fill(5),
  codes: codesOf(new Uint8Array(30).fill(5), 15),
};

function basesOf(extraBits: readonly number[]): number[] {
  let base = 0;
  return extraBits.map((bits) => {
    const own = base;
    base += 1 << bits;
    return own;
  });
}

function codeOf(distance: number): number {
  return distanceBases.findLastIndex((base) => base <= distance);
}

/** The symbols of one block, and all bits sent so far. */
export class Block {
  readonly #input: Buffer;
  readonly #shape: DeflateShape;
  /** By symbol: 0 or the distance of a match; a byte, or a match's length less three. */
  readonly #distances: Uint16Array;
  readonly #values: Uint8Array;
  readonly #literalCounts = new Uint16Array(286);
  readonly #distanceCounts = new Uint16Array(30);
  readonly #bits = new BitWriter();
  #symbols = 0;
  /** Of the symbols, those that the counts hold. */
  #counted = 0;
  #matches = 0;
  #start = 0;

  constructor(input: Buffer, shape: DeflateShape) {
    this.#input = input;
    this.#shape = shape;
    this.#distances = new Uint16Array(shape.blockSymbols + 1);
    this.#values = new Uint8Array(shape.blockSymbols + 1);
  }

  /** Both return true if the block should end; `at` is how far the input has been looked at. */
  literal(byte: number, at: number): boolean {
    return this.#add(0, byte, at);
  }

  match(distance: number, length: number, at: number): boolean {
    this.#matches++;
    return this.#add(distance, length - MIN_MATCH, at);
  }

  /** Sends the block in the cheapest of the three ways, and returns all bytes if it was the last. */
  flush(end: number, windowStart: number, isLast: boolean): Buffer {
    this.#count();
    bump(this.#literalCounts, END_OF_BLOCK);
    const literals = buildCode(this.#literalCounts, 15);
    const distances = buildCode(this.#distanceCounts, 15);
    const trees = new TreeHeader(literals, distances);
    const dynamicBits = trees.bits + this.#bitsWith(literals, distances);
    const staticBits = this.#bitsWith(staticLiterals, staticDistances);
    const [dynamicBytes, staticBytes] = [(dynamicBits + 10) >>> 3, (staticBits + 10) >>> 3];
    const bestBytes = Math.min(dynamicBytes, staticBytes);
    const stored = end - this.#start;
    // one that reaches back before the window is not there any more to be stored
    if (stored + 4 <= bestBytes && this.#start >= windowStart && stored <= 0xffff) this.#store(end, isLast);
    else if (staticBytes === bestBytes) {
      this.#bits.put((1 << 1) | Number(isLast), 3);
      this.#send(staticLiterals, staticDistances);
    } else {
      this.#bits.put((2 << 1) | Number(isLast), 3);
      trees.send(this.#bits);
      this.#send(literals, distances);
    }
    this.#literalCounts.fill(0);
    this.#distanceCounts.fill(0);
    this.#symbols = 0;
    this.#counted = 0;
    this.#matches = 0;
    this.#start = end;
    return isLast ? this.#bits.finish() : Buffer.alloc(0);
  }

  #add(distance: number, value: number, at: number): boolean {
    this.#distances[this.#symbols] = distance;
    this.#values[this.#symbols++] = value;
    const { isTruncating, blockSymbols } = this.#shape;
    if (isTruncating && (this.#symbols & 0xfff) === 0 && this.#isWorthEnding(at)) return true;
    return this.#symbols === blockSymbols - 1 || (isTruncating && this.#matches === blockSymbols);
  }

  #count(): void {
    const [values, distances] = [this.#values, this.#distances];
    const [literalCounts, distanceCounts] = [this.#literalCounts, this.#distanceCounts];
    for (let n = this.#counted; n < this.#symbols; n++) {
      const distance = distances[n] ?? 0;
      const value = values[n] ?? 0;
      if (distance === 0) literalCounts[value] = (literalCounts[value] ?? 0) + 1;
      else {
        bump(literalCounts, (lengthCodes[value] ?? 0) + 257);
        bump(distanceCounts, distanceCode(distance - 1));
      }
    }
    this.#counted = this.#symbols;
  }

  /** gzip's guess: the block compresses well, and mostly by literals. */
  #isWorthEnding(at: number): boolean {
    this.#count();
    const counts = this.#distanceCounts;
    let bits = this.#symbols * 8;
    for (let code = 0; code < counts.length; code++)
      bits += (counts[code] ?? 0) * (5 + (extraDistanceBits[code] ?? 0));
    return this.#matches < this.#symbols >> 1 && bits >>> 3 < (at - this.#start) >> 1;
  }

  #bitsWith(literals: Pick<HuffmanCode, 'lengths'>, distances: Pick<HuffmanCode, 'lengths'>): number {
    const [literalCounts, literalLengths] = [this.#literalCounts, literals.lengths];
    const [distanceCounts, distanceLengths] = [this.#distanceCounts, distances.lengths];
    let bits = 0;
    for (let symbol = 0; symbol < literalCounts.length; symbol++)
      bits += (literalCounts[symbol] ?? 0) * (literalLengths[symbol] ?? 0);
    for (let code = 0; code < extraLengthBits.length; code++)
      bits += (literalCounts[code + 257] ?? 0) * (extraLengthBits[code] ?? 0);
    for (let code = 0; code < distanceCounts.length; code++)
      bits += (distanceCounts[code] ?? 0) * ((distanceLengths[code] ?? 0) + (extraDistanceBits[code] ?? 0));
    return bits;
  }

  #store(end: number, isLast: boolean): void {
    this.#bits.put(Number(isLast), 3);
    this.#bits.align();
    const length = end - this.#start;
    this.#bits.put(length, 16);
    this.#bits.put(~length & 0xffff, 16);
    this.#bits.bytes(this.#input.subarray(this.#start, end));
  }

  #send(
    literals: Pick<HuffmanCode, 'lengths' | 'codes'>,
    distances: Pick<HuffmanCode, 'lengths' | 'codes'>,
  ): void {
    const [values, distanceValues] = [this.#values, this.#distances];
    const { codes: literalCodes, lengths: literalLengths } = literals;
    const { codes: distanceCodes, lengths: distanceLengths } = distances;
    const bits = this.#bits;
    for (let n = 0; n < this.#symbols; n++) {
      const value = values[n] ?? 0;
      const distance = distanceValues[n] ?? 0;
      if (distance === 0) {
        bits.put(literalCodes[value] ?? 0, literalLengths[value] ?? 0);
        continue;
      }
      // a length's code and its extra bits together have 20 bits at most
      const code = lengthCodes[value] ?? 0;
      const codeBits = literalLengths[code + 257] ?? 0;
      const extra = value - (code === 28 ? 255 : (lengthBases[code] ?? 0));
      bits.put(
        (literalCodes[code + 257] ?? 0) | (extra << codeBits),
        codeBits + (extraLengthBits[code] ?? 0),
      );
      const far = distanceCode(distance - 1);
      bits.put(distanceCodes[far] ?? 0, distanceLengths[far] ?? 0);
      bits.put(distance - 1 - (distanceBases[far] ?? 0), extraDistanceBits[far] ?? 0);
    }
    bits.put(literalCodes[END_OF_BLOCK] ?? 0, literalLengths[END_OF_BLOCK] ?? 0);
  }
}

/** What tells a decoder a block's own codes: their lengths, run-length coded, under a code of their own. */
class TreeHeader {
  readonly bits: number;
  readonly #literals: HuffmanCode;
  readonly #distances: HuffmanCode;
  readonly #code: HuffmanCode;
  readonly #runs: readonly (readonly [symbol: number, extra: number, extraBits: number])[];
  readonly #lengthsSent: number;

  constructor(literals: HuffmanCode, distances: HuffmanCode) {
    this.#literals = literals;
    this.#distances = distances;
    // each of the two lists is coded by itself
    this.#runs = [literals, distances].flatMap(({ lengths, maxSymbol }) =>
      runsOf(lengths.subarray(0, maxSymbol + 1)),
    );
    const counts = new Uint16Array(19);
    for (const [symbol] of this.#runs) bump(counts, symbol);
    this.#code = buildCode(counts, 7);
    const last = lengthOrder.findLastIndex((symbol) => (this.#code.lengths[symbol] ?? 0) !== 0);
    this.#lengthsSent = Math.max(4, last + 1);
    this.bits = this.#runs.reduce(
      (sum, [symbol, , extraBits]) => sum + (this.#code.lengths[symbol] ?? 0) + extraBits,
      14 + 3 * this.#lengthsSent,
    );
  }

  send(bits: BitWriter): void {
    bits.put(this.#literals.maxSymbol - 256, 5);
    bits.put(this.#distances.maxSymbol, 5);
    bits.put(this.#lengthsSent - 4, 4);
    for (const symbol of lengthOrder.slice(0, this.#lengthsSent))
      bits.put(this.#code.lengths[symbol] ?? 0, 3);
    for (const [symbol, extra, extraBits] of this.#runs) {
      bits.put(this.#code.codes[symbol] ?? 0, this.#code.lengths[symbol] ?? 0);
      bits.put(extra, extraBits);
    }
  }
}

/** Runs of equal lengths as scan_tree has them: 16 repeats the last one, 17 and 18 are zeros. */
function runsOf(lengths: Uint8Array): [symbol: number, extra: number, extraBits: number][] {
  const runs: [number, number, number][] = [];
  let before = -1;
  for (let at = 0; at < lengths.length; ) {
    const length = lengths[at] ?? 0;
    // what the limits are depends on whether the run continues the one before
    const most = length === 0 ? 138 : length === before ? 6 : 7;
    const least = length === 0 || length === before ? 3 : 4;
    let count = 1;
    while (count < most && at + count < lengths.length && lengths[at + count] === length) count++;
    at += count;
    if (count < least) for (let n = 0; n < count; n++) runs.push([length, 0, 0]);
    else if (length !== 0) {
      if (length !== before) {
        runs.push([length, 0, 0]);
        count--;
      }
      runs.push([16, count - 3, 2]);
    } else runs.push(count <= 10 ? [17, count - 3, 3] : [18, count - 11, 7]);
    before = length;
  }
  return runs;
}

function bump(counts: Uint16Array, at: number): void {
  counts[at] = (counts[at] ?? 0) + 1;
}

/** Bits, lowest first. */
class BitWriter {
  #bytes = Buffer.allocUnsafe(16 << 10);
  #used = 0;
  #pending = 0;
  #pendingBits = 0;

  /** At most 24 bits at a time. */
  put(value: number, bits: number): void {
    let pending = this.#pending | (value << this.#pendingBits);
    let pendingBits = this.#pendingBits + bits;
    if (pendingBits >= 8) {
      const bytes = this.#room(4);
      let used = this.#used;
      do {
        bytes[used++] = pending;
        pending >>>= 8;
        pendingBits -= 8;
      } while (pendingBits >= 8);
      this.#used = used;
    }
    this.#pending = pending;
    this.#pendingBits = pendingBits;
  }

  align(): void {
    if (this.#pendingBits > 0) this.put(0, 8 - this.#pendingBits);
  }

  bytes(bytes: Buffer): void {
    bytes.copy(this.#room(bytes.length), this.#used);
    this.#used += bytes.length;
  }

  finish(): Buffer {
    this.align();
    return this.#bytes.subarray(0, this.#used);
  }

  #room(length: number): Buffer {
    if (this.#used + length > this.#bytes.length)
      this.#bytes = Buffer.concat([this.#bytes, Buffer.alloc(this.#used + length)]);
    return this.#bytes;
  }
}
