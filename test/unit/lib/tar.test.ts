import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { extract, pack } from 'tar-stream';
import { parseHeader, parsePax, type TarEntry } from '../../../src/lib/tar.ts';
import { type TarSink, TarWalker } from '../../../src/lib/tar-walker.ts';
import {
  archive,
  base256,
  headerBlock,
  type Member,
  member,
  padded,
  paxRecords,
} from '../../support/tar-archive.ts';

interface Seen {
  entry: TarEntry;
  content: Buffer;
}

/** Walks an archive in pieces, and checks on the way that every byte comes once and in order. */
function walk(tar: Buffer, o: { pieces?: number[]; isWanted?: (entry: TarEntry) => boolean } = {}): Seen[] {
  const seen: Seen[] = [];
  const all: Buffer[] = [];
  const sink: TarSink = {
    raw: (bytes) => void all.push(Buffer.from(bytes)),
    open(entry) {
      seen.push({ entry, content: Buffer.alloc(entry.size) });
      return o.isWanted?.(entry) ?? true;
    },
    content(bytes, offset) {
      all.push(Buffer.from(bytes));
      const last = seen[seen.length - 1];
      assert.ok(last !== undefined && bytes.length > 0);
      bytes.copy(last.content, offset);
    },
    close() {},
  };
  const walker = new TarWalker(sink);
  let at = 0;
  for (const size of o.pieces ?? []) {
    if (at >= tar.length) break;
    walker.push(tar.subarray(at, at + size));
    at += size;
  }
  if (at < tar.length) walker.push(tar.subarray(at));
  walker.end();
  assert.deepEqual(Buffer.concat(all), tar);
  return seen;
}

function only(tar: Buffer): TarEntry {
  const [first, second] = walk(tar);
  assert.ok(first !== undefined && second === undefined);
  return first.entry;
}

const CORRUPT = { code: 'CORRUPT' };

test('a plain header', () => {
  const entry = only(
    archive([{ name: 'usr/bin/x', content: 'hi', mode: 0o104755, uid: 1000, gid: 50, mtime: 1234567890 }]),
  );
  assert.deepEqual(entry, {
    type: 'file',
    name: 'usr/bin/x',
    linkName: '',
    mode: 0o4755,
    uid: 1000,
    gid: 50,
    size: 2,
    modifiedAt: { seconds: 1234567890, nanos: 0 },
    accessedAt: undefined,
    major: 0,
    minor: 0,
    xattrs: new Map(),
    fragments: [{ offset: 0, length: 2 }],
  });
});

test('every type', () => {
  const types = ['\0', '0', '1', '2', '3', '4', '5', '6', '7'];
  const entries = walk(archive(types.map((type) => ({ name: 'n', type })))).map(({ entry }) => entry.type);
  assert.deepEqual(entries, [
    'file',
    'file',
    'hardlink',
    'symlink',
    'character',
    'block',
    'directory',
    'fifo',
    'file',
  ]);
  assert.equal(only(archive([{ name: 'old/', type: '\0' }])).type, 'directory');
  assert.equal(only(archive([{ name: 'file/', type: '0' }])).type, 'file');
});

test('types that nobody unpacks are refused', () => {
  for (const type of ['V', 'M', 'D', 'N', 'Z', '_'])
    assert.throws(() => walk(archive([{ name: 'n', type }])), { ...CORRUPT, message: /type \d+/ });
});

test('only files have content, whatever the header claims', () => {
  for (const type of ['1', '2', '3', '4', '5', '6'])
    assert.equal(only(archive([{ name: 'n', type, size: 4096 }])).size, 0);
});

test('prefixes of ustar, star and Go before 1.8', () => {
  assert.equal(only(archive([{ name: 'name', prefix: 'some/dir' }])).name, 'some/dir/name');
  const star = { 345: Buffer.alloc(131, 'p'), 476: Buffer.from('00012345670'), 508: Buffer.from('tar\0') };
  assert.equal(only(archive([{ name: 'n', patches: star }])).name, `${'p'.repeat(131)}/n`);
  assert.equal(only(archive([{ name: 'name', prefix: 'some/dir', magic: 'gnu' }])).name, 'some/dir/name');
  const times = { 345: Buffer.from('14524770763\x0014524770763\0') };
  assert.equal(only(archive([{ name: 'name', magic: 'gnu', patches: times }])).name, 'name');
  assert.equal(only(archive([{ name: 'name', prefix: 'not/mine', magic: 'none' }])).name, 'name');
});

