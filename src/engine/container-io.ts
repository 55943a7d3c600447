import { fail } from '../errors.ts';
import { parseDetachKeys } from '../lib/detach-keys.ts';
import { frame } from '../lib/frames.ts';
import { nowNanos } from '../lib/time.ts';
import { canReadJournal } from '../runtime/journal-reader.ts';
import { type LogLine, type LogQuery as RuntimeLogQuery, readLog } from '../runtime/logs.ts';
import type { Runtime } from '../runtime/runtime.ts';
import { tellContainer } from './container-events.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import type { Events } from './events.ts';
import type { Launcher } from './launcher.ts';
import { logAttributesOf } from './log-drivers.ts';
import type { ContainerRecord } from './model.ts';
import {
  type AttachSession,
  type ClientStreams,
  drained,
  type Streams,
  type StreamWishes,
} from './streams.ts';
import type { Ending, WaitCondition, Waiters } from './waiters.ts';

/** Which part of a log to give; times in nanoseconds since 1970. */
export interface LogQuery {
  stdout: boolean;
  stderr: boolean;
  follow: boolean;
  since?: bigint;
  until?: bigint;
  /** Lines from the end; absent means all. */
  tail?: number;
  signal: AbortSignal;
}

/** A log as it was asked for. */
export interface ContainerLog {
  isTty: boolean;
  /** What `details` shows of each line. */
  attributes: ReadonlyMap<string, string>;
  lines: AsyncIterable<LogLine>;
}

/** What containers' processes say, hear and end with: attach, logs, terminal size, wait. */
export class ContainerIo {
  readonly #parts: ContainerIoParts;

  constructor(parts: ContainerIoParts) {
    this.#parts = parts;
  }

  /** Found, or 404; then the ending, in its own time. */
  async wait(
    ref: string,
    condition: WaitCondition,
    { signal }: { signal: AbortSignal },
  ): Promise<{ exited: Promise<Ending> }> {
    const { id, state } = this.#find(ref);
    const isIdle = state.status === 'created' || state.status === 'exited' || state.status === 'dead';
    if (condition === 'not-running' && isIdle)
      return { exited: Promise.resolve({ exitCode: state.exitCode }) };
    const exited = this.#parts.waiters.next(id, condition, signal);
    exited.catch(() => {}); // the client may be gone before it looks
    return { exited };
  }

  async resize(ref: string, size: { rows: number; columns: number }): Promise<void> {
    const record = this.#find(ref);
    if (!isRunning(record)) throw fail.notRunning(record.id);
    await this.#parts.runtime.resize(record.id, size);
    this.#tell(record, 'resize');
  }

  /** A session on the container's terminal or pipes; before its start too, which then misses nothing. */
  async attach(
    ref: string,
    o: {
      stdin: boolean;
      stdout: boolean;
      stderr: boolean;
      logs: boolean;
      stream: boolean;
      detachKeys?: string;
    },
  ): Promise<AttachSession> {
    const record = this.#find(ref);
    const { id, state, config } = record;
    if (state.status === 'paused') throw fail.attachPaused(ref);
    if (state.status === 'restarting') throw fail.attachRestarting(ref);
    const detachKeys = parseDetachKeys(o.detachKeys);
    const wishes: StreamWishes = {
      stdin: o.stdin && o.stream && config.openStdin,
      stdout: o.stdout,
      stderr: o.stderr,
      ...(config.tty && o.stdin && { detachKeys }),
      ...(o.logs && { replay: (io: ClientStreams) => this.#replay(record, o, io) }),
    };
    const replayOnly = async (io: ClientStreams): Promise<'ended'> => {
      await wishes.replay?.(io);
      return 'ended';
    };
    if (!o.stream) return { isTty: config.tty, pump: replayOnly };
    this.#tell(record, 'attach');
    const { records, runtime, streams } = this.#parts;
    const session = streams.session(id, config.tty, wishes, async () => {
      const present = records.get(id);
      return present !== undefined && isRunning(present) ? runtime.attach(id) : undefined;
    });
    return {
      isTty: config.tty,
      pump: async (io) => {
        const end = await session.pump(io);
        if (end === 'detached') this.#tell(record, 'detach');
        return end;
      },
    };
  }

  /** The stored log, and what comes if followed until the container stops. */
  async logs(ref: string, o: LogQuery): Promise<ContainerLog> {
    const record = this.#find(ref);
    const { type } = record.hostConfig.logConfig;
    if (type === 'none' || (type === 'journald' && !canReadJournal())) {
      throw fail.notImplemented('configured logging driver does not support reading');
    }
    return { isTty: record.config.tty, attributes: attributesOf(record), lines: this.#lines(record, o) };
  }

  #lines(record: ContainerRecord, { follow, ...query }: LogQuery): AsyncIterable<LogLine> {
    const read = (wish: RuntimeLogQuery) =>
      record.hostConfig.logConfig.type === 'journald'
        ? this.#parts.runtime.readJournal(record.id, wish)
        : readLog(this.#parts.launcher.logPathOf(record.id), wish);
    if (!follow || !isRunning(record)) return read(query);
    const ended = this.#parts.waiters.next(record.id, 'next-exit', query.signal).then(
      () => {},
      () => {},
    );
    return read({ ...query, ended });
  }

  /** The log up to now: of a container that writes faster than the client reads it would never end. */
  async #replay(
    record: ContainerRecord,
    { stdout, stderr }: { stdout: boolean; stderr: boolean },
    { output, isFramed, signal }: ClientStreams,
  ): Promise<void> {
    const query = { stdout, stderr, follow: false, until: nowNanos(), signal };
    for await (const { stream, data } of this.#lines(record, query)) {
      if (output.destroyed) return;
      if (!output.write(isFramed ? frame(stream, data) : data)) await drained(output);
    }
  }

  #find(ref: string): ContainerRecord {
    return this.#parts.records.find(ref);
  }

  #tell(record: ContainerRecord, action: 'attach' | 'detach' | 'resize'): void {
    tellContainer(this.#parts.events, record, action);
  }
}

/** A container whose options are wrong cannot have been started: it has a log nonetheless, an empty one. */
function attributesOf(record: ContainerRecord): ReadonlyMap<string, string> {
  try {
    return logAttributesOf(record);
  } catch {
    return new Map();
  }
}

/** The engine's parts that this is made of. */
export interface ContainerIoParts {
  records: ContainerRecords;
  launcher: Pick<Launcher, 'logPathOf'>;
  runtime: Pick<Runtime, 'attach' | 'resize' | 'readJournal'>;
  streams: Streams;
  waiters: Waiters;
  events: Events;
}
