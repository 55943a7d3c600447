import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { getXattr, MS, makeNode, mount, setXattr, unmount } from '../../../src/host/kernel.ts';
import { Layers } from '../../../src/layers/layers.ts';
import { TreeTar, type TreeTarJob } from '../../../src/layers/tree-tar.ts';
import { silentLog } from '../../../src/lib/log.ts';
import { sandboxFor, skip, treeOf } from './sandbox.ts';

const { S_IFBLK, S_IFCHR, S_IFIFO } = { S_IFBLK: 0o060000, S_IFCHR: 0o020000, S_IFIFO: 0o010000 };

function directoryFor(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'skerry-tree-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function pack(
  root: string,
  o: Partial<TreeTarJob> = {},
  onPiece: (count: number) => void = () => {},
): Buffer {
  const pieces: Buffer[] = [];
  TreeTar.pack({ root, kind: 'tree', ...o }, (bytes) => {
    pieces.push(Buffer.from(bytes));
    onPiece(pieces.length);
  });
  return Buffer.concat(pieces);
}

function namesIn(tar: Buffer): string[] {
  const names = execFileSync('tar', ['--list', '--quoting-style=escape'], { input: tar, encoding: 'utf8' });
  return names.split('\n').slice(0, -1);
}

/** Something of everything. */
function furnish(root: string): void {
  mkdirSync(join(root, 'd/e'), { recursive: true });
  chmodSync(join(root, 'd'), 0o1777);
  writeFileSync(join(root, 'd/file'), 'content');
  chownSync(join(root, 'd/file'), 1000, 3_000_000);
  chmodSync(join(root, 'd/file'), 0o6755);
  setXattr(join(root, 'd/file'), 'user.colour', Buffer.from('blue'));
  setXattr(join(root, 'd/file'), 'trusted.secret', Buffer.from('no'));
  writeFileSync(join(root, 'big'), Buffer.alloc(300_001, 'x'));
  setXattr(
    join(root, 'big'),
    'security.capability',
    Buffer.from('0000000200040000000000000000000000000000', 'hex'),
  );
  linkSync(join(root, 'big'), join(root, 'd/e/big'));
  writeFileSync(join(root, 'empty'), '');
  symlinkSync('../../etc/passwd', join(root, 'd/link'));
  makeNode(join(root, 'd/null'), S_IFCHR | 0o666, { major: 1, minor: 3 });
  makeNode(join(root, 'd/disk'), S_IFBLK | 0o660, { major: 259, minor: 1048575 });
  makeNode(join(root, 'd/fifo'), S_IFIFO | 0o600, { major: 0, minor: 0 });
  writeFileSync(Buffer.from(`${root}/d/\xff\xe9`, 'latin1'), 'not UTF-8');
  writeFileSync(join(root, 'd', 'n'.repeat(200)), 'long');
  utimesSync(join(root, 'empty'), 5, 1_000_000_000.25);
}