test('a name may fill its field', () => {
  assert.equal(only(archive([{ name: 'x'.repeat(100) }])).name, 'x'.repeat(100));
});

test('numbers: octal in all its shapes, base-256, nonsense', () => {
  const mode = (text: string) =>
    parseHeader(headerBlock({ name: 'n', patches: { 100: Buffer.from(text, 'latin1') } })).mode;
  assert.equal(mode('0000644\0'), 0o644);
  assert.equal(mode('   644 \0'), 0o644);
  assert.equal(mode('00000644'), 0o644);
  assert.equal(mode('\0\0\0\0\0\0\0\0'), 0);
  assert.throws(() => mode('0000648\0'), CORRUPT);
  assert.throws(() => mode('-000644\0'), CORRUPT);
  assert.equal(only(archive([{ name: 'n', uid: base256(2_000_000_000n, 8) }])).uid, 2_000_000_000);
  assert.equal(only(archive([{ name: 'n', mtime: base256(-5n, 12) }])).modifiedAt.seconds, -5);
  assert.throws(() => walk(archive([{ name: 'n', uid: base256(-1n, 8) }])), CORRUPT);
  assert.throws(() => walk(archive([{ name: 'n', size: base256(-1n, 12) }])), CORRUPT);
  assert.throws(() => walk(archive([{ name: 'n', size: base256(1n << 60n, 12) }])), CORRUPT);
  assert.throws(() => walk(archive([{ name: 'n', type: '3', major: 4096 }])), CORRUPT);
});

test('base-256 gives back every safe number', () => {
  fc.assert(
    fc.property(fc.maxSafeInteger(), (value) => {
      const block = headerBlock({ name: 'n', mtime: base256(BigInt(value), 12) });
      assert.equal(parseHeader(block).modifiedAt.seconds, value);
    }),
  );
});

test('both checksums are right, any other is not', () => {
  const name = Buffer.from('\xff\xfe', 'latin1');
  const block = headerBlock({ name });
  const sum = Number.parseInt(block.toString('latin1', 148, 154), 8);
  assert.equal(parseHeader(headerBlock({ name, checksum: sum - 512 })).name, '\xff\xfe');
  assert.throws(() => parseHeader(headerBlock({ name, checksum: sum + 1 })), CORRUPT);
});

test('pax records override the header', () => {
  const pax = {
    path: 'dir/ünï',
    linkpath: 'elsewhere',
    uid: '3000000',
    gid: '0',
    mtime: '1700000001.123456789',
    atime: '1600000000.5',
    size: '3',
    'SCHILY.xattr.user.k': Buffer.from([0, 10, 61, 255]),
    comment: 'no matter',
  };
  const entry = only(archive([{ name: 'short', content: 'abc', size: 1, pax }]));
  assert.equal(entry.name, Buffer.from('dir/ünï').toString('latin1'));
  assert.equal(entry.linkName, 'elsewhere');
  assert.equal(entry.uid, 3_000_000);
  assert.equal(entry.size, 3);
  assert.deepEqual(entry.modifiedAt, { seconds: 1_700_000_001, nanos: 123_456_789 });
  assert.deepEqual(entry.accessedAt, { seconds: 1_600_000_000, nanos: 500_000_000 });
  assert.deepEqual(entry.xattrs, new Map([['user.k', Buffer.from([0, 10, 61, 255])]]));
});

test('pax times before 1970 count forward from the second below', () => {
  const at = (mtime: string) => only(archive([{ name: 'n', pax: { mtime } }])).modifiedAt;
  assert.deepEqual(at('-1.25'), { seconds: -2, nanos: 750_000_000 });
  assert.deepEqual(at('-1'), { seconds: -1, nanos: 0 });
  assert.deepEqual(at('7.'), { seconds: 7, nanos: 0 });
  assert.throws(() => at('1e9'), CORRUPT);
});

test('an empty pax value leaves the header its own', () => {
  assert.equal(only(archive([{ name: 'own', pax: { path: '' } }])).name, 'own');
});

