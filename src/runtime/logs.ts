import { type FSWatcher, watch } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { codeOf } from '../errors.ts';
import { endsLine, type K8sRecord, parseK8sRecord } from '../lib/k8s-log.ts';
import { withResolvers } from '../lib/promises.ts';

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

/** Where the log goes that must make room for a new one; read before it. */
export function rotatedLogPath(path: string): string {
  return `${path}.1`;
}

/** Reads a container's log file from conmon. A file that is not there is empty. Holds one block and two lines. */
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

/** The records of the rotated log and the present one, and if followed of those that come. */
async function* recordsOf(path: string, { tail, ended, signal }: LogQuery): AsyncGenerator<K8sRecord> {
  using bell = ended === undefined ? undefined : new Bell(path, ended, signal);
  let current = await LogFile.open(path);
  try {
    const missing = tail === undefined ? undefined : ((await current?.rewind(tail)) ?? tail);
    if (missing !== 0) yield* rotatedRecords(path, missing, signal);
    if (current !== undefined) yield* current.records(signal);
    while (bell !== undefined) {
      const isLast = await bell.wait();
      if (signal?.aborted) return;
      const isReplaced = await current?.isReplaced();
      // first what was written to the old file before the new one took its place
      if (current !== undefined) yield* current.records(signal);
      if (isReplaced !== false) {
        await current?.[Symbol.asyncDispose]();
        current = await LogFile.open(path);
        if (current !== undefined) yield* current.records(signal);
      }
      if (isLast) return;
    }
  } finally {
    await current?.[Symbol.asyncDispose]();
  }
}

async function* rotatedRecords(
  path: string,
  tail: number | undefined,
  signal: AbortSignal | undefined,
): AsyncGenerator<K8sRecord> {
  await using file = await LogFile.open(rotatedLogPath(path));
  if (file === undefined) return;
  if (tail !== undefined) await file.rewind(tail);
  yield* file.records(signal);
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

/** One log file, read forwards from where it was left. */
class LogFile implements AsyncDisposable {
  readonly #path: string;
  readonly #file: FileHandle;
  #position = 0;
  #isClosed = false;

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  static async open(path: string): Promise<LogFile | undefined> {
    try {
      return new LogFile(path, await open(path, 'r'));
    } catch (cause) {
      if (codeOf(cause) === 'ENOENT') return undefined;
      throw cause;
    }
  }

  /** Whole records up to the present end; the rest of one that is being written is left for the next time. */
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

  /** Moves to where the last `lines` lines begin; answers how many of them are not in this file. */
  async rewind(lines: number): Promise<number> {
    const { size } = await this.#file.stat();
    let missing = lines;
    let end = size;
    for await (const record of this.#recordsBackwards(size)) {
      // a line that is not ended yet is one too, if it is the last
      if (endsLine(record) || (end === size && missing === lines)) missing--;
      if (missing < 0) {
        this.#position = end;
        return 0;
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

  async isReplaced(): Promise<boolean> {
    try {
      const [own, present] = await Promise.all([this.#file.stat(), stat(this.#path)]);
      return own.ino !== present.ino;
    } catch (cause) {
      if (codeOf(cause) === 'ENOENT') return false; // between two files, or gone
      throw cause;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#file.close();
  }
}
