import { closeSync, openSync, readFileSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { codeOf } from '../errors.ts';
import { type K8sRecord, parseK8sRecord } from '../lib/k8s-log.ts';
import { LogGenerations } from './log-generations.ts';

/** A byte of a spool: in which of its files, and where in that. */
export interface SpoolPlace {
  readonly file: number;
  readonly offset: number;
}

/** What conmon wrote, and where it ends. */
export interface SpoolRecord extends K8sRecord {
  readonly start: SpoolPlace;
  readonly end: SpoolPlace;
}

export function isBefore(a: SpoolPlace, b: SpoolPlace): boolean {
  return a.file < b.file || (a.file === b.file && a.offset < b.offset);
}

const BLOCK_BYTES = 64 * 1024;
const NEWLINE = 0x0a;

/**
 * Reads what conmon writes for somebody else to have, file after file. All calls are synchronous: it lies on tmpfs,
 * where nothing waits. Holds one block.
 */
export class SpoolReader implements Disposable {
  readonly #generations: LogGenerations;
  readonly #onLoss: () => void;
  #fd: number | undefined;
  #place: { number: number; inode: number } = { number: 0, inode: 0 };
  #bytes: Buffer = Buffer.alloc(0);
  /** Where in its file the block's first byte is. */
  #offset: number;

  /** Goes on at `from`. `onLoss` hears of every gap that can be seen. */
  constructor(path: string, from: SpoolPlace, onLoss: () => void) {
    this.#generations = new LogGenerations(path);
    this.#onLoss = onLoss;
    this.#offset = from.offset;
    this.#begin(from);
  }

  /** The next whole record; undefined where there is none yet. `data` is good until the next call. */
  next(): SpoolRecord | undefined {
    for (;;) {
      const end = this.#bytes.indexOf(NEWLINE);
      if (end < 0) {
        if (this.#fill() || this.#advance()) continue;
        return undefined;
      }
      const record = parseK8sRecord(this.#bytes.subarray(0, end + 1));
      const start = { file: this.#place.number, offset: this.#offset };
      this.#bytes = this.#bytes.subarray(end + 1);
      this.#offset += end + 1;
      if (record !== undefined) return { ...record, start, end: { ...start, offset: this.#offset } };
    }
  }

  /** Whether something has come since the last look. */
  hasMore(): boolean {
    return this.#fill() || this.#advance();
  }

  /** Gives the room of whole files back that nobody needs any more. */
  discard({ file }: SpoolPlace): void {
    for (const { number, path } of this.#generations.list()) if (number < file) remove(path);
  }

  [Symbol.dispose](): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #begin(from: SpoolPlace): void {
    this.#generations.adopt();
    const all = this.#generations.list();
    const first = all.find(({ number }) => number >= from.file);
    if (first === undefined) {
      this.#place = { number: from.file, inode: 0 };
      return;
    }
    if (first.number > from.file) this.#offset = 0;
    if (first.number > Math.max(1, from.file)) this.#onLoss();
    this.#open(first);
  }

  #open({ number, inode, path }: { number: number; inode: number; path: string }): void {
    this[Symbol.dispose]();
    this.#place = { number, inode };
    try {
      this.#fd = openSync(path, 'r');
    } catch (cause) {
      if (codeOf(cause) !== 'ENOENT') throw cause; // dropped meanwhile: the next one will show a gap
    }
  }

  #fill(): boolean {
    if (this.#fd === undefined) return false;
    const rest = this.#bytes;
    const block = Buffer.allocUnsafe(rest.length + BLOCK_BYTES);
    const size = readSync(this.#fd, block, rest.length, BLOCK_BYTES, this.#offset + rest.length);
    if (size === 0) return false;
    rest.copy(block);
    this.#bytes = block.subarray(0, rest.length + size);
    return true;
  }

  /** To the next file, once there is one: then nothing more comes into this. */
  #advance(): boolean {
    const next = this.#generations.after(this.#place);
    if (next === undefined) return false;
    if (this.#fill()) return true;
    if (next.number > this.#place.number + 1 || this.#bytes.length > 0) this.#onLoss();
    this.#bytes = Buffer.alloc(0);
    this.#offset = 0;
    this.#open(next);
    return true;
  }
}

/** How far the records of one stream have been passed on. */
interface StreamMark {
  /** The first that has not. */
  place: SpoolPlace;
  /** Of a line that is longer than a message: how many pieces of it were passed on, and where it began. */
  pieces: number;
  lineStart: SpoolPlace;
}

const NUMBERS = 11;

/** What was passed on already: a note of fixed size, written at once and in one piece, which outlives a killed daemon. */
export class SpoolMark implements Disposable {
  readonly streams: Record<1 | 2, StreamMark>;
  /** Messages so far. */
  ordinal: number;
  #fd: number;
  readonly #note = Buffer.alloc(NUMBERS * 8);

  constructor(path: string) {
    const known = readNote(path);
    const at = (index: number) => known?.readDoubleLE(index * 8) ?? 0;
    const mark = (index: number): StreamMark => ({
      place: { file: at(index), offset: at(index + 1) },
      pieces: at(index + 2),
      lineStart: { file: at(index + 3), offset: at(index + 4) },
    });
    this.ordinal = at(0);
    this.streams = { 1: mark(1), 2: mark(6) };
    this.#fd = openSync(path, known === undefined ? 'w' : 'r+', 0o600);
  }

  /** Everything before this was passed on. */
  get place(): SpoolPlace {
    const { 1: out, 2: err } = this.streams;
    return isBefore(out.place, err.place) ? out.place : err.place;
  }

  write(): void {
    const { 1: out, 2: err } = this.streams;
    const numbers = [this.ordinal, ...[out, err].flatMap(numbersOf)];
    for (const [index, number] of numbers.entries()) this.#note.writeDoubleLE(number, index * 8);
    writeSync(this.#fd, this.#note, 0, this.#note.length, 0);
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}

function numbersOf({ place, pieces, lineStart }: StreamMark): number[] {
  return [place.file, place.offset, pieces, lineStart.file, lineStart.offset];
}

function readNote(path: string): Buffer | undefined {
  try {
    const note = readFileSync(path);
    return note.length === NUMBERS * 8 ? note : undefined;
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return undefined;
    throw cause;
  }
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch (cause) {
    if (codeOf(cause) !== 'ENOENT') throw cause; // pruned
  }
}
