import { fail } from '../errors.ts';
import { nameText } from '../lib/byte-names.ts';
import type { Found, TreeView } from './tree-place.ts';

/** As the kernel's own limit: more links than that on the way to a name are a loop. */
const MAX_LINKS = 40;

/** Directories whose real place is remembered; past that the memory is cleared, and the disk asked again. */
const MAX_KNOWN = 1024;

/**
 * The longest real name of anything in a layer. The kernel takes 4095 bytes at once: what is in the layer must be
 * within reach by its absolute path as well, of whoever reads, mounts or removes it.
 */
const MAX_PATH_BYTES = 3840;

/** A name without empty, `.` and `..` components, by its letters alone; `..` ends at the layer's root, as `/` does. */
export function cleanName(name: string): string {
  const start = name.startsWith('./') ? 2 : 0;
  const clean = name.slice(start, name.endsWith('/') ? -1 : undefined);
  if (!/(?:^|\/)\.{0,2}(?:\/|$)/.test(clean)) return clean;
  const parts: string[] = [];
  for (const part of name.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return parts.join('/');
}

/** The directory part of a clean name, empty for the layer's root. */
export function directoryOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '' : path.slice(0, slash);
}

/** Something in a directory, which is empty for the layer's root. */
export function joined(directory: string, base: string): string {
  const path = directory === '' ? base : `${directory}/${base}`;
  if (path.length > MAX_PATH_BYTES)
    throw fail.corrupt(`the name is too long: ${nameText(path.slice(0, 80))}…`);
  return path;
}

/** The last part of a clean name. */
export function baseOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/**
 * Finds the real place of names inside a layer that is being unpacked, and never one outside of it. Links on the way
 * are followed as if the layer were the root of a file system: an absolute target starts at the layer, `..` stops
 * there (openat2's RESOLVE_IN_ROOT; dockerd has the same by chroot). The last component is the caller's, who must
 * not follow it. This needs no race-free system call: nobody else writes into a staged layer.
 */
export class LayerPaths {
  readonly #tree: Pick<TreeView, 'look' | 'readLink'>;
  /** Directory as spelled → its real place. A real place maps to itself. */
  readonly #known = new Map<string, string>();

  constructor(tree: Pick<TreeView, 'look' | 'readLink'>) {
    this.#tree = tree;
  }

  /**
   * The real place of a directory. `supply` is asked for each component that is not a directory and must make it
   * one or throw; without it, the answer is undefined then.
   */
  resolve(directory: string, supply?: (path: string, found: Found | undefined) => void): string | undefined {
    const known = directory === '' ? '' : this.#known.get(directory);
    if (known !== undefined) return known;
    const rest = directory.split('/').reverse();
    let real = '';
    let links = 0;
    for (let part = rest.pop(); part !== undefined; part = rest.pop()) {
      if (part === '' || part === '.') continue;
      if (part === '..') {
        real = directoryOf(real);
        continue;
      }
      const next = joined(real, part);
      const shortcut = this.#known.get(next);
      const target = shortcut === undefined ? this.#enter(next, supply) : undefined;
      if (target === false) return undefined;
      if (target === undefined) {
        real = shortcut ?? next;
        continue;
      }
      if (++links > MAX_LINKS) throw fail.corrupt(`too many symbolic links: ${nameText(directory)}`);
      if (target.startsWith('/')) real = '';
      rest.push(...target.split('/').reverse());
    }
    this.#remember(directory, real);
    return real;
  }

  /** A directory or a link is about to go: what was known may not hold any more. */
  forget(): void {
    this.#known.clear();
  }

  /** Undefined once `path` is a directory, the target if it is a link, false if neither. */
  #enter(
    path: string,
    supply: ((path: string, found: Found | undefined) => void) | undefined,
  ): string | false | undefined {
    const found = this.#tree.look(path);
    if (found?.isSymbolicLink()) return this.#tree.readLink(path);
    if (!found?.isDirectory()) {
      if (supply === undefined) return false;
      supply(path, found);
    }
    this.#remember(path, path);
    return undefined;
  }

  #remember(spelled: string, real: string): void {
    if (this.#known.size >= MAX_KNOWN) this.#known.clear();
    this.#known.set(spelled, real);
  }
}
