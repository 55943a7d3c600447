import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { startTicksOf } from '../host/processes.ts';
import type { LogSink } from './running-logs.ts';

/** A process, and when it began: its pid alone may come to name another. */
export interface ProcessId {
  readonly pid: number;
  /** Absent where the daemon died before it could ask. */
  readonly startTicks?: number;
}

/** What a daemon must know of a run that another daemon began. */
export interface RunFacts {
  /** Name of the OCI runtime that made it. */
  readonly runtime: string;
  /** The container's cgroup, as /proc/PID/cgroup shows it. */
  readonly cgroup: string;
  /** What it runs; failures name it. */
  readonly command: string;
  readonly hasStdin: boolean;
  /** It goes on from a checkpoint, and runs since it was made. */
  readonly isRestored?: boolean;
  /** Its stdin outlives clients, and the daemon. */
  readonly keepsStdinOpen: boolean;
  /** Absent for a run that an older daemon began. */
  readonly log?: LogSink;
  readonly container?: ProcessId;
  readonly monitor?: ProcessId;
}

/**
 * The files of one run of a container, in the exec root: the OCI bundle and what conmon and we keep beside it. On
 * tmpfs: a boot ends all runs, and none of it wears the flash.
 */
export class Bundle {
  readonly id: string;
  readonly directory: string;

  constructor(execRoot: string, id: string) {
    this.id = id;
    this.directory = join(bundlesOf(execRoot), id);
  }

  /** conmon's persist directory: `exit` and `oom` appear here; its sockets and fifos too. */
  path(
    name:
      | 'config.json'
      | 'resources.json'
      | 'pid'
      | 'conmon.pid'
      | 'attach'
      | 'ctl'
      | 'exit'
      | 'oom'
      | 'started'
      | 'paused',
  ): string {
    return join(this.directory, name);
  }

  /** Where one exec has its files; gone when it ends. */
  execDirectory(execId: string): string {
    return join(this.directory, 'execs', execId);
  }

  /** Makes the directory; throws EEXIST if there is one. */
  make(facts: RunFacts, config: object): void {
    mkdirSync(this.directory, { mode: 0o700 });
    writeFileSync(this.path('config.json'), JSON.stringify(config), { mode: 0o600 });
    this.write(facts);
  }

  write(facts: RunFacts): void {
    const path = join(this.directory, 'facts.json');
    writeFileSync(`${path}.new`, JSON.stringify(facts), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  /** The facts, or undefined where there is no such run. */
  read(): RunFacts | undefined {
    const text = readText(join(this.directory, 'facts.json'));
    if (text === undefined) return undefined;
    const facts: RunFacts = JSON.parse(text);
    const container = facts.container ?? this.#processOf('pid');
    const monitor = facts.monitor ?? this.#processOf('conmon.pid');
    return { ...facts, ...(container && { container }), ...(monitor && { monitor }) };
  }

  /** A mark is a fact that one name says: it is there or not. */
  mark(name: 'started' | 'paused'): void {
    writeFileSync(this.path(name), '');
  }

  #processOf(name: 'pid' | 'conmon.pid'): ProcessId | undefined {
    const pid = Number.parseInt(readText(this.path(name)) ?? '', 10);
    return Number.isInteger(pid) ? { pid } : undefined;
  }
}

/** The directory that holds the bundles. */
export function bundlesOf(execRoot: string): string {
  return join(execRoot, 'bundles');
}

/** Names a living process; without its start if it is gone already. */
export function processId(pid: number): ProcessId {
  const startTicks = startTicksOf(pid);
  return startTicks === undefined ? { pid } : { pid, startTicks };
}

/** The monitor's own cgroup, beside the container's: stopping the daemon's unit must not end what it monitors. */
export function monitorCgroupOf(cgroup: string): string {
  return posix.join(posix.dirname(cgroup), `conmon-${posix.basename(cgroup)}`);
}

/** A file's text, or undefined where there is none; for the small files of tmpfs, which never wait. */
export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
