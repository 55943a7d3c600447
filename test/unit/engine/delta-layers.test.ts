import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { DeltaLayers } from '../../../src/engine/delta-layers.ts';
import { type KeptPart, Spools } from '../../../src/engine/spools.ts';
import { fail } from '../../../src/errors.ts';
import type { DeltaOrder } from '../../../src/layers/delta-job.ts';
import type { StagedLayer } from '../../../src/layers/layers.ts';
import { type Digest, digestOf } from '../../../src/lib/digest.ts';
import { silentLog } from '../../../src/lib/log.ts';
import type { LeaseRecord } from '../../../src/store/records.ts';

const delta = randomBytes(300_000);
const [lower, upper] = [digestOf('lower'), digestOf('upper')];
const lease: LeaseRecord = { id: 'lease', expiresAt: '', diffIds: [lower, upper], why: '' };

/** Layers that come of the right delta alone, of a wrong one the lower; and what was asked of them and of the registry. */
async function open(t: TestContext) {
  const dataRoot = await mkdtemp(join(tmpdir(), 'skerry-deltas-'));
  t.after(() => rm(dataRoot, { recursive: true }));
  const room = { hasRoomFor: async () => true };
  const spools = await Spools.open({
    dataRoot,
    aboveBytes: undefined,
    withDeltas: true,
    room,
    log: silentLog,
  });
  const asked: (readonly Digest[])[] = [];
  const staged = (diffId: Digest): StagedLayer => ({
    ...{ dirId: diffId, diffId, sizeBytes: 1, tarBytes: 1 },
    ...{ leaseId: lease.id, directory: '' },
  });
  const layers = {
    applyDelta: async (input: Readable, { diffIds, signal }: DeltaOrder) => {
      asked.push(diffIds);
      const bytes = await buffer(input);
      signal.throwIfAborted();
      if (bytes.equals(delta)) return { layers: diffIds.map(staged) };
      const failure = fail.corrupt('delta: a frame is damaged');
      return { layers: diffIds.includes(lower) ? [staged(lower)] : [], failure };
    },
    discard: async () => {},
  };
  const spooled = () => readdirSync(dataRoot);
  let spoolsWhenSettled: string[] = ['never'];
  const settle = async ({ dirId, diffId, sizeBytes, tarBytes }: StagedLayer) => {
    spoolsWhenSettled = spooled();
    return { dirId, diffId, sizeBytes, tarBytes, blobs: [], createdAt: '' };
  };
  const deltas = new DeltaLayers({ layers, spools, settle, isClosed: () => false, log: silentLog });
  const fetched: number[] = [];
  const source = (o: { until?: number; bytes?: Buffer } = {}) => ({
    blob: digestOf(delta),
    sizeBytes: delta.length,
    open: (kept?: KeptPart) => {
      fetched.push(delta.length - (kept?.bytes ?? 0));
      const pieces = async function* () {
        if (kept !== undefined) yield* kept.read();
        yield (o.bytes ?? delta).subarray(kept?.bytes ?? 0, o.until);
        if (o.until !== undefined) throw new Error('the network is gone');
      };
      return Readable.from(pieces(), { objectMode: false });
    },
  });
  const order = {
    goal: { manifestDigest: digestOf('manifest'), imageId: digestOf('config') },
    ...{ base: [], diffIds: [lower, upper], signal: t.signal },
  };
  const spoil = () => {
    const [name = ''] = readdirSync(join(dataRoot, 'spool'));
    writeFileSync(join(dataRoot, 'spool', name), Buffer.alloc(1000), { flag: 'r+' });
  };
  return { deltas, source, order, fetched, asked, spooled, spoil, whenSettled: () => spoolsWhenSettled };
}

test('a delta that breaks off is resumed by the next try, and its spool is gone before anything is published', async (t) => {
  const { deltas, source, order, fetched, spooled, whenSettled } = await open(t);
  await assert.rejects(deltas.fetch(source({ until: 200_000 }), lease, order), /the network is gone/);
  assert.deepEqual(spooled(), ['spool']);
  assert.equal(await deltas.keptOf(source(), order.diffIds), 200_000);
  const { layers, failure, fetchedBytes } = await deltas.fetch(source(), lease, order);
  assert.equal(failure, undefined);
  assert.deepEqual(
    layers.map(({ diffId }) => diffId),
    [lower, upper],
  );
  assert.equal(fetchedBytes, 100_000);
  assert.deepEqual(fetched, [300_000, 100_000]);
  assert.deepEqual(whenSettled(), []);
});

test('a spool that is wrong costs one more download, and no layer that was made', async (t) => {
  const { deltas, source, order, fetched, asked, spoil } = await open(t);
  await assert.rejects(deltas.fetch(source({ until: 200_000 }), lease, order));
  spoil();
  const { layers, failure, fetchedBytes } = await deltas.fetch(source(), lease, order);
  assert.equal(failure, undefined);
  assert.equal(layers.length, 2);
  assert.equal(fetchedBytes, 400_000);
  assert.deepEqual(fetched, [300_000, 100_000, 300_000]);
  assert.deepEqual(asked.slice(1), [[lower, upper], [upper]]);
});

test('a delta that is bad where it comes from is fetched once, and not kept', async (t) => {
  const { deltas, source, order, fetched, spooled } = await open(t);
  const bytes = Buffer.from(delta).fill(0, 0, 1000);
  const { layers, failure } = await deltas.fetch(source({ bytes }), lease, order);
  assert.match(`${failure}`, /a frame is damaged/);
  assert.deepEqual(
    layers.map(({ diffId }) => diffId),
    [lower],
  );
  assert.deepEqual(fetched, [300_000]);
  assert.deepEqual(spooled(), []);
});
