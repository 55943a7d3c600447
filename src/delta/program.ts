import { fail } from '../errors.ts';
import { copyBytes } from '../lib/copy-bytes.ts';
import type { VarintReader } from '../lib/varints.ts';
import type { Source } from './base.ts';
import { Deflater } from './deflate.ts';
import { type Effort, gzipEffort, windowEffort } from './effort.ts';
import { CHANGE_BYTES, type ColumnReaders, MAX_INFLATED_BYTES, Op, PIECE_BYTES } from './frame.ts';
import { makeGzip, readGzip } from './gzip.ts';
import { fieldsOf, findHeader, padded, patchHeader } from './tar-header.ts';
import type { WindowCodec } from './vcdiff.ts';

/** What a gzip member may inflate to, and the member itself. */
export const MAX_GZIP_BYTES = 8 << 20;

/** Takes what a program makes, never more than it was promised. */
export class Output {
  /** What {@link room} is in. */
  readonly piece: Buffer;
  readonly #write: (bytes: Buffer) => void;
  #used = 0;
  #left: number;

  /** `write` is lent each piece for the length of the call. */
  constructor(bytes: number, write: (bytes: Buffer) => void) {
    this.#left = bytes;
    this.piece = Buffer.allocUnsafe(Math.min(bytes, PIECE_BYTES * 2));
    this.#write = write;
  }

  get left(): number {
    return this.#left;
  }

  /** Where in the piece there is room for `length` bytes, at most `PIECE_BYTES`, to be filled at once. */
  room(length: number): number {
    if (length > this.#left) throw fail.corrupt('delta: a frame makes more than it says');
    if (this.#used + length > this.piece.length) this.flush();
    const at = this.#used;
    this.#left -= length;
    this.#used += length;
    return at;
  }

  put(bytes: Buffer): void {
    for (let from = 0; from < bytes.length; from += PIECE_BYTES) {
      const length = Math.min(PIECE_BYTES, bytes.length - from);
      copyBytes(bytes, from, this.piece, this.room(length), length);
    }
  }

  flush(): void {
    if (this.#used > 0) this.#write(this.piece.subarray(0, this.#used));
    this.#used = 0;
  }
}

/** Where copied bytes change: a count of bytes that stay, then a difference over the next four. */
class Changes {
  readonly #gaps: VarintReader;
  readonly #changes: VarintReader;
  /** Negative while it is not read. */
  #untilNext = -1;

  constructor({ gaps, changes }: ColumnReaders) {
    this.#gaps = gaps;
    this.#changes = changes;
  }

  /** Changes a copy, whole: a difference never reaches beyond the copy in which it begins. */
  apply(bytes: Buffer, start: number, end: number): void {
    let at = start;
    for (;;) {
      if (this.#untilNext < 0) this.#untilNext = this.#nextGap();
      if (this.#untilNext >= end - at) break;
      at += this.#untilNext;
      this.#untilNext = -1;
      const stop = Math.min(at + CHANGE_BYTES, end);
      // little-endian addition, with carry
      for (let carry = 0; at < stop; at++) {
        const sum = (bytes[at] ?? 0) + this.#changes.byte() + carry;
        bytes[at] = sum & 0xff;
        carry = sum >> 8;
      }
    }
    this.#untilNext -= end - at;
  }

  #nextGap(): number {
    return this.#gaps.isDone ? Number.MAX_SAFE_INTEGER : this.#gaps.next();
  }
}

/** Whether the codec for them is wanted, which takes its time to load. */
export function mayHaveWindows({ ops }: ColumnReaders): boolean {
  return ops.rest().includes(Op.window);
}

/** Runs the program of one frame. Every number in it is a stranger's: what it reads and writes is checked. */
export class Program {
  readonly #columns: ColumnReaders;
  readonly #source: Source;
  readonly #windows: WindowCodec | undefined;
  readonly #effort: Effort;
  readonly #changes: Changes;
  readonly #isInner: boolean;
  #deflater: Deflater | undefined;
  /** Where the base would be if it had gone on beside the output: what seeks count from. */
  #next = 0;
  #mtimeStep = 0;
  #inflatedBytes = 0;

  /**
   * Without `changes` it is a frame's own program; with them, that of a gzip member in it. `windows` may be missing where
   * {@link mayHaveWindows} says no.
   */
  constructor(
    columns: ColumnReaders,
    o: { source: Source; windows: WindowCodec | undefined; effort: Effort; changes?: Changes },
  ) {
    this.#columns = columns;
    this.#source = o.source;
    this.#windows = o.windows;
    this.#effort = o.effort;
    this.#isInner = o.changes !== undefined;
    this.#changes = o.changes ?? new Changes(columns);
  }

  /** Runs until the output is full, and throws `CORRUPT` if the program ends before. */
  run(output: Output): void {
    while (output.left > 0) this.#step(output);
    output.flush();
  }

  /** True once nothing of the program is left. */
  get isDone(): boolean {
    return Object.values(this.#columns).every(({ isDone }) => isDone);
  }

  #step(output: Output): void {
    const op = this.#columns.ops.next();
    if (op === Op.copy) this.#copy(this.#seek(), this.#length(), output);
    else if (op === Op.literal) this.#literal(this.#length(), output);
    else if (op === Op.members) this.#members(this.#length(), output);
    else if (op === Op.header) this.#resizedHeader(output);
    else if (op === Op.zeros) this.#zeros(this.#length(), output);
    else if (op === Op.window) this.#window(output);
    else if (op === Op.gzip) this.#gzip(output);
    else throw fail.corrupt(`delta: unknown operation ${op}`);
  }

  /** How much, or how many: never nothing, so that a program cannot go on without making anything. */
  #length(): number {
    const length = this.#columns.lengths.next();
    if (length === 0) throw fail.corrupt('delta: an operation makes nothing');
    return length;
  }

  #seek(): number {
    this.#next += this.#columns.seeks.nextSigned();
    return this.#next;
  }

  /** Changes are made per piece, so pieces are the same for whoever writes a delta. */
  #copy(position: number, length: number, output: Output): void {
    for (let done = 0; done < length; done += PIECE_BYTES) {
      const bytes = Math.min(PIECE_BYTES, length - done);
      const at = output.room(bytes);
      this.#source.copy(position + done, output.piece, at, at + bytes);
      this.#changes.apply(output.piece, at, at + bytes);
    }
    this.#next = position + length;
  }

  #literal(length: number, output: Output): void {
    for (let done = 0; done < length; done += PIECE_BYTES) {
      const bytes = Math.min(PIECE_BYTES, length - done);
      this.#columns.literals.copyTo(output.piece, output.room(bytes), bytes);
    }
    this.#next += length;
  }

