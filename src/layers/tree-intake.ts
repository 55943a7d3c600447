import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  futimesSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmdirSync,
  type Stats,
  symlinkSync,
  unlinkSync,
  utimesSync,
} from 'node:fs';
import { codeOf, Failure, fail } from '../errors.ts';
import { isAbsence } from '../host/files.ts';
import { nameIn, openInside, type Place } from '../host/inside.ts';
import { makeNode, O_PATH, setXattrOf } from '../host/kernel.ts';
import { diskPath, nameText } from '../lib/byte-names.ts';
import { errnoText } from '../lib/errno.ts';
import type { TarEntry } from '../lib/tar.ts';
import { type TarSink, TarWalker } from '../lib/tar-walker.ts';
import { baseOf, cleanName, directoryOf } from './layer-paths.ts';
import { timesOf } from './layer-tree.ts';
import { writeWhole } from './tar-split-writer.ts';

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY, S_IFBLK, S_IFCHR, S_IFIFO } = constants;

/** Of directories that an archive has entries in but does not describe. */
const IMPLIED_MODE = 0o755;

/** Directories whose time is set once everything is in them; those beyond keep the time of their last entry. */
const MAX_DIRECTORIES = 100_000;

/** How often something is put in the place of what another process puts there meanwhile. */
const MAX_TRIES = 20;

interface IntakeOptions {
  /** The root of the container's files, as a descriptor. */
  root: number;
  /** Where the archive is unpacked: the real path of a directory, a byte string. */
  directory: string;
  /** Nothing but a directory may take the place of one, and it the place of nothing else. */
  keepsKinds: boolean;
  owner?: { readonly uid: number; readonly gid: number };
}

/**
 * Unpacks a tar among the files of a container, as dockerd does with chroot(2): links on the way are followed as a process
 * in there would. That one may change everything at any time: each entry is made by a name in a directory that is held
 * open, exclusively, and settled by a descriptor, so nothing outside of the root is ever touched.
 */
export class TreeIntake implements TarSink, Disposable {
  readonly #o: IntakeOptions;
  readonly #walker = new TarWalker(this);
  readonly #directories = new Map<string, TarEntry>();
  /** The directory of the last entry; most archives stay in one for a while. */
  #parent: (Place & { readonly name: string }) | undefined;
  #file: { fd: number; entry: TarEntry } | undefined;
  /** For messages: the entry under way, in the container. */
  #path = '/';

  constructor(o: IntakeOptions) {
    this.#o = o;
  }

  /** The next bytes of the tar. */
  push(bytes: Buffer): void {
    this.#translating(() => this.#walker.push(bytes));
  }

