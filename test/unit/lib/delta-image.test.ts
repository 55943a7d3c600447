import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Failure } from '../../../src/errors.ts';
import { BASE_LABEL, readDeltaImage, TARGET_LABEL } from '../../../src/lib/delta-image.ts';
import { digestOf } from '../../../src/lib/digest.ts';

const baseId = digestOf('base');
const diffIds = [digestOf('a'), digestOf('b')];
const target = JSON.stringify({ os: 'linux', rootfs: { type: 'layers', diff_ids: diffIds } });
const labelled = (labels: unknown) => JSON.stringify({ config: { Labels: labels } });

test('the labels of a delta image name its base and hold its target, exactly', () => {
  const labels = { [BASE_LABEL]: baseId, [TARGET_LABEL]: target, other: 5 };
  assert.deepEqual(readDeltaImage(labelled(labels)), {
    baseId,
    targetId: digestOf(target),
    config: target,
    diffIds,
  });
});

test('a config without either label is that of an image like any other', () => {
  for (const config of ['', 'null', '[]', '{}', labelled(null), labelled({ a: 'b' }), labelled([target])])
    assert.equal(readDeltaImage(config), undefined);
});

test('whatever the labels are, it is a target with digests or a refusal', () => {
  const some = fc.oneof(fc.json(), fc.string(), fc.constant(target), fc.constant(baseId), fc.jsonValue());
  fc.assert(
    fc.property(some, some, (base, config) => {
      try {
        const image = readDeltaImage(labelled({ [BASE_LABEL]: base, [TARGET_LABEL]: config }));
        assert.deepEqual([image?.baseId, image?.diffIds], [baseId, diffIds]);
      } catch (cause) {
        assert.ok(cause instanceof Failure);
        assert.match(cause.message, /^invalid delta image: /);
      }
    }),
  );
});
