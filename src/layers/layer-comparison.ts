import {
  closeSync,
  constants,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  type Stats,
} from 'node:fs';
import { findData, getXattr, listXattrs, takesXattr } from '../host/kernel.ts';
import { diskPath, nameOf, nameText } from '../lib/byte-names.ts';
import type { LayerModel, ModelNode } from './layer-model.ts';
import { joined } from './layer-paths.ts';

const { O_NOATIME, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, S_IFMT } = constants;

/** So many differences are told; who has more has seen enough. */
export const MAX_DIFFERENCES = 8;

/** What others may add to a layer's files is none of its business: a host's labels, ACLs that a directory hands down. */
const OURS = /^(?:user\.|trusted\.|security\.capability$)/;

/** What a file system with the smallest inodes still can keep. */
const MAX_SECONDS = 0x7fff_ffff;

const kinds = new Map([
  [constants.S_IFSOCK, 'a socket'],
  [constants.S_IFLNK, 'a link'],
  [constants.S_IFREG, 'a file'],
  [constants.S_IFBLK, 'a block device'],
  [constants.S_IFDIR, 'a directory'],
  [constants.S_IFCHR, 'a character device'],
  [constants.S_IFIFO, 'a fifo'],
]);

/**
 * How a tree on the disk differs from what it must be, in words, at most {@link MAX_DIFFERENCES} of them: what is
 * missing or there in excess, types, modes, owners, sizes, link targets, device numbers, times, extended attributes,
 * names of one file, and bytes in the holes of sparse files. Other content is the caller's to prove. `onEntry` is called
 * before each thing that is looked at.
 */
export function differencesOf(model: LayerModel, root: string, onEntry: () => void): string[] {
  return new Comparison(nameOf(root), onEntry).run(model.root);
}

class Comparison {
  readonly #root: string;
  readonly #onEntry: () => void;
  readonly #differences: string[] = [];
  /** Inodes with several names, by what they must be: one name was seen to be there. */
  readonly #inodes = new Map<ModelNode, number>();

  constructor(root: string, onEntry: () => void) {
    this.#root = root;
    this.#onEntry = onEntry;
  }

