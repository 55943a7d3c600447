import { createReadStream, createWriteStream, type FSWatcher, statSync, watch } from 'node:fs';
import { open, readdir, rename, rm, utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import type { Log } from '../lib/log.ts';
import { type Generation, LogGenerations, type LogPlan } from './log-generations.ts';

/** Faster than conmon fills a log anywhere: after a look, none is needed before a whole file can have been written. */
const FASTEST_BYTES_PER_MS = 100_000;
const LEAST_QUIET_MS = 2;
const MOST_QUIET_MS = 100;

/** Where the kernel has no more watches to give. */
const POLL_MS = 1000;

/** What is being packed; swept where a daemon died over it. */
const UNFINISHED = '.gz.new';

/**
 * Keeps the log of a running container within its limit: gives each file its lasting name in time, drops the oldest
 * and packs the full ones. Sleeps until something is written; then looks, and does not look again for a moment, so
 * that a container which writes all the time costs ten looks a second and one that is silent none.
 */
export class LogKeeper implements AsyncDisposable {
  readonly #plan: LogPlan;
  readonly #log: Log;
  readonly #generations: LogGenerations;
  readonly #stop = new AbortController();
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #present: number | undefined;
  #packing: Promise<void> = Promise.resolve();
  #isPacking = false;

  private constructor(plan: LogPlan, log: Log) {
    this.#plan = plan;
    this.#log = log;
    this.#generations = new LogGenerations(plan.path);
  }

  static keep(plan: LogPlan, log: Log): LogKeeper {
    const keeper = new LogKeeper(plan, log);
    keeper.#watch();
    return keeper;
  }

  /** The last look: nothing is written any more, or somebody else will look after it. Packing is given up. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#stop.signal.aborted) this.#look();
    this.#stop.abort();
    this.#watcher?.close();
    clearTimeout(this.#timer);
    await this.#packing;
  }

  /** First the watch, then the look: what is written in between rings. */
  #watch(): void {
    try {
      this.#watcher = watch(dirname(this.#plan.path), () => this.#rest(this.#quietMs()));
      this.#watcher.on('error', () => this.#rest(POLL_MS)).unref();
    } catch {
      this.#rest(POLL_MS); // no watches left, or no directory
    }
    this.#look();
  }

  #rest(ms: number): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    clearTimeout(this.#timer);
    if (!this.#stop.signal.aborted) this.#timer = setTimeout(() => this.#watch(), ms).unref();
  }

  #quietMs(): number {
    const fillingMs = this.#plan.generationBytes / FASTEST_BYTES_PER_MS;
    return Math.max(LEAST_QUIET_MS, Math.min(MOST_QUIET_MS, fillingMs));
  }

  #look(): void {
    try {
      const present = this.#generations.adopt();
      if (present === this.#present) return;
      this.#present = present;
      this.#tidy();
    } catch (err) {
      this.#log.warn({ path: this.#plan.path, err }, 'a log cannot be kept beyond its present file');
    }
  }

  /** Pruning waits for no packing: that may take longer than the container needs for the next file. */
  #tidy(): void {
    this.#generations.prune(this.#plan);
    if (!this.#plan.compresses || this.#isPacking) return;
    this.#isPacking = true;
    this.#packing = this.#tolerate(this.#pack()).finally(() => {
      this.#isPacking = false;
    });
  }

  async #tolerate(step: Promise<void>): Promise<void> {
    try {
      await step;
    } catch (err) {
      if (!this.#stop.signal.aborted)
        this.#log.warn({ path: this.#plan.path, err }, 'a log could not be rotated');
    }
  }

  /** The newest first: the oldest may be dropped before it is done. */
  async #pack(): Promise<void> {
    const directory = dirname(this.#plan.path);
    for (const name of await readdir(directory).catch(() => []))
      if (name.endsWith(UNFINISHED)) await rm(join(directory, name), { force: true });
    while (!this.#stop.signal.aborted) {
      const closed = this.#generations.list().filter(({ inode }) => inode !== this.#present);
      const next = closed.findLast(({ isPacked, sizeBytes }) => !isPacked && sizeBytes > 0);
      if (next === undefined) return;
      await pack(next, this.#stop.signal);
    }
  }
}

/** Whole on disk before it takes the place of what it was made of. Keeps the time of the last line. */
async function pack({ path, changedMs, sizeBytes }: Generation, signal: AbortSignal): Promise<void> {
  const unfinished = `${path}${UNFINISHED}`;
  try {
    await pipeline(createReadStream(path), createGzip(), createWriteStream(unfinished, { mode: 0o600 }), {
      signal,
    });
    await utimes(unfinished, changedMs / 1000, changedMs / 1000);
    const file = await open(unfinished, 'r');
    await file.sync().finally(() => file.close());
    const isWhole = statSync(path, { throwIfNoEntry: false })?.size === sizeBytes; // not dropped meanwhile
    if (isWhole) await rename(unfinished, `${path}.gz`);
    await rm(isWhole ? path : unfinished, { force: true });
  } catch (cause) {
    await rm(unfinished, { force: true });
    throw cause;
  }
}
