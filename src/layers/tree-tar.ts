import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  statfsSync,
} from 'node:fs';
import { codeOf, Failure, fail, messageOf } from '../errors.ts';
import { isAbsence } from '../host/files.ts';
import { nameIn } from '../host/inside.ts';
import { getXattr, listXattrs, O_PATH } from '../host/kernel.ts';
import { nameText } from '../lib/byte-names.ts';
import type { TarType } from '../lib/tar.ts';
import { endOfArchive, headersOf, paddingAfter, type TarMember } from '../lib/tar-writer.ts';
import { EngineStubs } from './engine-stubs.ts';
import { baseOf, joined } from './layer-paths.ts';

const { O_DIRECTORY, O_NOATIME, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

/** A thing that is to be packed alone, under a name of the caller's choice, with what is mounted in it. */
export interface PackedThing {
  /** What to call it in a system call; a name that ends with it is not followed. */
  readonly disk: string | Buffer;
  /** A byte string. The root's is `/`, and all that is in it begins so. */
  readonly name: string;
}

/** What is to be packed. */
export interface TreeTarJob {
  readonly root: string;
  /**
   * `tree`: all there is. `diff`: the upper directory of an overlay, as a layer over `lower` (topmost first), with
   * whiteouts in the words of layers and without what the engine itself put there. `thing`: see {@link PackedThing}.
   */
  readonly kind: 'tree' | 'diff' | 'thing';
  readonly lower?: readonly string[];
}

const PIECE_BYTES = 128 << 10;

// VFS_CAP_REVISION, linux/capability.h: the third has a root user's ID at its end
const CAPABILITY = 'security.capability';
const CAPABILITY_BYTES = 20;

/**
 * Packs a directory tree into a tar, in the order of its names, however its files change meanwhile. Whoever changes
 * them may be hostile: every step goes from an open directory to a name in it and never follows a link, and nothing
 * but a regular file is ever opened for its content: to open a device may already be an order to it.
 */
export class TreeTar {
  readonly #job: TreeTarJob;
  readonly #write: (bytes: Buffer) => void;
  readonly #stubs: EngineStubs | undefined;
  /** The name under which a file with many names came first. */
  readonly #linked = new Map<string, string>();
  readonly #piece = Buffer.allocUnsafe(PIECE_BYTES);
  #device = 0n;
  /** For messages: what is under way. */
  #path = '';

  private constructor(job: TreeTarJob, write: (bytes: Buffer) => void) {
    this.#job = job;
    this.#write = write;
    this.#stubs = job.kind === 'diff' ? new EngineStubs(job.lower ?? []) : undefined;
  }

  /** Hands the tar to `write`, piece by piece; a piece is lent for the length of the call. */
  static pack(job: TreeTarJob, write: (bytes: Buffer) => void): void {
    const tar = new TreeTar(job, write);
    tar.#run(() => tar.#packRoot());
  }

  /** As {@link pack}, of one thing. */
  static packThing({ disk, name }: PackedThing, write: (bytes: Buffer) => void): void {
    const tar = new TreeTar({ root: '', kind: 'thing' }, write);
    tar.#run(() => tar.#packOne(disk, name === '/' ? '' : name));
  }

  #run(work: () => void): void {
    try {
      work();
    } catch (cause) {
      const code = codeOf(cause);
      if (cause instanceof Failure || code === undefined || code === 'EPIPE') throw cause;
      throw fail.host(`cannot pack ${nameText(this.#path || '/')}: ${messageOf(cause)}`, cause);
    }
    this.#write(endOfArchive);
  }

  #packRoot(): void {
    const open = () => openSync(this.#job.root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    // a container that was never mounted has no upper directory
    const fd = this.#job.kind === 'diff' ? orAbsent(open) : open();
    if (fd === undefined) return;
    try {
      this.#device = fstatSync(fd, { bigint: true }).dev;
      this.#packInside(fd, '');
    } finally {
      closeSync(fd);
    }
  }

  #packInside(fd: number, directory: string): void {
    const names = readdirSync(`/proc/self/fd/${fd}`, 'latin1').sort(byBytes);
    for (const name of names) {
      const isInRoot = directory === '' && this.#job.kind === 'thing';
      this.#path = isInRoot ? `/${name}` : joined(directory, name);
      this.#packOne(nameIn(fd, name), this.#path);
    }
  }

  #packOne(disk: string | Buffer, path: string): void {
    const found = orAbsent(() => lstatSync(disk, { bigint: true }));
    if (found === undefined || found.isSocket()) return;
    if (this.#stubs?.has(path, disk, found)) return;
    if (this.#stubs !== undefined && isWhiteout(found)) this.#packWhiteout(path, found);
    else if (found.isDirectory()) this.#packDirectory(disk, path);
    else if (!this.#packLink(path, found)) {
      if (found.isFile()) this.#packFile(disk, path, found);
      else if (found.isSymbolicLink()) this.#packSymlink(disk, path, found);
      else this.#packNode(path, found);
    }
  }

  #packDirectory(disk: string | Buffer, path: string): void {
    const fd = orAbsent(() => openSync(disk, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME));
    if (fd === undefined) return;
    try {
      const found = fstatSync(fd, { bigint: true });
      this.#put(memberOf('directory', `${path}/`, found, this.#xattrsOf(disk)));
      if (this.#job.kind === 'diff' && isOpaque(disk)) {
        const { mode, ...member } = memberOf('file', `${path}/.wh..wh..opq`, found);
        this.#put({ ...member, mode: mode & 0o777, modifiedAt: { seconds: 0, nanos: 0 } });
      }
      // what is mounted there is another tree
      if (this.#job.kind === 'thing' ? !isKernels(fd) : found.dev === this.#device)
        this.#packInside(fd, path);
    } finally {
      closeSync(fd);
    }
  }

  /** True if the file came already, under another name. */
  #packLink(path: string, found: BigIntStats): boolean {
    if (found.nlink < 2n) return false;
    const key = `${found.dev}:${found.ino}`;
    const first = this.#linked.get(key);
    if (first === undefined) this.#linked.set(key, path);
    else this.#put({ ...memberOf('hardlink', path, found), linkName: first });
    return first !== undefined;
  }

  #packFile(disk: string | Buffer, path: string, found: BigIntStats): void {
    const fd = openFile(disk);
    if (fd === undefined) {
      this.#forget(path, found);
      return;
    }
    try {
      const now = fstatSync(fd, { bigint: true });
      const size = Number(now.size);
      this.#put({ ...memberOf('file', path, now, this.#xattrsOf(disk)), size });
      this.#copy(fd, size);
    } finally {
      closeSync(fd);
    }
  }

  /** Exactly as many bytes as the header promised, whatever has become of the file since. */
  #copy(fd: number, size: number): void {
    const piece = this.#piece;
    for (let done = 0; done < size; ) {
      const wanted = Math.min(piece.length, size - done);
      const count = readSync(fd, piece, 0, wanted, done);
      if (count === 0) piece.fill(0, 0, wanted);
      const bytes = count === 0 ? wanted : count;
      this.#write(piece.subarray(0, bytes));
      done += bytes;
    }
    const padding = paddingAfter(size);
    if (padding > 0) this.#write(endOfArchive.subarray(0, padding));
  }

  #packSymlink(disk: string | Buffer, path: string, found: BigIntStats): void {
    const linkName = orAbsent(() => readlinkSync(disk, 'latin1'));
    if (linkName === undefined) this.#forget(path, found);
    else this.#put({ ...memberOf('symlink', path, found), linkName });
  }

  #packNode(path: string, found: BigIntStats): void {
    // makedev(3): what the kernel puts into 64 bits
    const major = Number(((found.rdev >> 8n) & 0xfffn) | ((found.rdev >> 32n) & 0xfffff000n));
    const minor = Number((found.rdev & 0xffn) | ((found.rdev >> 12n) & 0xffffff00n));
    if (found.isFIFO()) this.#put(memberOf('fifo', path, found));
    else {
      const type = found.isBlockDevice() ? 'block' : 'character';
      this.#put({ ...memberOf(type, path, found), major, minor });
    }
  }

  // OCI image-spec v1.1, layer.md, Whiteouts
  #packWhiteout(path: string, found: BigIntStats): void {
    const base = baseOf(path);
    const name = `${path.slice(0, path.length - base.length)}.wh.${base}`;
    this.#put({ ...memberOf('file', name, found), mode: 0o600 });
  }

  /** A file that went away after all cannot be what its other names link to. */
  #forget(path: string, { dev, ino }: BigIntStats): void {
    const key = `${dev}:${ino}`;
    if (this.#linked.get(key) === path) this.#linked.delete(key);
  }

  #put(member: TarMember): void {
    this.#write(headersOf(member));
  }

  /** Capabilities and what users set; overlayfs's own words never, nor what depends on this host. */
  #xattrsOf(disk: string | Buffer): Map<string, Buffer> | undefined {
    const names = orAbsent(() => listXattrs(disk)) ?? [];
    let xattrs: Map<string, Buffer> | undefined;
    for (const name of names.sort()) {
      if (name !== CAPABILITY && !name.startsWith('user.')) continue;
      const value = orAbsent(() => getXattr(disk, name));
      if (value === undefined) continue;
      xattrs ??= new Map();
      xattrs.set(name, name === CAPABILITY ? plainCapability(value) : value);
    }
    return xattrs;
  }
}

