import { type BigIntStats, lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { getXattr } from '../host/kernel.ts';
import { nameOf } from '../lib/byte-names.ts';
import { LowerView } from './lower-view.ts';

/** Files that the engine and the runtime make, empty, to mount something over them or as a sign. */
const files = new Set(['.dockerenv', 'etc/hosts', 'etc/hostname', 'etc/resolv.conf', 'dev/console']);
const links = new Map([['etc/mtab', '/proc/mounts']]);
/** Directories that they make for the same purpose, or to hold such files. */
const directories = new Set(['dev', 'dev/pts', 'dev/shm', 'etc', 'proc', 'sys']);

/**
 * What is in a container's upper directory although nobody in the container put it there: places to mount things on.
 * dockerd keeps them in a layer of their own below the container's, so that they are no part of what is committed.
 */
export class EngineStubs {
  readonly #lower: LowerView;

  /** `lower`: the directories of the image's layers, topmost first. */
  constructor(lower: readonly string[]) {
    this.#lower = new LowerView(lower.map(nameOf));
  }

  /** True if this is such a thing, and nothing else has become of it. */
  has(path: string, disk: string | Buffer, found: BigIntStats): boolean {
    if (files.has(path)) return found.isFile() && found.size === 0n;
    const target = links.get(path);
    if (target !== undefined) return found.isSymbolicLink() && readlinkSync(disk) === target;
    return directories.has(path) && found.isDirectory() && this.#isBare(path, disk, found);
  }

  /** True if a directory holds nothing but stubs, and is for the rest as it was before them. */
  #isBare(path: string, disk: string | Buffer, found: BigIntStats): boolean {
    if (getXattr(disk, 'trusted.overlay.opaque') !== undefined) return false;
    const before = this.#below(path);
    const isSame = before?.isDirectory()
      ? before.mode === found.mode && before.uid === found.uid && before.gid === found.gid
      : (found.mode & 0o7777n) === 0o755n && found.uid === 0n && found.gid === 0n;
    return (
      isSame &&
      readdirSync(disk, 'latin1').every((name) => {
        const inner = `${disk}/${name}`;
        const stats = lstatSync(inner, { bigint: true, throwIfNoEntry: false });
        return stats === undefined || this.has(`${path}/${name}`, inner, stats);
      })
    );
  }

  /** What the image has at this place. */
  #below(path: string): BigIntStats | undefined {
    const parts = path.split('/');
    const name = parts.pop() ?? '';
    return parts.reduce((view, part) => view.enter(part), this.#lower).look(name);
  }
}