test('extensions hold for one entry; a global header for none', () => {
  const long = { name: '././@LongLink', type: 'L', content: 'very/long\0' };
  const link = { name: '././@LongLink', type: 'K', content: 'target\0' };
  const global = { name: 'pax_global_header', type: 'g', content: paxRecords({ path: 'all', comment: 'x' }) };
  const names = walk(archive([global, long, link, { name: 'a' }, { name: 'b' }])).map(({ entry }) => [
    entry.name,
    entry.linkName,
  ]);
  assert.deepEqual(names, [
    ['very/long', 'target'],
    ['b', ''],
  ]);
  const between = walk(archive([long, global, { name: 'a' }])).map(({ entry }) => entry.name);
  assert.deepEqual(between, ['a']);
});

test("GNU's long name wins over pax", () => {
  const long = { name: '././@LongLink', type: 'L', content: 'gnu' };
  assert.equal(only(archive([long, { name: 'a', pax: { path: 'pax' } }])).name, 'gnu');
});

test('malformed pax records are refused', () => {
  const texts = [
    'x',
    '5 a=',
    '99 a=b\n',
    '6 a=bc',
    '5 =b\n',
    '0 a=b\n',
    '4 ab\n',
    '-6 a=b\n',
    '6 \0=b\n',
    ' 6 a=b\n',
  ];
  for (const text of texts) assert.throws(() => parsePax(Buffer.from(text)), CORRUPT, JSON.stringify(text));
  for (const pax of [{ size: 'many' }, { size: '-1' }, { uid: '99999999999999999' }, { path: 'a\0b' }])
    assert.throws(() => walk(archive([{ name: 'n', pax }])), CORRUPT, JSON.stringify(pax));
});

test('pax records come back as written', () => {
  const key = fc
    .stringMatching(/^[a-zA-Z][a-zA-Z0-9.]{0,40}$/)
    .filter((name) => !name.startsWith('GNU.sparse.'));
  const value = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(fc.dictionary(key, value, { noNullPrototype: true }), (records) => {
      assert.deepEqual(Object.fromEntries(parsePax(paxRecords(records))), records);
    }),
  );
});

test('oversized extensions are refused before they are read', () => {
  for (const type of ['x', 'L', 'K'])
    assert.throws(() => walk(member({ name: 'n', type, size: (1 << 20) + 1 })), CORRUPT);
});

test('the end: two blocks, one, none, and what follows', () => {
  const file = { name: 'a', content: 'x' };
  assert.equal(walk(archive([file], Buffer.alloc(512))).length, 1);
  assert.equal(walk(archive([file], Buffer.alloc(0))).length, 1);
  assert.equal(walk(Buffer.alloc(0)).length, 0);
  assert.equal(walk(archive([file], Buffer.concat([Buffer.alloc(1024), Buffer.from('trailing')]))).length, 1);
  assert.equal(
    walk(archive([file], Buffer.concat([Buffer.alloc(1024), member({ name: 'late' })]))).length,
    1,
  );
  assert.throws(() => walk(archive([file, Buffer.alloc(512), { name: 'b' }])), CORRUPT);
});

test('an archive that is cut', () => {
  const tar = archive([{ name: 'a', content: Buffer.alloc(700, 'x') }], Buffer.alloc(0));
  for (const length of [1, 511, 513, 1211])
    assert.throws(() => walk(tar.subarray(0, length)), CORRUPT, `${length}`);
  assert.equal(walk(tar.subarray(0, 512 + 700)).length, 1, 'only padding is missing');
  assert.throws(() => walk(tar.subarray(0, 600), { isWanted: () => false }), CORRUPT);
  const pax = archive([{ name: 'a', pax: { path: 'x' } }]);
  assert.throws(() => walk(pax.subarray(0, 900)), CORRUPT);
});

const dataAndHoles: [number, string][] = [
  [0, 'first'],
  [4096, 'second'],
  [1_000_000, 'third'],
];
const stored = Buffer.from(dataAndHoles.map(([, text]) => text).join(''));
const sparseSize = 2_000_000;

