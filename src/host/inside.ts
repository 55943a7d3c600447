import { closeSync, constants, fstatSync, mkdirSync, openSync, readlinkSync } from 'node:fs';
import { codeOf, fail } from '../errors.ts';
import { diskPath, nameOf } from '../lib/byte-names.ts';
import { isAbsence } from './files.ts';
import { O_PATH } from './kernel.ts';

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

/** As many links as the kernel follows. */
const MAX_LINKS = 40;

/** As many directories below each other as are held open at once. */
const MAX_DEPTH = 1000;

/** A place in a tree, held by a descriptor that says where it is and does not open what is there. */
export interface Place extends Disposable {
  /** Of `O_PATH`. */
  readonly fd: number;
  /** Its path below the root as a byte string, with a slash before each name and no link in it; `/` for the root. */
  readonly path: string;
}

/** Where a walk ended: the descriptor is missing where nothing is there. */
interface Walked {
  readonly fd: number | undefined;
  readonly path: string;
}

interface WalkOptions {
  /** Whether a link at the end of the path is followed, too. */
  readonly followsLast: boolean;
  /** Mode of directories that are made where nothing is. */
  readonly makesDirectories?: number;
}

/**
 * Finds a place below `root`, a descriptor, as a process would for which that is `/`, whatever a hostile one does to the
 * tree meanwhile. Undefined if nothing is there, or too many links are.
 *
 * What openat2(2) does with `RESOLVE_IN_ROOT` and `RESOLVE_NO_MAGICLINKS`, on any kernel: each step goes from a directory
 * that is held open to one name in it, and never follows a link. What a link says is taken as text, from the root if it
 * is absolute. `..` leads back the way that was come, and stops at the root. Mounts are entered. Names are byte strings.
 */
export function openInside(root: number, path: string, o: WalkOptions): Place | undefined {
  const { fd, path: real } = walk(root, path, o);
  return fd === undefined ? undefined : { fd, path: real, [Symbol.dispose]: () => closeSync(fd) };
}

/** Where a path leads below `root`, every link followed, whether or not anything is there; a byte string. */
export function realPathInside(root: number, path: string): string {
  const { fd, path: real } = walk(root, path, { followsLast: true });
  if (fd !== undefined) closeSync(fd);
  return real;
}

/** Where a path of a container leads below its root file system, for trees that no process is changing. */
export async function pathInside(root: string, path: string): Promise<string | undefined> {
  const fd = openSync(root, O_PATH | O_DIRECTORY);
  try {
    using place = openInside(fd, nameOf(path), { followsLast: true });
    return place === undefined ? undefined : root + Buffer.from(place.path, 'latin1').toString();
  } finally {
    closeSync(fd);
  }
}

/** Opens a regular file for reading, links followed as the container would. Undefined where nothing is; throws for others. */
export function openFileInside(root: string, path: string): number | undefined {
  const fd = openSync(root, O_PATH | O_DIRECTORY);
  try {
    using place = openInside(fd, nameOf(path), { followsLast: true });
    if (place === undefined) return undefined;
    if (!fstatSync(place.fd).isFile()) throw fail.runtime(`${path} in the container is not a regular file`);
    return openSync(`/proc/self/fd/${place.fd}`, O_RDONLY | O_NONBLOCK);
  } finally {
    closeSync(fd);
  }
}

/** What to call a name in an open directory in a system call that does not follow links. */
export function nameIn(directory: number, name: string): string | Buffer {
  return diskPath(`/proc/self/fd/${directory}/${name}`);
}

/** The directories that were passed on the way from the root. */
class Way {
  readonly #root: number;
  readonly #passed: { name: string; fd: number }[] = [];

  constructor(root: number) {
    this.#root = root;
  }

  get here(): number {
    return this.#passed.at(-1)?.fd ?? this.#root;
  }

  get path(): string {
    return `/${this.#passed.map(({ name }) => name).join('/')}`;
  }

  enter(name: string, fd: number): void {
    this.#passed.push({ name, fd });
    if (this.#passed.length > MAX_DEPTH) throw tooDeep();
  }

  back(): void {
    const left = this.#passed.pop();
    if (left !== undefined) closeSync(left.fd);
  }

  backToRoot(): void {
    while (this.#passed.length > 0) this.back();
  }

  /** The place where it ended, for the caller to close. */
  end(): Walked {
    const { path } = this;
    const fd = this.#passed.pop()?.fd ?? openSync(`/proc/self/fd/${this.#root}/.`, O_PATH | O_DIRECTORY);
    return { fd, path };
  }
}

function walk(root: number, path: string, { followsLast, makesDirectories }: WalkOptions): Walked {
  const way = new Way(root);
  const ahead = path.split('/').filter(isName).reverse();
  let links = 0;
  try {
    for (let name = ahead.pop(); name !== undefined; name = ahead.pop()) {
      if (name === '..') {
        way.back();
        continue;
      }
      const step = take(way.here, name, followsLast || ahead.length > 0, makesDirectories);
      if (step === undefined) return { fd: undefined, path: rest(way.path, [...ahead, name].reverse()) };
      if (typeof step === 'number') {
        way.enter(name, step);
        continue;
      }
      if (++links > MAX_LINKS) return { fd: undefined, path: rest(way.path, [...ahead, name].reverse()) };
      if (step.target.startsWith('/')) way.backToRoot();
      ahead.push(...step.target.split('/').filter(isName).reverse());
    }
    return way.end();
  } finally {
    way.backToRoot();
  }
}

/** One step: a descriptor, or where a link leads. Undefined if nothing is there. */
function take(
  directory: number,
  name: string,
  followsLinks: boolean,
  makesDirectories: number | undefined,
): number | { target: string } | undefined {
  const at = nameIn(directory, name);
  // each time round it has become something else meanwhile
  for (let tries = 0; tries < MAX_LINKS; tries++) {
    const fd = unlessAbsent(() => openSync(at, O_PATH | O_NOFOLLOW));
    if (fd === undefined) {
      if (makesDirectories === undefined) return undefined;
      make(at, makesDirectories);
      continue;
    }
    if (!followsLinks || !fstatSync(fd).isSymbolicLink()) return fd;
    closeSync(fd);
    const target = unlessAbsent(() => readlinkSync(at, 'latin1'));
    if (target !== undefined) return { target };
  }
  return undefined;
}

function make(at: string | Buffer, mode: number): void {
  try {
    mkdirSync(at, mode);
  } catch (cause) {
    if (codeOf(cause) !== 'EEXIST') throw cause;
  }
}

/** `EINVAL` is what was a link and is none any more. */
function unlessAbsent<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (cause) {
    if (isAbsence(cause) || codeOf(cause) === 'EINVAL' || codeOf(cause) === 'ENAMETOOLONG') return undefined;
    throw cause;
  }
}

/** A path that goes on where nothing is any more, by its letters alone. */
function rest(path: string, names: readonly string[]): string {
  const parts = path.split('/').filter(isName);
  for (const name of names) {
    if (name === '..') parts.pop();
    else parts.push(name);
  }
  return `/${parts.join('/')}`;
}

function isName(part: string): boolean {
  return part !== '' && part !== '.';
}

function tooDeep(): NodeJS.ErrnoException {
  return Object.assign(new Error('ENAMETOOLONG: the path is too deep'), { code: 'ENAMETOOLONG' });
}
