import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { formatHeader, PREFIX_BYTES, parsePrefix } from '../../src/delta/delta-header.ts';
import type { LayerTar } from '../../src/delta/delta-reader.ts';
import { encodeDelta } from '../../src/delta/encoder.ts';
import { Failure } from '../../src/errors.ts';
import type { PublishedLayer } from '../../src/layers/layer-records.ts';
import { Layers } from '../../src/layers/layers.ts';
import { type Digest, digestOf } from '../../src/lib/digest.ts';
import { silentLog } from '../../src/lib/log.ts';
import { layerOf, layerTar, noise, text } from '../support/delta-tars.ts';
import { archive } from '../support/tar-archive.ts';

const childPath = fileURLToPath(new URL('../../dist/extract-layer.js', import.meta.url));
const skip = process.getuid?.() === 0 ? false : 'needs root: owners of files';

const config = Buffer.from('{"os":"linux"}');
const manifest = Buffer.from('{"schemaVersion":2}');
const goal = { manifestDigest: digestOf(manifest), imageId: digestOf(config) };

const etc = { name: 'etc/', type: '5' } as const;
const base = layerOf([
  etc,
  { name: 'etc/program', content: noise(300_000) },
  { name: 'etc/text', content: text(200_000, 9) },
]);
const changed = layerOf([
  etc,
  { name: 'etc/program', content: Buffer.concat([noise(300_000).subarray(0, 150_000), noise(900, 3)]) },
  { name: 'etc/text', content: Buffer.concat([text(200_000, 9), Buffer.from('more\n')]) },
  { name: 'etc/link', type: '2', linkName: 'text' },
]);
const added = layerOf([{ name: 'new', content: text(50_000, 5) }]);

async function deltaTo(layers: readonly LayerTar[], from: readonly LayerTar[] = [base]): Promise<Buffer> {
  const frames: Buffer[] = [];
  const header = await encodeDelta({
    base: from,
    target: {
      layers,
      config: config.toString(),
      manifest: manifest.toString(),
      manifestDigest: goal.manifestDigest,
      mediaType: 'x/y',
    },
    quality: 4,
    jobs: 2,
    keep: (frame) => void frames.push(frame),
    signal: new AbortController().signal,
  });
  return Buffer.concat([header, ...frames]);
}

/** The same delta with a header that calls one of its layers something else, which no encoder does. */
async function claiming(delta: Buffer, { of, claimed }: { of: Digest; claimed: Digest }): Promise<Buffer> {
  const { bytes, parse } = parsePrefix(delta.subarray(0, PREFIX_BYTES));
  const header = parse(delta.subarray(PREFIX_BYTES, PREFIX_BYTES + bytes));
  const layers = header.layers.map((layer) => (layer.diffId === of ? { ...layer, diffId: claimed } : layer));
  return Buffer.concat([await formatHeader({ ...header, layers }), delta.subarray(PREFIX_BYTES + bytes)]);
}

interface World {
  layers: Layers;
  dataRoot: string;
  here: PublishedLayer;
  apply(
    delta: Buffer | Readable,
    o?: Partial<Parameters<Layers['applyDelta']>[1]>,
  ): ReturnType<Layers['applyDelta']>;
  /** What a layer is made of on disk, but for its place. */
  contentOf(dirId: string): Promise<unknown>;
  staged(): string[];
}