describe('a tree is packed', { skip }, () => {
  test('whole: unpacked as a layer it is the same tree', async (t) => {
    const root = directoryFor(t);
    furnish(root);
    const tar = pack(root);
    const sandbox = sandboxFor(t);
    await sandbox.unpack(tar);
    assert.deepEqual(sandbox.tree(), Object.fromEntries(treeOf(root)));
    const { ino, mtimeMs } = lstatSync(join(sandbox.diff, 'big'));
    assert.equal(lstatSync(join(sandbox.diff, 'd/e/big')).ino, ino);
    assert.equal(Math.round(mtimeMs), Math.round(lstatSync(join(root, 'big')).mtimeMs));
    assert.equal(lstatSync(join(sandbox.diff, 'empty')).mtimeMs, 1_000_000_000_250);
    for (const [file, name] of [
      ['big', 'security.capability'],
      ['d/file', 'user.colour'],
    ] as const)
      assert.deepEqual(getXattr(join(sandbox.diff, file), name), getXattr(join(root, file), name));
    assert.equal(getXattr(join(sandbox.diff, 'd/file'), 'trusted.secret'), undefined);
  });

  test('in the order of its names, and the same each time', (t) => {
    const root = directoryFor(t);
    furnish(root);
    const tar = pack(root);
    assert.deepEqual(pack(root), tar);
    assert.deepEqual(namesIn(tar), [
      'big',
      'd/',
      'd/disk',
      'd/e/',
      'd/e/big',
      'd/fifo',
      'd/file',
      'd/link',
      `d/${'n'.repeat(200)}`,
      'd/null',
      'd/\\377\\351',
      'empty',
    ]);
  });

  test('without sockets', async (t) => {
    const root = directoryFor(t);
    const server = createServer().listen(join(root, 'socket'));
    t.after(() => server.close());
    await new Promise((resolve) => server.once('listening', resolve));
    assert.deepEqual(namesIn(pack(root)), []);
  });

  test('without what is mounted in it', (t) => {
    const root = directoryFor(t);
    mkdirSync(join(root, 'm'));
    mount('tmpfs', join(root, 'm'), { type: 'tmpfs', flags: MS.NODEV });
    try {
      writeFileSync(join(root, 'm/inside'), '');
      assert.deepEqual(namesIn(pack(root)), ['m/']);
    } finally {
      unmount(join(root, 'm'));
    }
  });

  test('holes of a sparse file read as zeros', (t) => {
    const root = directoryFor(t);
    writeFileSync(join(root, 'sparse'), 'a');
    truncateSync(join(root, 'sparse'), 1_000_000);
    const content = execFileSync('tar', ['-xO'], { input: pack(root), maxBuffer: 2 << 20 });
    assert.deepEqual(content, Buffer.concat([Buffer.from('a'), Buffer.alloc(999_999)]));
  });
});

describe('a tree that changes while it is packed', { skip }, () => {
  test('a file that shrinks is filled up, one that grows is cut', (t) => {
    for (const change of [
      (file: string) => truncateSync(file, 10),
      (file: string) => appendFileSync(file, Buffer.alloc(500_000, 'y')),
    ]) {
      const root = directoryFor(t);
      writeFileSync(join(root, 'a'), Buffer.alloc(400_000, 'x'));
      writeFileSync(join(root, 'b'), 'next');
      const tar = pack(root, {}, (count) => count === 2 && change(join(root, 'a')));
      assert.deepEqual(namesIn(tar), ['a', 'b']);
      const content = execFileSync('tar', ['-xO'], { input: tar, maxBuffer: 2 << 20 });
      assert.equal(content.length, 400_004);
    }
  });

  test('what went away is left out, and other names of it stay good', (t) => {
    const root = directoryFor(t);
    for (const name of ['a', 'b', 'c']) writeFileSync(join(root, name), name);
    mkdirSync(join(root, 'd'));
    linkSync(join(root, 'b'), join(root, 'e'));
    const tar = pack(root, {}, (count) => {
      if (count !== 1) return;
      rmSync(join(root, 'b'));
      rmSync(join(root, 'd'), { recursive: true });
    });
    assert.deepEqual(namesIn(tar), ['a', 'c', 'e']);
    assert.equal(String(execFileSync('tar', ['-xO', 'e'], { input: tar })), 'b');
  });

  test('a link or a device that takes a place is never followed or opened', (t) => {
    const outside = directoryFor(t);
    writeFileSync(join(outside, 'secret'), 'secret');
    const root = directoryFor(t);
    writeFileSync(join(root, 'a'), Buffer.alloc(200_000));
    mkdirSync(join(root, 'b'));
    writeFileSync(join(root, 'b/secret'), 'mine');
    writeFileSync(join(root, 'c'), 'mine');
    const tar = pack(root, {}, (count) => {
      if (count !== 1) return;
      renameSync(join(root, 'b'), join(root, '.b'));
      symlinkSync(outside, join(root, 'b'));
      rmSync(join(root, 'c'));
      symlinkSync(join(outside, 'secret'), join(root, 'c'));
    });
    assert.ok(!tar.includes('secret\0secret') && !namesIn(tar).includes('b/secret'));
    assert.deepEqual(
      treeOfTar(tar)
        .filter(([, type]) => type === 'l')
        .map(([name]) => name),
      ['b', 'c'],
    );
  });
});

