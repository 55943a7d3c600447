import { createReadStream, type FSWatcher, watch } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { codeOf } from '../errors.ts';
import { endsLine, type K8sRecord, parseK8sRecord } from '../lib/k8s-log.ts';
import { withResolvers } from '../lib/promises.ts';
import { type Generation, LogGenerations } from './log-generations.ts';

/** A line that a container's process wrote, or 16 KiB of one that is longer. */
export interface LogLine {
  readonly stream: 1 | 2;
  /** Since 1970; of its first byte. */
  readonly timeNanos: bigint;
  /** With the newline, if the process has written it yet. */
  readonly data: Buffer;
}

/** Which part of a log to read; times in nanoseconds since 1970. */
export interface LogQuery {
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly since?: bigint;
  readonly until?: bigint;
  /** Lines from the end, of both streams together; absent means all. */
  readonly tail?: number;
  /** Goes on with what is written later, until this resolves: then everything must have been written. */
  readonly ended?: Promise<void>;
  /** Ends the reading, quietly: whoever asked is gone. */
  readonly signal?: AbortSignal;
}

const BLOCK_BYTES = 64 * 1024;
/** A longer line is given in pieces. dockerd's size. */
const MAX_JOINED_BYTES = 16 * 1024;
/** conmon's records end within 9 KiB; what goes on for longer than this is not a log. */
const MAX_RECORD_BYTES = 256 * 1024;
const NEWLINE = 0x0a;

/** A file's time is its last write's, by a clock that is coarser than the log's. */
const CLOCK_SLACK_MS = 1000;

/** Reads a container's log from conmon, the oldest generation first. A file that is not there is empty. Holds one block and two lines. */
export async function* readLog(path: string, query: LogQuery): AsyncGenerator<LogLine> {
  const { since, until } = query;
  const isWanted = ({ stream, timeNanos }: LogLine) =>
    (stream === 1 ? query.stdout : query.stderr) && (since === undefined || timeNanos >= since);
  const joiner = new LineJoiner();
  for await (const record of recordsOf(path, query)) {
    const line = joiner.push(record);
    if (line === undefined) continue;
    if (until !== undefined && line.timeNanos > until) return;
    if (isWanted(line)) yield line;
  }
  for (const line of joiner.rest()) {
    if (isWanted(line) && (until === undefined || line.timeNanos <= until)) yield line;
  }
}

/** Puts the parts of lines together, for each stream on its own. */
class LineJoiner {
  readonly #parts: Record<1 | 2, K8sRecord[]> = { 1: [], 2: [] };

  /** The line that this record completes, if it does. */
  push(record: K8sRecord): LogLine | undefined {
    const parts = this.#parts[record.stream];
    parts.push(record);
    const size = parts.reduce((sum, { data }) => sum + data.length, 0);
    return record.isPartial && size < MAX_JOINED_BYTES ? undefined : this.#take(record.stream);
  }

  /** Lines that were never ended. */
  rest(): LogLine[] {
    return ([1, 2] as const).map((stream) => this.#take(stream)).filter((line) => line !== undefined);
  }

  #take(stream: 1 | 2): LogLine | undefined {
    const [first, ...more] = this.#parts[stream];
    if (first === undefined) return undefined;
    this.#parts[stream] = [];
    const data =
      more.length === 0 ? first.data : Buffer.concat([first.data, ...more.map((part) => part.data)]);
    return { stream, timeNanos: first.timeNanos, data };
  }
}

/** The records of all generations, and if followed of those that come. */
async function* recordsOf(path: string, query: LogQuery): AsyncGenerator<K8sRecord> {
  const { ended, signal } = query;
  using bell = ended === undefined ? undefined : new Bell(path, ended, signal);
  const generations = new LogGenerations(path);
  let file = await beginning(generations, query);
  let place: Pick<Generation, 'number' | 'inode'> = file ?? { number: 0, inode: 0 };
  try {
    for (let isLast = bell === undefined; ; ) {
      const next = generations.after(place);
      if (file !== undefined) yield* file.records(signal);
      if (signal?.aborted) return;
      if (next !== undefined) {
        await file?.[Symbol.asyncDispose]();
        place = next;
        file = await openGeneration(next);
        continue;
      }
      if (isLast) return;
      isLast = (await bell?.wait()) ?? true;
    }
  } finally {
    await file?.[Symbol.asyncDispose]();
  }
}