async function worldFor(t: TestContext, tar: LayerTar = base): Promise<World> {
  const dataRoot = mkdtempSync(join(tmpdir(), 'skerry-delta-'));
  t.after(() => rmSync(dataRoot, { recursive: true, force: true }));
  const layers = await Layers.open({ dataRoot, childPath, parallel: 2, log: silentLog });
  const extract = async ({ diffId, tarBytes, read }: LayerTar) => {
    const input = Readable.from([read(0, tarBytes)]);
    const staged = await layers.extract(input, {
      leaseId: 'lease',
      compression: 'none',
      diffId,
      signal: t.signal,
    });
    return layers.publish(staged);
  };
  const here = await extract(tar);
  return {
    layers,
    dataRoot,
    here,
    apply: (delta, more = {}) =>
      layers.applyDelta(Buffer.isBuffer(delta) ? Readable.from([delta]) : delta, {
        leaseId: 'lease',
        goal,
        base: [here],
        diffIds: [changed.diffId, added.diffId],
        signal: t.signal,
        ...more,
      }),
    contentOf: async (dirId) => ({
      files: readdirSync(join(dataRoot, 'layers', dirId), { recursive: true }).toSorted(),
      tar: digestOf(await buffer(layers.tar(dirId))),
    }),
    staged: () => readdirSync(join(dataRoot, 'staging')),
  };
}

/** Flips one bit of a file of the base that the delta copies from. */
function spoil({ dataRoot, here }: World, file: string, at = 100): void {
  const path = join(dataRoot, 'layers', here.dirId, 'diff', file);
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(path, bytes);
}

const corrupt = (message: RegExp) => ({ code: 'CORRUPT', message });

test('layers made of a delta are the layers that their tars would have made', { skip }, async (t) => {
  const world = await worldFor(t);
  const { layers: made, failure } = await world.apply(await deltaTo([base, changed, added]));
  assert.equal(failure, undefined);
  assert.deepEqual(
    made.map(({ diffId }) => diffId),
    [changed.diffId, added.diffId],
  );
  for (const [at, tar] of [changed, added].entries()) {
    const staged = made[at];
    assert.ok(staged !== undefined);
    const published = await world.layers.publish(staged);
    const input = Readable.from([tar.read(0, tar.tarBytes)]);
    const o = { leaseId: 'other', compression: 'none', diffId: tar.diffId, signal: t.signal } as const;
    const plain = await world.layers.publish(await world.layers.extract(input, o));
    assert.deepEqual(await world.contentOf(published.dirId), await world.contentOf(plain.dirId));
    assert.deepEqual({ ...published, dirId: '' }, { ...plain, dirId: '' });
  }
  assert.deepEqual(world.staged(), []);
});

test('layers that nobody wants are passed over, and those that the delta has not are left out', {
  skip,
}, async (t) => {
  const world = await worldFor(t);
  const other = digestOf(Buffer.from('other'));
  const { layers, failure } = await world.apply(await deltaTo([changed, added]), {
    diffIds: [added.diffId, other],
  });
  assert.equal(failure, undefined);
  assert.deepEqual(
    layers.map(({ diffId }) => diffId),
    [added.diffId],
  );
  for (const staged of layers) await world.layers.discard(staged);
  assert.deepEqual(world.staged(), []);
});

test('a flipped byte of the base is noticed, and the layer named', { skip }, async (t) => {
  const world = await worldFor(t);
  spoil(world, 'etc/program');
  const { layers, failure } = await world.apply(await deltaTo([changed]));
  assert.deepEqual(layers, []);
  assert.match(String(failure), new RegExp(`layer ${base.diffId} of its base is damaged`));
  assert.ok(failure instanceof Failure);
  assert.equal(failure.facts['layer'], base.diffId);
  assert.match(failure.facts['damage'] ?? '', /verification failed/);
  assert.deepEqual(world.staged(), []);
});

test('what was made before something went wrong stays made', { skip }, async (t) => {
  const world = await worldFor(t);
  spoil(world, 'etc/program');
  const { layers, failure } = await world.apply(await deltaTo([added, changed]));
  assert.deepEqual(
    layers.map(({ diffId }) => diffId),
    [added.diffId],
  );
  assert.match(String(failure), /of its base is damaged/);
  for (const staged of layers) await world.layers.discard(staged);
  assert.deepEqual(world.staged(), []);
});