  #zeros(length: number, output: Output): void {
    for (let done = 0; done < length; done += PIECE_BYTES) {
      const bytes = Math.min(PIECE_BYTES, length - done);
      const at = output.room(bytes);
      output.piece.fill(0, at, at + bytes);
    }
    this.#next += length;
  }

  #resizedHeader(output: Output): void {
    const { headers } = this.#columns;
    const hasSize = headers.next() !== 0;
    const position = this.#seek();
    this.#header(position, output, hasSize ? headers.next() : undefined);
  }

  #members(count: number, output: Output): void {
    this.#seek();
    for (let n = 0; n < count; n++) {
      const contentBytes = padded(this.#header(this.#next, output, undefined));
      for (let done = 0; done < contentBytes; done += PIECE_BYTES) {
        const bytes = Math.min(PIECE_BYTES, contentBytes - done);
        const at = output.room(bytes);
        this.#source.copy(this.#next + done, output.piece, at, at + bytes);
      }
      this.#next += contentBytes;
    }
  }

  /** Returns how much content the base has behind it. */
  #header(position: number, output: Output, size: number | undefined): number {
    const place = findHeader(this.#source, position);
    this.#mtimeStep += this.#columns.headers.nextSigned();
    const blocks = Buffer.allocUnsafe(place.end - position);
    this.#source.copy(position, blocks);
    const own = blocks.subarray(place.ownBlock - position);
    const fields = fieldsOf(own);
    if (this.#mtimeStep !== 0 || size !== undefined)
      patchHeader(own, { mtime: fields.mtime + this.#mtimeStep, size: size ?? fields.size });
    output.put(blocks);
    this.#next = place.end;
    return place.contentBytes;
  }

  #window(output: Output): void {
    const position = this.#seek();
    const [sourceBytes, targetBytes] = [this.#length(), this.#length()];
    const window = this.#columns.literals.take(this.#length());
    if (this.#windows === undefined) throw new Error('no codec for windows');
    this.#windows.check(sourceBytes, targetBytes);
    if (targetBytes > output.left) throw fail.corrupt('delta: a frame makes more than it says');
    this.#effort.spend(windowEffort(sourceBytes));
    const source = Buffer.allocUnsafe(sourceBytes);
    this.#source.copy(position, source);
    output.put(this.#windows.decode(window, source, targetBytes));
    this.#next = position + sourceBytes;
  }

  /** A member of the base, if it names one, is inflated to be the source of the content's own program. */
  #gzip(output: Output): void {
    if (this.#isInner) throw fail.corrupt('delta: a gzip member inside another');
    const { lengths, literals } = this.#columns;
    const [shape, head] = [lengths.next(), literals.take(lengths.next())];
    const [plainBytes, sourceBytes] = [this.#length(), lengths.next()];
    this.#inflatedBytes += plainBytes;
    if (Math.max(plainBytes, sourceBytes) > MAX_GZIP_BYTES || this.#inflatedBytes > MAX_INFLATED_BYTES)
      throw fail.corrupt('delta: gzip members are too large');
    const position = sourceBytes === 0 ? this.#next : this.#seek();
    const member = Buffer.allocUnsafe(sourceBytes);
    if (sourceBytes > 0) this.#source.copy(position, member);
    const inner = readGzip(member, MAX_GZIP_BYTES);
    this.#effort.spend(gzipEffort(sourceBytes, inner.bytes));
    const plain = Buffer.allocUnsafe(plainBytes);
    let used = 0;
    const collected = new Output(plainBytes, (bytes) => {
      used += bytes.copy(plain, used);
    });
    const [windows, effort, changes] = [this.#windows, this.#effort, this.#changes];
    new Program(this.#columns, { source: inner, windows, effort, changes }).run(collected);
    this.#deflater ??= new Deflater();
    output.put(makeGzip(plain, { head, shape, deflater: this.#deflater }));
    this.#next = position + sourceBytes;
  }
}
