import { readFileSync } from 'node:fs';
import { readdir, rmdir } from 'node:fs/promises';
import { join, normalize } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf, fail } from '../errors.ts';
import { isAbsence } from './files.ts';
import { parseMounts } from './mounts.ts';

/** How this machine's control groups are laid out. */
export interface CgroupLayout {
  /**
   * Where the controllers are: 2 if all are in the unified hierarchy, 1 if any hierarchy of the old kind has
   * one.
   */
  readonly version: 1 | 2;
  /** Version 1 with a unified hierarchy beside it. */
  readonly isHybrid: boolean;
  /**
   * The controllers that can be used, in whichever hierarchy: `memory`, `cpu`, `pids`, `cpuset`, `io` or
   * `blkio` …
   */
  readonly controllers: ReadonlySet<string>;
  /**
   * Mount point by controller; `unified` for the unified hierarchy, `name=systemd` and the like for those
   * without one.
   */
  readonly mounts: ReadonlyMap<string, string>;
  /** Hybrid, and some controllers were left in the unified hierarchy: crun 1.8 refuses such a machine. */
  readonly hasControllersInUnified: boolean;
}

/** How long the processes of a cgroup may take to be gone from it once they were killed. */
const LEAVE_MS = 2000;

/**
 * Reads the layout from /proc and the unified hierarchy, below `root` (another machine's files, in tests).
 */
export async function readCgroupLayout(root = '/'): Promise<CgroupLayout> {
  const known = namesIn(readFileSync(join(root, 'proc/cgroups'), 'utf8'));
  const mounts = new Map<string, string>();
  let hasOldControllers = false;
  for (const { mountPoint, type, superOptions } of parseMounts(
    readFileSync(join(root, 'proc/self/mountinfo'), 'utf8'),
  )) {
    if (type !== 'cgroup' && type !== 'cgroup2') continue;
    const found =
      type === 'cgroup2' ? ['unified'] : superOptions.filter((o) => known.has(o) || o.startsWith('name='));
    // the first mount is the host's own; later ones are inside of containers that share it
    for (const name of found) if (!mounts.has(name)) mounts.set(name, join(root, mountPoint));
    hasOldControllers ||= found.some((name) => known.has(name));
  }
  const unified = mounts.get('unified');
  const inUnified = unified === undefined ? [] : wordsOf(join(unified, 'cgroup.controllers'));
  const isHybrid = hasOldControllers && unified !== undefined;
  return {
    version: hasOldControllers || unified === undefined ? 1 : 2,
    isHybrid,
    controllers: new Set([...[...mounts.keys()].filter((name) => known.has(name)), ...inUnified]),
    mounts,
    hasControllersInUnified: isHybrid && inUnified.length > 0,
  };
}

/** Every process in a cgroup and those below it, in whichever hierarchy. `path` is as in /proc/PID/cgroup. */
export async function cgroupPids(layout: CgroupLayout, path: string): Promise<number[]> {
  const pids = new Set<number>();
  for (const directory of directoriesOf(layout, path))
    for (const group of await groupsIn(directory))
      for (const pid of wordsOf(join(group, 'cgroup.procs'))) pids.add(Number(pid));
  return [...pids].sort((a, b) => a - b);
}

/**
 * Removes a cgroup and those below it from all hierarchies; absent is fine. Its processes must have been
 * killed: it waits a little for them to leave, then throws a Failure.
 */
export async function removeCgroup(layout: CgroupLayout, path: string): Promise<void> {
  const deadline = Date.now() + LEAVE_MS;
  for (const directory of directoriesOf(layout, path))
    for (const group of (await groupsIn(directory)).reverse()) await removeGroup(group, deadline);
}

/** Removes a cgroup from every hierarchy in which nothing is below it and nobody in it. */
export async function removeEmptyCgroup(layout: CgroupLayout, path: string): Promise<void> {
  for (const directory of directoriesOf(layout, path)) {
    try {
      await rmdir(directory);
    } catch (cause) {
      if (!isAbsence(cause) && codeOf(cause) !== 'EBUSY' && codeOf(cause) !== 'ENOTEMPTY') {
        throw fail.host(`cannot remove cgroup ${directory}`, cause);
      }
    }
  }
}

async function removeGroup(group: string, deadline: number): Promise<void> {
  for (;;) {
    try {
      await rmdir(group);
      return;
    } catch (cause) {
      if (isAbsence(cause)) return;
      if (codeOf(cause) !== 'EBUSY' || Date.now() > deadline)
        throw fail.host(`cannot remove cgroup ${group}`, cause);
    }
    await sleep(10);
  }
}

/** A cgroup's directory in each hierarchy; several controllers may share one. */
function directoriesOf(layout: CgroupLayout, path: string): Set<string> {
  const inside = normalize(`/${path}`);
  if (inside === '/') throw new RangeError('the root cgroup holds everything');
  return new Set([...layout.mounts.values()].map((mount) => join(mount, inside)));
}

/** A cgroup and all below it, parents first. */
async function groupsIn(directory: string): Promise<string[]> {
  const groups = [directory];
  for (const group of groups) {
    try {
      for (const entry of await readdir(group, { withFileTypes: true }))
        if (entry.isDirectory()) groups.push(join(group, entry.name));
    } catch (cause) {
      if (!isAbsence(cause)) throw cause;
    }
  }
  return groups;
}

/** The first column of /proc/cgroups: every controller that this kernel has. */
function namesIn(table: string): ReadonlySet<string> {
  return new Set(table.split('\n').flatMap((line) => /^([a-z_]+)\t/.exec(line)?.[1] ?? []));
}

function wordsOf(path: string): string[] {
  try {
    return readFileSync(path, 'utf8')
      .split(/\s+/)
      .filter((word) => word !== '');
  } catch (cause) {
    if (isAbsence(cause) || codeOf(cause) === 'ENODEV') return []; // removed, perhaps between open and read
    throw cause;
  }
}
