import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CgroupLayout, cgroupPids, readCgroupLayout, removeCgroup } from '../../src/host/cgroup.ts';

/** Bytes of memory, summed over processes. RSS counts a page that two share twice, PSS once, in halves. */
export interface Memory {
  rssBytes: number;
  pssBytes: number;
  anonymousBytes: number;
}

/**
 * A daemon and all its children, in a cgroup made for the purpose, so that none that lives for a moment is missed.
 * Containers are not in it: the engines give them cgroups of their own.
 */
export class ProcessGroup implements AsyncDisposable {
  readonly path: string;
  readonly #layout: CgroupLayout;
  readonly #directories: string[];

  private constructor(layout: CgroupLayout, path: string) {
    this.#layout = layout;
    this.path = path;
    const hierarchies = layout.version === 2 ? ['unified'] : ['cpuacct', 'memory'];
    this.#directories = hierarchies.flatMap((name) => {
      const mount = layout.mounts.get(name);
      return mount === undefined ? [] : [join(mount, path)];
    });
  }

  static async open(path: string): Promise<ProcessGroup> {
    const group = new ProcessGroup(await readCgroupLayout(), path);
    for (const directory of group.#directories) mkdirSync(directory, { recursive: true });
    return group;
  }

  /** A command line that enters the group and then becomes the given one. */
  entering(command: readonly string[]): string[] {
    const files = this.#directories.map((directory) => `"${directory}/cgroup.procs"`);
    const enter = files.map((file) => `echo $$ >${file}`).join(' && ');
    return ['sh', '-c', `${enter} && exec "$@"`, 'sh', ...command];
  }

  pids(): number[] {
    return wordsIn(join(this.#directories[0] ?? '', 'cgroup.procs')).map(Number);
  }

  /** User and system time of everything that ever ran in the group. */
  cpuSeconds(): number {
    for (const directory of this.#directories) {
      if (existsSync(join(directory, 'cpuacct.usage')))
        return Number(readFileSync(join(directory, 'cpuacct.usage'), 'utf8')) / 1e9;
      const usage = /^usage_usec (\d+)/m.exec(textOf(join(directory, 'cpu.stat')));
      if (usage) return Number(usage[1]) / 1e6;
    }
    return 0;
  }

  /** What the memory controller counts as memory that nothing but the group holds: no page cache. 0 without one. */
  chargedAnonymousBytes(): number {
    for (const directory of this.#directories) {
      const found = /^(?:total_rss|anon) (\d+)/m.exec(textOf(join(directory, 'memory.stat')));
      if (found) return Number(found[1]);
    }
    return 0;
  }

  /** A quick look at the resident memory. */
  rssBytes(): number {
    let pages = 0;
    for (const pid of this.pids()) pages += Number(textOf(`/proc/${pid}/statm`).split(' ')[1] ?? 0);
    return pages * 4096;
  }

  /** A thorough look; takes milliseconds for each process. */
  memory(): Memory {
    return memoryOf(this.pids());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pid of await cgroupPids(this.#layout, this.path)) kill(pid);
    await removeCgroup(this.#layout, this.path);
  }
}

export function memoryOf(pids: readonly number[]): Memory {
  const sum: Memory = { rssBytes: 0, pssBytes: 0, anonymousBytes: 0 };
  for (const pid of pids) {
    const rollup = textOf(`/proc/${pid}/smaps_rollup`);
    const bytesOf = (name: string) =>
      1024 * Number(new RegExp(`^${name}: +(\\d+) kB`, 'm').exec(rollup)?.[1] ?? 0);
    sum.rssBytes += bytesOf('Rss');
    sum.pssBytes += bytesOf('Pss');
    sum.anonymousBytes += bytesOf('Anonymous');
  }
  return sum;
}

/** Processes of this name (as in /proc/PID/comm: 15 characters). */
export function pidsNamed(name: string): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && textOf(`/proc/${entry}/comm`).trimEnd() === name)
    .map(Number);
}

function wordsIn(path: string): string[] {
  return textOf(path)
    .split('\n')
    .filter((line) => line !== '');
}

/** Files of processes that ended a moment ago are not there. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {} // gone already
}
