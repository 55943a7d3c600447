import { closeSync, fstatSync } from 'node:fs';
import { mkdir, readdir, realpath, rm, stat, writeFile } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { codeOf, fail, messageOf } from '../errors.ts';
import { isAbsence } from '../host/files.ts';
import { MS, mount } from '../host/kernel.ts';
import { reasonOf } from '../host/libc.ts';
import { unmountAll } from '../host/mounts.ts';
import { openBelow } from '../host/open-below.ts';

/**
 * Places within volumes that containers have mounted (`VolumeOptions.Subpath`). Whoever else writes to the volume may
 * put a link there at any moment: so the place is opened once, link by link refused, and the runtime is given a mount
 * of what was opened, which nobody can exchange. It is needed only until the container is made.
 */
export class Subpaths {
  readonly #root: string;

  constructor(execRoot: string) {
    this.#root = join(execRoot, 'subpaths');
  }

  /** A mount of `base/subpath`. Throws 404 if that is not there, 400 if it leads out of `base`. */
  async mount(id: string, base: string, subpath: string): Promise<string> {
    const opened = await openSubpath(base, subpath);
    try {
      const directory = join(this.#root, id);
      await mkdir(directory, { recursive: true, mode: 0o700 });
      const target = join(directory, String((await readdir(directory)).length));
      if (fstatSync(opened).isDirectory()) await mkdir(target);
      else await writeFile(target, '');
      mount(`/proc/self/fd/${opened}`, target, { flags: MS.BIND });
      return target;
    } finally {
      closeSync(opened);
    }
  }

  /** Absent is fine. */
  async remove(id: string): Promise<void> {
    const directory = join(this.#root, id);
    const isThere = await stat(directory).then(
      () => true,
      () => false,
    );
    if (!isThere) return; // most containers have none: the list of all mounts need not be read
    await unmountAll(directory);
    await rm(directory, { recursive: true, force: true });
  }

  /** Boot: no container is being made. */
  async recover(): Promise<void> {
    try {
      for (const id of await readdir(this.#root)) await this.remove(id);
    } catch (cause) {
      if (!isAbsence(cause)) throw cause;
    }
  }
}

/** A descriptor that stands for `base/subpath`, whose links may lead anywhere in `base`. The caller closes it. */
export async function openSubpath(base: string, subpath: string): Promise<number> {
  const wanted = join(base, subpath);
  const inaccessible = (path: string, cause: unknown) =>
    fail.noSuchSubpath(`cannot access path ${path}: ${reasonOf(cause)}`, cause);
  let place: string;
  try {
    place = relative(await realpath(base), await realpath(wanted));
  } catch (cause) {
    throw isAbsence(cause)
      ? fail.noSuchSubpath(`cannot access path ${wanted}: lstat ${wanted}: ${reasonOf(cause)}`, cause)
      : fail.host(`error while resolving symlinks in combined path "${wanted}": ${messageOf(cause)}`, cause);
  }
  if (place === '..' || place.startsWith(`..${sep}`))
    throw fail.badRequest(
      `path concatenation escapes the base directory, base: ${base}, subpath: ${subpath}`,
    );
  try {
    return openBelow(base, place); // between then and now it may have changed
  } catch (cause) {
    if (['ENOENT', 'ELOOP', 'ENOTDIR'].includes(codeOf(cause) ?? '')) throw inaccessible(wanted, cause);
    throw cause;
  }
}