/** The file in which the wanted part begins, at its place; undefined where there is nothing yet. */
async function beginning(
  generations: LogGenerations,
  { tail, since }: LogQuery,
): Promise<GenerationFile | undefined> {
  generations.adopt();
  const all = generations.list();
  const sinceMs = since === undefined ? 0 : Number(since / 1_000_000n) - CLOCK_SLACK_MS;
  const [oldest] = all.filter(({ changedMs }, at) => changedMs >= sinceMs || at === all.length - 1);
  if (tail === undefined) return oldest && openGeneration(oldest);
  let missing = tail;
  for (const [fromEnd, generation] of all.slice().reverse().entries()) {
    const file = await openGeneration(generation);
    const more = file === undefined ? missing : await file.rewind(missing, { isNewest: fromEnd === 0 });
    if (more === undefined || generation === oldest || fromEnd === all.length - 1) return file;
    missing = more;
    await file?.[Symbol.asyncDispose]();
  }
  return undefined;
}

/** Undefined if it was dropped meanwhile. */
async function openGeneration(generation: Generation): Promise<GenerationFile | undefined> {
  return generation.isPacked ? new PackedFile(generation) : PlainFile.open(generation);
}

/** Rings whenever a file, or its directory's entry, has changed; once more, and for the last time, at the end. */
class Bell implements Disposable {
  readonly #watcher: FSWatcher | undefined;
  #isRung = false;
  #isLast = false;
  #wake: (() => void) | undefined;

  constructor(path: string, ended: Promise<void>, signal: AbortSignal | undefined) {
    const last = () => {
      this.#isLast = true;
      this.#ring();
    };
    ended.then(last, last);
    if (signal?.aborted) last();
    signal?.addEventListener('abort', last, { once: true });
    try {
      // the directory, not the file: a new one takes its place when it is full
      this.#watcher = watch(dirname(path), (_, name) => {
        if (name === null || name === basename(path)) this.#ring();
      });
      this.#watcher.on('error', last);
    } catch (cause) {
      if (codeOf(cause) !== 'ENOENT') throw cause;
      last(); // removed, and nothing more will come
    }
  }

  /** Resolves after a change since the last time; true if there will be no more. */
  async wait(): Promise<boolean> {
    if (!this.#isRung && !this.#isLast) {
      const { promise, resolve } = withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
    this.#isRung = false;
    return this.#isLast;
  }

  #ring(): void {
    this.#isRung = true;
    this.#wake?.();
  }

  [Symbol.dispose](): void {
    this.#watcher?.close();
  }
}

/** One generation, read forwards from where it was left. */
interface GenerationFile extends AsyncDisposable {
  readonly number: number;
  readonly inode: number;
  /** Whole records up to the present end; the rest of one that is being written is left for the next time. */
  records(signal: AbortSignal | undefined): AsyncGenerator<K8sRecord>;
  /** Moves to where the last `lines` lines begin; answers how many of them are further back, undefined if none. */
  rewind(lines: number, o: { isNewest: boolean }): Promise<number | undefined>;
}

class PlainFile implements GenerationFile {
  readonly number: number;
  readonly inode: number;
  readonly #file: FileHandle;
  #position = 0;
  #isClosed = false;

  private constructor({ number, inode }: Generation, file: FileHandle) {
    this.number = number;
    this.inode = inode;
    this.#file = file;
  }

  static async open(generation: Generation): Promise<PlainFile | undefined> {
    try {
      return new PlainFile(generation, await open(generation.path, 'r'));
    } catch (cause) {
      if (codeOf(cause) === 'ENOENT') return undefined;
      throw cause;
    }
  }

