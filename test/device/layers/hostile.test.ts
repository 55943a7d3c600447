import assert from 'node:assert/strict';
import { existsSync, lstatSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { Failure } from '../../../src/errors.ts';
import { removeTree } from '../../../src/host/files.ts';
import { getXattr } from '../../../src/host/kernel.ts';
import { archive, base256, member } from '../../support/tar-archive.ts';
import { type Case, DIR, dir, FILE, file, hard, link, run, WHITEOUT } from './hostile-cases.ts';
import { sandboxFor, skip } from './sandbox.ts';

const cases: Case[] = [
  {
    what: 'an absolute path stays inside',
    members: (outside) => [file(`${outside}/secret`)],
    tree: (inside) => ({ [`${inside}/secret`]: FILE }),
  },
  {
    what: '.. at the start stops at the root',
    members: () => [file('../../../../../../../../tmp/up')],
    tree: () => ({ 'tmp/up': FILE }),
  },
  {
    what: '.. in the middle stops at the root',
    members: () => [file('a/../../../b/./c'), dir('a/..')],
    tree: () => ({ 'b/c': FILE, a: null }),
  },
  {
    what: 'a parent that links to an absolute path outside is looked up inside',
    members: (outside) => [link('escape', outside), file('escape/secret'), file('escape/sub/new')],
    tree: (inside) => ({ [`${inside}/secret`]: FILE, [`${inside}/sub/new`]: FILE }),
  },
  {
    what: 'a parent that links upwards stops at the root',
    members: () => [link('d/up', '../../../outside'), file('d/up/secret')],
    tree: () => ({ 'outside/secret': FILE }),
  },
  {
    what: 'a link that was followed once is followed again further down',
    members: (outside) => [link('e', outside), dir('e/sub'), file('e/sub/secret'), dir('e/sub/deep/er')],
    tree: (inside) => ({ [`${inside}/sub/secret`]: FILE, [`${inside}/sub/deep/er`]: DIR }),
  },
  {
    what: 'links through links',
    members: (outside) => [link('one', 'two/sub'), link('two', outside), file('one/secret')],
    tree: (inside) => ({ [`${inside}/sub/secret`]: FILE }),
  },
  {
    what: 'a link as the last component is replaced, never written through',
    members: (outside) => [link('f', `${outside}/secret`), file('f')],
    tree: () => ({ f: FILE }),
  },
  {
    what: 'a directory over a link to a directory replaces the link',
    members: (outside) => [link('d', outside), dir('d', { mode: 0o700 }), file('d/secret')],
    tree: () => ({ d: 'dir 0700 0:0', 'd/secret': FILE }),
  },
  {
    what: 'a link in the place of a directory does not take its settings outside',
    members: (outside) => [
      dir('d', { mode: 0o777, uid: 7, mtime: 1 }),
      dir('d/sub', { mode: 0o777, uid: 7, mtime: 1 }),
      link('d', outside),
    ],
    tree: () => ({ d: 'link 0777 0:0 -> OUTSIDE', 'd/sub': null }),
  },
  {
    what: 'a link in the place of a parent, and then more in it',
    members: (outside) => [
      dir('d'),
      file('d/a'),
      link('d', outside),
      file('d/secret'),
      hard('h', 'd/secret'),
    ],
    tree: (inside) => ({ [`${inside}/secret`]: FILE, h: FILE, 'd/a': null }),
  },
  {
    what: 'a loop of links',
    members: () => [link('a', 'b'), link('b', 'a'), file('a/x')],
    refused: /too many symbolic links/,
  },
  {
    what: 'a link that was followed, and then became a directory',
    members: () => [link('l', 'x'), file('l/a'), dir('l'), file('l/b')],
    tree: () => ({ 'x/a': FILE, 'l/b': FILE, 'x/b': null }),
  },
  {
    what: 'settings of a directory that is gone do not come back with its name',
    members: () => [dir('p/d', { mode: 0o700, uid: 3 }), file('p'), dir('p'), file('p/d/x')],
    tree: () => ({ 'p/d': DIR }),
  },
  {
    what: "a hard link's new owner does not cost the file its mode",
    members: () => [file('f', 'x', { mode: 0o4755, uid: 1 }), { ...hard('h', 'f'), mode: 0o4755, uid: 2 }],
    tree: () => ({ h: 'file 4755 2:0 "x"' }),
  },
  {
    what: 'a hard link to an absolute path outside',
    members: (outside) => [hard('h', `${outside}/secret`)],
    refused: /invalid hard link/,
  },
  {
    what: 'a hard link with ..',
    members: () => [hard('h', '../../outside/secret')],
    refused: /invalid hard link/,
  },
  {
    what: 'a hard link through a link that leads outside',
    members: (outside) => [link('e', outside), hard('h', 'e/secret')],
    refused: /invalid hard link/,
  },
  {
    what: 'a hard link whose own place leads outside',
    members: (outside) => [file('a'), link('e', outside), hard('e/h', 'a')],
    tree: (inside) => ({ [`${inside}/h`]: FILE }),
  },
  {
    what: 'a hard link to a link does not follow it',
    members: (outside) => [link('l', `${outside}/secret`), { ...hard('h', 'l'), mode: 0o777, uid: 5 }],
    tree: () => ({ h: 'link 0777 5:0 -> OUTSIDE/secret' }),
  },
  {
    what: 'a hard link to a directory',
    members: () => [dir('d'), hard('h', 'd')],
    refused: /invalid hard link/,
  },
  { what: 'a hard link to the root', members: () => [hard('h', '/')], refused: /invalid hard link/ },
  { what: 'a hard link to nothing', members: () => [hard('h', 'none')], refused: /invalid hard link/ },
  {
    what: 'a hard link to itself',
    members: () => [file('a'), hard('a', './a')],
    refused: /invalid hard link/,
  },
  {
    what: 'a hard link that replaces the directory of its target',
    members: () => [file('d/a'), hard('d', 'd/a')],
    refused: /ENOENT/,
  },
  {
    what: 'a file that has entries in it',
    members: () => [file('a'), file('a/b')],
    refused: /a is not a directory/,
  },
  {
    what: 'a file becomes a directory',
    members: () => [file('a', 'gone'), dir('a'), file('a/b')],
    tree: () => ({ a: DIR, 'a/b': FILE }),
  },
  {
    what: 'a directory becomes a file',
    members: () => [
      file('d/e/one', '1'),
      file('d/two', '2'),
      link('d/l', '/etc'),
      dir('d/e/empty'),
      file('d'),
    ],
    tree: () => ({ d: FILE, 'd/e': null }),
  },
  {
    what: 'a directory becomes a file becomes a directory',
    members: () => [
      dir('d', { mode: 0o700 }),
      file('d/a', 'old'),
      file('d', 'mid'),
      file('d/', 'end'),
      dir('d'),
      file('d/b'),
    ],
    tree: () => ({ d: DIR, 'd/a': null, 'd/b': FILE }),
  },
  {
    what: 'duplicates: the last one counts',
    members: () => [
      file('a', 'first', { mode: 0o600 }),
      file('b', 'between'),
      file('./a', 'second'),
      file('a', 'x'),
    ],
    tree: () => ({ a: FILE, b: 'file 0644 0:0 "between"' }),
  },
  {
    what: 'a duplicate does not reach a hard link of the first',
    members: () => [
      file('a', 'first'),
      hard('h', 'a'),
      file('a', 'second'),
      hard('h2', 'h'),
      file('h', 'third'),
    ],
    tree: () => ({ a: 'file 0644 0:0 "second"', h: 'file 0644 0:0 "third"', h2: 'file 0644 0:0 "first"' }),
  },
  {
    what: 'a directory listed twice merges, the last settings count',
    members: () => [dir('d', { mode: 0o700 }), file('d/a'), dir('d/', { mode: 0o711, uid: 9 }), file('d/b')],
    tree: () => ({ d: 'dir 0711 9:0', 'd/a': FILE, 'd/b': FILE }),
  },
  {
    what: 'the root keeps its settings',
    members: () => [
      dir('./', { mode: 0o777, uid: 5 }),
      dir('/', { mode: 0 }),
      file('.', 'odd'),
      link('/', 'x'),
      file('a'),
    ],
    tree: () => ({ a: FILE }),
  },
  {
    what: 'whiteouts and opaque directories',
    members: () => [
      file('.wh.gone', ''),
      file('d/.wh.gone', 'content'),
      file('d/.wh..wh..opq', ''),
      dir('.wh.folder/'),
    ],
    tree: () => ({
      gone: WHITEOUT,
      'd/gone': WHITEOUT,
      d: `${DIR} opaque`,
      folder: WHITEOUT,
      '.wh.gone': null,
    }),
  },
  {
    what: 'an opaque root',
    members: () => [file('.wh..wh..opq', '')],
    tree: () => ({ '.': `${DIR} opaque` }),
  },
  {
    what: "aufs's bookkeeping is passed over",
    members: () => [
      dir('.wh..wh.plnk'),
      file('.wh..wh.plnk/12.34', 'content'),
      file('.wh..wh.aufs'),
      file('.wh..wh.plnk/.wh..wh..opq'),
    ],
    tree: () => ({ '.wh..wh.plnk': null, '.wh..wh.aufs': null, '.wh.plnk': null }),
  },
  { what: 'a whiteout of nothing', members: () => [file('.wh.')], refused: /invalid whiteout/ },
  { what: 'a whiteout of .', members: () => [file('d/.wh..')], refused: /invalid whiteout/ },
  { what: 'a whiteout of ..', members: () => [file('d/.wh...')], refused: /invalid whiteout/ },
  {
    what: 'a whiteout of a name with a dot, of a whiteout, of a name in another alphabet',
    members: () => [file('.wh.....'), file('.wh..wh'), file('.wh.x.wh.'), file('.wh.ü')],
    tree: () => ({ '....': WHITEOUT, '.wh': WHITEOUT, 'x.wh.': WHITEOUT, 'Ã¼': WHITEOUT }),
  },
  {
    what: 'a whiteout through a link that leads outside',
    members: (outside) => [link('e', outside), file('e/.wh.secret'), file('e/.wh..wh..opq')],
    tree: (inside) => ({ [`${inside}/secret`]: WHITEOUT, [inside]: `${DIR} opaque` }),
  },
  {
    what: 'a whiteout of what the same layer has hides only what is below',
    members: () => [
      file('f'),
      file('.wh.f'),
      dir('d'),
      file('d/a'),
      file('.wh.d'),
      link('l', 'x'),
      file('.wh.l'),
    ],
    tree: () => ({ f: FILE, d: `${DIR} opaque`, 'd/a': FILE, l: 'link 0777 0:0 -> x' }),
  },
  {
    what: 'what follows its own whiteout',
    members: () => [file('.wh.f'), file('f'), file('.wh.d'), dir('d'), file('.wh.p'), file('p/child')],
    tree: () => ({ f: FILE, d: `${DIR} opaque`, p: `${DIR} opaque`, 'p/child': FILE }),
  },
  {
    what: 'devices and fifos are made, and are not opened',
    members: () => [
      { name: 'null', type: '3', major: 1, minor: 3, mode: 0o666 },
      { name: 'loop', type: '4', major: 7, minor: 300, mode: 0o660, gid: 6 },
      { name: 'pipe', type: '6', mode: 0o4622, uid: 3 },
      file('null', 'x'),
      { ...hard('loop2', 'loop'), mode: 0o660, gid: 6 },
    ],
    tree: () => ({
      null: FILE,
      loop: 'block 0660 0:6 4103,44',
      loop2: 'block 0660 0:6 4103,44',
      pipe: 'fifo 4622 3:0',
    }),
  },
  {
    what: 'a file that claims more than there is',
    members: () => [Buffer.concat([member(file('a', 'short', { size: 1 << 20 }))])],
    refused: /cut inside a/,
  },
  {
    what: 'a file that claims less than there is',
    members: () => [file('a', 'y'.repeat(2000), { size: 100 })],
    refused: /invalid tar/,
  },
  {
    what: 'a file larger than numbers go',
    members: () => [file('a', '', { size: base256(1n << 62n, 12) })],
    refused: /too large/,
  },
  {
    what: 'a negative size',
    members: () => [file('a', '', { size: base256(-512n, 12) })],
    refused: /out of range/,
  },
  {
    what: 'an owner that is none',
    members: () => [file('a', '', { uid: base256(0xffffffffn, 8) })],
    refused: /out of range/,
  },
  {
    what: 'a name with a NUL',
    members: () => [file('a', 'x', { pax: { path: '/etc\0/x' } })],
    refused: /NUL/,
  },
  {
    what: 'a link target with a NUL',
    members: () => [{ ...link('a', ''), pax: { linkpath: 'a\0b' } }],
    refused: /NUL/,
  },
  { what: 'an empty link target', members: () => [link('a', '')], refused: /ENOENT/ },
  {
    what: 'a component that is too long',
    members: () => [file('a', 'x', { pax: { path: 'n'.repeat(256) } })],
    refused: /ENAMETOOLONG/,
  },
  {
    what: 'a path that is too long',
    members: () => [file('a', 'x', { pax: { path: 'deep/'.repeat(900) } })],
    refused: /too long/,
  },
  {
    what: 'a path that links make too long',
    members: () => [
      { ...link('l', ''), pax: { linkpath: 'deep/'.repeat(700) } },
      { name: 'x', pax: { path: `l/${'more/'.repeat(100)}f` } },
    ],
    refused: /too long/,
  },
  {
    what: 'overlayfs cannot be steered by attributes',
    members: (outside) => [
      dir('d', {
        pax: { 'SCHILY.xattr.trusted.overlay.redirect': outside, 'SCHILY.xattr.trusted.overlay.opaque': 'y' },
      }),
      file('f', 'x', { pax: { 'SCHILY.xattr.trusted.overlay.metacopy': '' } }),
    ],
    tree: () => ({ d: DIR, f: FILE }),
  },
];

describe('hostile layers', { skip }, () => {
  for (const one of cases) {
    test(one.what, async (t) => {
      await run(sandboxFor(t), one);
    });
  }

  test('names as deep as the kernel allows, and their removal', async (t) => {
    const sandbox = sandboxFor(t);
    const deep = file('a', 'x', { pax: { path: `${'d/'.repeat(1919)}f` } });
    await sandbox.unpack(archive([deep]));
    await sandboxFor(t).unpack(archive([deep, file('d')]));
    await removeTree(sandbox.path);
    assert.equal(existsSync(sandbox.path), false);
  });

  test('names that are not UTF-8', async (t) => {
    const sandbox = sandboxFor(t);
    const name = Buffer.from('caf\xe9/\xff\xfe', 'latin1');
    const target = Buffer.from('\xfe\xff', 'latin1');
    await sandbox.unpack(
      archive([
        { name, content: 'x' },
        { name: Buffer.from('l\xe9', 'latin1'), type: '2', linkName: Buffer.from('caf\xe9', 'latin1') },
        { name: Buffer.from('l\xe9/in', 'latin1'), content: 'x' },
        { name: Buffer.from('hard\xe9', 'latin1'), type: '1', linkName: name },
        { name: 'dangling', type: '2', linkName: target },
        { name, content: 'y' },
      ]),
    );
    const tree = sandbox.tree();
    assert.equal(tree['caf\xe9/\xff\xfe'], 'file 0644 0:0 "y"');
    assert.equal(tree['caf\xe9/in'], FILE);
    assert.equal(tree['hard\xe9'], FILE);
    assert.equal(tree['dangling'], 'link 0777 0:0 -> \xfe\xff');
  });

  test('a bomb stops at the size that was agreed', async (t) => {
    const sandbox = sandboxFor(t);
    const tar = archive([file('zeros', '\0'.repeat(1 << 20))]);
    await assert.rejects(sandbox.unpack(tar, { maxBytes: 500_000 }), {
      code: 'LAYER_TOO_LARGE',
      message: /larger than 500000/,
    });
    assert.ok(lstatSync(join(sandbox.diff, 'zeros')).size <= 500_000);
    await sandboxFor(t).unpack(tar, { maxBytes: tar.length });
  });

  test('owner, mode, capabilities and times survive each other', async (t) => {
    const sandbox = sandboxFor(t);
    // VFS_CAP_REVISION_2 | effective, cap_net_raw
    const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
    const pax = {
      'SCHILY.xattr.security.capability': capability,
      mtime: '1234567890.123456789',
      atime: '1.5',
    };
    await sandbox.unpack(
      archive([
        file('ping', 'x', { mode: 0o6755, uid: 1000, gid: 2000, pax }),
        { ...hard('again', 'ping'), mode: 0o6755, uid: 1000, gid: 2000 },
        dir('d', { mode: 0o2775, gid: 50, mtime: 1_000_000_000, pax: { 'SCHILY.xattr.user.note': 'kept' } }),
        file('d/late', 'x', { mtime: base256(-100n, 12) }),
        dir('d/sticky', { mode: 0o1777, pax: { mtime: '1700000000.9999999999' } }),
      ]),
    );
    const at = (name: string) => join(sandbox.diff, name);
    assert.deepEqual(getXattr(at('ping'), 'security.capability'), capability);
    const tree = sandbox.tree();
    assert.equal(tree['ping'], 'file 6755 1000:2000 "x"');
    assert.equal(tree['d'], 'dir 2775 0:50');
    assert.equal(tree['d/late'], FILE, 'the group does not come from the directory');
    assert.equal(tree['d/sticky'], 'dir 1777 0:0');
    assert.equal(getXattr(at('d'), 'user.note')?.toString(), 'kept');
    assert.equal(lstatSync(at('d')).mtimeMs, 1_000_000_000_000, 'later entries do not show in it');
    assert.equal(lstatSync(at('d/late')).mtimeMs, 0, 'before 1970 is 1970, as in dockerd');
    assert.equal(Math.floor(lstatSync(at('d/sticky')).mtimeMs / 1000), 1_700_000_000);
    const ping = lstatSync(at('ping'));
    assert.equal(ping.nlink, 2);
    assert.equal(ping.mtimeMs, 1_700_000_000_000, "a hard link's header has the last word");
  });

  test('sub-second times', async (t) => {
    const sandbox = sandboxFor(t);
    await sandbox.unpack(
      archive([file('a', 'x', { pax: { mtime: '1234567890.123456789', atime: '1234567891.5' } })]),
    );
    const { mtimeMs, atimeMs } = lstatSync(join(sandbox.diff, 'a'));
    assert.ok(Math.abs(mtimeMs - 1_234_567_890_123.456) < 0.01, String(mtimeMs));
    assert.equal(atimeMs, 1_234_567_891_500);
  });

  test('attributes that have no place here are left out and counted', async (t) => {
    const pax = {
      'SCHILY.xattr.no.such.namespace': 'x',
      'SCHILY.xattr.trusted.overlay.origin': 'x',
      'SCHILY.xattr.user.ok': 'y',
    };
    const layer = await sandboxFor(t).unpack(
      archive([file('a', 'x', { pax }), { ...link('l', 'a'), pax: { 'SCHILY.xattr.user.x': 'x' } }]),
    );
    assert.equal(layer.ignoredXattrs, 3);
  });

  test('sizes count what is there in the end, each file once', async (t) => {
    const members = [
      file('a', '12345'),
      hard('b', 'a'),
      file('c', '123'),
      file('c', '1'),
      file('d/e', '1234'),
      file('l', '12'),
      hard('m', 'l'),
      file('l', '1'),
      link('d', 'target'),
      link('d', 'x'),
    ];
    const layer = await sandboxFor(t).unpack(archive(members));
    assert.equal(layer.sizeBytes, 10);
  });

  test('a sparse file of any size is no more than a size', async (t) => {
    const sandbox = sandboxFor(t);
    const pax = { 'GNU.sparse.map': '0,0', 'GNU.sparse.size': String(Number.MAX_SAFE_INTEGER) };
    try {
      const { sizeBytes } = await sandbox.unpack(archive([file('a', '', { pax })]));
      assert.equal(sizeBytes, Number.MAX_SAFE_INTEGER);
    } catch (cause) {
      assert.equal((cause as Failure).code, 'CORRUPT', 'most file systems have no room for the number');
    }
  });

  test('a larger file that was replaced is still part of the tar', async (t) => {
    const sandbox = sandboxFor(t);
    const big = Buffer.alloc(300_000, 'big').toString();
    await sandbox.unpack(
      archive([file('a', big), file('a', 'small'), file('d/b', big), file('d'), file('a', big)]),
    );
    assert.equal(readFileSync(join(sandbox.diff, 'a'), 'utf8'), big);
  });

  test('bytes after the end belong to the tar', async (t) => {
    await sandboxFor(t).unpack(
      archive([file('a')], Buffer.concat([Buffer.alloc(10_240), Buffer.from('and more')])),
    );
  });
});