function treeOfTar(tar: Buffer): [name: string, type: string][] {
  const lines = execFileSync('tar', ['-tv'], { input: tar, encoding: 'utf8' }).trimEnd().split('\n');
  return lines.map((line) => [line.split(/ +/)[5] ?? '', line[0] ?? '']);
}

describe('the changes of an overlay are packed', { skip }, () => {
  test('deletions and opaque directories in the words of layers, and back', async (t) => {
    const upper = directoryFor(t);
    makeNode(join(upper, 'gone'), S_IFCHR, { major: 0, minor: 0 });
    linkSync(join(upper, 'gone'), join(upper, 'gone too'));
    mkdirSync(join(upper, 'new'), { mode: 0o700 });
    setXattr(join(upper, 'new'), 'trusted.overlay.opaque', Buffer.from('y'));
    setXattr(join(upper, 'new'), 'trusted.overlay.origin', Buffer.from('x'));
    writeFileSync(join(upper, 'new/file'), 'x');
    const tar = pack(upper, { kind: 'diff' });
    assert.deepEqual(namesIn(tar), ['.wh.gone', '.wh.gone too', 'new/', 'new/.wh..wh..opq', 'new/file']);
    const sandbox = sandboxFor(t);
    await sandbox.unpack(tar);
    assert.deepEqual(
      Object.fromEntries(Object.entries(sandbox.tree()).map(([path, facts]) => [path, facts.split(' ')[0]])),
      { gone: 'char', 'gone too': 'char', new: 'dir', 'new/file': 'file' },
    );
    assert.equal(getXattr(join(sandbox.diff, 'new'), 'trusted.overlay.opaque')?.toString(), 'y');
    assert.equal(getXattr(join(sandbox.diff, 'new'), 'trusted.overlay.origin'), undefined);
  });

  test('without the places that the engine mounts things on', (t) => {
    const [upper, lower] = [directoryFor(t), directoryFor(t)];
    for (const name of ['dev', 'proc', 'sys', 'etc']) mkdirSync(join(upper, name), { mode: 0o755 });
    for (const name of ['.dockerenv', 'etc/hosts', 'etc/hostname', 'etc/resolv.conf'])
      writeFileSync(join(upper, name), '');
    symlinkSync('/proc/mounts', join(upper, 'etc/mtab'));
    assert.deepEqual(pack(upper, { kind: 'diff' }), Buffer.alloc(1024));
    // an image with an /etc of its own, whose mode the container kept
    mkdirSync(join(lower, 'etc'));
    chmodSync(join(lower, 'etc'), 0o711);
    chmodSync(join(upper, 'etc'), 0o711);
    assert.deepEqual(pack(upper, { kind: 'diff', lower: [lower] }), Buffer.alloc(1024));
    chmodSync(join(upper, 'etc'), 0o700);
    assert.deepEqual(namesIn(pack(upper, { kind: 'diff', lower: [lower] })), ['etc/']);
    writeFileSync(join(upper, 'etc/passwd'), 'root');
    writeFileSync(join(upper, 'proc/x'), '');
    assert.deepEqual(namesIn(pack(upper, { kind: 'diff' })), ['etc/', 'etc/passwd', 'proc/', 'proc/x']);
    unlinkSync(join(upper, 'etc/mtab'));
    symlinkSync('/proc/self/mounts', join(upper, 'etc/mtab'));
    assert.ok(
      namesIn(pack(upper, { kind: 'diff' })).includes('etc/mtab'),
      'the container has made it its own',
    );
  });
});