function assertSparse(seen: Seen[]): void {
  const [only] = seen;
  assert.ok(only !== undefined && seen.length === 1);
  assert.equal(only.entry.name, 'sparse');
  const expected = Buffer.alloc(sparseSize);
  for (const [offset, text] of dataAndHoles) expected.write(text, offset);
  assert.ok(only.content.equals(expected));
}

test('sparse: GNU, old', () => {
  const field = (value: number) => Buffer.from(`${value.toString(8).padStart(11, '0')}\0`);
  const map = dataAndHoles.map(([offset, text]) => Buffer.concat([field(offset), field(text.length)]));
  const patches = { 386: Buffer.concat(map), 483: field(sparseSize) };
  assertSparse(walk(archive([{ name: 'sparse', type: 'S', magic: 'gnu', content: stored, patches }])));
  const block = Buffer.alloc(512);
  Buffer.concat(map.slice(1)).copy(block);
  const continued = { 386: map[0] ?? block, 482: Buffer.from([1]), 483: field(sparseSize) };
  const header = headerBlock({
    name: 'sparse',
    type: 'S',
    magic: 'gnu',
    size: stored.length,
    patches: continued,
  });
  assertSparse(walk(archive([header, block, padded(stored)])));
});

test('sparse: pax 0.0, 0.1 and 1.0', () => {
  const old = {
    'GNU.sparse.size': String(sparseSize),
    'GNU.sparse.numblocks': '3',
    'GNU.sparse.major': '0',
    'GNU.sparse.minor': '0',
  };
  const repeated = dataAndHoles.map(([offset, text]) =>
    paxRecords({ 'GNU.sparse.offset': String(offset), 'GNU.sparse.numbytes': String(text.length) }),
  );
  const header = member({ name: 'x', type: 'x', content: Buffer.concat([paxRecords(old), ...repeated]) });
  assertSparse(walk(archive([header, { name: 'sparse', content: stored }])));

  const map = dataAndHoles.map(([offset, text]) => [offset, text.length]);
  const version01 = {
    ...old,
    'GNU.sparse.minor': '1',
    'GNU.sparse.name': 'sparse',
    'GNU.sparse.map': map.join(','),
  };
  assertSparse(walk(archive([{ name: 'GNUSparseFile.1/sparse', content: stored, pax: version01 }])));

  const version10 = {
    'GNU.sparse.major': '1',
    'GNU.sparse.minor': '0',
    'GNU.sparse.name': 'sparse',
    'GNU.sparse.realsize': String(sparseSize),
  };
  const text = padded(Buffer.from(`3\n${map.flat().join('\n')}\n`));
  const content = Buffer.concat([text, stored]);
  assertSparse(walk(archive([{ name: 'GNUSparseFile.1/sparse', content, pax: version10 }])));
});

test('sparse: a map longer than a block', () => {
  const offsets = Array.from({ length: 300 }, (_, index) => index * 1000);
  const text = padded(Buffer.from(`300\n${offsets.map((offset) => `${offset}\n1\n`).join('')}`));
  const pax = { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '300000' };
  const tar = archive([{ name: 's', content: Buffer.concat([text, Buffer.alloc(300, 'x')]), pax }]);
  const [seen] = walk(tar);
  assert.equal(seen?.entry.fragments.length, 300);
  assert.equal(seen?.content.filter((byte) => byte === 120).length, 300);
});

test('sparse: maps that lie are refused', () => {
  const pax = (map: string, size = '100') => ({
    'GNU.sparse.major': '0',
    'GNU.sparse.minor': '1',
    'GNU.sparse.size': size,
    'GNU.sparse.map': map,
  });
  const content = Buffer.alloc(20);
  const maps = [
    '0,10,5,10',
    '0,10',
    '0,30',
    '90,20',
    '0,10,20',
    '-5,20',
    '5,-5,0,25',
    'a,20',
    '0,20,',
    '10,10,0,10',
  ];
  for (const map of maps)
    assert.throws(() => walk(archive([{ name: 's', content, pax: pax(map) }])), CORRUPT, map);
  assert.throws(() => walk(archive([{ name: 's', content, pax: pax('0,20', '-1') }])), CORRUPT);
  assert.throws(() => walk(archive([{ name: 's', type: '5', pax: pax('0,0') }])), CORRUPT);
  const inContent = { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '100' };
  for (const text of ['9999999\n', '-1\n', 'x\n', '', '1\n0\n']) {
    const tar = archive([{ name: 's', content: padded(Buffer.from(text)), pax: inContent }]);
    assert.throws(() => walk(tar), CORRUPT, JSON.stringify(text));
  }
});

