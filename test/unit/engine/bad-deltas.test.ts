import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BadDeltas } from '../../../src/engine/bad-deltas.ts';
import { fail } from '../../../src/errors.ts';
import { digestOf } from '../../../src/lib/digest.ts';

const use = (blob: string) => ({
  blob: digestOf(blob),
  targetManifest: digestOf('target'),
  baseId: digestOf('base'),
});
const corrupt = fail.corrupt('delta: a frame is damaged');

test('a delta that is bad itself is remembered, for what it was tried on', () => {
  const bad = new BadDeltas();
  bad.note(use('one'), corrupt);
  assert.equal(bad.reason(use('one')), 'delta: a frame is damaged');
  assert.equal(bad.reason(use('two')), undefined);
  assert.equal(bad.reason({ ...use('one'), targetManifest: digestOf('other') }), undefined);
  assert.equal(bad.reason({ ...use('one'), baseId: digestOf('other') }), undefined);
});

test('what the base, the network, the disk or a bug did is none of its faults', () => {
  const bad = new BadDeltas();
  const failures = [
    fail.baseDamaged(digestOf('layer'), 'a flipped byte'),
    fail.registry('404'),
    fail.registryUnreachable('gone'),
    fail.noSpace('full'),
    fail.layerTooLarge(1),
    fail.host('killed'),
    new Error('a bug'),
    undefined,
  ];
  for (const failure of failures) bad.note(use('one'), failure);
  assert.equal(bad.reason(use('one')), undefined);
});

test('64 are remembered, the last ones', () => {
  const bad = new BadDeltas();
  for (let n = 0; n < 70; n++) bad.note(use(`${n}`), corrupt);
  const known = Array.from({ length: 70 }, (_, n) => n).filter((n) => bad.reason(use(`${n}`)) !== undefined);
  assert.deepEqual([known.length, known[0]], [64, 6]);
});
