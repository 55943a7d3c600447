import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';
import type * as Koffi from 'koffi';

/**
 * Text goes as UTF-8 with a closing NUL; a Buffer is passed as it is, so a name in one must carry its own
 * NUL.
 */
type Bytes = string | Uint8Array;

/** The C functions that Node lacks. Each returns -1 on failure: wrap the call in {@link succeed}. */
export interface Libc {
  mount(source: Bytes, target: Bytes, type: string | null, flags: number, data: string | null): number;
  umount2(target: Bytes, flags: number): number;
  mknod(path: Bytes, mode: number, device: number): number;
  lsetxattr(path: Bytes, name: Bytes, value: Uint8Array, size: number, flags: number): number;
  lgetxattr(path: Bytes, name: Bytes, value: Uint8Array, size: number): number;
  llistxattr(path: Bytes, list: Uint8Array, size: number): number;
  setxattr(path: Bytes, name: Bytes, value: Uint8Array, size: number, flags: number): number;
  setns(fd: number, kind: number): number;
  unshare(kinds: number): number;
  syncfs: ((fd: number) => number) & {
    async(fd: number, done: (error: unknown, result: number) => void): void;
  };
  lseek64(fd: number, offset: number, whence: number): number;
  posix_fadvise(fd: number, offset: number, length: number, advice: number): number;
  socket(domain: number, type: number, protocol: number): number;
  connect(fd: number, address: Uint8Array, size: number): number;
  bind(fd: number, address: Uint8Array, size: number): number;
  setsockopt(fd: number, level: number, option: number, value: Uint8Array, size: number): number;
  send: ((fd: number, bytes: Uint8Array, size: number, flags: number) => number) & {
    async(
      fd: number,
      bytes: Uint8Array,
      size: number,
      flags: number,
      done: (error: unknown, result: number) => void,
    ): void;
  };
  recv(fd: number, bytes: Uint8Array, size: number, flags: number): number;
  shutdown(fd: number, how: number): number;
  pipe2(ends: Int32Array, flags: number): number;
  prctl(option: number, second: number, third: number, fourth: number, fifth: number): number;
  waitid(kind: number, id: number, info: Uint8Array, options: number): number;
  fcntl(fd: number, command: number, value: number): number;
  syscall(number: number, first: number, second: number, third: number): number;
  /**
   * Calls back each time the descriptor is ready, until stopped. Outside of Node's callback scopes, so only
   * set things in motion there.
   */
  poll(fd: number, wish: Readiness, onReady: () => void): PollHandle;
  /** `errno` of the call just made. */
  errno(): number;
}

export interface Readiness {
  readable?: boolean;
  writable?: boolean;
}

export interface PollHandle {
  start(wish: Readiness, onReady: () => void): void;
  stop(): void;
  close(): void;
}

type CFunction = ReturnType<Koffi.LibraryHandle['func']>;

let loaded: Libc | undefined;

/**
 * The C library, loaded on first use: koffi costs 9 MB of RSS (most of it Node's own shared text), and tools
 * without containers never need it.
 */
export function libc(): Libc {
  loaded ??= load();
  return loaded;
}

