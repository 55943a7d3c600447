import assert from 'node:assert/strict';
import { closeSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openBelow } from '../../../src/host/open-below.ts';

test('a place below a directory is opened, and never through a link', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'skerry-below-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  await mkdir(join(root, 'a/b'), { recursive: true });
  await writeFile(join(root, 'a/b/f'), 'found');
  await symlink('a', join(root, 'link'));
  await symlink('f', join(root, 'a/b/last'));
  const before = (await readdir('/proc/self/fd')).length;
  const place = openBelow(root, './a//b/f');
  assert.equal(readFileSync(`/proc/self/fd/${place}`, 'utf8'), 'found');
  closeSync(place);
  const refused: [string, string][] = [
    ['link/b/f', 'ELOOP'],
    ['a/b/last', 'ELOOP'],
    ['a/../a', 'EXDEV'],
    ['a/nope/f', 'ENOENT'],
    ['a/b/f/g', 'ENOTDIR'],
  ];
  for (const [path, code] of refused) assert.throws(() => openBelow(root, path), { code }, path);
  assert.equal((await readdir('/proc/self/fd')).length, before);
});
