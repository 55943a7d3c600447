import { createHash } from 'node:crypto';
import { type FSWatcher, mkdirSync, watch } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { codeOf } from '../errors.ts';
import { DatagramSocket } from '../host/packets.ts';
import { journalField } from '../lib/journal-entry.ts';
import type { Log } from '../lib/log.ts';
import { withResolvers } from '../lib/promises.ts';
import { formatNanos } from '../lib/time.ts';
import { isBefore, SpoolMark, type SpoolPlace, SpoolReader, type SpoolRecord } from './journal-spool.ts';
import type { LogPlan } from './log-generations.ts';
import { LogKeeper } from './log-keeper.ts';

/** Where systemd's journal listens. */
export const JOURNAL_SOCKET = '/run/systemd/journal/socket';

/** A longer line goes in pieces. dockerd's size. */
const MAX_MESSAGE_BYTES = 16 * 1024;

/** What the journal has not taken yet, for each container; in memory, so it is small. */
const SPOOL_FILE_BYTES = 1 << 20;
const SPOOL_BYTES = 4 * SPOOL_FILE_BYTES;

/** After this many messages, others have their turn. */
const MESSAGES_PER_TURN = 64;

/** What comes within this time of the first line goes with it. */
const REST_MS = 10;

/** Where there is nothing that rings: no watches left, or a journal that is being restarted. */
const RETRY_MS = 500;

/** How long the journal may take to have the last lines of a container that has ended. */
const FINISH_MS = 5000;

const WARN_EVERY_MS = 60_000;

/** Which lines the journal has been given: `ordinal` of them since `epoch`, which names the run. */
export interface JournalMark {
  readonly epoch: string;
  readonly ordinal: number;
}

/** The spool in a run's own directory. */
export function journalSpoolIn(directory: string): LogPlan {
  const path = join(directory, 'spool', 'log');
  return { path, generationBytes: SPOOL_FILE_BYTES, limitBytes: SPOOL_BYTES, compresses: false };
}

export function makeJournalSpool(directory: string): LogPlan {
  mkdirSync(join(directory, 'spool'), { mode: 0o700 });
  return journalSpoolIn(directory);
}

/** Whether there is a journal to write to. */
export function hasJournal(path = JOURNAL_SOCKET): boolean {
  try {
    DatagramSocket.connect(path).close();
    return true;
  } catch {
    return false;
  }
}

/**
 * Passes a container's output on to systemd's journal: line by line from a spool that conmon fills. The container waits
 * for nobody; what the spool cannot hold while the journal takes less, or no daemon runs, is lost, the oldest first.
 * Each line goes once: where a daemon is killed between sending and noting it, that line goes twice.
 */
export class JournalSender implements AsyncDisposable {
  readonly #directory: string;
  readonly #socketPath: string;
  readonly #containerId: string;
  readonly #epoch: string;
  readonly #head: Buffer;
  readonly #log: Log;
  readonly #keeper: LogKeeper;
  readonly #reader: SpoolReader;
  readonly #mark: SpoolMark;
  readonly #parts: Record<1 | 2, SpoolRecord[]> = { 1: [], 2: [] };
  #isEnding = false;
  #isStopped = false;
  #wake: () => void = () => {};
  #socket: DatagramSocket | undefined;
  #warnedMs = Number.NEGATIVE_INFINITY;
  #running: Promise<void> = Promise.resolve();

  private constructor(directory: string, o: JournalSenderOptions, log: Log) {
    const plan = journalSpoolIn(directory);
    this.#directory = directory;
    this.#socketPath = o.socketPath ?? JOURNAL_SOCKET;
    this.#containerId = o.fields['CONTAINER_ID_FULL'] ?? '';
    this.#epoch = o.epoch;
    this.#log = log;
    const fields = Object.entries({ ...o.fields, CONTAINER_LOG_EPOCH: o.epoch });
    this.#head = Buffer.concat(fields.map(([name, value]) => journalField(name, value)));
    this.#mark = new SpoolMark(join(directory, 'journal-mark'));
    this.#keeper = LogKeeper.keep(plan, log);
    this.#reader = new SpoolReader(plan.path, this.#mark.place, () => this.#warn('lines are lost'));
  }