/**
 * File systems that are no files: what they show is the kernel's, has no size, and may wait for ever. statfs(2); also
 * linux/magic.h.
 */
const kernels: ReadonlySet<number> = new Set([
  0x9fa0, // proc
  0x62656572, // sysfs
  0x27e0eb, // cgroup
  0x63677270, // cgroup2
  0x1cd1, // devpts
  0x19800202, // mqueue
  0x64626720, // debugfs
  0x74726163, // tracefs
  0x73636673, // securityfs
  0xcafe4a11, // bpf
  0x62656570, // configfs
  0x6165676c, // pstore
  0xde5e81e4, // efivarfs
  0xf97cff8c, // selinuxfs
  0x42494e4d, // binfmt_misc
  0x65735543, // fusectl
]);

function isKernels(fd: number): boolean {
  return kernels.has(statfsSync(`/proc/self/fd/${fd}`).type >>> 0);
}

/** Opens a regular file, and nothing else: looked at before it is opened, and the same that was looked at. */
function openFile(disk: string | Buffer): number | undefined {
  const place = orAbsent(() => openSync(disk, O_PATH | O_NOFOLLOW));
  if (place === undefined) return undefined;
  try {
    if (!fstatSync(place).isFile()) return undefined;
    return openSync(`/proc/self/fd/${place}`, O_RDONLY | O_NOATIME | O_NONBLOCK);
  } finally {
    closeSync(place);
  }
}

