import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { lstatSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { getXattr } from '../../../src/host/kernel.ts';
import { archive, base256, headerBlock, type Member, paxRecords } from '../../support/tar-archive.ts';
import { type Case, DIR, dir, FILE, file, hard, link, run, WHITEOUT } from './hostile-cases.ts';
import { Sandbox, sandboxFor, skip } from './sandbox.ts';

/** What the formats themselves can be made to say: long names, numbers, maps, records. A case a test. */
const gnu = (flag: 'L' | 'K', text: string): Member => ({
  name: '././@LongLink',
  type: flag,
  magic: 'gnu',
  content: `${text}\0`,
});
const sparse = (pax: Record<string, string>, content = 'x'.repeat(512)): Member =>
  file('s', content, { pax });
const v0 = (map: string, size: string, more: Record<string, string> = {}) =>
  sparse({ 'GNU.sparse.map': map, 'GNU.sparse.size': size, ...more });
const v1 = (map: string, size: string, content = ''): Member =>
  sparse(
    {
      'GNU.sparse.major': '1',
      'GNU.sparse.minor': '0',
      'GNU.sparse.name': 's',
      'GNU.sparse.realsize': size,
    },
    `${map}${'\0'.repeat((512 - (map.length % 512)) % 512)}${content}`,
  );
/** A pax header with these bytes, and a file after it. */
const records = (text: string) => [{ name: 'PaxHeaders/x', type: 'x', content: text } as Member, file('f')];

const cases: Case[] = [
  // long names
  {
    what: "GNU's long name leads outside",
    members: (outside) => [gnu('L', `../../../..${outside}/secret`), file('short')],
    tree: (inside) => ({ [`${inside}/secret`]: FILE, short: null }),
  },
  {
    what: "GNU's long link of a hard link leads outside",
    members: (outside) => [gnu('K', `${outside}/secret`), hard('h', 'short')],
    refused: /invalid hard link/,
  },
  {
    what: 'a pax path leads outside through a link that a pax linkpath made',
    members: (outside) => [
      { ...link('e', 'harmless'), pax: { linkpath: outside } },
      file('harmless2', 'x', { pax: { path: 'e/../e/sub/../secret' } }),
    ],
    // by its letters alone, as dockerd reads names
    tree: (inside) => ({ [`${inside}/secret`]: FILE }),
  },
  {
    what: 'a long name and nothing after it',
    members: () => [gnu('L', 'name')],
    tree: () => ({ name: null }),
  },
  {
    what: 'two long names: the last one counts',
    members: () => [gnu('L', 'one'), gnu('L', 'two'), file('short')],
    tree: () => ({ two: FILE, one: null, short: null }),
  },
  {
    what: 'an empty long name is the root',
    members: () => [gnu('L', ''), file('f')],
    tree: () => ({ f: null }),
  },
  {
    what: 'a long name of a megabyte and more',
    members: () => [{ ...gnu('L', ''), size: (1 << 20) + 1 }],
    refused: /too large/,
  },
  {
    what: 'a long name of a negative size',
    members: () => [{ ...gnu('L', ''), size: base256(-1n, 12) }],
    refused: /too large/,
  },
  {
    what: 'global headers name, own and size nothing',
    members: (outside) => [
      {
        name: 'g',
        type: 'g',
        content: paxRecords({ path: `${outside}/secret`, size: '4', uid: '7', linkpath: outside }),
      },
      file('f'),
      link('l', 'f'),
    ],
    tree: () => ({ f: FILE, l: 'link 0777 0:0 -> f' }),
  },
  // numbers
  ...(['uid', 'gid'] as const).map(
    (field): Case => ({
      what: `a negative ${field}`,
      members: () => [file('f', 'x', { [field]: base256(-1n, 8) })],
      refused: /out of range/,
    }),
  ),
  {
    what: 'the largest owner that there is',
    members: () => [file('f', 'x', { uid: base256(0xfffffffen, 8) })],
    tree: () => ({ f: 'file 0644 4294967294:0 "x"' }),
  },
  {
    what: 'an owner of more than 53 bits',
    members: () => [file('f', 'x', { uid: base256(1n << 54n, 8) })],
    refused: /too large|out of range/,
  },
  {
    what: 'a pax owner that is no number',
    members: () => [file('f', 'x', { pax: { uid: '0x10' } })],
    refused: /not decimal/,
  },
  {
    what: 'a pax size that is negative',
    members: () => [file('f', 'x', { pax: { size: '-1' } })],
    refused: /out of range/,
  },
  {
    what: 'a pax size beyond the archive',
    members: () => [file('f', 'x', { pax: { size: '8589934592' } })],
    refused: /cut inside f/,
  },
  {
    what: 'a device number beyond the kernel',
    members: () => [{ name: 'd', type: '3', major: 0o10000, minor: 0 }],
    refused: /device number/,
  },
  {
    what: 'digits that are not octal',
    members: () => [file('f', 'x', { patches: { 124: Buffer.from('00000000009\0') } })],
    refused: /not octal/,
  },
  {
    what: 'times beyond all calendars',
    members: () => [
      file('a', 'x', { mtime: base256(1n << 52n, 12) }),
      file('b', 'x', { mtime: base256(-(1n << 52n), 12) }),
      file('c', 'x', { pax: { mtime: '99999999999999.9', atime: '-5' } }),
    ],
    tree: () => ({ a: FILE, b: FILE, c: FILE }),
  },
  {
    what: 'a time that is none',
    members: () => [file('c', 'x', { pax: { mtime: 'NaN' } })],
    refused: /time is not decimal/,
  },
  // types
  {
    what: 'a type that nobody knows',
    members: () => [{ name: 'x', type: 'Z' }],
    refused: /unhandled tar header type/,
  },
  {
    what: 'links, directories and devices that claim content',
    members: () => [
      { ...link('l', 't'), size: 512 },
      { ...dir('d'), size: 1024 },
      { name: 'p', type: '6', size: 512 },
      file('f'),
    ],
    tree: () => ({ l: 'link 0777 0:0 -> t', d: DIR, f: FILE }),
  },
  {
    what: 'a whiteout written as a device, and things in it',
    members: () => [
      { name: 'w', type: '3', major: 0, minor: 0, mode: 0 },
      { name: 'd', type: '3', major: 0, minor: 0, mode: 0 },
      file('d/child'),
      { name: 'b', type: '4', major: 0, minor: 0, mode: 0o600 },
    ],
    tree: () => ({ w: WHITEOUT, d: `${DIR} opaque`, 'd/child': FILE, b: 'block 0600 0:0 0,0' }),
  },
  {
    what: 'whiteouts in the middle of a name are but names',
    members: () => [file('.wh.d/f'), file('.wh.../x'), file('a/.wh.b/.wh.c')],
    tree: () => ({ '.wh.d/f': FILE, '.wh.../x': FILE, 'a/.wh.b/c': WHITEOUT, d: null }),
  },
  {
    what: "aufs's words with a name behind them, deep down and as a directory",
    members: () => [file('.wh..wh.foo'), file('d/.wh..wh.foo/x'), dir('.wh..wh.orph')],
    tree: () => ({ '.wh..wh.foo': null, foo: null, d: null, '.wh..wh.orph': null }),
  },
  {
    what: 'a whiteout that is a link',
    members: (outside) => [link('.wh.f', outside)],
    tree: () => ({ f: WHITEOUT }),
  },
  {
    what: 'an opaque marker with a slash behind it, and one with content',
    members: () => [dir('d/.wh..wh..opq/'), file('e/.wh..wh..opq', 'content')],
    tree: () => ({ d: `${DIR} opaque`, e: `${DIR} opaque` }),
  },
  // sparse files
  {
    what: 'a sparse map that overlaps itself',
    members: () => [v0('0,256,128,256', '1000')],
    refused: /overlaps/,
  },
  { what: 'a sparse map that goes back', members: () => [v0('512,256,0,256', '1000')], refused: /overlaps/ },
  {
    what: 'a sparse map beyond the size',
    members: () => [v0('600,512', '1000')],
    refused: /leaves its file/,
  },
  {
    what: 'a sparse map of more than is stored',
    members: () => [v0('0,512,600,100', '1000')],
    refused: /does not match/,
  },
  {
    what: 'a sparse map of less than is stored',
    members: () => [v0('0,100', '1000')],
    refused: /does not match/,
  },
  {
    what: 'a sparse map of negative runs',
    members: () => [v0('0,-512', '1000')],
    refused: /leaves its file|overlaps/,
  },
  { what: 'a sparse map of odd length', members: () => [v0('0,512,600', '1000')], refused: /incomplete/ },
  {
    what: 'a sparse map that counts wrong',
    members: () => [v0('0,512', '1000', { 'GNU.sparse.numblocks': '2' })],
    refused: /not as long/,
  },
  { what: 'a sparse map of words', members: () => [v0('zero,512', '1000')], refused: /not decimal/ },
  { what: 'a sparse file of a negative size', members: () => [v0('0,512', '-1000')], refused: /negative/ },
  {
    what: 'the pairs of version 0.0 out of order',
    members: () => [
      ...records(
        paxRecords({
          'GNU.sparse.size': '1000',
          'GNU.sparse.numbytes': '512',
          'GNU.sparse.offset': '0',
        }).toString(),
      ),
    ],
    refused: /do not alternate/,
  },
  {
    what: 'a map of version 1.0 that is no text',
    members: () => [v1('\xff\xfe\n', '100')],
    refused: /not decimal/,
  },
  {
    what: 'a map of version 1.0 that never ends',
    members: () => [v1('99999\n0\n1\n', '100')],
    refused: /leaves its file/,
  },
  {
    what: 'a map of version 1.0 with a negative count',
    members: () => [v1('-1\n', '100')],
    refused: /incomplete/,
  },
  {
    what: 'a map of version 1.0 beyond the size',
    members: () => [v1('1\n4096\n512\n', '4000', 'y'.repeat(512))],
    refused: /leaves its file/,
  },
  {
    what: 'a sparse name that leads outside',
    members: (outside) => [
      sparse({
        'GNU.sparse.map': '0,512',
        'GNU.sparse.size': '512',
        'GNU.sparse.name': `../../..${outside}/secret`,
      }),
    ],
    tree: (inside) => ({ [`${inside}/secret`]: 'file 0644 0:0 512 bytes' }),
  },
  {
    what: 'a directory that is sparse',
    members: () => [{ ...dir('d'), pax: { 'GNU.sparse.map': '0,0', 'GNU.sparse.size': '1' } }],
    refused: /only files/,
  },
  // pax records
  ...Object.entries({
    'no length': 'path=x\n',
    'a length that is too long': '99 path=x\n',
    'a length of nothing': '0 path=x\n',
    'a length that ends in the key': '6 path=x\n',
    'no equals sign': '9 pathxxx\n',
    'no key': '5 =xx\n',
    'no newline': '9 path=xyz',
    'a negative length': '-9 path=x\n',
    'a length of many digits': '00000000011 path=x\n',
  }).map(
    ([what, text]): Case => ({
      what: `a pax record with ${what}`,
      members: () => records(text),
      refused: /pax record|not as long|malformed/,
    }),
  ),
  {
    what: 'a pax header of a megabyte and more',
    members: () => [headerBlock({ name: 'x', type: 'x', size: (1 << 20) + 1 })],
    refused: /too large/,
  },
  // attributes
  {
    what: "all of overlayfs's words",
    members: (outside) => [
      dir('d', {
        pax: Object.fromEntries(
          [
            'opaque',
            'redirect',
            'origin',
            'impure',
            'nlink',
            'upper',
            'metacopy',
            'protattr',
            'uuid',
            'verity',
          ].map((word) => [`SCHILY.xattr.trusted.overlay.${word}`, word === 'redirect' ? outside : 'y']),
        ),
      }),
    ],
    tree: () => ({ d: DIR }),
  },
  {
    what: 'an attribute with a name that is too long',
    members: () => [file('f', 'x', { pax: { [`SCHILY.xattr.user.${'n'.repeat(300)}`]: 'x' } })],
    refused: /ERANGE/,
  },
  {
    what: 'an attribute of more than the kernel takes',
    members: () => [file('f', 'x', { pax: { 'SCHILY.xattr.user.big': 'x'.repeat(70_000) } })],
    refused: /E2BIG/,
  },
  {
    what: 'a hard link that changes the owner takes the capabilities away, as the kernel has it',
    members: () => [
      file('f', 'x', {
        pax: {
          'SCHILY.xattr.security.capability': Buffer.from('0100000200200000000000000000000000000000', 'hex'),
        },
      }),
      { ...hard('h', 'f'), uid: 7 },
    ],
    tree: () => ({ f: 'file 0644 7:0 "x"' }),
  },
  {
    what: 'a capability that is none',
    members: () => [file('f', 'x', { pax: { 'SCHILY.xattr.security.capability': 'junk' } })],
    refused: /EINVAL/,
  },
];

describe('hostile formats', { skip }, () => {
  for (const one of cases) {
    test(one.what, async (t) => {
      await run(sandboxFor(t), one);
    });
  }

  test('an archive that ends at any block is refused, or is what it is up to there', async () => {
    const tar = archive([
      dir('d'),
      file('d/long', 'x'.repeat(1500), { pax: { mtime: '1.5', path: `d/${'long/'.repeat(30)}f` } }),
      gnu('L', `d/${'name/'.repeat(30)}g`),
      file('g', 'y'.repeat(600)),
      v0('0,512', '1000'),
      link('d/l', '../../outside'),
      hard('h', 'd/l'),
    ]);
    let refused = 0;
    for (let end = 0; end <= tar.length; end += 512) {
      for (const at of [end, end + 100]) {
        using sandbox = new Sandbox();
        await sandbox.unpack(tar.subarray(0, at)).catch((cause: { code?: string }) => {
          assert.equal(cause.code, 'CORRUPT');
          refused++;
        });
      }
    }
    assert.ok(refused > tar.length / 512, `${refused} were refused`);
  });

  test('a chain of hard links is one file, however it is replaced', async (t) => {
    const sandbox = sandboxFor(t);
    const links = Array.from({ length: 1000 }, (_, n) => hard(`h${n + 1}`, `h${n}`));
    const { sizeBytes } = await sandbox.unpack(archive([file('h0', 'one'), ...links, file('h500', 'other')]));
    assert.equal(sizeBytes, 8);
    assert.equal(lstatSync(join(sandbox.diff, 'h1000')).nlink, 1000);
    assert.equal(readFileSync(join(sandbox.diff, 'h500'), 'utf8'), 'other');
  });

  const many = process.env['SKERRY_SOAK'] ? 1_000_000 : 20_000;

  test(`${many} tiny entries take their time and no more memory than one`, async (t) => {
    const sandbox = sandboxFor(t);
    const headers = Array.from({ length: 1000 }, (_, n) => headerBlock(file(`d/${n % 10}/f${n}`, '')));
    const block = Buffer.concat(headers);
    const tar = Buffer.concat([...Array.from({ length: many / 1000 }, () => block), Buffer.alloc(1024)]);
    const before = process.memoryUsage().rss;
    await sandbox.unpack(tar, { pieceBytes: 64 << 10 });
    const grown = process.memoryUsage().rss - before - 2 * tar.length; // it is here, and once more to be compared
    assert.ok(grown < 64 << 20, `${grown >> 20} MiB more`);
  });

  test('what GNU tar unpacks inside comes out the same here', async (t) => {
    const tar = archive([
      dir('d', { mode: 0o711 }),
      file('d/a', 'first'),
      file('d/a', 'second', { mode: 0o600 }),
      link('d/l', 'a'),
      { ...hard('d/h', 'd/a'), mode: 0o600 }, // whose own mode counts here, as in dockerd
      file('../../up', 'up'),
      file('/absolute', 'abs'),
      v1('2\n512\n512\n2048\n0\n', '2048', 'z'.repeat(512)), // it wants the end told twice
      { name: 'pipe', type: '6', mode: 0o640 },
      file('b', 'x', { pax: { 'SCHILY.xattr.user.note': 'kept' } }),
    ]);
    const [ours, theirs] = [sandboxFor(t), sandboxFor(t)];
    await ours.unpack(tar);
    // it takes `..` for what it says, and so leaves such a member out: ours stops at the root, as dockerd does
    const flags = ['-x', '--xattrs', '--xattrs-include=*', '-p', '--exclude=*..*'];
    execFileSync('tar', ['-C', theirs.diff, ...flags], { input: tar, stdio: ['pipe', 'ignore', 'ignore'] });
    const { up, ...same } = ours.tree();
    assert.equal(up, 'file 0644 0:0 "up"');
    assert.deepEqual(theirs.tree(), same);
    assert.equal(getXattr(join(theirs.diff, 'b'), 'user.note')?.toString(), 'kept');
    assert.equal(lstatSync(join(ours.diff, 's')).size, lstatSync(join(theirs.diff, 's')).size);
  });
});
