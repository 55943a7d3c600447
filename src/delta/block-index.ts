/** Smaller blocks find more and cost more: a tar's own blocks are four of these. */
const SMALLEST_BLOCK_BYTES = 128;
/** A block takes 4 bytes, and 8 to 16 in the table: 40 MiB at most, for any base. Up to 256 MiB it has the smallest blocks. */
const MOST_BLOCKS = 2 << 20;

/** Of the rolling sum, as librsync's own RabinKarp: odd, and without a pattern in its bits. */
const FACTOR = 0x08104225;
const SPREAD = 0x9e3779b1;

/**
 * Where in a base a block of bytes lies. Keeps 32 bits of each block, so whoever asks compares the bytes; of blocks
 * with the same sum it knows the first. It does what librsync's signatures do, for a base that is at hand.
 */
export class BlockIndex {
  readonly blockBytes: number;
  readonly #sums: Uint32Array;
  /** Numbers of blocks, from 1 on, where their sums lead; 0 is none. At most half of it is used. */
  readonly #slots: Uint32Array;
  readonly #shift: number;
  /** What a byte is worth that leaves the block. */
  readonly #leaving: number;
  #blocks = 0;
  /** The beginning of the next block. */
  readonly #begun: Buffer;
  #begunBytes = 0;

  /** An index for a base of so many bytes, of which nothing is known yet. */
  constructor(baseBytes: number) {
    this.blockBytes = SMALLEST_BLOCK_BYTES;
    while (baseBytes / this.blockBytes > MOST_BLOCKS) this.blockBytes *= 2;
    const blocks = Math.floor(baseBytes / this.blockBytes);
    const slotBits = Math.max(4, Math.ceil(Math.log2(2 * blocks + 1)));
    this.#sums = new Uint32Array(blocks);
    this.#slots = new Uint32Array(2 ** slotBits);
    this.#shift = 32 - slotBits;
    let leaving = 1;
    for (let i = 0; i < this.blockBytes; i++) leaving = Math.imul(leaving, FACTOR);
    this.#leaving = leaving;
    this.#begun = Buffer.allocUnsafeSlow(this.blockBytes);
  }

  /** The next bytes of the base, which is told in order, whole, before anything is looked for. */
  push(bytes: Buffer): void {
    let at = 0;
    if (this.#begunBytes > 0) {
      at = bytes.copy(this.#begun, this.#begunBytes);
      this.#begunBytes += at;
      if (this.#begunBytes < this.blockBytes) return;
      this.#put(this.sumOf(this.#begun, 0));
    }
    for (; at + this.blockBytes <= bytes.length; at += this.blockBytes) this.#put(this.sumOf(bytes, at));
    this.#begunBytes = bytes.copy(this.#begun, 0, at);
  }

  /** The sum of the block that begins there. */
  sumOf(bytes: Buffer, at: number): number {
    let sum = 0;
    for (let i = at; i < at + this.blockBytes; i++) sum = (Math.imul(sum, FACTOR) + (bytes[i] ?? 0)) | 0;
    return sum >>> 0;
  }

  /** The sum of the block that lies one byte further on. */
  roll(sum: number, leaving: number, coming: number): number {
    return (Math.imul(sum, FACTOR) + coming - Math.imul(leaving, this.#leaving)) >>> 0;
  }

  /** Where a block with this sum lies in the base; -1 if there is none. */
  find(sum: number): number {
    const block = this.#slots[this.#slotOf(sum)] ?? 0;
    return block === 0 ? -1 : (block - 1) * this.blockBytes;
  }

  #put(sum: number): void {
    this.#sums[this.#blocks++] = sum;
    const slot = this.#slotOf(sum);
    if (this.#slots[slot] === 0) this.#slots[slot] = this.#blocks;
  }

  /** The slot of the block with this sum, or the free one where it would be. */
  #slotOf(sum: number): number {
    for (let slot = Math.imul(sum, SPREAD) >>> this.#shift; ; slot = (slot + 1) % this.#slots.length) {
      const block = this.#slots[slot] ?? 0;
      if (block === 0 || this.#sums[block - 1] === sum) return slot;
    }
  }
}
