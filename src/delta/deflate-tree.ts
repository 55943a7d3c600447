/**
 * Huffman codes exactly as gzip and zlib build them (trees.c of both): which of several equally good codes is chosen is
 * part of what makes two compressors give the same bytes.
 */

/** A code's lengths, and the codes themselves with their bits in the order in which they are sent. */
export interface HuffmanCode {
  readonly lengths: Uint8Array;
  readonly codes: Uint16Array;
  /** The last symbol that occurs. */
  readonly maxSymbol: number;
}

/**
 * The code for these frequencies, no length above `maxLength`. Where fewer than two symbols occur others are made up,
 * as a decoder wants two.
 */
export function buildCode(frequencies: Uint16Array | Uint32Array, maxLength: number): HuffmanCode {
  const symbols = frequencies.length;
  const tree = new TreeBuilder(frequencies, maxLength);
  const lengths = tree.lengths.subarray(0, symbols);
  return { lengths, codes: codesOf(lengths, maxLength), maxSymbol: tree.maxSymbol };
}

/** Canonical codes, bits reversed (RFC 1951, 3.2.2). */
export function codesOf(lengths: Uint8Array, maxLength: number): Uint16Array {
  const counts = new Uint16Array(maxLength + 1);
  for (const length of lengths) counts[length] = (counts[length] ?? 0) + 1;
  counts[0] = 0;
  const next = new Uint16Array(maxLength + 1);
  for (let bits = 1; bits <= maxLength; bits++)
    next[bits] = ((next[bits - 1] ?? 0) + (counts[bits - 1] ?? 0)) << 1;
  return Uint16Array.from(lengths, (length) => {
    if (length === 0) return 0;
    const code = next[length] ?? 0;
    next[length] = code + 1;
    return reversed(code, length);
  });
}

function reversed(code: number, length: number): number {
  let result = 0;
  for (let bit = 0; bit < length; bit++) result = (result << 1) | ((code >> bit) & 1);
  return result;
}

/** One tree: leaves are symbols, inner nodes follow them. */
class TreeBuilder {
  readonly lengths: Uint8Array;
  readonly maxSymbol: number;
  readonly #frequencies: Uint32Array;
  readonly #parents: Uint16Array;
  readonly #depths: Uint8Array;
  /** Nodes by frequency, least first, from 1 on; behind `#top` and down from the end, those that are placed. */
  readonly #heap: Uint16Array;
  #size = 0;

  constructor(given: Uint16Array | Uint32Array, maxLength: number) {
    const symbols = given.length;
    this.#frequencies = new Uint32Array(symbols * 2 + 1);
    this.#frequencies.set(given);
    this.#parents = new Uint16Array(symbols * 2 + 1);
    this.#depths = new Uint8Array(symbols * 2 + 1);
    this.lengths = new Uint8Array(symbols * 2 + 1);
    this.#heap = new Uint16Array(symbols * 2 + 2);
    this.maxSymbol = this.#collect(symbols);
    const top = this.#combine(symbols);
    this.#assign(top, maxLength, symbols);
  }

  #collect(symbols: number): number {
    let max = -1;
    for (let n = 0; n < symbols; n++) {
      if (this.#frequencies[n] === 0) continue;
      this.#heap[++this.#size] = n;
      max = n;
    }
    while (this.#size < 2) {
      const node = max < 2 ? ++max : 0;
      this.#heap[++this.#size] = node;
      this.#frequencies[node] = 1;
    }
    for (let n = this.#size >> 1; n >= 1; n--) this.#sink(n);
    return max;
  }

  /** Joins the two least nodes until one is left; returns where in the heap the placed ones begin. */
  #combine(symbols: number): number {
    let top = this.#heap.length;
    let node = symbols;
    do {
      const least = this.#heap[1] ?? 0;
      this.#heap[1] = this.#heap[this.#size--] ?? 0;
      this.#sink(1);
      const second = this.#heap[1] ?? 0;
      this.#heap[--top] = least;
      this.#heap[--top] = second;
      this.#frequencies[node] = (this.#frequencies[least] ?? 0) + (this.#frequencies[second] ?? 0);
      this.#depths[node] = Math.max(this.#depths[least] ?? 0, this.#depths[second] ?? 0) + 1;
      this.#parents[least] = node;
      this.#parents[second] = node;
      this.#heap[1] = node++;
      this.#sink(1);
    } while (this.#size >= 2);
    this.#heap[--top] = this.#heap[1] ?? 0;
    return top;
  }

  /** Depths become lengths; those that are too long are traded for others (gen_bitlen). */
  #assign(top: number, maxLength: number, symbols: number): void {
    const counts = new Uint16Array(maxLength + 2);
    let overflow = 0;
    this.lengths[this.#heap[top] ?? 0] = 0;
    let at = top + 1;
    for (; at < this.#heap.length; at++) {
      const node = this.#heap[at] ?? 0;
      let bits = (this.lengths[this.#parents[node] ?? 0] ?? 0) + 1;
      if (bits > maxLength) {
        bits = maxLength;
        overflow++;
      }
      this.lengths[node] = bits;
      if (node < symbols) counts[bits] = (counts[bits] ?? 0) + 1;
    }
    if (overflow === 0) return;
    for (; overflow > 0; overflow -= 2) {
      let bits = maxLength - 1;
      while (counts[bits] === 0) bits--;
      counts[bits] = (counts[bits] ?? 0) - 1;
      counts[bits + 1] = (counts[bits + 1] ?? 0) + 2;
      counts[maxLength] = (counts[maxLength] ?? 0) - 1;
    }
    for (let bits = maxLength; bits !== 0; bits--) {
      for (let n = counts[bits] ?? 0; n > 0; ) {
        const node = this.#heap[--at] ?? 0;
        if (node >= symbols) continue;
        this.lengths[node] = bits;
        n--;
      }
    }
  }

  #sink(start: number): void {
    const value = this.#heap[start] ?? 0;
    let at = start;
    for (let child = at << 1; child <= this.#size; child <<= 1) {
      if (child < this.#size && this.#isLess(this.#heap[child + 1] ?? 0, this.#heap[child] ?? 0)) child++;
      const node = this.#heap[child] ?? 0;
      if (this.#isLess(value, node)) break;
      this.#heap[at] = node;
      at = child;
    }
    this.#heap[at] = value;
  }

  /** Of two that occur equally often the shallower one counts as less. */
  #isLess(one: number, other: number): boolean {
    const [a, b] = [this.#frequencies[one] ?? 0, this.#frequencies[other] ?? 0];
    return a < b || (a === b && (this.#depths[one] ?? 0) <= (this.#depths[other] ?? 0));
  }
}
