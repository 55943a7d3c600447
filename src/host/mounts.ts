import { readFileSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { unmount } from './kernel.ts';

/** One line of /proc/self/mountinfo (proc_pid_mountinfo(5)). */
export interface Mount {
  readonly mountPoint: string;
  readonly type: string;
  readonly source: string;
  /** Options of the file system itself; a cgroup hierarchy's controllers are here. */
  readonly superOptions: readonly string[];
  /** Takes part in changes: `shared`, with those that it is a peer of; `master`, of those that are above it. */
  readonly propagation: readonly string[];
}

/**
 * Every mount point at or below `prefix`, newest first. That is the order to unmount them in: inner before
 * outer, and what was mounted over others before those.
 */
export async function mountsUnder(prefix: string): Promise<string[]> {
  const top = await locate(prefix);
  const inside = top === '/' ? '/' : `${top}/`;
  return mounts()
    .map(({ mountPoint }) => mountPoint)
    .filter((mountPoint) => mountPoint === top || mountPoint.startsWith(inside))
    .reverse();
}

/** Lets go of whatever is mounted at a path and below it, however often; what is in use is hidden at once. */
export async function unmountAll(path: string): Promise<void> {
  for (const mountPoint of await mountsUnder(path)) unmount(mountPoint, { isLazy: true });
}

/** Every mount that this process sees, oldest first. */
export function mounts(): Mount[] {
  // in one go: the promised form of Node 20.11 stops after the first read of a file of the kernel's
  return parseMounts(readFileSync('/proc/self/mountinfo', 'utf8'));
}

/** The kernel lists paths without links. A dead network mount cannot be resolved itself, its parent can. */
async function locate(path: string): Promise<string> {
  const absolute = resolve(path);
  const parent = async () => join(await realpath(dirname(absolute)), basename(absolute));
  return realpath(absolute)
    .catch(parent)
    .catch(() => absolute);
}

/** Reads the text of a mountinfo file, oldest mount first. */
export function parseMounts(mountinfo: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of mountinfo.split('\n')) {
    // a varying number of optional fields ends with a dash
    const [before, after] = line.split(' - ', 2);
    const fields = before?.split(' ') ?? [];
    const mountPoint = fields[4];
    const [type, source, superOptions] = after?.split(' ') ?? [];
    if (mountPoint === undefined || type === undefined) continue;
    mounts.push({
      mountPoint: decodeOctal(mountPoint),
      type,
      source: decodeOctal(source ?? ''),
      superOptions: (superOptions ?? '').split(','),
      propagation: fields.slice(6).map((field) => field.split(':', 1)[0] ?? ''),
    });
  }
  return mounts;
}

/** Space, tab, newline and backslash are written as three octal digits; bytes above 127 are as they are. */
function decodeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