function load(): Libc {
  const koffi = createRequire(import.meta.url)('koffi') as typeof Koffi;
  const library = koffi.load(null);
  return {
    mount: library.func('int mount(const void *, const void *, const char *, unsigned long, const char *)'),
    umount2: library.func('int umount2(const void *, int)'),
    mknod: loadMknod(library),
    lsetxattr: library.func('int lsetxattr(const void *, const void *, const void *, size_t, int)'),
    lgetxattr: library.func('long lgetxattr(const void *, const void *, void *, size_t)'),
    llistxattr: library.func('long llistxattr(const void *, void *, size_t)'),
    setxattr: library.func('int setxattr(const void *, const void *, const void *, size_t, int)'),
    setns: library.func('int setns(int, int)'),
    unshare: library.func('int unshare(int)'),
    syncfs: library.func('int syncfs(int)'),
    lseek64: library.func('int64_t lseek64(int, int64_t, int)'),
    posix_fadvise: library.func('int posix_fadvise(int, long, long, int)'),
    socket: library.func('int socket(int, int, int)'),
    connect: library.func('int connect(int, const void *, unsigned int)'),
    bind: library.func('int bind(int, const void *, unsigned int)'),
    setsockopt: library.func('int setsockopt(int, int, int, const void *, unsigned int)'),
    send: library.func('long send(int, const void *, size_t, int)'),
    recv: library.func('long recv(int, void *, size_t, int)'),
    shutdown: library.func('int shutdown(int, int)'),
    prctl: library.func('int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)'),
    waitid: library.func('int waitid(int, unsigned int, void *, int)'),
    pipe2: library.func('int pipe2(_Out_ int *, int)'),
    fcntl: library.func('int fcntl(int, int, int)'),
    syscall: library.func('long syscall(long, unsigned int, unsigned int, unsigned int)'),
    poll: (fd, wish, onReady) => koffi.node.poll(fd, wish, onReady),
    errno: () => koffi.errno(),
  };
}

/**
 * Before glibc 2.33 `mknod` was an inline function around `__xmknod`; boards on Debian 11 and Ubuntu 20.04
 * still have that.
 */
export function loadMknod(library: { func(definition: string): CFunction }): Libc['mknod'] {
  try {
    return library.func('int mknod(const void *, unsigned int, uint64_t)');
  } catch {
    const xmknod = library.func('int __xmknod(int, const void *, unsigned int, uint64_t *)');
    const version = process.arch === 'arm' || process.arch === 'ia32' ? 1 : 0; // glibc's _MKNOD_VER
    return (path, mode, device) => xmknod(version, path, mode, [device]);
  }
}

/** A path or a name as C takes it. One with a NUL inside would silently be another, so it is refused. */
export function cPath(path: string | Uint8Array): Bytes {
  const hasNul = typeof path === 'string' ? path.includes('\0') : path.includes(0);
  if (hasNul) throw systemError(constants.errno.EINVAL, 'path', path);
  return typeof path === 'string' ? path : Buffer.concat([path, Buffer.alloc(1)]);
}

/**
 * Runs one call and returns its result; -1 throws Node's kind of system error with `code`, `syscall` and
 * `path`.
 */
export function succeed(
  syscall: string,
  path: string | Uint8Array | undefined,
  call: (c: Libc) => number,
): number {
  const c = libc();
  const result = call(c);
  if (result === -1) throw systemError(c.errno(), syscall, path);
  return result;
}

/** An error as Node's own `fs` would throw it. */
export function systemError(
  errno: number,
  syscall: string,
  path?: string | Uint8Array,
): NodeJS.ErrnoException {
  const name = Object.entries(constants.errno).find(([, number]) => number === errno)?.[0] ?? `E${errno}`;
  const [code, text] = getSystemErrorMap().get(-errno) ?? [name, 'system error'];
  const where =
    path === undefined ? '' : ` '${typeof path === 'string' ? path : Buffer.from(path).toString()}'`;
  const error: NodeJS.ErrnoException = new Error(`${code}: ${text}, ${syscall}${where}`);
  error.errno = -errno;
  error.code = code;
  error.syscall = syscall;
  if (path !== undefined) error.path = typeof path === 'string' ? path : Buffer.from(path).toString();
  return error;
}

/** What went wrong, in the words that C and Go have for it; without the code, the call and the path. */
export function reasonOf(cause: unknown): string {
  const errno = typeof cause === 'object' && cause !== null && 'errno' in cause ? cause.errno : undefined;
  const [, text] = typeof errno === 'number' ? (getSystemErrorMap().get(errno) ?? []) : [];
  return text ?? (cause instanceof Error ? cause.message : String(cause));
}
