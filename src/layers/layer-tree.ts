import { constants } from 'node:fs';
import { codeOf, fail } from '../errors.ts';
import { nameText } from '../lib/byte-names.ts';
import type { TarEntry, TarTime } from '../lib/tar.ts';
import { baseOf, cleanName, directoryOf, joined, LayerPaths } from './layer-paths.ts';
import type { Found, TreeMaker, TreeSettings, TreeView } from './tree-place.ts';

const { S_IFBLK, S_IFCHR, S_IFIFO } = constants;

// OCI image-spec v1.1, layer.md, Whiteouts. Other names that begin like the opaque marker are aufs's own bookkeeping.
const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';
const bookkeeping = /(?:^|\/)\.wh\.\.wh\./;

const DIRECTORY_MODE = 0o755;
const SPECIAL_BITS = 0o7000;

/** What an entry says about the inode that it becomes. */
interface Settings {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds. */
  readonly modifiedAt: number;
  readonly accessedAt: number;
  readonly xattrs: ReadonlyMap<string, Buffer>;
}

/** A regular file that the caller writes and then hands to {@link LayerTree.finishFile}. */
export interface OpenFile {
  readonly path: string;
  readonly fd: number;
  readonly entry: TarEntry;
}

/**
 * Builds the tree of one layer from its tar entries, in overlayfs's own terms for deletions: on the disk, or in memory,
 * to know what the disk must look like. Later entries replace earlier ones, directories merge. Nothing is ever created, changed or removed outside the layer's directory:
 * see {@link LayerPaths}; what is created is created exclusively, which never follows a link.
 */
export class LayerTree {
  readonly #place: TreeView & TreeMaker & TreeSettings;
  readonly #paths: LayerPaths;
  /** Takes a file with content out of the tree: it is replaced, but its bytes are still part of the tar. */
  readonly #putAside: (path: string) => void;
  /** What a directory gets when nothing will be created in it any more. */
  readonly #pending = new Map<string, Settings>();
  #hasRemovedDirectories = false;
  #sizeBytes = 0;
  #ignoredXattrs = 0;

  /** Begins in an empty tree, whose owner and mode it sets. */
  constructor(place: TreeView & TreeMaker & TreeSettings, o: { putAside: (path: string) => void }) {
    this.#place = place;
    this.#paths = new LayerPaths(place);
    this.#putAside = o.putAside;
    place.setOwner('', 0, 0);
    place.setMode('', DIRECTORY_MODE);
  }

  /** Bytes of all files, each counted once; of a symbolic link those of its target, as dockerd counts. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Extended attributes that this file system, or overlayfs, has no place for. */
  get ignoredXattrs(): number {
    return this.#ignoredXattrs;
  }

  /** Creates what the entry describes. A file with content comes back open. */
  add(entry: TarEntry): OpenFile | undefined {
    const name = cleanName(entry.name);
    // the root belongs to the engine, as in dockerd
    if (name === '') return undefined;
    const base = baseOf(name);
    if (base === OPAQUE && !bookkeeping.test(directoryOf(name)))
      this.#makeOpaque(this.#enter(directoryOf(name)));
    else if (bookkeeping.test(name)) return undefined;
    else if (base.startsWith(WHITEOUT)) this.#whiteOut(directoryOf(name), base.slice(WHITEOUT.length));
    else return this.#create(joined(this.#enter(directoryOf(name)), base), entry);
    return undefined;
  }

