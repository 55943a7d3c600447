import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openFileInside, openInside, pathInside, realPathInside } from '../../../src/host/inside.ts';

/** A directory that is taken for a container's root, and one beside it that must never be reached. */
async function places(t: TestContext): Promise<{ root: string; fd: number; outside: string }> {
  const directory = await mkdtemp(join(tmpdir(), 'skerry-inside-'));
  const [root, outside] = [join(directory, 'root'), join(directory, 'outside')];
  for (const path of [root, outside]) {
    mkdirSync(path);
    writeFileSync(join(path, 'which'), path === root ? 'inside' : 'outside');
  }
  const fd = openSync(root, constants.O_RDONLY);
  t.after(async () => {
    closeSync(fd);
    await rm(directory, { recursive: true });
  });
  return { root, fd, outside };
}

test('links are followed as if the root were /', async (t) => {
  const { root, fd, outside } = await places(t);
  mkdirSync(join(root, 'a/b'), { recursive: true });
  const links: Record<string, string> = {
    up: '../../../../../which',
    absolute: '/a',
    out: outside,
    loop: 'loop',
    'a/b/back': '../..',
    dangling: 'a/nothing/../more',
    'a/self': '.',
  };
  for (const [name, target] of Object.entries(links)) symlinkSync(target, join(root, name));
  const ends: Record<string, string | undefined> = {
    '': '/',
    '/': '/',
    '/../..': '/',
    'a//b/.': '/a/b',
    up: '/which',
    'absolute/b': '/a/b',
    'a/self/self/b': '/a/b',
    'a/b/back/which': '/which',
    'a/b/back/a/b/back/absolute/../which': '/which',
    out: undefined,
    loop: undefined,
    dangling: undefined,
    'which/x': undefined,
    'a/none/..': undefined,
  };
  for (const [path, end] of Object.entries(ends)) {
    const place = openInside(fd, path, { followsLast: true });
    assert.equal(place?.path, end, path);
    place?.[Symbol.dispose]();
    assert.equal(await pathInside(root, path), end === undefined ? undefined : root + end, path);
  }
  using link = openInside(fd, 'absolute', { followsLast: false });
  assert.ok(link && fstatSync(link.fd).isSymbolicLink());
  assert.equal(realPathInside(fd, 'out'), outside);
  assert.equal(realPathInside(fd, 'absolute/x/../y'), '/a/y');
  using made = openInside(fd, 'out/new', { followsLast: true, makesDirectories: 0o700 });
  assert.equal(made?.path, `${outside}/new`);
  assert.ok(fstatSync(made?.fd ?? -1).isDirectory());
});

test('only regular files are opened', async (t) => {
  const { root } = await places(t);
  symlinkSync('/which', join(root, 'link'));
  const fd = openFileInside(root, '/link') ?? -1;
  assert.equal(readFileSync(fd, 'utf8'), 'inside');
  closeSync(fd);
  assert.equal(openFileInside(root, '/none'), undefined);
  assert.throws(() => openFileInside(root, '/'), { code: 'RUNTIME' });
});

test('nothing outside is reached while directories turn into links and back', async (t) => {
  const { root, fd, outside } = await places(t);
  mkdirSync(join(root, 'a/b'), { recursive: true });
  mkdirSync(join(root, 'a/c'));
  writeFileSync(join(root, 'a/b/which'), 'inside');
  mkdirSync(join(outside, 'b'));
  writeFileSync(join(outside, 'b/which'), 'outside');
  // a/b is a directory, a link to the directory beside the root, and one that climbs to it; so is a
  const script = `
    const { renameSync, symlinkSync, rmSync } = require('node:fs');
    process.chdir(process.argv[1]);
    const flip = (path, target) => {
      renameSync(path, 'aside');
      symlinkSync(target, path);
      rmSync(path);
      renameSync('aside', path);
    };
    for (;;) {
      flip('a/b', process.argv[2] + '/b');
      flip('a/b', '../../../outside/b');
      flip('a', process.argv[2]);
    }`;
  const flipper = spawn(process.execPath, ['-e', script, root, outside], { stdio: 'ignore' });
  t.after(() => flipper.kill('SIGKILL'));
  const seen = { found: 0, absent: 0 };
  for (let round = 0; round < 20_000 || seen.absent < 100 || seen.found < 100; round++) {
    assert.equal(flipper.exitCode, null);
    using place = openInside(fd, round % 2 ? 'a/b/which' : 'a/c/../b/which', { followsLast: true });
    if (place === undefined) seen.absent++;
    else {
      assert.equal(readFileSync(`/proc/self/fd/${place.fd}`, 'utf8'), 'inside');
      seen.found++;
    }
  }
});
