import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { Deflater } from '../../../src/delta/deflate.ts';
import { gzipShapes, makeGzip, readGzip, takeApart } from '../../../src/delta/gzip.ts';
import { noise, text } from '../../support/delta-tars.ts';

/** The same for all: what one input leaves in its tables must not show in the next. */
const deflater = new Deflater();

const samples = [
  text(1, 3),
  text(70, 5),
  text(5000, 40),
  text(150_000, 20),
  text(300_000, 5000),
  noise(200_000),
  Buffer.concat([text(100_000, 100), noise(70_000), text(100_000, 100)]),
  Buffer.alloc(150_000),
  readFileSync(import.meta.filename),
];

for (const [shape, flag] of [
  [0, '-9'],
  [1, '-6'],
] as const) {
  test(`gives the bytes of gzip ${flag}`, () => {
    for (const sample of samples) {
      const theirs = execFileSync('gzip', [flag, '-n', '-c'], { input: sample, maxBuffer: 1 << 24 });
      const ours = makeGzip(sample, { head: theirs.subarray(0, 10), shape, deflater });
      assert.ok(ours.equals(theirs), `${sample.length} bytes`);
      assert.deepEqual(takeApart(theirs, 1 << 24)?.plain, sample);
    }
  });
}

test('what is deflated inflates to the same, whatever it is', () => {
  const chunk = fc.oneof(
    fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes)),
    fc.tuple(fc.nat(90_000), fc.integer({ min: 1, max: 300 })).map(([size, variety]) => text(size, variety)),
  );
  fc.assert(
    fc.property(fc.array(chunk, { maxLength: 4 }), fc.nat(gzipShapes.length - 1), (chunks, at) => {
      const plain = Buffer.concat(chunks);
      const shape = gzipShapes[at];
      assert.ok(shape);
      assert.ok(inflateRawSync(deflater.deflate(plain, shape)).equals(plain));
    }),
    { numRuns: 60 },
  );
});

test('gives up where searching would take too long, and says that the delta is at fault', () => {
  // a third of all places begin like a thousand others, and go on like none
  const slow = noise(1 << 20);
  for (let at = 0; at + 2 < slow.length; at += 5) slow.set([1, 2, 3], at);
  const head = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3]);
  assert.throws(() => makeGzip(slow, { head, shape: 0, deflater }), { code: 'CORRUPT' });
});

test('takes only members apart that it can put together again', () => {
  const plain = text(50_000, 200);
  const head = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3]);
  const foreign = Buffer.concat([head, deflateRawSync(plain, { level: 1 }), Buffer.alloc(8)]);
  assert.equal(takeApart(foreign, 1 << 20), undefined);
  const own = makeGzip(plain, { head, shape: 0, deflater });
  assert.equal(takeApart(own, 1 << 20)?.shape, 0);
  assert.equal(takeApart(own, 1000), undefined, 'one that inflates to more than it may');
  assert.equal(takeApart(own.subarray(0, -1), 1 << 20), undefined);
  assert.equal(takeApart(Buffer.concat([own, own]), 1 << 20), undefined);
  assert.throws(() => readGzip(own, 1000), { code: 'CORRUPT' });
  assert.throws(() => makeGzip(plain, { head, shape: 99, deflater }), { code: 'CORRUPT' });
});