test('a layer that is not what the delta says of it does not count, and the base is not blamed', {
  skip,
}, async (t) => {
  const world = await worldFor(t);
  const claimed = digestOf(Buffer.from('something else'));
  const delta = await claiming(await deltaTo([added, changed]), { of: changed.diffId, claimed });
  const { layers, failure } = await world.apply(delta, { diffIds: [added.diffId, claimed] });
  assert.deepEqual(
    layers.map(({ diffId }) => diffId),
    [added.diffId],
  );
  assert.ok(failure instanceof Failure && failure.code === 'CORRUPT', String(failure));
  assert.match(failure.message, new RegExp(`expected ${claimed}, made ${changed.diffId}`));
  for (const staged of layers) await world.layers.discard(staged);
  assert.deepEqual(world.staged(), []);
});

test('a base that has lost a file or its tar-split is noticed', { skip }, async (t) => {
  const delta = await deltaTo([changed]);
  for (const lost of ['diff/etc/program', 'tar-split']) {
    const world = await worldFor(t);
    rmSync(join(world.dataRoot, 'layers', world.here.dirId, lost));
    const outcome = world.apply(delta).then(({ failure }) => Promise.reject(failure));
    const message = new RegExp(`layer ${base.diffId} of its base is damaged`);
    await assert.rejects(outcome, { code: 'BASE_DAMAGED', message });
    assert.deepEqual(world.staged(), []);
  }
});

test('flipped bytes of a delta, and less of it, are refused', { skip }, async (t) => {
  const world = await worldFor(t);
  const delta = await deltaTo([changed]);
  const last = delta.length - 1;
  const damaged = [0, 9, 60, delta.length >> 1, last].map((at) => {
    const copy = Buffer.from(delta);
    copy[at] = (copy[at] ?? 0) ^ 4;
    return copy;
  });
  const cut = [0, 20, delta.length >> 1, last].map((bytes) => delta.subarray(0, bytes));
  for (const bytes of [...damaged, ...cut]) {
    const outcome = world.apply(bytes).then(({ layers, failure }) => {
      assert.deepEqual(layers, []);
      throw failure ?? new Error('it was taken');
    });
    await assert.rejects(outcome, corrupt(/^delta: /));
    assert.deepEqual(world.staged(), []);
  }
});

test('a delta of another target, of another base or of too much is refused', { skip }, async (t) => {
  const world = await worldFor(t);
  const delta = await deltaTo([changed]);
  const other: Digest = digestOf(Buffer.from('other'));
  const refused = (o: Parameters<World['apply']>[1], error: object) =>
    assert.rejects(
      world.apply(delta, o).then(({ failure }) => Promise.reject(failure)),
      error,
    );
  await refused({ goal: { ...goal, manifestDigest: other } }, corrupt(/it leads to sha256:.*, not to/));
  await refused({ goal: { ...goal, imageId: other } }, corrupt(/it leads to image sha256:.*, not to/));
  await refused({ base: [] }, corrupt(new RegExp(`layer ${base.diffId} of its base is missing`)));
  await refused({ maxBytes: changed.tarBytes - 1 }, { code: 'LAYER_TOO_LARGE' });
  assert.deepEqual(world.staged(), []);
});

test('an abort, or an input that fails, leaves nothing', { skip }, async (t) => {
  const large = layerTar(archive([{ name: 'noise', content: noise(9 << 20) }]));
  const world = await worldFor(t);
  const delta = await deltaTo([large]);
  const first = delta.subarray(0, delta.length - 1000);
  const order = { diffIds: [large.diffId] };
  const staging = () => world.staged().length > 0;
  const abort = new AbortController();
  const stalled = new PassThrough();
  stalled.write(first);
  const aborted = world.apply(stalled, { ...order, signal: abort.signal });
  while (!staging()) await sleep(20);
  abort.abort(new Error('enough'));
  await assert.rejects(aborted, /enough/);
  assert.deepEqual(world.staged(), []);
  const failing = new PassThrough();
  failing.write(first);
  const failed = world.apply(failing, order);
  while (!staging()) await sleep(20);
  failing.destroy(new Error('the line is dead'));
  await assert.rejects(failed, /the line is dead/);
  assert.deepEqual(world.staged(), []);
});
