import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planDelta } from '../../../src/cli/delta-making.ts';
import type { SourceImage } from '../../../src/cli/source-image.ts';
import { digestOf } from '../../../src/lib/digest.ts';

/** An image of layers with these names, each packed into ten bytes. */
function imageOf(...names: string[]): SourceImage {
  const id = digestOf(names.join());
  return {
    name: names.join(),
    tags: [],
    id,
    manifest: { digest: id, mediaType: 'x/y', bytes: Buffer.alloc(0) },
    config: Buffer.alloc(0),
    platform: { os: 'linux', architecture: 'amd64' },
    layers: names.map((name) => ({
      diffId: digestOf(name),
      packedBytes: 10,
      compression: 'gzip',
      open: () => assert.fail('nothing is read to make a plan'),
    })),
  };
}

function planOf(base: SourceImage, target: SourceImage) {
  const { missing, sources, sharedCount, fullBytes } = planDelta(base, target);
  const names = new Map(['system', 'old', 'new', 'more'].map((name) => [digestOf(name), name]));
  const named = (layers: SourceImage['layers']) => layers.map(({ diffId }) => names.get(diffId));
  return { missing: named(missing), sources: named(sources), sharedCount, fullBytes };
}

test('layers that both images have are left alone', () => {
  assert.deepEqual(planOf(imageOf('system', 'old'), imageOf('system', 'new')), {
    missing: ['new'],
    sources: ['old'],
    sharedCount: 1,
    fullBytes: 10,
  });
});

test('unless the base has no others: what is added to it may be like what it has', () => {
  assert.deepEqual(planOf(imageOf('system', 'old'), imageOf('system', 'old', 'new')), {
    missing: ['new'],
    sources: ['system', 'old'],
    sharedCount: 2,
    fullBytes: 10,
  });
});

test('a layer that is there twice is made once, and counts once', () => {
  assert.deepEqual(planOf(imageOf('system', 'old', 'old'), imageOf('system', 'new', 'more', 'new')), {
    missing: ['new', 'more'],
    sources: ['old'],
    sharedCount: 1,
    fullBytes: 20,
  });
});