  async *records(signal: AbortSignal | undefined): AsyncGenerator<K8sRecord> {
    const { size } = await this.#file.stat();
    if (size < this.#position) this.#position = 0; // truncated by someone
    let rest: Buffer = Buffer.alloc(0);
    for (let at = this.#position; at < size && !signal?.aborted; ) {
      const { bytesRead, buffer } = await this.#file.read(
        Buffer.allocUnsafe(BLOCK_BYTES),
        0,
        Math.min(BLOCK_BYTES, size - at),
        at,
      );
      if (bytesRead === 0) return;
      at += bytesRead;
      const block = buffer.subarray(0, bytesRead);
      const bytes = rest.length === 0 ? block : Buffer.concat([rest, block]);
      let start = 0;
      for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
        const record = parseK8sRecord(bytes.subarray(start, end + 1));
        this.#position += end + 1 - start;
        start = end + 1;
        if (record !== undefined) yield record;
      }
      rest = bytes.subarray(start);
      if (rest.length <= MAX_RECORD_BYTES) continue;
      this.#position += rest.length;
      rest = Buffer.alloc(0);
    }
  }

  async rewind(lines: number, { isNewest }: { isNewest: boolean }): Promise<number | undefined> {
    const { size } = await this.#file.stat();
    let missing = lines;
    let end = size;
    for await (const record of this.#recordsBackwards(size)) {
      // a line that is not ended yet is one too, if it is the last
      if (endsLine(record) || (isNewest && end === size)) missing--;
      if (missing < 0) {
        this.#position = end;
        return undefined;
      }
      end -= record.length;
    }
    this.#position = 0;
    return missing;
  }

  /** From the end; the first one may be half written. */
  async *#recordsBackwards(size: number): AsyncGenerator<Buffer> {
    let rest: Buffer = Buffer.alloc(0);
    for (let at = size; at > 0; ) {
      const length = Math.min(BLOCK_BYTES, at);
      const { buffer } = await this.#file.read(Buffer.allocUnsafe(length), 0, length, at - length);
      at -= length;
      const bytes = Buffer.concat([buffer, rest]);
      let end = bytes.length;
      for (
        let cut = bytes.lastIndexOf(NEWLINE, end - 2);
        end > 1 && cut >= 0;
        cut = bytes.lastIndexOf(NEWLINE, end - 2)
      ) {
        yield bytes.subarray(cut + 1, end);
        end = cut + 1;
      }
      rest = bytes.subarray(0, end);
    }
    if (rest.length > 0) yield rest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#file.close();
  }
}

/** One that is closed and packed: read through from its beginning. */
class PackedFile implements GenerationFile {
  readonly number: number;
  readonly inode: number;
  readonly #path: string;
  #skippedLines = 0;
  #isRead = false;

  constructor({ number, inode, path }: Generation) {
    this.number = number;
    this.inode = inode;
    this.#path = path;
  }

  async *records(signal: AbortSignal | undefined): AsyncGenerator<K8sRecord> {
    if (this.#isRead) return;
    this.#isRead = true;
    let skipped = 0;
    for await (const line of this.#lines()) {
      if (signal?.aborted) return;
      if (skipped < this.#skippedLines) {
        if (endsLine(line)) skipped++;
        continue;
      }
      const record = parseK8sRecord(line);
      if (record !== undefined) yield record;
    }
  }

  async rewind(lines: number): Promise<number | undefined> {
    let count = 0;
    for await (const line of this.#lines()) if (endsLine(line)) count++;
    this.#skippedLines = Math.max(0, count - lines);
    return count > lines ? undefined : lines - count;
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  async *#lines(): AsyncGenerator<Buffer> {
    const source = createReadStream(this.#path);
    const unpacked = createGunzip();
    pipeline(source, unpacked).catch(() => {}); // the reader is told
    let rest: Buffer = Buffer.alloc(0);
    try {
      for await (const chunk of unpacked as AsyncIterable<Buffer>) {
        const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
        let start = 0;
        for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
          yield bytes.subarray(start, end + 1);
          start = end + 1;
        }
        rest = bytes.length - start > MAX_RECORD_BYTES ? Buffer.alloc(0) : bytes.subarray(start);
      }
    } catch (cause) {
      if (codeOf(cause) !== 'ENOENT') throw cause; // dropped meanwhile
    } finally {
      source.destroy();
    }
  }
}
