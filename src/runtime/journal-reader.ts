import type { ChildProcess } from 'node:child_process';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fail } from '../errors.ts';
import { run } from '../host/exec.ts';
import { spawnSealed } from '../host/spawn.ts';
import { type JournalEntry, journalEntries } from '../lib/journal-entry.ts';
import { parseNanos } from '../lib/time.ts';
import type { JournalMark } from './journal-sender.ts';
import type { LogLine, LogQuery } from './logs.ts';
import { findProgram } from './runtimes.ts';

/** Whose log, and how far it goes. */
export interface JournalSource {
  readonly containerId: string;
  /** What the journal has been given; undefined where nothing came lately. */
  mark(): Promise<JournalMark | undefined>;
}

/** How long the journal may take to show what it was given: it may have thrown it away. */
const CATCH_UP_MS = 500;
const LOOK_MS = 20;
const LOOK_TIMEOUT_MS = 10_000;

/** From a line's own time to its entry's, unless the journal stalls. */
const MOST_DELAY_NANOS = 2_000_000_000n;

const MAX_LINES = 2 ** 31 - 1;
const MAX_STDERR_BYTES = 4096;

const fieldsRead = [
  'MESSAGE',
  'PRIORITY',
  'SYSLOG_TIMESTAMP',
  'CONTAINER_PARTIAL_MESSAGE',
  'CONTAINER_LOG_EPOCH',
  'CONTAINER_LOG_ORDINAL',
];

const common = ['--quiet', '--no-pager', '--output=export', `--output-fields=${fieldsRead.join()}`];

/** Whether what is in the journal can be had back. */
export function canReadJournal(): boolean {
  return findProgram('journalctl') !== undefined;
}

/**
 * Reads a container's log from systemd's journal, by journalctl: its library is in C, its files have many versions.
 * Times are the lines' own, as in a log file. Holds one entry and what a pipe holds.
 */
export async function* readJournal(source: JournalSource, query: LogQuery): AsyncGenerator<LogLine> {
  const isFollowed = query.ended !== undefined;
  if (query.tail === 0 && !isFollowed) return;
  if (!isFollowed) await caughtUp(source, query.signal);
  if (query.signal?.aborted) return;
  const reading = new Reading([...(await rangeOf(source.containerId, query)), matchOf(source.containerId)]);
  const stop = () => reading.stop();
  query.signal?.addEventListener('abort', stop, { once: true });
  const end = new FollowEnd(source, stop);
  query.ended?.then(
    () => end.begin(),
    () => end.begin(),
  );
  try {
    for await (const entry of reading.entries()) {
      const line = lineOf(entry);
      if (query.until !== undefined && line.timeNanos > query.until) return;
      const isWanted = line.stream === 1 ? query.stdout : query.stderr;
      if (isWanted && (query.since === undefined || line.timeNanos >= query.since)) yield line;
      if (end.isReachedBy(entry)) return;
    }
  } finally {
    query.signal?.removeEventListener('abort', stop);
    end.stop();
    stop();
  }
}

/** The part of the journal to read, by its own times: an entry is a moment later than its line. */
async function rangeOf(containerId: string, query: LogQuery): Promise<string[]> {
  const { since, until, tail, ended } = query;
  const args = ended === undefined ? [] : ['--follow'];
  if (until !== undefined && ended === undefined) {
    args.push(`--until=@${seconds(until + MOST_DELAY_NANOS)}`);
    if (tail !== undefined) {
      const first = await tailOf(containerId, { args, until, tail, signal: query.signal });
      return [...args, ...(first === undefined ? [] : [`--cursor=${first}`])];
    }
  }
  args.push(tail === undefined ? '--no-tail' : `--lines=${Math.min(tail, MAX_LINES)}`);
  if (since !== undefined && since > 0n) args.push(`--since=@${seconds(since)}`);
  return args;
}

/** Where the last lines before a time begin: counted backwards, so that none needs to be kept. */
async function tailOf(
  containerId: string,
  o: { args: readonly string[]; until: bigint; tail: number; signal: AbortSignal | undefined },
): Promise<string | undefined> {
  const reading = new Reading(['--reverse', ...o.args, matchOf(containerId)]);
  const stop = () => reading.stop();
  o.signal?.addEventListener('abort', stop, { once: true });
  let cursor: string | undefined;
  let missing = o.tail;
  try {
    for await (const entry of reading.entries()) {
      if (lineOf(entry).timeNanos > o.until) continue;
      cursor = text(entry, '__CURSOR');
      if (--missing === 0) break;
    }
  } finally {
    o.signal?.removeEventListener('abort', stop);
    stop();
  }
  return cursor;
}

