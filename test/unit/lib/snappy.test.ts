import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { unsnap } from '../../../src/lib/snappy.ts';

const limit = { maxBytes: 1 << 20 };

function text(...bytes: (number | string)[]): string {
  const parts = bytes.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.of(part)));
  return Buffer.from(unsnap(Buffer.concat(parts), limit)).toString();
}

test('snappy: literals with their length in the tag and behind it', () => {
  assert.equal(text(0), '');
  assert.equal(text(3, 0x08, 'abc'), 'abc');
  assert.equal(text(100, 0xf0, 99, 'x'.repeat(100)), 'x'.repeat(100));
  assert.equal(text(0xac, 0x02, 0xf4, 43, 1, 'x'.repeat(300)), 'x'.repeat(300));
});

test('snappy: copies with offsets of one, two and four bytes, also of what they write themselves', () => {
  assert.equal(text(10, 0x08, 'abc', 0x0d, 3), 'abcabcabca');
  assert.equal(text(10, 0x08, 'abc', 0x1a, 3, 0), 'abcabcabca');
  assert.equal(text(10, 0x08, 'abc', 0x1b, 3, 0, 0, 0), 'abcabcabca');
  assert.equal(text(0x88, 0x02, 0xf4, 3, 1, 'ab'.repeat(130), 0x21, 4), `${'ab'.repeat(130)}abab`);
});

test('snappy: what is cut off or points out of range is refused', () => {
  for (const bytes of [[], [0xff], [3], [3, 0x08, 97], [2, 0x08, 97, 98, 99], [4, 0, 97, 0x0d, 1]]) {
    assert.throws(() => unsnap(Uint8Array.from(bytes), limit), RangeError);
  }
  assert.throws(() => unsnap(Uint8Array.of(5, 0, 97, 0x01, 2), limit), RangeError, 'before the beginning');
  assert.throws(() => unsnap(Uint8Array.of(5, 0, 97, 0x01, 0), limit), RangeError, 'of nothing');
  assert.throws(() => unsnap(Uint8Array.of(3, 0x08, 97, 98, 99), { maxBytes: 2 }), RangeError, 'too long');
});

test('snappy: noise gives bytes or a RangeError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (noise) => {
      try {
        unsnap(noise, limit);
      } catch (cause) {
        assert.ok(cause instanceof RangeError);
      }
    }),
  );
});
