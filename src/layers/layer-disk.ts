import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  futimesSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import { codeOf } from '../errors.ts';
import { makeNode, setXattr } from '../host/kernel.ts';
import { diskPath, nameOf } from '../lib/byte-names.ts';
import type { Found, TreeMaker, TreeSettings, TreeView } from './tree-place.ts';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;

/** A layer's tree on the disk. */
export class LayerDisk implements TreeView, TreeMaker, TreeSettings {
  readonly isExact: boolean;
  readonly #root: string;

  private constructor(root: string) {
    this.#root = nameOf(root);
    this.isExact = isExact(this.path('.probe'));
  }

  /** Works in an empty directory. */
  static open(root: string): LayerDisk {
    return new LayerDisk(root);
  }

  /** What to call a place in a system call. */
  path(path: string): string | Buffer {
    return diskPath(path === '' ? this.#root : `${this.#root}/${path}`);
  }

  look(path: string): Found | undefined {
    try {
      return lstatSync(this.path(path), { throwIfNoEntry: false });
    } catch (cause) {
      if (codeOf(cause) === 'ENOTDIR') return undefined;
      throw cause;
    }
  }

  readLink(path: string): string {
    return readlinkSync(this.path(path), 'latin1');
  }

  namesIn(directory: string): string[] {
    return readdirSync(this.path(directory), 'latin1');
  }

  makeFile(path: string, mode: number): number {
    return openSync(this.path(path), O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, mode);
  }

  makeDirectory(path: string, mode: number): void {
    mkdirSync(this.path(path), mode);
  }

  makeLink(path: string, target: string): void {
    symlinkSync(diskPath(target), this.path(path));
  }

  makeHardLink(path: string, existing: string): void {
    linkSync(this.path(existing), this.path(path));
  }

  makeNode(path: string, mode: number, device: { major: number; minor: number }): void {
    makeNode(this.path(path), mode, device);
  }

  removeFile(path: string): void {
    unlinkSync(this.path(path));
  }

  removeDirectory(path: string): void {
    rmdirSync(this.path(path));
  }

  setOwner(at: string | number, uid: number, gid: number): void {
    if (typeof at === 'number') fchownSync(at, uid, gid);
    else lchownSync(this.path(at), uid, gid);
  }

  setMode(at: string | number, mode: number): void {
    if (typeof at === 'number') fchmodSync(at, mode);
    else chmodSync(this.path(at), mode);
  }

  setXattr(path: string, name: string, value: Buffer): void {
    setXattr(this.path(path), name, value);
  }

  setTimes(at: string | number, accessedAt: number, modifiedAt: number): void {
    if (typeof at === 'number') futimesSync(at, accessedAt, modifiedAt);
    else lutimesSync(this.path(at), accessedAt, modifiedAt);
  }

  setSize(fd: number, bytes: number): void {
    ftruncateSync(fd, bytes);
  }

  close(fd: number): void {
    closeSync(fd);
  }
}

/**
 * Whether new files get exactly the owner and mode that are asked for: no umask, no default ACL, no inherited group.
 * Then most files need no further call for either.
 */
function isExact(probe: string | Buffer): boolean {
  const fd = openSync(probe, O_CREAT | O_EXCL | O_WRONLY, 0o777);
  try {
    const { mode, uid, gid } = fstatSync(fd);
    return (mode & 0o7777) === 0o777 && uid === 0 && gid === 0;
  } finally {
    closeSync(fd);
    unlinkSync(probe);
  }
}
