import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { compressLayer } from '../../../src/layers/compression.ts';
import { digestOf } from '../../../src/lib/digest.ts';

/** Some of it repeats, some does not, as in a layer. */
const tar = Buffer.concat(
  Array.from({ length: 40 }, (_, at) => (at % 3 === 0 ? randomBytes(20_000) : Buffer.alloc(30_000, `${at}`))),
);
const diffId = digestOf(tar);

function* cut(bytes: Buffer, sizes: readonly number[]): Generator<Buffer> {
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

const pack = (pieces: Iterable<Buffer>, onProgress: (tarBytes: number) => void = () => {}) =>
  compressLayer(Readable.from(pieces, { objectMode: false }), { diffId, onProgress });

test('a tar is packed to the same bytes, however it is cut', async () => {
  const told: number[] = [];
  const packed = await buffer(pack([tar], (bytes) => told.push(bytes)));
  assert.ok(gunzipSync(packed).equals(tar));
  assert.equal(packed.readUInt32LE(4), 0, 'no time in the header');
  assert.equal(told.at(-1), tar.length);
  const sizes = fc.array(fc.integer({ min: 1, max: 300_000 }), { minLength: 1, maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(sizes, async (some) => {
      if (Math.max(...some) < 500) return; // thousands of pieces show nothing new
      assert.ok((await buffer(pack(cut(tar, some)))).equals(packed));
    }),
    { numRuns: 30 },
  );
});

test('a tar that is not the one it should be never ends well', async () => {
  const wrong = Buffer.from(tar);
  wrong[500_000] = (wrong[500_000] ?? 0) ^ 1;
  const damaged = { code: 'CORRUPT', message: /^layer [0-9a-f]{12} is damaged on this disk/ };
  await assert.rejects(buffer(pack([wrong])), damaged);
  await assert.rejects(buffer(pack([tar.subarray(1)])), damaged);
});

test('a tar that breaks off, and a reader who leaves', async () => {
  const broken = new Readable({ read: () => broken.destroy(new Error('a file is gone')) });
  await assert.rejects(buffer(compressLayer(broken, { diffId, onProgress: () => {} })), /a file is gone/);
  const endless = new Readable({
    read(size) {
      this.push(randomBytes(size));
    },
  });
  const packed = compressLayer(endless, { diffId, onProgress: () => {} });
  await once(packed, 'readable');
  const closed = new Promise((resolve) => endless.on('error', () => {}).on('close', resolve));
  packed.destroy();
  await closed;
});
