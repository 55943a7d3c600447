import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Where a program is, by PATH: the tests' own tools stand first in it. Throws with what to do if it is nowhere. */
export function programPath(name: string): string {
  for (const directory of (process.env['PATH'] ?? '').split(':')) {
    const path = join(directory, name);
    if (directory !== '' && existsSync(path)) return path;
  }
  throw new Error(`${name} is missing: run scripts/setup.sh --test`);
}
