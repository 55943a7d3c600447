import { existsSync, type FSWatcher, mkdirSync, rmSync, statSync, watch } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf } from '../errors.ts';
import { isAlive } from '../host/processes.ts';
import type { Log } from '../lib/log.ts';
import { formatNanos, nowText } from '../lib/time.ts';
import { type Bundle, type ProcessId, type RunFacts, readText } from './bundle.ts';

/** How a run of a container ended. */
export interface ContainerExit {
  readonly id: string;
  /** 128 + n for one that signal n killed. */
  readonly exitCode: number;
  readonly wasOomKilled: boolean;
  /** RFC 3339 with nanoseconds. */
  readonly at: string;
  /** False if its monitor was killed, and the code died with it: then it is given as 137. */
  readonly isKnown: boolean;
}

/** As if it had been killed: nobody knows better. */
export const UNKNOWN_EXIT_CODE = 137;

/** How often monitors are looked at while containers run: one read of /proc for each. */
const POLL_MS = 1000;

/** From a container's end to its monitor's: conmon has only to write the exit file. */
const MONITOR_END_MS = 5000;
const MONITOR_LOOK_MS = 10;

interface Watched {
  readonly bundle: Bundle;
  readonly facts: RunFacts;
  isOrphan: boolean;
  /** That a process of it was killed for want of memory has been told. */
  isOomTold: boolean;
}

/**
 * Learns of the end of containers: from the exit files that conmon writes, as they appear, and where conmon itself
 * was killed from the process being gone.
 */
export class Exits implements Disposable {
  /** Where conmon writes a file for each container that has ended. */
  readonly directory: string;
  readonly #log: Log;
  readonly #listeners = new Set<(exit: ContainerExit) => void>();
  readonly #oomListeners = new Set<(id: string) => void>();
  readonly #watched = new Map<string, Watched>();
  /** What happened before there was a listener. */
  #unheard: ContainerExit[] = [];
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;

  private constructor(directory: string, log: Log) {
    this.directory = directory;
    this.#log = log;
  }

  static open(execRoot: string, log: Log): Exits {
    const exits = new Exits(join(execRoot, 'exits'), log);
    mkdirSync(exits.directory, { recursive: true, mode: 0o700 });
    exits.#watcher = watch(exits.directory, (_, name) => {
      if (name !== null && exits.#watched.has(name)) exits.look(name);
    });
    // the timer finds the same, only later
    exits.#watcher.on('error', (err) => log.warn({ err }, 'exits cannot be watched'));
    exits.#watcher.unref();
    return exits;
  }

  /** Tells of each container once per run. What ended while nobody listened comes with the first listener. */
  onExit(listener: (exit: ContainerExit) => void): () => void {
    this.#listeners.add(listener);
    const unheard = this.#unheard;
    this.#unheard = [];
    queueMicrotask(() => {
      for (const exit of unheard) this.#tell(exit);
    });
    return () => this.#listeners.delete(listener);
  }

  /** Tells, once per run, of a container in which the kernel has killed a process for want of memory. */
  onOom(listener: (id: string) => void): () => void {
    this.#oomListeners.add(listener);
    return () => this.#oomListeners.delete(listener);
  }

  /** From now on the end of this run is told. */
  watch(bundle: Bundle, facts: RunFacts): void {
    this.#watched.set(bundle.id, { bundle, facts, isOrphan: false, isOomTold: false });
    this.#timer ??= setInterval(() => this.#lookAtAll(), POLL_MS).unref();
    this.look(bundle.id);
  }

  /** Looks whether a container that is watched has ended. */
  look(id: string): void {
    const watched = this.#watched.get(id);
    if (watched === undefined) return;
    const exit = this.#exitOf(watched);
    if (exit === undefined) return;
    this.#unwatch(id);
    this.#tell(exit);
  }

  /** How a run ended; undefined if it goes on. Waits for a monitor that is about to write. */
  async of(bundle: Bundle, facts: RunFacts): Promise<ContainerExit | undefined> {
    if (isRunning(facts.container)) return this.#recorded(bundle);
    for (
      let waitedMs = 0;
      waitedMs < MONITOR_END_MS && isRunning(facts.monitor);
      waitedMs += MONITOR_LOOK_MS
    ) {
      const exit = this.#recorded(bundle);
      if (exit !== undefined) return exit;
      await sleep(MONITOR_LOOK_MS);
    }
    return this.#recorded(bundle) ?? unknownExit(bundle);
  }

  /** The run is over and dealt with. */
  forget(bundle: Bundle): void {
    this.#unwatch(bundle.id);
    rmSync(join(this.directory, bundle.id), { force: true });
  }

  [Symbol.dispose](): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    clearInterval(this.#timer);
    this.#listeners.clear();
    this.#oomListeners.clear();
    this.#watched.clear();
  }

  #lookAtAll(): void {
    for (const [id, watched] of this.#watched) {
      if (watched.isOrphan || !isRunning(watched.facts.monitor)) this.look(id);
      if (watched.isOomTold || !existsSync(watched.bundle.path('oom'))) continue;
      watched.isOomTold = true;
      for (const listener of this.#oomListeners) listener(id);
    }
  }

  /** The order matters: a monitor that is gone has written its file, if it ever will. */
  #exitOf(watched: Watched): ContainerExit | undefined {
    const { bundle, facts } = watched;
    const isMonitored = isRunning(facts.monitor);
    const exit = this.#recorded(bundle);
    if (exit !== undefined || isMonitored) return exit;
    if (!isRunning(facts.container)) return unknownExit(bundle);
    if (!watched.isOrphan)
      this.#log.warn({ container: bundle.id }, 'monitor was killed: the exit code will not be known');
    watched.isOrphan = true;
    return undefined;
  }

  /** What conmon wrote. It renames the file into place, so that it is whole. */
  #recorded(bundle: Bundle): ContainerExit | undefined {
    const path = join(this.directory, bundle.id);
    const exitCode = Number.parseInt(readText(path) ?? '', 10);
    if (!Number.isInteger(exitCode)) return undefined;
    return {
      id: bundle.id,
      exitCode: exitCode < 0 ? UNKNOWN_EXIT_CODE : exitCode,
      wasOomKilled: existsSync(bundle.path('oom')),
      at: timeOf(path),
      isKnown: exitCode >= 0,
    };
  }

  #tell(exit: ContainerExit): void {
    if (this.#listeners.size === 0) this.#unheard.push(exit);
    for (const listener of this.#listeners) listener(exit);
  }

  #unwatch(id: string): void {
    this.#watched.delete(id);
    if (this.#watched.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

/** Whether a process that may have been noted is alive. */
export function isRunning(process: ProcessId | undefined): process is ProcessId {
  return process !== undefined && isAlive(process.pid, process.startTicks);
}

function unknownExit({ id }: Bundle): ContainerExit {
  return { id, exitCode: UNKNOWN_EXIT_CODE, wasOomKilled: false, at: nowText(), isKnown: false };
}

function timeOf(path: string): string {
  try {
    return formatNanos(statSync(path, { bigint: true }).mtimeNs);
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return nowText();
    throw cause;
  }
}
