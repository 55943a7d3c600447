import { readFileSync } from 'node:fs';
import { codeOf } from '../errors.ts';

/** A pid alone does not name a process for long: pids come round again. Its start time beside it does. */

/** What a process is known by in /proc/PID/stat; times are in clock ticks since boot. */
interface Stat {
  readonly state: string;
  readonly parent: number;
  readonly session: number;
  readonly startTicks: number;
}

function readStat(pid: number): Stat | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch (cause) {
    const code = codeOf(cause);
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw cause;
  }
  // the name, in parentheses, may itself hold spaces and parentheses
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return {
    state: fields[0] ?? '',
    parent: Number(fields[1]),
    session: Number(fields[3]),
    startTicks: Number(fields[19]),
  };
}

/**
 * When a process began, in clock ticks since boot: tells a reused pid from the old one. Undefined if there is
 * none.
 */
export function startTicksOf(pid: number): number | undefined {
  return readStat(pid)?.startTicks;
}

/** Whether a process runs, and is the one that began at `startTicks`. A zombie counts as dead. */
export function isAlive(pid: number, startTicks?: number): boolean {
  const stat = readStat(pid);
  if (stat === undefined || stat.state === 'Z' || stat.state === 'X') return false;
  return startTicks === undefined || stat.startTicks === startTicks;
}

/** The session that a process is in; undefined if there is no such process. */
export function sessionOf(pid: number): number | undefined {
  return readStat(pid)?.session;
}

/**
 * Those of `pids` that a process has brought about: it, its descendants, and whoever is in its session, which is what
 * is left of a family whose parents have died. Dead ones do not count.
 */
export function familyOf(root: number, pids: readonly number[], rootSession = root): number[] {
  const alive = pids.flatMap((pid) => {
    const stat = readStat(pid);
    return stat === undefined || stat.state === 'Z' || stat.state === 'X' ? [] : [{ pid, ...stat }];
  });
  const family = new Set([root]);
  for (let size = 0; size < family.size; ) {
    size = family.size;
    for (const { pid, parent, session } of alive)
      if (session === rootSession || family.has(parent)) family.add(pid);
  }
  return alive.map(({ pid }) => pid).filter((pid) => family.has(pid));
}

/** Sends a signal to one process; false if it is gone, or no longer the one that began at `startTicks`. */
export function signalProcess(pid: number, signal: number | NodeJS.Signals, startTicks?: number): boolean {
  // 0 and below would be whole groups, or everything there is
  if (!Number.isSafeInteger(pid) || pid <= 0) throw new RangeError(`not a process ID: ${pid}`);
  if (startTicks !== undefined && !isAlive(pid, startTicks)) return false;
  try {
    return process.kill(pid, signal);
  } catch (cause) {
    if (codeOf(cause) === 'ESRCH') return false;
    throw cause;
  }
}
