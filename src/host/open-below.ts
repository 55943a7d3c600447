import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { constants as system } from 'node:os';
import { O_PATH } from './kernel.ts';
import { systemError } from './libc.ts';

/**
 * A descriptor (O_PATH) of what is at a path below a directory, if not a link is on the way: each name is opened in the
 * directory before it, so nobody who moves things meanwhile can lead out. What openat2(2) does with RESOLVE_BENEATH and
 * RESOLVE_NO_SYMLINKS, on kernels that do not have it, too. The caller closes it; throws ELOOP for a link.
 */
export function openBelow(directory: string, path: string): number {
  const flags = O_PATH | constants.O_NOFOLLOW;
  let here = openSync(directory, flags | constants.O_DIRECTORY);
  for (const name of path.split('/')) {
    if (name === '' || name === '.') continue;
    try {
      if (name === '..') throw systemError(system.errno.EXDEV, 'open', path);
      const next = openSync(`/proc/self/fd/${here}/${name}`, flags);
      closeSync(here);
      here = next;
      if (fstatSync(here).isSymbolicLink()) throw systemError(system.errno.ELOOP, 'open', path);
    } catch (cause) {
      closeSync(here);
      throw cause;
    }
  }
  return here;
}