describe('a child packs', { skip }, () => {
  const childPath = fileURLToPath(new URL('../../../src/layers/extract-layer.ts', import.meta.url));
  const open = (dataRoot: string) => Layers.open({ dataRoot, childPath, parallel: 1, log: silentLog });
  const childrenOf = () =>
    execFileSync('ps', ['-o', 'args=', '--ppid', String(process.pid)], { encoding: 'utf8' }).match(
      /pack-tree/g,
    );

  test('the same tar, and a container’s changes over its layers', async (t) => {
    const layers = await open(directoryFor(t));
    const root = directoryFor(t);
    furnish(root);
    assert.ok((await buffer(layers.packTree(root, { signal: t.signal }))).equals(pack(root)));
    mkdirSync(join(root, 'upper/etc'), { recursive: true, mode: 0o755 });
    const never = layers.packChanges({ dirIds: [], containerDir: join(root, 'no') }, { signal: t.signal });
    assert.ok((await buffer(never)).equals(Buffer.alloc(1024)));
    const empty = await buffer(
      layers.packChanges({ dirIds: ['x'], containerDir: root }, { signal: t.signal }),
    );
    assert.ok(empty.equals(Buffer.alloc(1024)));
  });

  test('or fails, with the stream not ended', async (t) => {
    const layers = await open(directoryFor(t));
    const gone = layers.packTree(join(directoryFor(t), 'no'), { signal: t.signal });
    await assert.rejects(buffer(gone), { code: 'HOST', message: /^cannot pack \/: ENOENT/ });
  });

  test('and is gone once nobody reads on', async (t) => {
    const layers = await open(directoryFor(t));
    const root = directoryFor(t);
    writeFileSync(join(root, 'big'), '');
    truncateSync(join(root, 'big'), 2 ** 33);
    const closed = async (stream: Readable) =>
      stream.closed || (await new Promise((resolve) => stream.on('error', () => {}).once('close', resolve)));
    const left = layers.packTree(root, { signal: t.signal });
    for await (const _ of left) break;
    await closed(left);
    assert.equal(childrenOf(), null);
    const [abort, reason] = [new AbortController(), new Error('enough')];
    const aborted = layers.packTree(root, { signal: abort.signal });
    const read = pipeline(aborted, async (pieces) => {
      for await (const _ of pieces) abort.abort(reason);
    });
    await assert.rejects(read, reason);
    await closed(aborted);
    assert.equal(childrenOf(), null);
  });
});

test('any tree comes back from its tar', { skip }, async (t) => {
  const step = fc.record({
    kind: fc.constantFrom('file', 'dir', 'link', 'hard', 'fifo', 'node'),
    at: fc.array(fc.constantFrom('a', 'b', 'é', 'c d'), { minLength: 1, maxLength: 3 }),
    to: fc.constantFrom('a', 'b', 'é', '/', '../x'),
    mode: fc.nat(0o7777),
    owner: fc.nat(70_000),
    content: fc.uint8Array({ maxLength: 1500 }),
  });
  const runs = process.env['SKERRY_SOAK'] ? 2000 : 60;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      const root = directoryFor(t);
      for (const one of steps) {
        const path = join(root, ...one.at);
        try {
          if (one.kind === 'dir') mkdirSync(path, { recursive: true });
          else if (one.kind === 'link') symlinkSync(one.to, path);
          else if (one.kind === 'hard') linkSync(join(root, one.to), path);
          else if (one.kind === 'fifo') makeNode(path, S_IFIFO, { major: 0, minor: 0 });
          else if (one.kind === 'node') makeNode(path, S_IFCHR, { major: 1, minor: one.owner });
          else writeFileSync(path, one.content, { flag: 'wx' });
          chownSync(path, one.owner, 0);
          chmodSync(path, one.mode);
        } catch {} // its place is taken, or its directory is missing
      }
      const sandbox = sandboxFor(t);
      await sandbox.unpack(pack(root), { pieceBytes: 700 });
      assert.deepEqual(sandbox.tree(), Object.fromEntries(treeOf(root)));
    }),
    { numRuns: runs },
  );
});
