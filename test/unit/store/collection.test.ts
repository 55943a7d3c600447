import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { type Digest, digestOf } from '../../../src/lib/digest.ts';
import { collect, type Inventory } from '../../../src/store/collection.ts';

const now = Date.parse('2026-01-02T03:04:05Z');
const before = new Date(now - 1).toISOString();
const after = new Date(now + 1).toISOString();
const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((text) => digestOf(text)) as [Digest, Digest, Digest, Digest];

function inventory(part: Partial<Inventory<{ diffId: Digest }>>): Inventory<{ diffId: Digest }> {
  const nothing = {
    images: [],
    refs: [],
    containers: [],
    layers: [],
    leases: [],
    heldLeases: new Set<string>(),
  };
  return { ...nothing, nowMs: now, ...part };
}

function lease(id: string, expiresAt: string, diffIds: Digest[]) {
  return { id, expiresAt, diffIds, why: 'test' };
}

test('collect: layers of images, containers and living leases stay, others go', () => {
  const garbage = collect(
    inventory({
      images: [{ id: digestOf('image'), diffIds: [a] }],
      containers: [{ diffIds: [b] }],
      leases: [lease('living', after, [c]), lease('dead', before, [d])],
      layers: [a, b, c, d].map((diffId) => ({ diffId })),
    }),
  );
  assert.deepEqual(garbage.layers, [{ diffId: d }]);
  assert.deepEqual(
    garbage.leases.map(({ id }) => id),
    ['dead'],
  );
  assert.equal(garbage.nextExpiryMs, now + 1);
});

test('collect: a lease whose work goes on here outlives the clock', () => {
  const { layers, leases, nextExpiryMs } = collect(
    inventory({
      leases: [lease('held', before, [a])],
      heldLeases: new Set(['held']),
      layers: [{ diffId: a }],
    }),
  );
  assert.deepEqual([layers, leases, nextExpiryMs], [[], [], Number.POSITIVE_INFINITY]);
});

test('collect: a lease with an unreadable time has expired', () => {
  const { layers, leases } = collect(
    inventory({ leases: [lease('junk', 'soon', [a])], layers: [{ diffId: a }] }),
  );
  assert.equal(layers.length, 1);
  assert.equal(leases.length, 1);
});

test('collect: a name of an image that is gone is garbage', () => {
  const { refs } = collect(
    inventory({
      images: [{ id: a, diffIds: [] }],
      refs: [
        ['docker.io/library/here:1', { imageId: a }],
        ['docker.io/library/gone:1', { imageId: b }],
      ],
    }),
  );
  assert.deepEqual(refs, ['docker.io/library/gone:1']);
});

test('collect: every layer is either named or garbage, never both', () => {
  const digests = fc.uniqueArray(fc.constantFrom(...'abcdefgh').map((text) => digestOf(text)));
  fc.assert(
    fc.property(digests, digests, digests, digests, (ofImage, ofContainer, ofLease, here) => {
      const { layers } = collect(
        inventory({
          images: [{ id: digestOf('image'), diffIds: ofImage }],
          containers: [{ diffIds: ofContainer }],
          leases: [lease('living', after, ofLease)],
          layers: here.map((diffId) => ({ diffId })),
        }),
      );
      const gone = new Set(layers.map(({ diffId }) => diffId));
      const named = new Set([...ofImage, ...ofContainer, ...ofLease]);
      for (const diffId of here) assert.notEqual(gone.has(diffId), named.has(diffId));
    }),
  );
});
