import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { libc } from './libc.ts';

/** The same on every architecture; glibc has a function of this name since 2.34 only. */
const SYS_CLOSE_RANGE = 436;
const CLOSE_RANGE_CLOEXEC = 4;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const FIRST = 3;
const LAST = 0xffff_ffff;

let isRangeKnown = true;
const children = new Set<number>();

/**
 * Node's `spawn` of a child that gets the descriptors it is given and no other. LevelDB opens its files without
 * O_CLOEXEC: a monitor, which outlives the daemon, would keep them, and with them the file system, busy for good.
 */
export function spawnSealed(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  sealDescriptors();
  const child = spawn(command, args, options);
  const { pid } = child;
  if (pid !== undefined) {
    children.add(pid);
    child.once('exit', () => children.delete(pid));
  }
  return child;
}

/** Whether a process is a child that was started here and whose end has not been told yet. */
export function isOwnChild(pid: number): boolean {
  return children.has(pid);
}

/** Has every descriptor but the first three closed in children; those that a child is given are duplicates. */
function sealDescriptors(): void {
  const c = libc();
  // Linux 5.11; Jetson's kernels are older
  if (isRangeKnown) isRangeKnown = c.syscall(SYS_CLOSE_RANGE, FIRST, LAST, CLOSE_RANGE_CLOEXEC) === 0;
  if (isRangeKnown) return;
  for (const name of readdirSync('/proc/self/fd')) {
    const fd = Number(name);
    if (fd >= FIRST) c.fcntl(fd, F_SETFD, FD_CLOEXEC); // the directory's own is gone by now, which is no harm
  }
}
