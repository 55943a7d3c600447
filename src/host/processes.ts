import { readFileSync } from 'node:fs';
import { codeOf } from '../errors.ts';

/** A pid alone does not name a process for long: pids come round again. Its start time beside it does. */

/** What a process is known by in /proc/PID/stat; times are in clock ticks since boot. */
interface Stat {
  readonly state: string;
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
  return { state: fields[0] ?? '', startTicks: Number(fields[19]) };
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
