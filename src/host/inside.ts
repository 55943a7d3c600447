import { lstat, readlink } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { codeOf } from '../errors.ts';

/** As many links as the kernel follows. */
const MAX_LINKS = 40;

/**
 * Where a path of a container leads below its root, every symbolic link taken as if `root` were `/`; undefined if
 * nothing is there. For trees that no process is changing: between this and the use nothing holds the links still.
 */
export async function pathInside(root: string, path: string): Promise<string | undefined> {
  const ahead = path.split('/').reverse();
  let links = 0;
  let here = '/';
  while (ahead.length > 0) {
    const name = ahead.pop() ?? '';
    if (name === '' || name === '.') continue;
    if (name === '..') {
      here = posix.dirname(here);
      continue;
    }
    const next = posix.join(here, name);
    try {
      const isLink = (await lstat(join(root, next))).isSymbolicLink();
      if (!isLink) {
        here = next;
        continue;
      }
      if (++links > MAX_LINKS) return undefined;
      const target = await readlink(join(root, next));
      if (target.startsWith('/')) here = '/';
      ahead.push(...target.split('/').reverse());
    } catch (cause) {
      if (['ENOENT', 'ENOTDIR'].includes(codeOf(cause) ?? '')) return undefined;
      throw cause;
    }
  }
  return join(root, here);
}
