import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import {
  type Compression,
  compressionOf,
  decompress,
  unpackByProgram,
} from '../../../src/layers/decompression.ts';

const content = Buffer.from('some content, '.repeat(40_000));

async function* pieces(bytes: Buffer, size: number, error?: Error): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
  if (error !== undefined) throw error;
}

async function unpacked(input: AsyncIterable<Buffer>, compression: Compression = 'auto'): Promise<Buffer> {
  const all: Buffer[] = [];
  await decompress(input, compression, (bytes) => all.push(Buffer.from(bytes)));
  return Buffer.concat(all);
}

async function byProgram(
  input: AsyncIterable<Buffer>,
  kind: 'zstd' | 'xz' | 'bzip2' = 'zstd',
): Promise<Buffer> {
  const all: Buffer[] = [];
  await unpackByProgram(kind, input, async (source) => {
    for await (const bytes of source) all.push(Buffer.from(bytes));
  });
  return Buffer.concat(all);
}

test('members and frames may end anywhere in a piece', async () => {
  const halves = [content.subarray(0, 300_001), content.subarray(300_001)];
  const packings = [
    content,
    gzipSync(content),
    Buffer.concat(halves.map((half) => gzipSync(half))),
    zstdCompressSync(content),
    Buffer.concat(halves.map((half) => zstdCompressSync(half))),
  ];
  for (const packed of packings) {
    for (const size of [1, 2, 3, 7, 100, 65_536, packed.length]) {
      if (packed === content && size < 100) continue;
      assert.ok((await unpacked(pieces(packed, size))).equals(content));
    }
  }
});

test('short inputs are taken as they are', async () => {
  for (const text of ['', 'a', 'abc'])
    assert.equal((await unpacked(pieces(Buffer.from(text), 1))).toString(), text);
  await assert.rejects(unpacked(pieces(content, 100), 'gzip'), { code: 'CORRUPT' });
  await assert.rejects(unpacked(pieces(content, 100), 'zstd'), { code: 'CORRUPT' });
});

test("an input's own error comes through, and so does the taker's", async () => {
  const error = new Error('the network is gone');
  for (const packed of [content, gzipSync(content), zstdCompressSync(content)]) {
    await assert.rejects(unpacked(pieces(packed, 1000, error)), (cause) => cause === error);
    const refusing = decompress(pieces(packed, 1000), 'auto', () => {
      throw error;
    });
    await assert.rejects(refusing, (cause) => cause === error);
  }
});

test('where Node has no zstd, the program unpacks', async () => {
  const packed = zstdCompressSync(content);
  assert.ok((await byProgram(pieces(packed, 1000))).equals(content));
  assert.ok(
    (await byProgram(pieces(Buffer.concat([packed, packed]), 65_536))).equals(
      Buffer.concat([content, content]),
    ),
  );
  await assert.rejects(byProgram(pieces(packed.subarray(0, -5), 100)), { code: 'CORRUPT', message: /zstd/ });
  await assert.rejects(byProgram(pieces(content, 1000)), { code: 'CORRUPT', message: /zstd/ });
  const error = new Error('the network is gone');
  await assert.rejects(byProgram(pieces(packed, 100, error)), (cause) => cause === error);
});

test('a missing program is named', async () => {
  const path = process.env['PATH'];
  process.env['PATH'] = '/nonexistent';
  try {
    await assert.rejects(byProgram(pieces(content, 1000)), {
      code: 'HOST',
      message: /install the package zstd/,
    });
  } finally {
    process.env['PATH'] = path;
  }
});

test('xz and bzip2 are known by their first bytes, and unpacked by their programs', async () => {
  for (const kind of ['xz', 'bzip2'] as const) {
    const pack = (bytes: Buffer) => execFileSync(kind, ['-c'], { input: bytes });
    const packed = pack(content);
    assert.equal(compressionOf(packed), kind);
    assert.equal(compressionOf(pack(Buffer.alloc(0))), kind);
    for (const size of [100, packed.length])
      assert.ok((await unpacked(pieces(packed, size))).equals(content), kind);
    const twice = await unpacked(pieces(Buffer.concat([packed, packed]), 1000));
    assert.ok(twice.equals(Buffer.concat([content, content])), kind);
    await assert.rejects(unpacked(pieces(packed.subarray(0, -9), 100)), {
      code: 'CORRUPT',
      message: new RegExp(`invalid ${kind} data`),
    });
    const error = new Error('the network is gone');
    await assert.rejects(unpacked(pieces(packed, 100, error)), (cause) => cause === error);
  }
});

test('xz may not take any amount of memory', async () => {
  const greedy = execFileSync('xz', ['-c', '--lzma2=dict=256MiB'], { input: content });
  await assert.rejects(byProgram(pieces(greedy, 1000), 'xz'), { code: 'CORRUPT', message: /[Mm]emory/ });
});

test('a taker that gives up ends the program', async () => {
  const error = new Error('enough');
  const endless = async function* () {
    const packed = execFileSync('xz', ['-c'], { input: Buffer.alloc(8 << 20, 'x') });
    for (;;) yield packed;
  };
  const refusing = decompress(endless(), 'auto', () => {
    throw error;
  });
  await assert.rejects(refusing, (cause) => cause === error);
});
