import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { align } from '../../../src/delta/alignment.ts';

const bytes = (o: { min?: number; max: number }) =>
  fc.uint8Array({ minLength: o.min ?? 0, maxLength: o.max }).map((array) => Buffer.from(array));

test('runs lie in order within the target, and each has its place in the source', () => {
  const pieces = fc.array(bytes({ max: 60 }), { minLength: 1, maxLength: 12 });
  const picks = fc.array(fc.oneof(fc.nat(11), bytes({ max: 9 })), { maxLength: 20 });
  fc.assert(
    fc.property(pieces, picks, (parts, order) => {
      const source = Buffer.concat(parts);
      const target = Buffer.concat(
        order.map((pick) => (typeof pick === 'number' ? (parts[pick % parts.length] ?? source) : pick)),
      );
      let at = 0;
      for (const { start, length, source: place } of align(source, target)) {
        assert.ok(start >= at && length > 0 && start + length <= target.length);
        assert.ok(place >= 0 && place + length <= source.length);
        at = start + length;
      }
    }),
  );
});

test('a program whose addresses moved is one run, changes and all', () => {
  const source = Buffer.alloc(60_000);
  for (let at = 0; at < source.length; at += 4) source.writeUInt32LE(Math.imul(at, 2654435761) >>> 0, at);
  const target = Buffer.from(source);
  for (let at = 40; at < target.length; at += 100)
    target.writeUInt32LE((target.readUInt32LE(at) ^ 0x5a5a) >>> 0, at);
  const moved = Buffer.concat([Buffer.from('something new in front of it all'), target]);
  const runs = align(source, moved);
  const covered = runs.reduce((sum, { length }) => sum + length, 0);
  assert.equal(runs.length, 1);
  assert.ok(covered >= target.length - 4, `${covered} of ${target.length}`);
});
