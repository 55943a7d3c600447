import { closeSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { constants } from 'node:os';
import { cPath, libc, succeed, systemError } from './libc.ts';

/**
 * Calls that Node does not have. All throw Node's kind of system error: `code` ('EBUSY'), `syscall`, `path`.
 */

/** A path, or its raw bytes where it need not be UTF-8 (names inside layers). */
export type Path = string | Uint8Array;

/** Flags of mount(2). */
export const MS = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  SYNCHRONOUS: 16,
  REMOUNT: 32,
  NOSYMFOLLOW: 256,
  NOATIME: 1024,
  NODIRATIME: 2048,
  BIND: 4096,
  MOVE: 8192,
  REC: 16384,
  SILENT: 32768,
  UNBINDABLE: 1 << 17,
  PRIVATE: 1 << 18,
  SLAVE: 1 << 19,
  SHARED: 1 << 20,
  RELATIME: 1 << 21,
  STRICTATIME: 1 << 24,
} as const;

/** Flag of open(2): a handle on a place, which does not open what is there. The same wherever boards run. */
export const O_PATH = 0o10000000;

const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

/**
 * The longest option text that mount(2) passes on: one page, closing NUL included. Longer ones would be cut,
 * silently.
 */
const MAX_OPTION_BYTES = 4095;

/**
 * mount(2). With `cwd`, relative paths in the source, target and options start there: that is how 128 lower
 * directories fit the option page. The whole process changes directory for the length of the call.
 */
export function mount(
  source: string,
  target: string,
  o: { type?: string; flags?: number; data?: string; cwd?: string } = {},
): void {
  const { type = null, flags = 0, data = null, cwd } = o;
  if (data !== null && Buffer.byteLength(data) > MAX_OPTION_BYTES)
    throw systemError(constants.errno.E2BIG, 'mount', target);
  const call = () =>
    succeed('mount', target, (c) => c.mount(cPath(source), cPath(target), type, flags, data));
  if (cwd === undefined) call();
  else within(cwd, call);
}

function within(directory: string, work: () => void): void {
  const before = process.cwd();
  process.chdir(directory);
  try {
    work();
  } finally {
    process.chdir(before);
  }
}

/**
 * umount2(2); never follows a link at the end of the path. Lazy: hides the mount now, lets go of it when
 * nobody uses it.
 */
export function unmount(target: string, { isLazy = false }: { isLazy?: boolean } = {}): void {
  const flags = UMOUNT_NOFOLLOW | (isLazy ? MNT_DETACH : 0);
  succeed('umount2', target, (c) => c.umount2(cPath(target), flags));
}

/**
 * mknod(2): a fifo, or a character or block device, by the type bits in `mode`. The umask applies: chmod
 * afterwards.
 */
export function makeNode(path: Path, mode: number, device: { major: number; minor: number }): void {
  const { major, minor } = device;
  // makedev(3), as far as Linux goes: 12 bits of major, 20 bits of minor
  const number = ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & ~0xff) << 12)) >>> 0;
  succeed('mknod', path, (c) => c.mknod(cPath(path), mode, number));
}

/** lsetxattr(2): creates or replaces; of a link itself, never of what it points to. */
export function setXattr(path: Path, name: string, value: Uint8Array): void {
  succeed('lsetxattr', path, (c) => c.lsetxattr(cPath(path), cPath(name), value, value.byteLength, 0));
}

/** setxattr(2) on what a descriptor stands for, be it one of `O_PATH`. */
export function setXattrOf(fd: number, name: string, value: Uint8Array): void {
  const path = `/proc/self/fd/${fd}`;
  succeed('setxattr', path, (c) => c.setxattr(cPath(path), cPath(name), value, value.byteLength, 0));
}

const XATTR_REPLACE = 2;

