import { fail } from '../errors.ts';
import { copyBytes } from '../lib/copy-bytes.ts';
import type { Effort } from './effort.ts';

/** A layer's exact tar, any part of it at any time. */
export interface TarBytes {
  readonly tarBytes: number;
  /** Gives less only at the end, in a buffer that it lets go of: that of `room`, which has `length` bytes, where it can. */
  read(offset: number, length: number, room?: Buffer): Buffer;
}

/** Bytes that a program may copy from. */
export interface Source {
  readonly bytes: number;
  /** Fills `target`, or that part of it, from this position on. Throws `CORRUPT` where the source has no such range. */
  copy(position: number, target: Buffer, start?: number, end?: number): void;
}

/** Programs copy in snippets: so much is read at once, and so many such blocks are kept. */
export const BLOCK_BYTES = 16 << 10;
export const SETS = 48;
export const BLOCKS_PER_SET = 4;
/** A copy of so much is read to where it goes, by itself. */
export const LONG_BYTES = BLOCK_BYTES / 2;

/** What a delta builds on: the tars of the base's layers, one behind the other as one run of bytes. Holds 3 MiB of it. */
export class Base implements Source {
  readonly bytes: number;
  readonly #layers: readonly { readonly start: number; readonly tar: TarBytes }[];
  /** Those that were read, each in one of the places that its number allows, and when they were used last. */
  readonly #blocks: (Buffer | undefined)[] = new Array(SETS * BLOCKS_PER_SET);
  readonly #starts = new Float64Array(SETS * BLOCKS_PER_SET).fill(-1);
  readonly #usedAt = new Float64Array(SETS * BLOCKS_PER_SET);
  #uses = 0;
  #effort: Effort | undefined;

  constructor(tars: readonly TarBytes[]) {
    let start = 0;
    this.#layers = tars.map((tar) => {
      const layer = { start, tar };
      start += tar.tarBytes;
      return layer;
    });
    this.bytes = start;
  }

  /** These bytes, in a buffer of their own. */
  read(position: number, length: number): Buffer {
    checkRange(this, position, length);
    return length === 0 ? Buffer.alloc(0) : this.#read(position, length);
  }

  /** Has another frame pay for what is read from here on. */
  chargeTo(effort: Effort): void {
    this.#effort = effort;
  }

  copy(position: number, target: Buffer, start = 0, end = target.length): void {
    checkRange(this, position, end - start);
    for (let at = start; at < end; ) {
      const from = position + at - start;
      const inBlock = from % BLOCK_BYTES;
      const place = this.#placeOf(from - inBlock);
      if (end - at >= LONG_BYTES && this.#starts[place] !== from - inBlock) {
        this.#readInto(target.subarray(at, end), from);
        return;
      }
      const block = this.#block(place, from - inBlock);
      const length = Math.min(end - at, block.length - inBlock);
      copyBytes(block, inBlock, target, at, length);
      at += length;
    }
  }

  /** Where the block is; if it is not there, which is to make room for it: the one of its set that was not used for longest. */
  #placeOf(start: number): number {
    const [starts, usedAt] = [this.#starts, this.#usedAt];
    const first = ((start / BLOCK_BYTES) % SETS) * BLOCKS_PER_SET;
    let oldest = first;
    for (let place = first; place < first + BLOCKS_PER_SET; place++) {
      if (starts[place] === start) return place;
      if ((usedAt[place] ?? 0) < (usedAt[oldest] ?? 0)) oldest = place;
    }
    return oldest;
  }

  /** What a block lies in is used again for the next: by the thousand, such buffers would have to be collected. */
  #block(place: number, start: number): Buffer {
    this.#usedAt[place] = ++this.#uses;
    const known = this.#blocks[place];
    if (known !== undefined && this.#starts[place] === start) return known;
    this.#effort?.spend(BLOCK_BYTES);
    this.#starts[place] = -1; // until it is read
    const block = this.#read(start, Math.min(BLOCK_BYTES, this.bytes - start), known);
    this.#blocks[place] = block;
    this.#starts[place] = start;
    return block;
  }

  #readInto(target: Buffer, position: number): void {
    this.#effort?.spend(target.length);
    const bytes = this.#read(position, target.length, target);
    if (bytes !== target) bytes.copy(target);
  }

  /** A block may cross from one layer into the next. */
  #read(position: number, length: number, room?: Buffer): Buffer {
    const layer = this.#layers.findLast(({ start, tar }) => start <= position && tar.tarBytes > 0);
    if (layer === undefined) throw fail.corrupt('delta: there is no base');
    const offset = position - layer.start;
    const wanted = Math.min(length, layer.tar.tarBytes - offset);
    const bytes = layer.tar.read(offset, wanted, room?.length === wanted ? room : undefined);
    if (bytes.length !== wanted) throw fail.corrupt('delta: a layer of the base is cut');
    return wanted === length ? bytes : Buffer.concat([bytes, this.#read(position + wanted, length - wanted)]);
  }
}

/** Bytes at hand: what a gzip member of the base inflates to. */
export class PlainSource implements Source {
  readonly bytes: number;
  readonly #plain: Buffer;

  constructor(plain: Buffer) {
    this.#plain = plain;
    this.bytes = plain.length;
  }

  copy(position: number, target: Buffer, start = 0, end = target.length): void {
    checkRange(this, position, end - start);
    copyBytes(this.#plain, position, target, start, end - start);
  }
}

function checkRange(source: Source, position: number, length: number): void {
  if (position < 0 || position + length > source.bytes)
    throw fail.corrupt('delta: a range lies outside its base');
}