/** What this test tells tar-stream about a file. */
interface FileHeader {
  name: string;
  size: number;
  mode?: number;
  uid?: number;
  mtime?: Date;
  pax?: Record<string, string>;
}

const headers: fc.Arbitrary<{ header: FileHeader; content: Buffer }> = fc
  .record({
    name: fc.stringMatching(/^[a-zü]{1,30}(\/[a-zü]{1,40}){0,6}$/),
    mode: fc.integer({ min: 0, max: 0o7777 }),
    uid: fc.integer({ min: 0, max: 0o777777 }),
    mtime: fc.integer({ min: 0, max: 2 ** 31 - 1 }), // tar-stream writes no later ones, nor larger numbers than these
    content: fc.uint8Array({ maxLength: 1500 }).map((bytes) => Buffer.from(bytes)),
    user: fc.option(fc.stringMatching(/^[a-z=\n]{0,20}$/), { nil: undefined }),
  })
  .map(({ content, user, mtime, ...rest }) => ({
    header: {
      ...rest,
      mtime: new Date(mtime * 1000),
      size: content.length,
      ...(user !== undefined && { pax: { 'SCHILY.xattr.user.n': user } }),
    },
    content,
  }));

/** An archive by tar-stream, to check one reader with another's writer. */
async function packed(files: readonly { header: FileHeader; content: Buffer }[]): Promise<Buffer> {
  const tar = pack();
  for (const { header, content } of files) tar.entry(header, content);
  tar.finalize();
  const parts: Buffer[] = [];
  for await (const part of tar) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

test("tar-stream's archives, in pieces of any size", async () => {
  const pieces = fc.array(fc.integer({ min: 1, max: 700 }), { maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(fc.array(headers, { maxLength: 6 }), pieces, async (files, sizes) => {
      const seen = walk(await packed(files), { pieces: sizes });
      assert.equal(seen.length, files.length);
      for (const [index, { header, content }] of files.entries()) {
        const { entry, content: found } = seen[index] ?? assert.fail();
        assert.equal(Buffer.from(entry.name, 'latin1').toString(), header.name);
        assert.deepEqual([entry.mode, entry.uid], [header.mode, header.uid]);
        assert.equal(entry.modifiedAt.seconds * 1000, header.mtime?.getTime());
        assert.equal(entry.xattrs.get('user.n')?.toString() ?? '', header.pax?.['SCHILY.xattr.user.n'] ?? '');
        assert.ok(found.equals(content));
      }
    }),
  );
});

test('flipped bytes are understood or refused, never anything else', async () => {
  const tar = await packed([
    { header: { name: `long/${'n'.repeat(200)}`, size: 900 }, content: Buffer.alloc(900, 1) },
    { header: { name: 'b', pax: { comment: 'c' }, size: 3 }, content: Buffer.from('abc') },
  ]);
  const flips = fc.array(fc.tuple(fc.nat(tar.length - 1), fc.integer({ min: 1, max: 255 })), {
    minLength: 1,
  });
  fc.assert(
    fc.property(flips, fc.nat(600), (changes, piece) => {
      const broken = Buffer.from(tar);
      for (const [at, mask] of changes) broken[at] = (broken[at] ?? 0) ^ mask;
      try {
        walk(broken, { pieces: [piece + 1, piece + 1] });
      } catch (cause) {
        assert.equal((cause as { code?: string }).code, 'CORRUPT', String(cause));
      }
    }),
    { numRuns: 300 },
  );
});

test('what this file writes, tar-stream reads alike', async () => {
  const members: Member[] = [
    { name: 'a', content: 'one' },
    { name: 'd/', type: '5' },
  ];
  const reader = extract();
  reader.end(archive(members));
  const names: string[] = [];
  for await (const entry of reader) {
    names.push(`${entry.header.type} ${entry.header.name}`);
    entry.resume();
  }
  assert.deepEqual(names, ['file a', 'directory d/']);
});
