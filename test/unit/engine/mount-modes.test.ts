import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isMode, propagations } from '../../../src/engine/mount-modes.ts';
import { tmpfsOptions } from '../../../src/engine/tmpfs-options.ts';
import { MS } from '../../../src/host/kernel.ts';
import { parseMountOptions } from '../../../src/host/mount-options.ts';

const kinds = [['ro', 'rw'], ['z', 'Z'], propagations, ['nocopy'], ['cached', 'consistent', 'delegated']];

test('a mode is one word of each kind at most, in any order', () => {
  const word = fc.nat(kinds.length - 1).chain((kind) => fc.constantFrom(...(kinds[kind] ?? [])));
  fc.assert(
    fc.property(fc.array(word, { minLength: 1, maxLength: 6 }), (words) => {
      const counts = kinds.map((kind) => words.filter((one) => kind.includes(one)).length);
      assert.equal(
        isMode(words.join(',')),
        counts.every((count) => count <= 1),
      );
    }),
  );
  for (const mode of ['x', 'ro,', ',', 'RO', 'ro z']) assert.equal(isMode(mode), false, mode);
});

test('of tmpfs options that contradict each other the last one holds', () => {
  assert.deepEqual(tmpfsOptions(''), ['noexec', 'nosuid', 'nodev', 'rprivate']);
  assert.deepEqual(tmpfsOptions('exec,size=1m,noexec,size=2m,defaults,shared'), [
    'nosuid',
    'nodev',
    'noexec',
    'size=2m',
    'shared',
  ]);
});

test('options of mount(8): flags, those that are taken back, propagation, and the rest', () => {
  assert.deepEqual(parseMountOptions('ro,noatime,rw,addr=10.0.0.1,rshared,soft'), {
    flags: MS.NOATIME,
    propagation: MS.SHARED | MS.REC,
    data: 'addr=10.0.0.1,soft',
  });
  assert.deepEqual(parseMountOptions(''), { flags: 0, propagation: 0, data: '' });
  assert.deepEqual(parseMountOptions('constructor,__proto__').data, 'constructor,__proto__');
});
