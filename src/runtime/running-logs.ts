import type { Log } from '../lib/log.ts';
import { type JournalMark, JournalSender, makeJournalSpool } from './journal-sender.ts';
import { LogGenerations, type LogPlan } from './log-generations.ts';
import { LogKeeper } from './log-keeper.ts';

/** Where the output of a container goes, beside its attachers. */
export type LogSink =
  | { readonly kind: 'none' }
  | ({ readonly kind: 'file' } & LogPlan)
  | {
      readonly kind: 'journal';
      /** What each entry has beside its own. */
      readonly fields: Readonly<Record<string, string>>;
      /** Names this run among the entries of its container. */
      readonly epoch: string;
    };

/** What conmon is told of it. */
export interface MonitorLog {
  readonly path: string;
  /** It puts a new file in place of one that is this large; 0 for never. */
  readonly maxBytes: number;
}

/** What the journal has to have shown before a log that ended just now is whole. */
const REMEMBERED_MS = 10_000;

/** The logs of the containers that run: each has somebody who looks after it. */
export class RunningLogs implements AsyncDisposable {
  readonly #log: Log;
  readonly #keepers = new Map<string, LogKeeper | JournalSender>();
  readonly #endings = new Map<string, Promise<void>>();
  readonly #marks = new Map<string, JournalMark>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Before conmon starts; undefined for no log at all. `directory` is the run's own. */
  begin(sink: LogSink, directory: string): MonitorLog | undefined {
    if (sink.kind === 'none') return undefined;
    const plan = sink.kind === 'journal' ? makeJournalSpool(directory) : sink;
    if (plan.generationBytes === 0) return { path: plan.path, maxBytes: 0 };
    return { path: plan.path, maxBytes: new LogGenerations(plan.path).begin(plan) };
  }

  /** From now on: once per run, and again by each daemon that finds it. */
  keep(id: string, sink: LogSink, directory: string): void {
    if (sink.kind === 'none' || (sink.kind === 'file' && sink.generationBytes === 0)) return;
    void this.end(id);
    const keeper =
      sink.kind === 'journal'
        ? JournalSender.begin(directory, sink, this.#log)
        : LogKeeper.keep(sink, this.#log);
    this.#keepers.set(id, keeper);
  }

  /** The container writes no more: resolves when its log is whole. Safe to repeat. */
  async end(id: string): Promise<void> {
    const keeper = this.#keepers.get(id);
    if (keeper === undefined) return this.#endings.get(id);
    this.#keepers.delete(id);
    const ending = this.#finish(id, keeper).finally(() => {
      if (this.#endings.get(id) === ending) this.#endings.delete(id);
    });
    this.#endings.set(id, ending);
    return ending;
  }

  /** How far a log in the journal goes: all of it, for a container that has ended a moment ago. */
  async markOf(id: string): Promise<JournalMark | undefined> {
    await this.#endings.get(id);
    const keeper = this.#keepers.get(id);
    return keeper instanceof JournalSender ? keeper.mark : this.#marks.get(id);
  }

  /** The containers go on. */
  async [Symbol.asyncDispose](): Promise<void> {
    const keepers = [...this.#keepers.values()];
    this.#keepers.clear();
    await Promise.all(keepers.map((keeper) => keeper[Symbol.asyncDispose]()));
    await Promise.all(this.#endings.values());
  }

  async #finish(id: string, keeper: LogKeeper | JournalSender): Promise<void> {
    if (!(keeper instanceof JournalSender)) return keeper[Symbol.asyncDispose]();
    await keeper.finish();
    const { mark } = keeper;
    this.#marks.set(id, mark);
    setTimeout(() => {
      if (this.#marks.get(id) === mark) this.#marks.delete(id);
    }, REMEMBERED_MS).unref();
  }
}
