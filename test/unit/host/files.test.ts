import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  bytesUnder,
  readIfThere,
  removeTree,
  renameDurable,
  spaceOf,
  syncDirectory,
  writeDurable,
} from '../../../src/host/files.ts';

function place(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'skt-files-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

test('writeDurable replaces a file, sets its mode whatever the umask, and leaves nothing else', async (t) => {
  const directory = place(t);
  const path = join(directory, 'hosts');
  const before = process.umask(0o077);
  try {
    await writeDurable(path, 'old');
    assert.equal(statSync(path).mode & 0o7777, 0o600);
    await writeDurable(path, Buffer.from([1, 2, 255]), { mode: 0o644 });
  } finally {
    process.umask(before);
  }
  assert.equal(statSync(path).mode & 0o7777, 0o644);
  assert.deepEqual(readFileSync(path), Buffer.from([1, 2, 255]));
  assert.deepEqual(readdirSync(directory), ['hosts']);
});

test('writeDurable that cannot rename leaves the old thing and no temporary file', async (t) => {
  const directory = place(t);
  mkdirSync(join(directory, 'taken/full'), { recursive: true });
  await assert.rejects(writeDurable(join(directory, 'taken'), 'x'), { code: 'EISDIR' });
  assert.deepEqual(readdirSync(directory), ['taken']);
  await assert.rejects(writeDurable(join(directory, 'absent/file'), 'x'), { code: 'ENOENT' });
});

test('writers of one file at once: the last rename wins, whole', async (t) => {
  const directory = place(t);
  const path = join(directory, 'f');
  const texts = Array.from({ length: 20 }, (_, n) => `${n}`.repeat(5000));
  await Promise.all(texts.map((text) => writeDurable(path, text)));
  assert.ok(texts.includes(readFileSync(path, 'utf8')));
  assert.deepEqual(readdirSync(directory), ['f']);
});

/** The system calls, in order, that some code makes on files whose name has `skt-`. */
function trace(t: TestContext, code: string): string[] | undefined {
  const log = join(place(t), 'trace');
  const files = new URL('../../../src/host/files.ts', import.meta.url);
  const script = `const files = await import(${JSON.stringify(files)}); ${code}`;
  const strace = [
    '-f',
    '-y',
    '-o',
    log,
    '-e',
    'trace=write,pwrite64,fsync,fdatasync,rename,renameat,renameat2',
  ];
  const { status, error } = spawnSync('strace', [
    ...strace,
    process.execPath,
    '--input-type=module',
    '-e',
    script,
  ]);
  if (error !== undefined || status !== 0) return undefined;
  return readFileSync(log, 'utf8')
    .split('\n')
    .filter((line) => line.includes('skt-files-') && !line.includes('resumed'))
    .map((line) => line.replace(/^\d+\s+/, ''));
}

test('writeDurable: bytes, sync, rename, sync of the directory, in this order', (t) => {
  const directory = place(t);
  const calls = trace(t, `await files.writeDurable(${JSON.stringify(join(directory, 'f'))}, 'bytes')`);
  if (calls === undefined) return t.skip('strace is missing or not allowed');
  const names = calls.map((line) => /^\w+/.exec(line)?.[0]);
  assert.deepEqual(names, ['write', 'fsync', 'rename', 'fsync'], calls.join('\n'));
  assert.match(calls[1] ?? '', /\/\.f\./);
  assert.match(calls[3] ?? '', new RegExp(`${directory}>`));
});

test('renameDurable: the new directory is synced first, then the old one; one is enough if they are the same', (t) => {
  const directory = place(t);
  for (const at of ['a', 'b']) mkdirSync(join(directory, at));
  const path = (name: string) => JSON.stringify(join(directory, name));
  for (const name of ['a/f', 'a/g']) writeFileSync(join(directory, name), '');
  const calls = trace(
    t,
    `await files.renameDurable(${path('a/f')}, ${path('b/f')}); await files.renameDurable(${path('a/g')}, ${path('a/h')})`,
  );
  if (calls === undefined) return t.skip('strace is missing or not allowed');
  const seen = calls.map((line) => line.replace(/\(.*\/([ab])>.*/, ' $1').replace(/\(.*/, ''));
  assert.deepEqual(seen, ['rename', 'fsync b', 'fsync a', 'rename', 'fsync a'], calls.join('\n'));
});

test('renameDurable and syncDirectory throw what the system says', async (t) => {
  const directory = place(t);
  await assert.rejects(renameDurable(join(directory, 'a'), join(directory, 'b')), { code: 'ENOENT' });
  await assert.rejects(syncDirectory(join(directory, 'a')), { code: 'ENOENT' });
});

test('readIfThere: absence is undefined, other trouble is thrown', async (t) => {
  const directory = place(t);
  writeFileSync(join(directory, 'f'), 'text');
  assert.equal(String(await readIfThere(join(directory, 'f'))), 'text');
  assert.equal(await readIfThere(join(directory, 'g')), undefined);
  assert.equal(await readIfThere(join(directory, 'f/g')), undefined);
  await assert.rejects(readIfThere(directory), { code: 'EISDIR' });
});

test('removeTree: any modes and names, links not followed, absent is fine', async (t) => {
  const directory = place(t);
  const tree = join(directory, '-rf tree');
  mkdirSync(join(tree, 'a/b/c'), { recursive: true });
  writeFileSync(join(directory, 'kept'), 'kept');
  mkdirSync(join(directory, 'neighbour'));
  writeFileSync(join(directory, 'neighbour/kept'), 'kept');
  writeFileSync(join(tree, 'a/b/f'), '');
  writeFileSync(Buffer.concat([Buffer.from(`${tree}/`), Buffer.from([0xff, 0xfe])]), ''); // not UTF-8
  symlinkSync('../kept', join(tree, 'link'));
  symlinkSync('../neighbour', join(tree, 'directory-link'));
  chmodSync(join(tree, 'a/b'), 0o500);
  chmodSync(join(tree, 'a'), process.geteuid?.() === 0 ? 0o000 : 0o700);
  if (process.geteuid?.() !== 0) chmodSync(join(tree, 'a/b'), 0o700);
  await removeTree(tree);
  assert.equal(existsSync(tree), false);
  assert.equal(readFileSync(join(directory, 'kept'), 'utf8'), 'kept');
  assert.equal(readFileSync(join(directory, 'neighbour/kept'), 'utf8'), 'kept');
  await removeTree(tree);
  await removeTree(join(directory, 'kept/below'));
});

test('removeTree on a link removes the link, on a file the file', async (t) => {
  const directory = place(t);
  mkdirSync(join(directory, 'target'));
  symlinkSync('target', join(directory, 'link'));
  symlinkSync('/proc', join(directory, 'to-mount'));
  writeFileSync(join(directory, 'file'), '');
  for (const name of ['link', 'to-mount', 'file']) await removeTree(join(directory, name));
  assert.deepEqual(readdirSync(directory), ['target']);
});

test('removeTree: a tree deeper than any path can be written', async (t) => {
  const directory = place(t);
  const tree = join(directory, 'tree');
  mkdirSync(tree);
  const home = process.cwd();
  process.chdir(tree);
  try {
    for (let depth = 0; depth < 60; depth++) {
      writeFileSync('f', '');
      mkdirSync('d'.repeat(100));
      process.chdir('d'.repeat(100));
    }
  } finally {
    process.chdir(home);
  }
  await removeTree(tree);
  assert.equal(existsSync(tree), false);
});

test('removeTree refuses what something is mounted in, before it removes anything', async () => {
  await assert.rejects(removeTree('/proc'), {
    code: 'HOST',
    message: /cannot remove \/proc: .* is a mount point/,
  });
});

test('bytesUnder counts files once and directories not at all; absence is none', async (t) => {
  const directory = place(t);
  mkdirSync(join(directory, 'a/b'), { recursive: true });
  writeFileSync(join(directory, 'a/b/five'), 'five.');
  linkSync(join(directory, 'a/b/five'), join(directory, 'a/again'));
  writeFileSync(join(directory, 'three'), 'abc');
  symlinkSync('/etc', join(directory, 'link')); // 4 bytes, and not followed
  assert.equal(await bytesUnder(directory), 12);
  assert.equal(await bytesUnder(join(directory, 'nope')), 0);
});

test('spaceOf agrees with df', async (t) => {
  const directory = place(t);
  const space = await spaceOf(directory);
  const df = spawnSync('df', ['-B1', '--output=size,iavail', directory], { encoding: 'utf8' });
  if (df.status !== 0) return t.skip('no GNU df');
  const [size, inodes] = (df.stdout.split('\n')[1] ?? '').trim().split(/\s+/).map(Number);
  assert.equal(space.totalBytes, size);
  assert.ok(space.freeBytes > 0 && space.freeBytes < space.totalBytes);
  if (inodes !== 0) assert.ok(Math.abs(space.freeInodes - (inodes ?? 0)) < 10_000);
});