  /** Gives a written file its owner, mode, attributes and time, and closes it. */
  finishFile({ path, fd, entry }: OpenFile): void {
    const settings = settingsOf(entry);
    if (entry.size > endOf(entry)) this.#place.setSize(fd, entry.size);
    if (this.#mustOwn(settings)) this.#place.setOwner(fd, settings.uid, settings.gid);
    if (this.#mustSetMode(settings.mode)) this.#place.setMode(fd, settings.mode);
    this.#setXattrs(path, settings);
    this.#place.setTimes(fd, settings.accessedAt, settings.modifiedAt);
    this.#place.close(fd);
    this.#sizeBytes += entry.size;
  }

  /** Settles the directories, once everything is in them. */
  finish(): void {
    for (const [path, settings] of this.#pending) {
      // since it was listed, another entry may have put a link in its place or on the way there
      if (this.#hasRemovedDirectories && this.#paths.resolve(path) !== path) continue;
      if (this.#mustOwn(settings)) this.#place.setOwner(path, settings.uid, settings.gid);
      if (!this.#place.isExact || settings.mode !== DIRECTORY_MODE) this.#place.setMode(path, settings.mode);
      this.#setXattrs(path, settings);
      this.#place.setTimes(path, settings.accessedAt, settings.modifiedAt);
    }
  }

  #create(path: string, entry: TarEntry): OpenFile | undefined {
    switch (entry.type) {
      case 'file':
        return this.#openFile(path, entry);
      case 'directory':
        this.#makeDirectory(path);
        this.#pending.set(path, settingsOf(entry));
        return undefined;
      case 'hardlink':
        this.#link(path, entry);
        return undefined;
      case 'symlink':
        this.#make(path, () => this.#place.makeLink(path, entry.linkName));
        this.#sizeBytes += entry.linkName.length; // a character is a byte
        if (this.#mustOwn(entry)) this.#place.setOwner(path, entry.uid, entry.gid);
        break;
      default: {
        const mode = entry.mode | { fifo: S_IFIFO, character: S_IFCHR, block: S_IFBLK }[entry.type];
        this.#make(path, () => this.#place.makeNode(path, mode, entry));
        if (this.#mustOwn(entry)) this.#place.setOwner(path, entry.uid, entry.gid);
        if (this.#mustSetMode(entry.mode)) this.#place.setMode(path, entry.mode);
      }
    }
    this.#setXattrs(path, entry);
    this.#setTimes(path, entry);
    return undefined;
  }

  /** An empty one is finished at once. */
  #openFile(path: string, entry: TarEntry): OpenFile | undefined {
    const fd = this.#make(path, () => this.#place.makeFile(path, entry.mode & ~SPECIAL_BITS));
    const file = { path, fd, entry };
    if (entry.fragments.length > 0) return file;
    this.finishFile(file);
    return undefined;
  }

  #makeDirectory(path: string): void {
    try {
      this.#place.makeDirectory(path, DIRECTORY_MODE);
    } catch (cause) {
      if (codeOf(cause) !== 'EEXIST') throw cause;
      const found = this.#place.look(path);
      if (found?.isDirectory()) return;
      this.#replaceByDirectory(path, found);
    }
    if (this.#hasRemovedDirectories) this.#pending.delete(path);
    if (this.#place.isExact) return;
    this.#place.setOwner(path, 0, 0);
    this.#place.setMode(path, DIRECTORY_MODE);
  }

  #replaceByDirectory(path: string, found: Found | undefined): void {
    if (found !== undefined) this.#remove(path, found);
    this.#place.makeDirectory(path, DIRECTORY_MODE);
    // the whiteout hid what is below; the directory that takes its place must go on doing so
    if (isWhiteout(found)) this.#makeOpaque(path);
  }

  /** A hard link to something inside the layer, found as any other name is. Its header has the last word, as in dockerd. */
  #link(path: string, entry: TarEntry): void {
    const name = cleanName(entry.linkName);
    const parent = this.#paths.resolve(directoryOf(name));
    const target = parent === undefined ? undefined : joined(parent, baseOf(name));
    const found = target === undefined || name === '' ? undefined : this.#place.look(target);
    if (target === undefined || found === undefined || found.isDirectory() || target === path)
      throw fail.corrupt(`invalid hard link ${nameText(entry.name)} to ${nameText(entry.linkName)}`);
    this.#make(path, () => this.#place.makeHardLink(path, target));
    // only what differs: a change of owner would strip the file's capabilities
    const isOwned = found.uid === entry.uid && found.gid === entry.gid;
    if (!isOwned) this.#place.setOwner(path, entry.uid, entry.gid);
    const isModeRight = isOwned && (found.mode & 0o7777) === entry.mode;
    if (!found.isSymbolicLink() && !isModeRight) this.#place.setMode(path, entry.mode);
    this.#setXattrs(path, entry);
    this.#setTimes(path, entry);
  }

  /** What this layer itself puts there stays: a whiteout speaks about the layers below. */
  #whiteOut(directory: string, base: string): void {
    if (base === '' || base === '.' || base === '..')
      throw fail.corrupt(`invalid whiteout name ${WHITEOUT}${base}`);
    const path = joined(this.#enter(directory), base);
    try {
      this.#place.makeNode(path, S_IFCHR, { major: 0, minor: 0 });
    } catch (cause) {
      if (codeOf(cause) !== 'EEXIST') throw cause;
      if (this.#place.look(path)?.isDirectory()) this.#makeOpaque(path);
    }
  }

  #makeOpaque(path: string): void {
    this.#place.setXattr(path, 'trusted.overlay.opaque', Buffer.from('y'));
  }

  /** The real place of a directory, made with its parents where they are missing. */
  #enter(directory: string): string {
    const real = this.#paths.resolve(directory, (path, found) => {
      if (found === undefined) this.#makeDirectory(path);
      else if (isWhiteout(found)) this.#replaceByDirectory(path, found);
      else throw fail.corrupt(`${nameText(path)} is not a directory, but has entries in it`);
    });
    return real ?? '';
  }

  /** Creates something exclusively; what is in its place goes first. */
  #make<T>(path: string, create: () => T): T {
    try {
      return create();
    } catch (cause) {
      if (codeOf(cause) !== 'EEXIST') throw cause;
    }
    const found = this.#place.look(path);
    if (found !== undefined) this.#remove(path, found);
    return create();
  }

  #remove(path: string, found: Found): void {
    if (found.isDirectory()) {
      this.#hasRemovedDirectories = true;
      this.#paths.forget();
      for (const name of this.#place.namesIn(path)) {
        const child = joined(path, name);
        const stats = this.#place.look(child);
        if (stats !== undefined) this.#remove(child, stats);
      }
      this.#place.removeDirectory(path);
      return;
    }
    if (found.isSymbolicLink()) this.#paths.forget();
    if (found.nlink === 1) this.#sizeBytes -= found.size;
    if (!found.isFile() || found.size === 0) this.#place.removeFile(path);
    else this.#putAside(path);
  }

