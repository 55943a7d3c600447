import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { VarintReader, VarintWriter } from '../../../src/lib/varints.ts';

const isCorrupt = { code: 'CORRUPT', message: /^test: / };

test('numbers, signed ones and bytes come back in order', () => {
  const entry = fc.oneof(
    fc.maxSafeNat().map((value) => ({ kind: 'plain' as const, value })),
    fc.integer({ min: -(2 ** 51), max: 2 ** 51 }).map((value) => ({ kind: 'signed' as const, value })),
    fc.uint8Array({ maxLength: 3000 }).map((value) => ({ kind: 'bytes' as const, value })),
  );
  fc.assert(
    fc.property(fc.array(entry), (entries) => {
      const writer = new VarintWriter(4);
      for (const { kind, value } of entries) {
        if (kind === 'plain') writer.put(value);
        else if (kind === 'signed') writer.putSigned(value);
        else writer.putBytes(value);
      }
      const reader = new VarintReader(writer.toBuffer(), '');
      for (const { kind, value } of entries) {
        if (kind === 'plain') assert.equal(reader.next(), value);
        else if (kind === 'signed') assert.equal(reader.nextSigned(), value);
        else assert.deepEqual(reader.take(value.length), Buffer.from(value));
      }
      assert.ok(reader.isDone);
    }),
  );
});

test('what is cut or too large is corrupt', () => {
  for (const bytes of [[], [0x80], [0xff, 0xff], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]])
    assert.throws(() => new VarintReader(Buffer.from(bytes), 'test: ').next(), isCorrupt);
  assert.throws(() => new VarintReader(Buffer.alloc(2), 'test: ').take(3), isCorrupt);
});
