import assert from 'node:assert/strict';
import { test } from 'node:test';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { MOST_HINT_BYTES, unpackedSize } from '../../../src/lib/unpacked-size.ts';

const gzipHint = (blob: Buffer) => blob.subarray(-4);
const zstdHint = (blob: Buffer) => blob.subarray(0, MOST_HINT_BYTES);

test('gzip tells what is in it, and is never taken for more', () => {
  for (const bytes of [0, 1, 100, 100_000, 3_000_000]) {
    const blob = gzipSync(Buffer.alloc(bytes));
    assert.equal(unpackedSize('gzip', gzipHint(blob), blob.length), Math.max(bytes, blob.length));
  }
  const members = Buffer.concat([gzipSync(Buffer.alloc(500_000, 'a')), gzipSync(Buffer.alloc(300_000, 'b'))]);
  assert.equal(unpackedSize('gzip', gzipHint(members), members.length), 300_000);
  assert.equal(
    unpackedSize('gzip', Buffer.from([0, 16, 0, 0]), 5000),
    5000,
    'less than packed: modulo, or a part',
  );
});

test('zstd tells what is in it, in each of the sizes of its field', () => {
  for (const bytes of [0, 1, 255, 256, 257, 65_791, 65_792, 3_000_000]) {
    const blob = zstdCompressSync(Buffer.alloc(bytes));
    assert.equal(unpackedSize('zstd', zstdHint(blob), blob.length), Math.max(bytes, blob.length), `${bytes}`);
  }
  const silent = zstdCompressSync(Buffer.alloc(5000), { params: { [constants.ZSTD_c_contentSizeFlag]: 0 } });
  assert.equal(unpackedSize('zstd', zstdHint(silent), silent.length), silent.length);
  const huge = Buffer.from('28b52ffde0000000000001000000', 'hex');
  assert.equal(unpackedSize('zstd', huge, 1000), 2 ** 40);
});

test('whatever a server sends for a hint gives a size that is not less than what is packed', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('gzip', 'zstd', 'none'),
      fc.uint8Array({ maxLength: 20 }),
      fc.nat(),
      (packing, hint, size) => {
        assert.ok(unpackedSize(packing, Buffer.from(hint), size) >= size);
      },
    ),
  );
});