  #mustOwn({ uid, gid }: Pick<Settings, 'uid' | 'gid'>): boolean {
    return !this.#place.isExact || uid !== 0 || gid !== 0;
  }

  #mustSetMode(mode: number): boolean {
    return !this.#place.isExact || (mode & SPECIAL_BITS) !== 0;
  }

  /** Last but the times, because a change of owner drops capabilities. */
  #setXattrs(path: string, { xattrs }: Pick<Settings, 'xattrs'>): void {
    for (const [name, value] of xattrs) {
      // overlayfs's own words: a layer must not steer how layers are put together
      if (name.startsWith('trusted.overlay.')) {
        this.#ignoredXattrs++;
        continue;
      }
      try {
        this.#place.setXattr(path, name, value);
      } catch (cause) {
        const code = codeOf(cause);
        if (code !== 'ENOTSUP' && code !== 'EOPNOTSUPP' && code !== 'EPERM') throw cause;
        this.#ignoredXattrs++;
      }
    }
  }

  #setTimes(path: string, entry: TarEntry): void {
    const { accessedAt, modifiedAt } = settingsOf(entry);
    this.#place.setTimes(path, accessedAt, modifiedAt);
  }
}

function isWhiteout(found: Found | undefined): boolean {
  return found?.isCharacterDevice() === true && found.rdev === 0;
}

function endOf({ fragments }: TarEntry): number {
  const last = fragments[fragments.length - 1];
  return last === undefined ? 0 : last.offset + last.length;
}

function settingsOf({ mode, uid, gid, xattrs, ...times }: TarEntry): Settings {
  return { mode, uid, gid, xattrs, ...timesOf(times) };
}

/** An entry's times in seconds. As under dockerd, where no access is told, or an earlier one, it is the modification. */
export function timesOf({ modifiedAt, accessedAt }: Pick<TarEntry, 'modifiedAt' | 'accessedAt'>): {
  modifiedAt: number;
  accessedAt: number;
} {
  const modified = secondsOf(modifiedAt);
  const accessed = accessedAt === undefined ? modified : Math.max(modified, secondsOf(accessedAt));
  return { modifiedAt: modified, accessedAt: accessed };
}

/** The end of the times that dockerd can tell; whatever lies outside becomes 1970, there as here. */
const MAX_SECONDS = 9_223_372_036;

/** Seconds for Node's calls. Cut to microseconds, which a double holds without rounding up to the next second. */
function secondsOf({ seconds, nanos }: TarTime): number {
  return seconds < 0 || seconds > MAX_SECONDS ? 0 : seconds + Math.floor(nanos / 1000) / 1e6;
}