/** Whether an attribute that a file lacks could be given to it: whether it has a place there. Changes nothing. */
export function takesXattr(path: Path, name: string, value: Uint8Array): boolean {
  try {
    succeed('lsetxattr', path, (c) =>
      c.lsetxattr(cPath(path), cPath(name), value, value.byteLength, XATTR_REPLACE),
    );
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOTSUP' || code === 'EOPNOTSUPP' || code === 'EPERM') return false;
    if (code !== 'ENODATA') throw cause;
  }
  return true;
}

/** lgetxattr(2); undefined where there is no such attribute, or the file system has none at all. */
export function getXattr(path: Path, name: string): Buffer | undefined {
  return growing((buffer) =>
    succeed('lgetxattr', path, (c) => c.lgetxattr(cPath(path), cPath(name), buffer, buffer.length)),
  );
}

/** llistxattr(2): the names of a file's extended attributes, as far as this process may see them. */
export function listXattrs(path: Path): string[] {
  const names = growing((buffer) =>
    succeed('llistxattr', path, (c) => c.llistxattr(cPath(path), buffer, buffer.length)),
  );
  return names === undefined ? [] : names.toString().split('\0').slice(0, -1);
}

/** Reads into a small buffer first, then into the kernel's limit of 64 KiB. */
function growing(read: (buffer: Buffer) => number): Buffer | undefined {
  for (const size of [1024, 65536]) {
    const buffer = Buffer.allocUnsafe(size);
    try {
      return buffer.subarray(0, read(buffer));
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === 'ENODATA' || code === 'ENOTSUP') return undefined;
      if (code !== 'ERANGE' || size === 65536) throw cause;
    }
  }
  return undefined;
}

/**
 * syncfs(2), off the main thread: everything written to the file system that holds `path` is on the disk, or
 * it throws.
 */
export async function syncFileSystem(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await new Promise<void>((resolve, reject) => {
      const c = libc();
      c.syncfs.async(file.fd, (_, result) =>
        result === 0 ? resolve() : reject(systemError(c.errno(), 'syncfs', path)),
      );
    });
  } finally {
    await file.close();
  }
}

/** mount_setattr(2), of the same number everywhere. */
const MOUNT_SETATTR = 442;

/** Whether the kernel (5.12 and newer) can change a mount with all that is mounted below it. Changes nothing. */
export function canSetMountAttributes(): boolean {
  try {
    const noSuchFlags = 0xffffffff; // refused before anything else is looked at
    succeed('mount_setattr', undefined, (c) => c.syscall(MOUNT_SETATTR, 0, 0, noSuchFlags));
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === 'EINVAL';
  }
  return false;
}

const SEEK_DATA = 3;

/** The first byte at or after `offset` that is not in a hole of the file; undefined if the rest is one hole. */
export function findData(fd: number, offset: number): number | undefined {
  try {
    return succeed('lseek', undefined, (c) => c.lseek64(fd, offset, SEEK_DATA));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENXIO') return undefined;
    throw cause;
  }
}

/**
 * Tells the kernel that a file's cached pages are not needed again. Only pages already on the disk go; best
 * effort.
 */
export function dropPageCache(fd: number): void {
  libc().posix_fadvise(fd, 0, 0, 4); // POSIX_FADV_DONTNEED
}

const CLONE_NEWNET = 0x40000000;

/**
 * Runs `work` with the main thread inside the network namespace at `path`, then goes back. Sockets made and
 * processes spawned in there stay there. `work` must be done when it returns: other tasks of this thread
 * would run in the wrong network.
 */
export function inNetworkNamespace<T>(path: string, work: () => T): T {
  const home = openSync('/proc/thread-self/ns/net', 'r');
  try {
    const there = openSync(path, 'r');
    try {
      succeed('setns', path, (c) => c.setns(there, CLONE_NEWNET));
    } finally {
      closeSync(there);
    }
    try {
      return refusePromise(work());
    } finally {
      // nothing that this process does afterwards could be right
      if (libc().setns(home, CLONE_NEWNET) === -1) process.abort();
    }
  } finally {
    closeSync(home);
  }
}

function refusePromise<T>(value: T): T {
  if (value instanceof Promise) throw new TypeError('work in a network namespace must not be asynchronous');
  return value;
}
