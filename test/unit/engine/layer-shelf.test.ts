import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep, setImmediate as tick } from 'node:timers/promises';
import type { LayerSource } from '../../../src/engine/layer-fetches.ts';
import { LayerShelf } from '../../../src/engine/layer-shelf.ts';
import { Spools } from '../../../src/engine/spools.ts';
import { fail } from '../../../src/errors.ts';
import type { Digest } from '../../../src/lib/digest.ts';
import { abortable } from '../../../src/lib/locks.ts';
import { silentLog } from '../../../src/lib/log.ts';
import { withResolvers } from '../../../src/lib/promises.ts';
import type { LayerRecord, LeaseRecord } from '../../../src/store/records.ts';
import { Store } from '../../../src/store/store.ts';
import { FakeKernel, FakeLayers } from '../../support/fake-kernel.ts';
import { fakeDiffId } from '../../support/fake-registry.ts';
import { imageRecord } from '../../support/image-records.ts';

async function open(t: TestContext, { leaseMs = 3_600_000 } = {}) {
  const directory = await mkdtemp(join(tmpdir(), 'skerry-shelf-'));
  const sizes = {
    cacheBytes: 64 << 10,
    writeBufferBytes: 64 << 10,
    blockBytes: 4 << 10,
    fileBytes: 64 << 10,
  };
  const store = await Store.open({ dir: join(directory, 'db'), ...sizes, log: silentLog });
  const kernel = new FakeKernel();
  const layers = new FakeLayers(kernel);
  const inUse: Digest[] = [];
  const users = { diffIdsInUse: () => inUse };
  const room = { hasRoomFor: async () => true };
  const spools = await Spools.open({
    dataRoot: directory,
    aboveBytes: 1000,
    withDeltas: true,
    room,
    log: silentLog,
  });
  const make = () => new LayerShelf({ store, layers, users, spools, leaseMs, log: silentLog });
  const shelf = make();
  t.after(async () => {
    await shelf[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });
  const count = async (table: 'leases' | 'layers') => {
    let found = 0;
    for await (const _ of store.table<LeaseRecord | LayerRecord>(table).entries()) found++;
    return found;
  };
  return { store, kernel, layers, shelf, make, inUse, count, directory };
}

/** A layer whose second half comes when it is let, with the signal by which its reading is stopped. */
function source(content: string, { isHeld = false } = {}) {
  const { promise, resolve } = withResolvers<void>();
  if (!isHeld) resolve();
  const signals: AbortSignal[] = [];
  const from: LayerSource = {
    diffId: fakeDiffId(content),
    blob: fakeDiffId(content),
    compression: 'none',
    open: (signal) => {
      signals.push(signal);
      const halves = async function* () {
        yield Buffer.from(content.slice(0, 1));
        await abortable(promise, signal);
        yield Buffer.from(content.slice(1));
      };
      return Readable.from(halves(), { signal });
    },
  };
  return { from, letGo: resolve, signals };
}

const quiet = (signal = new AbortController().signal) => ({ onProgress() {}, signal });

test('two who want a layer share the work, and both hear how it goes', async (t) => {
  const { shelf, layers } = await open(t);
  const { from, letGo, signals } = source('layer', { isHeld: true });
  const lease = await shelf.lease([from.diffId], 'test');
  const heard = [0, 0];
  const fetches = [0, 1].map((who) =>
    shelf.fetch(from, lease, {
      onProgress: () => {
        heard[who] = (heard[who] ?? 0) + 1;
      },
      signal: new AbortController().signal,
    }),
  );
  await sleep(10);
  letGo();
  const [one, other] = await Promise.all(fetches);
  assert.deepEqual(one, other);
  assert.equal(signals.length, 1);
  assert.deepEqual(layers.extractions, [from.diffId]);
  assert.ok(heard.every((times) => times > 0));
});

test('a layer that another pull has just brought is not brought again', async (t) => {
  const { shelf, layers, kernel } = await open(t);
  const { from } = source('layer');
  const lease = await shelf.lease([from.diffId], 'test');
  const first = await shelf.fetch(from, lease, quiet());
  assert.deepEqual(await shelf.fetch(from, lease, quiet()), first);
  assert.equal(layers.extractions.length, 1);
  assert.equal(kernel.layers.size, 1);
});

test('one of two leaves: the work goes on; both leave: it stops', async (t) => {
  const { shelf, kernel } = await open(t);
  const { from, letGo, signals } = source('layer', { isHeld: true });
  const lease = await shelf.lease([from.diffId], 'test');
  const aborts = [new AbortController(), new AbortController()];
  const fetches = aborts.map(({ signal }) => shelf.fetch(from, lease, quiet(signal)));
  while (signals.length === 0) await sleep(5);
  aborts[0]?.abort(new Error('first leaves'));
  await assert.rejects(fetches[0] ?? assert.fail(), /first leaves/);
  assert.equal(signals[0]?.aborted, false);
  aborts[1]?.abort(new Error('second leaves'));
  await assert.rejects(fetches[1] ?? assert.fail(), /second leaves/);
  assert.equal(signals[0]?.aborted, true);
  // one that comes at this very moment begins anew
  const { from: again } = source('layer');
  assert.equal((await shelf.fetch(again, lease, quiet())).diffId, from.diffId);
  letGo();
  await tick();
  assert.equal(kernel.layers.size, 1);
  assert.equal(kernel.staging.size, 0);
});

test('the last to leave waits for what can no longer be stopped', async (t) => {
  const { shelf, layers, kernel, count } = await open(t);
  const { promise, resolve } = withResolvers<void>();
  const publish = layers.publish.bind(layers);
  layers.publish = async (staged) => {
    await promise;
    return publish(staged);
  };
  const { from } = source('layer');
  const lease = await shelf.lease([from.diffId], 'test');
  const abort = new AbortController();
  let hasLeft = false;
  const fetch = shelf.fetch(from, lease, quiet(abort.signal)).finally(() => {
    hasLeft = true;
  });
  await sleep(10);
  abort.abort(new Error('client left'));
  await sleep(10);
  assert.equal(hasLeft, false);
  resolve();
  await assert.rejects(fetch, /client left/);
  assert.deepEqual([await count('layers'), kernel.layers.size], [1, 1]);
});

test('one that joins what the last has just given up begins anew', async (t) => {
  const { shelf, layers } = await open(t);
  const { promise, resolve } = withResolvers<void>();
  const publish = layers.publish.bind(layers);
  layers.publish = async () => {
    layers.publish = publish;
    await promise;
    throw new Error('given up');
  };
  const { from } = source('layer');
  const lease = await shelf.lease([from.diffId], 'test');
  const abort = new AbortController();
  const left = assert.rejects(shelf.fetch(from, lease, quiet(abort.signal)), /client left/);
  await sleep(10);
  abort.abort(new Error('client left'));
  await sleep(5);
  const joined = shelf.fetch(from, lease, quiet());
  resolve();
  await left;
  assert.equal((await joined).diffId, from.diffId);
  assert.equal(layers.extractions.length, 2);
});

test('what fails fails for all who wait, and can be tried again', async (t) => {
  const { shelf } = await open(t);
  const good = source('layer').from;
  const bad = { ...good, open: () => Readable.from([Buffer.from('junk')]) };
  const lease = await shelf.lease([good.diffId], 'test');
  const fetches = [shelf.fetch(bad, lease, quiet()), shelf.fetch(bad, lease, quiet())];
  for (const fetch of fetches) await assert.rejects(fetch, { code: 'CORRUPT' });
  assert.equal(await shelf.get(good.diffId), undefined);
  await shelf.fetch(good, lease, quiet());
  assert.ok(await shelf.isWhole([good.diffId]));
});

test('nothing is begun once the engine goes down', async (t) => {
  const { shelf, layers } = await open(t);
  const { from } = source('layer', { isHeld: true });
  const lease = await shelf.lease([from.diffId], 'test');
  const fetch = shelf.fetch(from, lease, quiet());
  await sleep(5);
  await Promise.all([assert.rejects(fetch, /shutting down/), shelf[Symbol.asyncDispose]()]);
  await assert.rejects(shelf.fetch(from, lease, quiet()), /shutting down/);
  assert.equal(layers.extractions.length, 1);
});

test('a collection takes only what no image, container or living lease names', async (t) => {
  const { store, shelf, kernel, inUse } = await open(t);
  const names = ['of-image', 'of-container', 'leased', 'stray'];
  const lease = await shelf.lease(names.map(fakeDiffId), 'test');
  for (const name of names) await shelf.fetch(source(name).from, lease, quiet());
  const image = imageRecord({ diffIds: [fakeDiffId('of-image')] });
  const leased = await shelf.lease([fakeDiffId('leased')], 'another');
  inUse.push(fakeDiffId('of-container'));
  await store.commit([store.table('images').put(image.id, image)]);
  assert.deepEqual(await shelf.collect(), []);
  await store.commit([store.table('leases').remove(lease.id)]);
  shelf.release(lease);
  const gone = await shelf.collect();
  assert.deepEqual(
    gone.map(({ diffId }) => diffId),
    [fakeDiffId('stray')],
  );
  await store.commit([store.table('leases').remove(leased.id)]);
  shelf.release(leased);
  const freed = await shelf.dropImages([image.id], []);
  assert.deepEqual(
    new Set(freed.map(({ diffId }) => diffId)),
    new Set([fakeDiffId('of-image'), fakeDiffId('leased')]),
  );
  assert.deepEqual(
    [...kernel.layers.values()].map(({ diffId }) => diffId),
    [fakeDiffId('of-container')],
  );
  await assert.rejects(shelf.directories([fakeDiffId('stray')]), { code: 'CORRUPT' });
});

test('a lease outlives its term while its pull goes on, and ends by itself after it', async (t) => {
  const { shelf, count, kernel } = await open(t, { leaseMs: 30 });
  const { from } = source('layer');
  const lease = await shelf.lease([from.diffId], 'test');
  await shelf.fetch(from, lease, quiet());
  await sleep(40);
  assert.deepEqual(await shelf.collect(), []);
  await shelf.abandon(lease, new Error('client left'));
  for (let waitedMs = 0; (await count('leases')) > 0 && waitedMs < 2000; waitedMs += 20) await sleep(20);
  assert.deepEqual([await count('leases'), await count('layers'), kernel.layers.size], [0, 0, 0]);
});

test('a pull that gives up leaves what it finished, unless the disk is full or there is nothing', async (t) => {
  const { shelf, count, kernel } = await open(t);
  const begin = async (name: string) => {
    const { from } = source(name);
    const lease = await shelf.lease([from.diffId, fakeDiffId('missing')], 'test');
    await shelf.fetch(from, lease, quiet());
    return lease;
  };
  await shelf.abandon(await shelf.lease([fakeDiffId('missing')], 'nothing done'), new Error('x'));
  assert.equal(await count('leases'), 0);
  await shelf.abandon(await begin('one'), new Error('connection lost'));
  assert.deepEqual([await count('leases'), kernel.layers.size], [1, 1]);
  await shelf.abandon(await begin('two'), fail.noSpace('no space left on device'));
  assert.deepEqual([await count('leases'), kernel.layers.size], [1, 1]);
});

test('the end of a lease ends those of dead pulls that waited for the same, and no others', async (t) => {
  const { store, shelf, make } = await open(t);
  const [a, b] = [fakeDiffId('a'), fakeDiffId('b')];
  await shelf.lease([a], 'dead');
  await shelf.lease([a, fakeDiffId('c')], 'dead, and wanted more');
  const next = make(); // another daemon
  const alive = await next.lease([a], 'alive');
  const mine = await next.lease([a, b], 'mine');
  await store.commit(await next.leaseEnds(mine));
  const left: string[] = [];
  for await (const [, { why }] of store.table<LeaseRecord>('leases').entries()) left.push(why);
  assert.deepEqual(left.sort(), ['alive', 'dead, and wanted more']);
  next.release(alive);
});

test('boot: the disk is believed, orphans are adopted only if records were lost', async (t) => {
  const { store, shelf, make, kernel, count } = await open(t);
  const lease = await shelf.lease([fakeDiffId('kept'), fakeDiffId('lost')], 'test');
  await shelf.fetch(source('kept').from, lease, quiet());
  const lost = await shelf.fetch(source('lost').from, lease, quiet());
  const image = imageRecord({ diffIds: [fakeDiffId('kept'), fakeDiffId('lost')] });
  await store.commit([store.table('images').put(image.id, image)]);
  kernel.layers.delete(lost.dirId);
  const orphan = { dirId: 'orphan', diffId: fakeDiffId('orphan'), sizeBytes: 1, tarBytes: 1 };
  kernel.layers.set('orphan', orphan);
  kernel.staging.add('x/y');

  const adopting = make();
  await adopting.recover({ adoptOrphans: true });
  assert.ok(await adopting.isWhole([orphan.diffId]));
  assert.ok(!adopting.isIntact(image.diffIds));
  assert.equal(kernel.staging.size, 0);
  await store.commit([store.table('layers').remove(orphan.diffId)]);

  const strict = make();
  await strict.recover({ adoptOrphans: false });
  assert.deepEqual(
    [...kernel.layers.values()].map(({ diffId }) => diffId),
    [fakeDiffId('kept')],
  );
  assert.equal(await count('layers'), 1);
  assert.ok(!strict.isIntact(image.diffIds)); // still, although its record has gone with the last boot
  await strict.fetch(source('lost').from, lease, quiet());
  assert.ok(strict.isIntact(image.diffIds));
});

test('a layer known by its bytes alone is leased, and one that is here already is not kept twice', async (t) => {
  const { shelf, kernel, store } = await open(t);
  const lease = await shelf.lease([], 'test');
  const signal = new AbortController().signal;
  const bytes = () => Readable.from([Buffer.from('made here')]);
  const added = await shelf.add(bytes(), lease, { compression: 'none', signal });
  assert.equal(added.diffId, fakeDiffId('made here'));
  assert.deepEqual(added.blobs, []);
  assert.deepEqual(await shelf.collect(), [], 'the lease keeps it');
  assert.deepEqual((await store.table<LeaseRecord>('leases').get(lease.id))?.diffIds, [added.diffId]);
  assert.deepEqual(await shelf.add(bytes(), lease, { compression: 'none', signal }), added);
  assert.equal(kernel.layers.size, 1);
  assert.equal(kernel.staging.size, 0);
});

test('a pinned layer stays when its image goes, and goes with the pin', async (t) => {
  const { shelf, store, kernel, count } = await open(t);
  const { from } = source('layer');
  const lease = await shelf.lease([from.diffId], 'test');
  await shelf.fetch(from, lease, quiet());
  const image = imageRecord({ diffIds: [from.diffId] });
  await store.commit([store.table('images').put(image.id, image), ...(await shelf.leaseEnds(lease))]);
  shelf.release(lease);
  {
    await using pin = shelf.pin();
    assert.equal((await shelf.keep(from.diffId, pin))?.diffId, from.diffId);
    assert.equal(await shelf.keep(fakeDiffId('other'), pin), undefined);
    assert.deepEqual(await shelf.dropImages([image.id], []), []);
    await shelf.collect();
    assert.equal(kernel.layers.size, 1);
  }
  assert.equal(kernel.layers.size, 0);
  assert.equal(await count('layers'), 0);
});

test('a layer is added as what it is said to be, and is found by its blob', async (t) => {
  const { shelf, kernel } = await open(t);
  const lease = await shelf.lease([], 'test');
  const { signal } = new AbortController();
  const bytes = () => Readable.from([Buffer.from('tar')]);
  const [diffId, blob] = [fakeDiffId('tar'), fakeDiffId('blob')];
  const lie = shelf.add(bytes(), lease, { compression: 'none', diffId: blob, signal });
  await assert.rejects(lie, { code: 'CORRUPT' });
  await shelf.add(bytes(), lease, { compression: 'none', diffId, blob, signal });
  assert.equal(await shelf.diffIdOf(blob), diffId);
  assert.equal(await shelf.diffIdOf(diffId), undefined);
  await shelf.drop(lease);
  assert.deepEqual([kernel.layers.size, kernel.staging.size], [0, 0]);
});

test('a spool that turns out wrong is dropped, and the blob comes once from zero besides the usual try', async (t) => {
  const { shelf, directory, count } = await open(t);
  const content = 'layer'.repeat(1000);
  const { from } = source(content);
  const kept: (number | undefined)[] = [];
  const breakOff = [2000];
  const spooled: LayerSource = {
    ...from,
    sizeBytes: content.length,
    open: (_signal, part) => {
      kept.push(part?.bytes);
      const bytes = async function* () {
        if (part !== undefined) yield* part.read();
        const until = breakOff.shift();
        yield Buffer.from(content.slice(part?.bytes ?? 0, until));
        if (until !== undefined) throw new Error('connection lost');
      };
      return Readable.from(bytes(), { objectMode: false });
    },
  };
  const lease = await shelf.lease([from.diffId], 'test');
  await assert.rejects(shelf.fetch(spooled, lease, quiet()), /connection lost/);
  await shelf.abandon(lease, new Error('connection lost'));
  assert.equal(await count('leases'), 1, 'what was spooled is worth the lease');
  const [name = ''] = await readdir(join(directory, 'spool'));
  await writeFile(join(directory, 'spool', name), Buffer.alloc(2000));
  const again = await shelf.lease([from.diffId], 'test');
  assert.equal((await shelf.fetch(spooled, again, quiet())).diffId, from.diffId);
  assert.deepEqual(kept, [undefined, 2000, undefined]);
  await assert.rejects(readdir(join(directory, 'spool')), { code: 'ENOENT' });
});

/** A blob that breaks off, and is spooled until then. */
function broken(from: LayerSource): LayerSource {
  const open = () =>
    Readable.from(
      (function* () {
        for (let i = 0; i < 30; i++) yield Buffer.alloc(100);
        throw new Error('connection lost');
      })(),
    );
  return { ...from, sizeBytes: 5000, open };
}

test('spools go with the last lease that names their layer', async (t) => {
  const { shelf, directory } = await open(t);
  const { from } = source('layer');
  const lease = await shelf.lease([from.diffId], 'test');
  await assert.rejects(shelf.fetch(broken(from), lease, quiet()), /connection lost/);
  assert.equal((await readdir(join(directory, 'spool'))).length, 1);
  await shelf.abandon(lease, fail.store('cannot commit', new Error('ENOSPC: no space left on device')));
  await assert.rejects(readdir(join(directory, 'spool')), { code: 'ENOENT' });
});

test('a spool goes when its layer is here, be the lease as it may', async (t) => {
  const { shelf, store, directory, count } = await open(t);
  const { from } = source('layer');
  const lease = await shelf.lease([from.diffId], 'test');
  await assert.rejects(shelf.fetch(broken(from), lease, quiet()), /connection lost/);
  // the daemon before came to record the layer, and no further
  const { diffId } = from;
  const record = { diffId, dirId: 'd', sizeBytes: 1, tarBytes: 1, blobs: [], createdAt: '' };
  await store.commit([store.table<LayerRecord>('layers').put(diffId, record)]);
  await shelf.collect();
  await assert.rejects(readdir(join(directory, 'spool')), { code: 'ENOENT' });
  assert.equal(await count('leases'), 1);
});