  /** The tar is over: settles the directories. */
  finish(): void {
    this.#translating(() => {
      this.#walker.end();
      for (const [path, entry] of this.#directories) {
        using place = openInside(this.#o.root, path, { followsLast: false });
        if (place !== undefined && fstatSync(place.fd).isDirectory()) setTimes(place.fd, entry);
      }
    });
  }

  [Symbol.dispose](): void {
    this.#parent?.[Symbol.dispose]();
    if (this.#file !== undefined) closeSync(this.#file.fd);
    this.#parent = undefined;
    this.#file = undefined;
  }

  raw(): void {}

  open(entry: TarEntry): boolean {
    const name = this.#nameOf(entry);
    this.#path = below(this.#o.directory, name);
    if (name === '') {
      // the directory itself is the client's choice, not the archive's
      if (this.#o.keepsKinds && entry.type !== 'directory') throw this.#kindRefused(entry);
      return false;
    }
    const parent = this.#enter(directoryOf(name));
    const fd = this.#create(parent, baseOf(name), entry);
    if (fd === undefined) return false;
    this.#file = { fd, entry };
    return true;
  }

  content(bytes: Buffer, offset: number): void {
    if (this.#file !== undefined) writeWhole(this.#file.fd, bytes, offset);
  }

  close(): void {
    const file = this.#file;
    if (file === undefined) return;
    ftruncateSync(file.fd, file.entry.size);
    this.#settleFile(file.fd, file.entry);
    this.#file = undefined;
    closeSync(file.fd);
  }

  /** Below the directory, without dots; throws for one that leaves it. */
  #nameOf({ name }: TarEntry): string {
    const inside = relativeOf(name) ?? (name.startsWith('/') ? cleanName(name) : undefined);
    if (inside !== undefined) return inside;
    throw fail.extraction(
      `${JSON.stringify(nameText(name))} is outside of ${JSON.stringify(nameText(this.#o.directory))}`,
    );
  }

  #enter(name: string): Place {
    if (this.#parent?.name === name) return this.#parent;
    this.#parent?.[Symbol.dispose]();
    this.#parent = undefined;
    const path = below(this.#o.directory, name);
    const place = openInside(this.#o.root, path, { followsLast: true, makesDirectories: IMPLIED_MODE });
    if (place === undefined) throw fail.extraction(`mkdir ${nameText(path)}: too many links`);
    this.#parent = { ...place, name };
    return place;
  }

  /** A file comes back open. */
  #create(parent: Place, base: string, entry: TarEntry): number | undefined {
    const at = nameIn(parent.fd, base);
    switch (entry.type) {
      case 'file':
        return this.#openFile(parent, base, entry);
      case 'directory':
        this.#make(parent, base, entry, () => mkdirSync(at, entry.mode));
        this.#settle(at, entry, (found) => found.isDirectory());
        if (this.#directories.size < MAX_DIRECTORIES) this.#directories.set(below(parent.path, base), entry);
        return undefined;
      case 'hardlink':
        // its inode has what the entry says from its first name; from here on it may be another process' file
        this.#link(parent, base, entry);
        return undefined;
      case 'symlink':
        this.#checkTarget(entry);
        this.#make(parent, base, entry, () => symlinkSync(diskPath(entry.linkName), at));
        this.#settle(at, entry, (found) => found.isSymbolicLink());
        return undefined;
      default: {
        const mode = entry.mode | { fifo: S_IFIFO, character: S_IFCHR, block: S_IFBLK }[entry.type];
        this.#make(parent, base, entry, () => makeNode(at, mode, entry));
        this.#settle(at, entry, (found) => (found.mode & constants.S_IFMT) === (mode & constants.S_IFMT));
        return undefined;
      }
    }
  }

  #openFile(parent: Place, base: string, entry: TarEntry): number | undefined {
    const flags = O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW;
    // nobody but the engine sees into it before it is settled
    const fd = this.#make(parent, base, entry, () => openSync(nameIn(parent.fd, base), flags, 0o600));
    if (fd === undefined || entry.fragments.length > 0) return fd;
    this.#file = { fd, entry };
    this.close();
    return undefined;
  }

  /** What is there goes first, but for a directory where one is to be; then it is made, and nobody else's. */
  #make<T>(parent: Place, base: string, entry: TarEntry, create: () => T): T | undefined {
    for (let tries = 1; ; tries++) {
      const found = lookAt(nameIn(parent.fd, base));
      if (found?.isDirectory() && entry.type === 'directory') return undefined;
      if (found !== undefined) {
        if (this.#o.keepsKinds && found.isDirectory() !== (entry.type === 'directory'))
          throw this.#kindRefused(entry);
        removeTreeIn(parent.fd, base);
      }
      try {
        return create();
      } catch (cause) {
        if (codeOf(cause) !== 'EEXIST' || tries === MAX_TRIES) throw cause;
      }
    }
  }

  #kindRefused({ type }: TarEntry): Failure {
    const [path, directory] = [this.#path, this.#o.directory].map((one) => JSON.stringify(nameText(one)));
    return fail.extraction(
      type === 'directory'
        ? `cannot overwrite non-directory ${path} with directory ${directory}`
        : `cannot overwrite directory ${path} with non-directory ${directory}`,
    );
  }

  /** A link to something in the directory that is unpacked to. */
  #link(parent: Place, base: string, entry: TarEntry): void {
    const refused = () =>
      fail.extraction(
        `invalid hardlink ${JSON.stringify(nameText(below(this.#o.directory, entry.linkName)))} -> ${JSON.stringify(nameText(entry.linkName))}`,
      );
    const name = relativeOf(entry.linkName);
    if (name === undefined || name === '') throw refused();
    const path = below(this.#o.directory, directoryOf(name));
    using target = openInside(this.#o.root, path, { followsLast: true });
    if (target === undefined) throw refused();
    const existing = nameIn(target.fd, baseOf(name));
    // link(2) follows no link at the end
    this.#make(parent, base, entry, () => linkSync(existing, nameIn(parent.fd, base)));
  }

  /** dockerd: a link that leads out by its letters is refused; an absolute one is not, as it stays in the container. */
  #checkTarget({ name, linkName }: TarEntry): void {
    const target = relativeOf(`${directoryOf(relativeOf(name) ?? '')}/${linkName}`);
    if (target === undefined)
      throw fail.extraction(
        `invalid symlink ${JSON.stringify(nameText(this.#path))} -> ${JSON.stringify(nameText(linkName))}`,
      );
  }

  #settleFile(fd: number, entry: TarEntry): void {
    const { uid, gid } = this.#o.owner ?? entry;
    fchownSync(fd, uid, gid);
    setXattrs(fd, entry);
    fchmodSync(fd, entry.mode);
    const { accessedAt, modifiedAt } = timesOf(entry);
    futimesSync(fd, accessedAt, modifiedAt);
  }

  /** Of what has been made by its name, unless it is something else by now. */
  #settle(at: string | Buffer, entry: TarEntry, isSame: (found: Stats) => boolean): void {
    const fd = openSync(at, O_PATH | O_NOFOLLOW);
    try {
      const found = fstatSync(fd);
      if (!isSame(found)) return;
      const { uid, gid } = this.#o.owner ?? entry;
      const itself = `/proc/self/fd/${fd}`;
      chownSync(itself, uid, gid);
      setXattrs(fd, entry);
      if (!found.isSymbolicLink()) chmodSync(itself, entry.mode);
      setTimes(fd, entry);
    } finally {
      closeSync(fd);
    }
  }

  #translating(work: () => void): void {
    try {
      work();
    } catch (cause) {
      const code = codeOf(cause);
      if (cause instanceof Failure || code === undefined) throw cause;
      const call = cause instanceof Error && 'syscall' in cause ? String(cause.syscall) : 'write';
      const message = `${call} ${nameText(this.#path)}: ${errnoText(cause)}`;
      throw code === 'ENOSPC' || code === 'EDQUOT' ? fail.noSpace(message) : fail.extraction(message, cause);
    }
  }
}