  /** Goes on where the last daemon was. `directory` is the run's. */
  static begin(directory: string, o: JournalSenderOptions, log: Log): JournalSender {
    const sender = new JournalSender(directory, o, log);
    sender.#running = sender.#run();
    return sender;
  }

  get mark(): JournalMark {
    return { epoch: this.#epoch, ordinal: this.#mark.ordinal };
  }

  /** The container writes no more: resolves once the journal has everything, or after five seconds. */
  async finish(): Promise<void> {
    this.#isEnding = true;
    this.#wake();
    const timer = setTimeout(() => {
      this.#warn('its last lines were not taken in time');
      this.#halt();
    }, FINISH_MS); // a daemon that begins has nothing else yet that keeps it going
    await this.#running;
    clearTimeout(timer);
    await this[Symbol.asyncDispose]();
  }

  /** Leaves the rest to the next daemon. Safe twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#halt();
    await this.#running;
    await this.#keeper[Symbol.asyncDispose]();
    this.#reader[Symbol.dispose]();
    this.#mark[Symbol.dispose]();
    this.#socket?.close();
    this.#socket = undefined;
  }

  #halt(): void {
    this.#isStopped = true;
    this.#wake();
  }

  async #run(): Promise<void> {
    try {
      while (!this.#isStopped) {
        const isLast = this.#isEnding; // what is written before this is read below
        await this.#passOn();
        if (isLast) return await this.#passOnRest();
        await this.#change();
      }
    } catch (err) {
      this.#log.error({ path: this.#directory, err }, 'a log goes to the journal no more');
    }
  }

  async #passOn(): Promise<void> {
    for (let count = 1; !this.#isStopped; count++) {
      const record = this.#reader.next();
      if (record === undefined) return;
      await this.#take(record);
      if (count % MESSAGES_PER_TURN === 0) await nextTurn();
    }
  }

  async #take(record: SpoolRecord): Promise<void> {
    const { stream, isPartial, start } = record;
    if (isBefore(start, this.#mark.streams[stream].place)) return; // by an earlier daemon
    const parts = this.#parts[stream];
    parts.push(record);
    const size = parts.reduce((sum, part) => sum + part.data.length, 0);
    if (isPartial && size < MAX_MESSAGE_BYTES) return this.#note(record, { isPassedOn: false });
    await this.#passOnLine(stream, { isWhole: !isPartial });
  }

  /** Lines that were never ended. */
  async #passOnRest(): Promise<void> {
    for (const stream of [1, 2] as const) {
      const isCut = this.#mark.streams[stream].pieces > 0;
      if (this.#parts[stream].length > 0 || isCut) await this.#passOnLine(stream, { isWhole: true });
    }
  }

  async #passOnLine(stream: 1 | 2, { isWhole }: { isWhole: boolean }): Promise<void> {
    const parts = this.#parts[stream];
    const mark = this.#mark.streams[stream];
    const [first, last] = [parts[0], parts.at(-1)];
    const lineStart = mark.pieces > 0 || first === undefined ? mark.lineStart : first.start;
    const isPiece = mark.pieces > 0 || !isWhole;
    const text = Buffer.concat(parts.map(({ data }) => data));
    const fields = [
      journalField('MESSAGE', text.at(-1) === 0x0a ? text.subarray(0, -1) : text),
      journalField('PRIORITY', stream === 1 ? '6' : '3'),
      journalField('CONTAINER_LOG_ORDINAL', `${this.#mark.ordinal + 1}`),
      ...(first === undefined ? [] : [journalField('SYSLOG_TIMESTAMP', formatNanos(first.timeNanos))]),
      ...(isPiece ? this.#pieceFields(stream, lineStart, mark.pieces + 1, isWhole) : []),
    ];
    if (!(await this.#send(Buffer.concat([this.#head, ...fields])))) return;
    parts.length = 0;
    mark.pieces = isWhole ? 0 : mark.pieces + 1;
    mark.lineStart = lineStart;
    this.#mark.ordinal++;
    if (last === undefined) this.#mark.write();
    else this.#note(last, { isPassedOn: true });
  }

  #pieceFields(stream: 1 | 2, { file, offset }: SpoolPlace, ordinal: number, isLast: boolean): Buffer[] {
    const id = createHash('sha256').update(`${this.#epoch} ${stream} ${file} ${offset}`).digest('hex');
    return [
      journalField('CONTAINER_PARTIAL_ID', id),
      journalField('CONTAINER_PARTIAL_ORDINAL', `${ordinal}`),
      journalField('CONTAINER_PARTIAL_LAST', `${isLast}`),
      ...(isLast ? [] : [journalField('CONTAINER_PARTIAL_MESSAGE', 'true')]),
    ];
  }

  /** A record is done with: the other stream, unless it has parts of a line before it, needs it no more either. */
  #note({ stream, end }: SpoolRecord, { isPassedOn }: { isPassedOn: boolean }): void {
    const { streams } = this.#mark;
    const other = stream === 1 ? 2 : 1;
    const before = this.#mark.place;
    if (isPassedOn) streams[stream].place = end;
    if (this.#parts[other].length === 0 && isBefore(streams[other].place, end)) streams[other].place = end;
    this.#mark.write();
    if (this.#mark.place.file > before.file) this.#reader.discard(this.#mark.place);
  }

  /** Waits until the journal has room. False if it never came to that, or for what it will never take. */
  async #send(entry: Buffer): Promise<boolean> {
    while (!this.#isStopped) {
      try {
        this.#socket ??= DatagramSocket.connect(this.#socketPath);
        if (this.#socket.send(entry)) return true;
        await this.#rest(RETRY_MS, this.#socket.room());
      } catch (err) {
        if (codeOf(err) === 'EMSGSIZE') {
          this.#warn('the journal takes no entry of this size', err);
          return true;
        }
        this.#socket?.close(); // it is being restarted
        this.#socket = undefined;
        this.#warn('the journal cannot be reached', err);
        await this.#rest(RETRY_MS);
      }
    }
    return false;
  }

  /** Until something was written since, or the container has ended. First the watch, then the look. */
  async #change(): Promise<void> {
    const rung = withResolvers<void>();
    const watcher = this.#watch(rung.resolve);
    try {
      if (this.#isEnding || this.#reader.hasMore()) return;
      await this.#rest(watcher === undefined ? RETRY_MS : undefined, rung.promise);
    } finally {
      watcher?.close();
    }
    await this.#rest(REST_MS);
  }

  #watch(onChange: () => void): FSWatcher | undefined {
    try {
      return watch(join(this.#directory, 'spool'), onChange).on('error', onChange).unref();
    } catch {
      return undefined; // the kernel has no more watches to give
    }
  }

  /** Whichever is first: the time, the event, or an order to end. For one at a time. */
  async #rest(ms: number | undefined, event?: Promise<void>): Promise<void> {
    if (this.#isStopped) return;
    const { promise, resolve } = withResolvers<void>();
    this.#wake = resolve;
    const timer = ms === undefined ? undefined : setTimeout(resolve, ms).unref();
    event?.then(resolve, resolve);
    await promise;
    clearTimeout(timer);
  }

  #warn(why: string, err?: unknown): void {
    if (performance.now() - this.#warnedMs < WARN_EVERY_MS) return;
    this.#warnedMs = performance.now();
    const container = this.#containerId;
    this.#log.warn({ container, why, ...(err !== undefined && { err }) }, 'a log does not reach the journal');
  }
}

/** What is sent with each line, and to whom. */
export interface JournalSenderOptions {
  readonly fields: Readonly<Record<string, string>>;
  /** Names this run; lines are counted from its beginning. */
  readonly epoch: string;
  readonly socketPath?: string;
}