  run(root: ModelNode): string[] {
    const directories: [string, ModelNode][] = [];
    const visit = (path: string, node: ModelNode) => {
      if (this.#isSame(path, node) && node.isDirectory()) directories.push([path, node]);
    };
    visit('', root);
    for (let next = directories.pop(); next !== undefined; next = directories.pop()) {
      const [path, { children = new Map<string, ModelNode>() }] = next;
      for (const name of readdirSync(this.#disk(path), 'latin1'))
        if (!children.has(name)) this.#say(path === '' ? name : `${path}/${name}`, 'does not belong there');
      for (const [name, child] of children) {
        if (this.#differences.length >= MAX_DIFFERENCES) return this.#differences;
        visit(joined(path, name), child);
      }
    }
    return this.#differences;
  }

  /** False if it is so different that what is in it need not be looked at. */
  #isSame(path: string, node: ModelNode): boolean {
    this.#onEntry();
    const found = lstatSync(this.#disk(path), { throwIfNoEntry: false });
    if (found === undefined) {
      this.#say(path, 'is missing');
      return false;
    }
    if ((found.mode & S_IFMT) !== (node.mode & S_IFMT)) {
      this.#say(path, `is ${kindOf(found.mode)}, not ${kindOf(node.mode)}`);
      return false;
    }
    this.#compareNumbers(path, node, found);
    this.#compareTime(path, node, found);
    this.#compareXattrs(path, node);
    if (node.isSymbolicLink()) {
      const target = readlinkSync(this.#disk(path), 'latin1');
      if (target !== node.target)
        this.#say(path, `points to ${nameText(target)}, not to ${nameText(node.target)}`);
    }
    if (node.nlink > 1 && !node.isDirectory()) this.#compareNames(path, node, found);
    if (node.fragments !== undefined && found.size === node.size) this.#compareHoles(path, node);
    return true;
  }

  #compareNumbers(path: string, node: ModelNode, found: Stats): void {
    const [mode, wanted] = [found.mode & 0o7777, node.mode & 0o7777];
    if (mode !== wanted && !node.isSymbolicLink())
      this.#say(path, `has mode ${mode.toString(8)}, not ${wanted.toString(8)}`);
    if (found.uid !== node.uid || found.gid !== node.gid)
      this.#say(path, `belongs to ${found.uid}:${found.gid}, not to ${node.uid}:${node.gid}`);
    if (node.isFile() && found.size !== node.size)
      this.#say(path, `has ${found.size} bytes, not ${node.size}`);
    if (found.rdev !== node.rdev) this.#say(path, 'is another device');
  }

  /** Some file systems keep whole seconds, and none beyond 2038. */
  #compareTime(path: string, { modifiedAt }: ModelNode, { mtimeMs }: Stats): void {
    if (modifiedAt === undefined || modifiedAt > MAX_SECONDS) return;
    if (Math.floor(mtimeMs / 1000) !== Math.floor(modifiedAt))
      this.#say(path, `was changed at ${timeText(mtimeMs / 1000)}, not at ${timeText(modifiedAt)}`);
  }

  #compareXattrs(path: string, { xattrs }: ModelNode): void {
    const disk = this.#disk(path);
    for (const name of listXattrs(disk))
      if (OURS.test(name) && !xattrs?.has(name))
        this.#say(path, `has an attribute ${name} that is not its own`);
    for (const [name, value] of xattrs ?? []) {
      const found = getXattr(disk, name);
      if (found === undefined && !takesXattr(disk, name, value)) continue; // nor did it when it was unpacked
      if (found === undefined) this.#say(path, `lacks its attribute ${name}`);
      else if (!found.equals(value)) this.#say(path, `has another attribute ${name}`);
    }
  }

  #compareNames(path: string, node: ModelNode, { ino }: Stats): void {
    const known = this.#inodes.get(node);
    if (known === undefined) this.#inodes.set(node, ino);
    else if (known !== ino) this.#say(path, 'is not the same file as its other names');
  }

  /** What the tar does not tell reads as zeros. */
  #compareHoles(path: string, { fragments = [], size }: ModelNode): void {
    const fd = openSync(this.#disk(path), O_RDONLY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK);
    try {
      let holeStart = 0;
      for (const { offset, length } of [...fragments, { offset: size, length: 0 }]) {
        if (!isHole(fd, holeStart, offset)) {
          this.#say(path, 'has content where it must be empty');
          return;
        }
        holeStart = offset + length;
      }
    } finally {
      closeSync(fd);
    }
  }

  #say(path: string, what: string): void {
    if (this.#differences.length < MAX_DIFFERENCES) this.#differences.push(`/${nameText(path)} ${what}`);
  }

  #disk(path: string): string | Buffer {
    return diskPath(path === '' ? this.#root : `${this.#root}/${path}`);
  }
}

/** True if there are only zeros from `start` to `end`; what the file system knows to be empty is not read. */
function isHole(fd: number, start: number, end: number): boolean {
  const bytes = Buffer.allocUnsafe(64 << 10);
  for (let at = start; at < end; ) {
    const data = findData(fd, at);
    if (data === undefined || data >= end) return true;
    const count = readSync(fd, bytes, 0, Math.min(bytes.length, end - data), data);
    if (count === 0) return true;
    if (bytes.subarray(0, count).some((byte) => byte !== 0)) return false;
    at = data + count;
  }
  return true;
}

function kindOf(mode: number): string {
  return kinds.get(mode & S_IFMT) ?? 'something else';
}

function timeText(seconds: number): string {
  return new Date(Math.floor(seconds) * 1000).toISOString().replace('.000Z', 'Z');
}