/** A name without dots; undefined if it leads out of where it starts. */
function relativeOf(name: string): string | undefined {
  const parts: string[] = [];
  for (const part of name.split('/')) {
    if (part === '..' && parts.pop() === undefined) return undefined;
    if (part !== '' && part !== '.' && part !== '..') parts.push(part);
  }
  return parts.join('/');
}

function below(directory: string, name: string): string {
  if (name === '') return directory;
  return directory === '/' ? `/${name}` : `${directory}/${name}`;
}

function lookAt(at: string | Buffer): Stats | undefined {
  try {
    return lstatSync(at);
  } catch (cause) {
    if (isAbsence(cause)) return undefined;
    throw cause;
  }
}

/** Removes a name in a directory with all that is below it, and never follows a link. */
function removeTreeIn(directory: number, base: string): void {
  const at = nameIn(directory, base);
  try {
    unlinkSync(at);
    return;
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return;
    if (codeOf(cause) !== 'EISDIR') throw cause;
  }
  const fd = openSync(at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  try {
    for (const name of readdirSync(`/proc/self/fd/${fd}`, 'latin1')) removeTreeIn(fd, name);
  } finally {
    closeSync(fd);
  }
  rmdirSync(at);
}

function setTimes(fd: number, entry: TarEntry): void {
  const { accessedAt, modifiedAt } = timesOf(entry);
  utimesSync(`/proc/self/fd/${fd}`, accessedAt, modifiedAt);
}

/** Those that have no place are left out, as dockerd leaves them out; overlayfs's own words always are. */
function setXattrs(fd: number, { xattrs }: TarEntry): void {
  for (const [name, value] of xattrs) {
    if (name.startsWith('trusted.overlay.')) continue;
    try {
      setXattrOf(fd, name, value);
    } catch (cause) {
      const code = codeOf(cause);
      if (code !== 'ENOTSUP' && code !== 'EOPNOTSUPP' && code !== 'EPERM') throw cause;
    }
  }
}
