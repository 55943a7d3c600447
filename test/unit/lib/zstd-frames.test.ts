import assert from 'node:assert/strict';
import { test } from 'node:test';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import { ZstdFrames } from '../../../src/lib/zstd-frames.ts';

function skippable(content: Buffer, user = 0): Buffer {
  const head = Buffer.from([0x50 + user, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
  head.writeUInt32LE(content.length, 4);
  return Buffer.concat([head, content]);
}

function cut(stream: Buffer, sizes: readonly number[]): Buffer[] {
  const frames = new ZstdFrames();
  const pieces: Buffer[] = [];
  let at = 0;
  for (const size of [...sizes, stream.length]) {
    pieces.push(...frames.push(stream.subarray(at, at + size)));
    at += size;
  }
  frames.end();
  return pieces;
}

/** Where each part ends in all of them together. */
function endsOf(parts: readonly Buffer[]): number[] {
  return parts.map((_, index) => Buffer.concat(parts.slice(0, index + 1)).length);
}

const frame = fc
  .record({
    content: fc.uint8Array({ maxLength: 400_000 }).map((bytes) => Buffer.from(bytes)),
    repeat: fc.integer({ min: 1, max: 3 }),
    hasChecksum: fc.boolean(),
    level: fc.constantFrom(1, 3, 9),
  })
  .map(({ content, repeat, hasChecksum, level }) => {
    const params = {
      [constants.ZSTD_c_checksumFlag]: hasChecksum,
      [constants.ZSTD_c_compressionLevel]: level,
    };
    return zstdCompressSync(Buffer.concat(Array.from({ length: repeat }, () => content)), { params });
  });

test('pieces end where frames end, and skippable ones are left out', () => {
  const skip = fc.tuple(fc.uint8Array({ maxLength: 300 }), fc.nat(15));
  const part = fc.oneof(
    frame.map((bytes) => ({ bytes, isFrame: true })),
    skip.map(([content, user]) => ({ bytes: skippable(Buffer.from(content), user), isFrame: false })),
  );
  const sizes = fc.array(fc.integer({ min: 1, max: 1000 }), { maxLength: 50 });
  fc.assert(
    fc.property(fc.array(part, { maxLength: 5 }), sizes, (parts, pieceSizes) => {
      const frames = parts.filter(({ isFrame }) => isFrame).map(({ bytes }) => bytes);
      const pieces = cut(Buffer.concat(parts.map(({ bytes }) => bytes)), pieceSizes);
      assert.ok(Buffer.concat(pieces).equals(Buffer.concat(frames)));
      const ends = new Set(endsOf(pieces));
      for (const end of endsOf(frames)) assert.ok(ends.has(end));
    }),
    { numRuns: 50 },
  );
});

test('a frame with one kind of block each', () => {
  const runs = zstdCompressSync(Buffer.alloc(300_000));
  const raw = zstdCompressSync(Buffer.from('abc'));
  assert.equal(cut(Buffer.concat([runs, raw]), []).length, 2);
  assert.equal(
    zstdDecompressSync(cut(Buffer.concat([runs, raw]), [])[1] ?? Buffer.alloc(0)).toString(),
    'abc',
  );
});

test('a stream that is cut anywhere, or is none, is refused', () => {
  const stream = Buffer.concat([skippable(Buffer.from('abcd')), zstdCompressSync(Buffer.from('some bytes'))]);
  for (let length = 1; length < stream.length; length++) {
    if (length === 12) continue; // between the frames
    assert.throws(() => cut(stream.subarray(0, length), []), { code: 'CORRUPT' }, `${length}`);
  }
  assert.deepEqual(cut(Buffer.alloc(0), []), []);
  assert.throws(() => cut(Buffer.from('no zstd at all'), []), { code: 'CORRUPT' });
  assert.throws(() => cut(Buffer.from([0x50, 0x2a, 0x4d, 0x19, 0, 0, 0, 0]), []), { code: 'CORRUPT' });
});