function memberOf(
  type: TarType,
  name: string,
  found: BigIntStats,
  xattrs?: ReadonlyMap<string, Buffer>,
): TarMember {
  const second = 1_000_000_000n;
  const nanos = ((found.mtimeNs % second) + second) % second;
  return {
    type,
    name,
    mode: Number(found.mode & 0o7777n),
    uid: Number(found.uid),
    gid: Number(found.gid),
    size: 0,
    modifiedAt: { seconds: Number((found.mtimeNs - nanos) / second), nanos: Number(nanos) },
    ...(xattrs !== undefined && { xattrs }),
  };
}

function isWhiteout(found: BigIntStats): boolean {
  return found.isCharacterDevice() && found.rdev === 0n;
}

function isOpaque(disk: string | Buffer): boolean {
  return orAbsent(() => getXattr(disk, 'trusted.overlay.opaque'))?.toString() === 'y';
}

/** Without the ID of the user namespace that it was set in, which says nothing elsewhere. */
function plainCapability(value: Buffer): Buffer {
  if (value.length <= CAPABILITY_BYTES || value[3] !== 3) return value;
  const plain = Buffer.from(value.subarray(0, CAPABILITY_BYTES));
  plain[3] = 2;
  return plain;
}

/** Undefined for what went away, or became something else, since it was listed. */
function orAbsent<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (cause) {
    const code = codeOf(cause);
    if (isAbsence(cause) || code === 'ELOOP' || code === 'EINVAL' || code === 'ESTALE') return undefined;
    throw cause;
  }
}

function byBytes(a: string, b: string): number {
  return a < b ? -1 : 1;
}
