import { type BigIntStats, closeSync, constants, lstatSync, openSync, readdirSync } from 'node:fs';
import { codeOf } from '../errors.ts';
import { isAbsence } from '../host/files.ts';
import { nameIn } from '../host/inside.ts';
import { getXattr } from '../host/kernel.ts';
import { nameOf } from '../lib/byte-names.ts';
import { EngineStubs } from './engine-stubs.ts';
import { isWhiteout, LowerView } from './lower-view.ts';

const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = constants;

/** As the API numbers them. */
export const changeKinds = { modified: 0, added: 1, deleted: 2 } as const;

export type ChangeKind = (typeof changeKinds)[keyof typeof changeKinds];

/** What is different in a container. */
export interface Change {
  readonly path: string;
  readonly kind: ChangeKind;
}

type Tell = (kind: ChangeKind, path: string) => void;

/**
 * Tells what is different in the upper directory of an overlay, in the order of paths, without what the engine put there: a
 * directory is modified if its owner or mode is another, or anything in it. Paths are byte strings. `lower`: the
 * image's layers, topmost first.
 */
export function tellChanges(o: { upper: string; lower: readonly string[] }, tell: Tell): void {
  const walk = new Walk(new EngineStubs(o.lower), tell);
  const fd = orAbsent(() => openSync(o.upper, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (fd === undefined) return; // it was never mounted
  try {
    walk.inside(fd, '', new LowerView(o.lower.map(nameOf)), () => {});
  } finally {
    closeSync(fd);
  }
}

class Walk {
  readonly #stubs: EngineStubs;
  readonly #tell: Tell;

  constructor(stubs: EngineStubs, tell: Tell) {
    this.#stubs = stubs;
    this.#tell = tell;
  }

  /** `touch` is called before the first thing that is told of what is in the directory. */
  inside(fd: number, directory: string, lower: LowerView, touch: () => void): void {
    const own = readdirSync(`/proc/self/fd/${fd}`, 'latin1');
    // an opaque directory hides all that the image has there
    const isOpaque = getXattr(`/proc/self/fd/${fd}/.`, 'trusted.overlay.opaque')?.toString() === 'y';
    const names = isOpaque ? [...new Set([...own, ...lower.names()])] : own;
    for (const name of names.sort((a, b) => (a < b ? -1 : 1))) {
      const at = nameIn(fd, name);
      const found = orAbsent(() => lstatSync(at, { bigint: true }));
      const path = `${directory}/${name}`;
      if (found === undefined) {
        if (!isOpaque || lower.look(name) === undefined) continue; // it has just gone
        touch();
        this.#tell(changeKinds.deleted, path);
      } else if (!this.#stubs.has(path.slice(1), at, found))
        this.#one(at, path, found, { name, lower, touch });
    }
  }

  #one(
    at: string | Buffer,
    path: string,
    found: BigIntStats,
    { name, lower, touch }: { name: string; lower: LowerView; touch: () => void },
  ): void {
    const before = lower.look(name);
    let isTold = false;
    const tell = (kind: ChangeKind) => {
      if (isTold) return;
      isTold = true;
      touch();
      this.#tell(kind, path);
    };
    if (isWhiteout(found)) {
      if (before !== undefined) tell(changeKinds.deleted);
      return;
    }
    if (before === undefined) tell(changeKinds.added);
    else if (!found.isDirectory() || !isSame(found, before)) tell(changeKinds.modified);
    if (!found.isDirectory()) return;
    const fd = orAbsent(() => openSync(at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    if (fd === undefined) return;
    try {
      this.inside(fd, path, lower.enter(name), () => tell(changeKinds.modified));
    } finally {
      closeSync(fd);
    }
  }
}

function isSame(a: BigIntStats, b: BigIntStats): boolean {
  return a.mode === b.mode && a.uid === b.uid && a.gid === b.gid;
}

/** Undefined for what went away, or became something else, since it was listed. */
function orAbsent<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (cause) {
    if (isAbsence(cause) || codeOf(cause) === 'ELOOP') return undefined;
    throw cause;
  }
}
