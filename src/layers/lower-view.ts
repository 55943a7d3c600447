import { type BigIntStats, lstatSync, readdirSync } from 'node:fs';
import { isAbsence } from '../host/files.ts';
import { getXattr } from '../host/kernel.ts';
import { diskPath } from '../lib/byte-names.ts';

/**
 * What an image has in one directory, its layers taken together as overlayfs does. They do not change, and it goes from
 * directory to directory: a link in an image never leads out of it.
 */
export class LowerView {
  /** The layers' own directories that are merged here, topmost first; byte strings. */
  readonly #directories: readonly string[];

  constructor(directories: readonly string[]) {
    this.#directories = directories;
  }

  /** What has a name here; undefined if nothing does. */
  look(name: string): BigIntStats | undefined {
    for (const directory of this.#directories) {
      const found = lookAt(`${directory}/${name}`);
      if (found !== undefined) return isWhiteout(found) ? undefined : found;
    }
    return undefined;
  }

  /** The directory of a name; empty if the name means no directory. */
  enter(name: string): LowerView {
    const merged: string[] = [];
    for (const directory of this.#directories) {
      const path = `${directory}/${name}`;
      const found = lookAt(path);
      if (found === undefined) continue;
      if (!found.isDirectory()) break;
      merged.push(path);
      if (getXattr(diskPath(path), 'trusted.overlay.opaque')?.toString() === 'y') break;
    }
    return new LowerView(merged);
  }

  /** Every name that means something here. */
  names(): string[] {
    const names = new Set(this.#directories.flatMap((path) => readdirSync(diskPath(path), 'latin1')));
    return [...names].filter((name) => this.look(name) !== undefined);
  }
}

/** overlayfs: a character device 0:0 hides what is below. */
export function isWhiteout(found: BigIntStats): boolean {
  return found.isCharacterDevice() && found.rdev === 0n;
}

function lookAt(path: string): BigIntStats | undefined {
  try {
    return lstatSync(diskPath(path), { bigint: true, throwIfNoEntry: false });
  } catch (cause) {
    if (isAbsence(cause)) return undefined;
    throw cause;
  }
}
