import type { Log } from '../lib/log.ts';
import { LogGenerations, type LogPlan } from './log-generations.ts';
import { LogKeeper } from './log-keeper.ts';

/** Where the output of a container goes, beside its attachers. */
export type LogSink = { readonly kind: 'none' } | ({ readonly kind: 'file' } & LogPlan);

/** What conmon is told of it. */
export interface MonitorLog {
  readonly path: string;
  /** It puts a new file in place of one that is this large; 0 for never. */
  readonly maxBytes: number;
}

/** The logs of the containers that run: each has somebody who looks after it. */
export class RunningLogs implements AsyncDisposable {
  readonly #log: Log;
  readonly #keepers = new Map<string, AsyncDisposable>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Before conmon starts; undefined for no log at all. */
  begin(sink: LogSink): MonitorLog | undefined {
    if (sink.kind === 'none') return undefined;
    if (sink.generationBytes === 0) return { path: sink.path, maxBytes: 0 };
    return { path: sink.path, maxBytes: new LogGenerations(sink.path).begin(sink) };
  }

  /** From now on: once per run, and again by each daemon that finds it. */
  keep(id: string, sink: LogSink): void {
    if (sink.kind === 'none' || sink.generationBytes === 0) return;
    void this.end(id);
    this.#keepers.set(id, LogKeeper.keep(sink, this.#log));
  }

  /** The container writes no more. Safe to repeat. */
  async end(id: string): Promise<void> {
    const keeper = this.#keepers.get(id);
    this.#keepers.delete(id);
    await keeper?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#keepers.keys()].map((id) => this.end(id)));
  }
}