function matchOf(containerId: string): string {
  return `CONTAINER_ID_FULL=${containerId}`;
}

/** A line is in the journal a moment after it was written. */
async function caughtUp(
  { containerId, mark }: JournalSource,
  signal: AbortSignal | undefined,
): Promise<void> {
  const goal = await mark();
  if (goal === undefined || goal.ordinal === 0) return;
  const matches = [
    `CONTAINER_ID_FULL=${containerId}`,
    `CONTAINER_LOG_EPOCH=${goal.epoch}`,
    `CONTAINER_LOG_ORDINAL=${goal.ordinal}`,
  ];
  for (const until = performance.now() + CATCH_UP_MS; performance.now() < until; await sleep(LOOK_MS)) {
    if (signal?.aborted) return;
    const args = ['--quiet', '--no-pager', '--output=cat', '--lines=1', ...matches];
    const { stdout, code } = await run('journalctl', args, { timeoutMs: LOOK_TIMEOUT_MS });
    if (code !== 0 || stdout !== '') return;
  }
}

/** When a followed log is over: the container has ended, and its last line was seen, or is late. */
class FollowEnd {
  readonly #source: JournalSource;
  readonly #onLate: () => void;
  #seen: JournalMark | undefined;
  #goal: JournalMark | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(source: JournalSource, onLate: () => void) {
    this.#source = source;
    this.#onLate = onLate;
  }

  async begin(): Promise<void> {
    this.#goal = await this.#source.mark();
    if (this.#isStopped) return;
    if (this.#isReached()) this.#onLate();
    else this.#timer = setTimeout(this.#onLate, CATCH_UP_MS).unref();
  }

  isReachedBy(entry: JournalEntry): boolean {
    const ordinal = Number(text(entry, 'CONTAINER_LOG_ORDINAL'));
    this.#seen = { epoch: text(entry, 'CONTAINER_LOG_EPOCH'), ordinal };
    return this.#isReached();
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  #isReached(): boolean {
    if (this.#goal === undefined) return false;
    const { epoch, ordinal } = this.#goal;
    return ordinal === 0 || (this.#seen?.epoch === epoch && this.#seen.ordinal >= ordinal);
  }
}

/** One run of journalctl. */
class Reading {
  readonly #child: ChildProcess;
  #isStopped = false;

  constructor(args: readonly string[]) {
    const path = findProgram('journalctl');
    if (path === undefined) throw fail.host('journalctl not found: install systemd');
    const env = { ...process.env, LC_ALL: 'C' };
    this.#child = spawnSealed(path, [...common, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env });
    this.#child.on('error', () => {}); // its streams end
  }

  async *entries(): AsyncGenerator<JournalEntry> {
    const { stdout, stderr } = this.#child;
    if (stdout === null || stderr === null) return;
    const complaint = textOf(stderr);
    try {
      yield* journalEntries(stdout);
    } catch (cause) {
      if (!this.#isStopped) throw fail.host('error reading the journal', cause);
    }
    if (this.#isStopped) return;
    const said = (await complaint).trim();
    if (said !== '') throw fail.host(`error reading the journal: ${said}`);
  }

  stop(): void {
    this.#isStopped = true;
    this.#child.kill('SIGKILL'); // it only reads
    this.#child.stdout?.destroy();
    this.#child.stderr?.destroy();
  }
}

async function textOf(stream: Readable): Promise<string> {
  let all = '';
  try {
    for await (const chunk of stream.setEncoding('utf8') as AsyncIterable<string>)
      if (all.length < MAX_STDERR_BYTES) all += chunk;
  } catch {
    // let go of
  }
  return all;
}

function lineOf(entry: JournalEntry): LogLine {
  const message = entry.get('MESSAGE') ?? Buffer.alloc(0);
  const isPart = text(entry, 'CONTAINER_PARTIAL_MESSAGE') === 'true';
  const receivedMicros = text(entry, '__REALTIME_TIMESTAMP');
  const received = /^\d{1,18}$/.test(receivedMicros) ? BigInt(receivedMicros) * 1000n : 0n;
  return {
    stream: text(entry, 'PRIORITY') === '3' ? 2 : 1,
    timeNanos: parseNanos(text(entry, 'SYSLOG_TIMESTAMP')) ?? received,
    data: isPart ? message : Buffer.concat([message, Buffer.from('\n')]),
  };
}

function text(entry: JournalEntry, field: string): string {
  return entry.get(field)?.toString() ?? '';
}

/** With the microseconds that the journal counts in. */
function seconds(nanos: bigint): string {
  return `${nanos / 1_000_000_000n}.${(nanos % 1_000_000_000n).toString().padStart(9, '0').slice(0, 6)}`;
}
