import { fail } from '../errors.ts';
import { newId } from '../lib/ids.ts';
import { withResolvers } from '../lib/promises.ts';
import type { RunningExec } from '../runtime/exec.ts';
import type { ContainerRecord } from './model.ts';

/** One more process in a container, as a client asks for it. */
export interface ExecRequest {
  attachStdin: boolean;
  attachStdout: boolean;
  attachStderr: boolean;
  tty: boolean;
  detachKeys: string;
  env: string[] | null;
  cmd: string[];
  privileged: boolean;
  user: string;
  workingDir: string;
  consoleSize?: [number, number];
}

/** An exec as inspect shows it. */
export interface ExecView {
  readonly id: string;
  readonly containerId: string;
  readonly request: ExecRequest;
  readonly isRunning: boolean;
  /** Absent until it has ended. */
  readonly exitCode?: number;
  readonly pid: number;
  /** It ended a while ago and will soon be forgotten. */
  readonly isStale: boolean;
}

// dockerd looks every five minutes, marks what has ended and forgets what it had marked the last time
const STALE_MS = 300_000;
const FORGOTTEN_MS = 600_000;
/** Of those that have ended, and of those that nobody has started: the oldest are forgotten first. */
const MAX_KEPT = 512;

/** An exec from its request to its end, in the run of its container that it was asked for in. */
export class Exec implements ExecView {
  readonly id = newId();
  readonly containerId: string;
  request: ExecRequest;
  isRunning = false;
  hasRun = false;
  exitCode?: number;
  pid = 0;
  /** When its container was started. */
  readonly #startedAt: string;
  readonly #begun = withResolvers<RunningExec | undefined>();
  readonly #now: () => number;
  #endedAtMs = 0;

  constructor(record: ContainerRecord, request: ExecRequest, now: () => number) {
    this.containerId = record.id;
    this.request = { ...request, user: request.user || record.config.user };
    this.#startedAt = record.state.startedAt;
    this.#now = now;
  }

  /** Its process once it has one; undefined if it never gets one. Never rejects. */
  get begun(): Promise<RunningExec | undefined> {
    return this.#begun.promise;
  }

  get isStale(): boolean {
    return this.exitCode !== undefined && this.#now() - this.#endedAtMs >= STALE_MS;
  }

  /** Nobody can start it any more, or it is long over. */
  isForgotten(record: ContainerRecord | undefined): boolean {
    if (record === undefined) return true;
    if (!this.hasRun) return record.state.startedAt !== this.#startedAt;
    return this.exitCode !== undefined && this.#now() - this.#endedAtMs >= FORGOTTEN_MS;
  }

  begin(process: RunningExec): void {
    this.pid = process.pid;
    this.isRunning = true;
    this.#begun.resolve(process);
  }

  end(exitCode: number): void {
    this.isRunning = false;
    this.exitCode = exitCode;
    this.#endedAtMs = this.#now();
    this.request = { ...this.request, env: null }; // the largest part, which nobody asks for again
    this.#begun.resolve(undefined);
  }
}

/** What this daemon knows of execs, in memory alone and within bounds. */
export class ExecRecords {
  readonly #execs = new Map<string, Exec>();
  readonly #containers: { get(id: string): ContainerRecord | undefined };
  readonly #now: () => number;

  /** `now`: milliseconds, never set back. */
  constructor(
    containers: { get(id: string): ContainerRecord | undefined },
    now: () => number = () => performance.now(),
  ) {
    this.#containers = containers;
    this.#now = now;
  }

  add(record: ContainerRecord, request: ExecRequest): Exec {
    for (const [id, exec] of this.#execs)
      if (exec.isForgotten(this.#containers.get(exec.containerId))) this.#execs.delete(id);
    const all = [...this.#execs.values()];
    for (const idle of [
      all.filter(({ exitCode }) => exitCode !== undefined),
      all.filter(({ hasRun }) => !hasRun),
    ])
      for (const { id } of idle.slice(0, Math.max(0, idle.length - MAX_KEPT))) this.#execs.delete(id);
    const exec = new Exec(record, request, this.#now);
    this.#execs.set(exec.id, exec);
    return exec;
  }

  /** Throws 404 for one that is not known, or no longer. Its container may be gone. */
  find(id: string): Exec {
    const exec = this.#execs.get(id);
    const record = exec && this.#containers.get(exec.containerId);
    if (exec === undefined || (record !== undefined && exec.isForgotten(record))) throw fail.noSuchExec(id);
    return exec;
  }

  /** As {@link find}; and 404 as well where the container is gone. */
  show(id: string): Exec {
    const exec = this.find(id);
    if (this.#containers.get(exec.containerId) === undefined) throw fail.noSuchExec(id);
    return exec;
  }

  /** Those of a container that have not ended. */
  idsOf(containerId: string): string[] {
    const record = this.#containers.get(containerId);
    return [...this.#execs.values()]
      .filter((exec) => exec.containerId === containerId && exec.exitCode === undefined)
      .filter((exec) => !exec.isForgotten(record))
      .map(({ id }) => id);
  }
}
