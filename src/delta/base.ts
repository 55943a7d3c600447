import { fail } from '../errors.ts';
import { type Effort, STEP_BYTES } from './effort.ts';

/** A layer's exact tar, any part of it at any time. */
export interface TarBytes {
  readonly tarBytes: number;
  /** Gives less only at the end, in a buffer that it lets go of: that of `room`, which has `length` bytes, where it can. */
  read(offset: number, length: number, room?: Buffer): Buffer;
}

/** Bytes that a program may copy from. */
export interface Source {
  readonly bytes: number;
  /** Fills `target` from this position on. Throws `CORRUPT` where the source has no such range. */
  copy(position: number, target: Buffer): void;
}

/** Programs copy in snippets: so much is read at once, and so many such blocks are kept. */
const BLOCK_BYTES = 64 << 10;
const MOST_BLOCKS = 48;

/** What a delta builds on: the tars of the base's layers, one behind the other as one run of bytes. Holds 3 MiB of it. */
export class Base implements Source {
  readonly bytes: number;
  readonly #layers: readonly { readonly start: number; readonly tar: TarBytes }[];
  /** By their position; the one that was not used for longest is first. */
  readonly #blocks = new Map<number, Buffer>();
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

  copy(position: number, target: Buffer): void {
    checkRange(this, position, target.length);
    for (let done = 0; done < target.length; ) {
      const at = position + done;
      const block = this.#block(at - (at % BLOCK_BYTES));
      done += block.copy(target, done, at % BLOCK_BYTES);
    }
  }

  #block(start: number): Buffer {
    const known = this.#blocks.get(start);
    this.#blocks.delete(start);
    if (known === undefined) this.#effort?.spend(STEP_BYTES);
    const block = known ?? this.#read(start, Math.min(BLOCK_BYTES, this.bytes - start), this.#room());
    this.#blocks.set(start, block);
    return block;
  }

  /** What the oldest block lies in is used again: by the thousand, such buffers would have to be collected. */
  #room(): Buffer | undefined {
    if (this.#blocks.size < MOST_BLOCKS) return undefined;
    for (const [start, oldest] of this.#blocks) {
      this.#blocks.delete(start);
      return oldest;
    }
    return undefined;
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

  copy(position: number, target: Buffer): void {
    checkRange(this, position, target.length);
    this.#plain.copy(target, 0, position, position + target.length);
  }
}

function checkRange(source: Source, position: number, length: number): void {
  if (position < 0 || position + length > source.bytes)
    throw fail.corrupt('delta: a range lies outside its base');
}
