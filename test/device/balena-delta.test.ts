import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BASE_LABEL, TARGET_LABEL } from '../../src/lib/delta-image.ts';
import { hexOf } from '../../src/lib/digest.ts';
import { archive, dockerMembers, layoutMembers, load } from '../support/archives.ts';
import { noise } from '../support/delta-tars.ts';
import { TestEngine } from '../support/engine.ts';
import { type FaultyProxy, startFaultyProxy } from '../support/faulty-proxy.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { deltaLayer, emptyLayer, rdiff, rdiffImage } from '../support/rdiff.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import {
  layerOf,
  makeImage,
  makeLayer,
  push,
  type TestImage,
  type TestLayer,
} from '../support/registry-images.ts';
import { SmallDisk } from '../support/small-disk.ts';

/** Delta images of the balena kind, made with rdiff: pulled, loaded, and what becomes of those that are not right. */
let engine: TestEngine;
let registry: TestRegistry;
let proxy: FaultyProxy;
let shared: TestLayer;
let old: TestLayer;
let young: TestLayer;
let v1: TestImage;
let v2: TestImage;
let delta: TestImage;
let baseTar: Buffer;

interface Line {
  status?: string;
  id?: string;
  error?: string;
  progressDetail?: object;
}

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  proxy = await startFaultyProxy(registry.host);
  const program = noise(600_000);
  shared = await makeLayer({ 'etc/shared': noise(5000, 4) });
  old = await makeLayer({ 'bin/program': program });
  young = await makeLayer({
    'bin/program': Buffer.concat([program.subarray(0, 300_000), noise(2000, 3), program.subarray(300_000)]),
  });
  v1 = makeImage({ layers: [shared, old], config: { Labels: { v: '1' } } });
  v2 = makeImage({ layers: [shared, young], config: { Labels: { v: '2' } } });
  delta = rdiffImage(v1, v2);
  baseTar = Buffer.concat([shared.tar, old.tar]);
  engine = await TestEngine.start({ flags: ['--supervisor-compat'] });
});

after(async () => {
  await engine.stop();
  const left = await engine.remains();
  await engine[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  assert.deepEqual(left, []);
});

let repository = '';
let count = 0;

/** v1 is here, by a tag of its own, and nothing else. */
beforeEach(async () => {
  proxy.reset();
  await engine.ok(['image', 'prune', '-af']);
  repository = `app${++count}`;
  await push(registry.host, repository, ['v1'], v1);
  assert.equal((await pull('v1')).at(-1)?.error, undefined);
  proxy.reset();
});

async function pull(tag: string): Promise<Line[]> {
  const path = `/images/create?fromImage=${proxy.host}/${repository}&tag=${tag}`;
  const text = await new Promise<string>((resolve, reject) => {
    request({ socketPath: engine.socket, path, method: 'POST' }, (answer) => {
      assert.equal(answer.statusCode, 200);
      textOf(answer).then(resolve, reject);
    })
      .on('error', reject)
      .end();
  });
  return text
    .trim()
    .split('\r\n')
    .map((line) => JSON.parse(line) as Line);
}

const blobsAsked = () => proxy.seen(/\/blobs\//).map(({ path }) => path.split('/').at(-1));
const named = (tag: string) => `${proxy.host}/${repository}:${tag}`;

/** The diff IDs of all layers on the disk. */
function layersHere(): string[] {
  return readdirSync(join(engine.dataRoot, 'layers'))
    .map((dirId) => {
      const path = join(engine.dataRoot, 'layers', dirId, 'layer.json');
      return (JSON.parse(readFileSync(path, 'utf8')) as { diffId: string }).diffId;
    })
    .sort();
}

const sorted = (...layers: TestLayer[]) => [...new Set(layers.map(({ diffId }) => diffId as string))].sort();

/** The name stands for the target; the disk holds the layers of both images and nothing of the delta. */
async function isTarget(tag: string): Promise<void> {
  const image = await engine.json(`/images/${named(tag)}/json`);
  assert.equal(image.Id, v2.configDigest);
  assert.deepEqual(image.RootFS.Layers, [shared.diffId, young.diffId]);
  assert.deepEqual(image.Config.Labels, { v: '2' });
  assert.deepEqual(layersHere(), sorted(shared, old, young));
  assert.deepEqual(readdirSync(join(engine.dataRoot, 'staging')), []);
}

/** Nothing of it came to be: neither name nor layer. */
async function isRefused(tag: string, lines: readonly Line[], why: RegExp): Promise<void> {
  assert.match(lines.at(-1)?.error ?? '', why);
  assert.equal((await engine.get(`/images/${named(tag)}/json`)).status, 404);
  assert.equal((await engine.get(`/images/${v2.configDigest}/json`)).status, 404);
  assert.deepEqual(layersHere(), sorted(shared, old));
  assert.deepEqual(readdirSync(join(engine.dataRoot, 'staging')), []);
}

test('a delta image that is pulled becomes the image that it leads to', async () => {
  await push(registry.host, repository, ['delta'], delta);
  const lines = await pull('delta');
  assert.equal(lines.at(-1)?.error, undefined);
  assert.deepEqual(blobsAsked(), [delta.configDigest, delta.layers[1]?.digest]);
  const statuses = new Set(lines.map(({ status }) => status));
  for (const status of ['Already exists', 'Pulling fs layer', 'Extracting', 'Pull complete'])
    assert.equal(statuses.has(status), true, status);
  const totals = lines.filter(({ id }) => id === 'Total').map(({ progressDetail }) => progressDetail);
  const size = delta.layers[1]?.blob.length;
  assert.deepEqual(totals.at(-1), { current: size, total: size });
  await isTarget('delta');
  assert.deepEqual((await engine.json(`/images/${named('delta')}/json`)).RepoDigests, []);
  const again = await pull('delta');
  assert.match(again.at(-1)?.status ?? '', /Image is up to date/);
});

test('asked for by its digest it is found by that, which is not told as the digest of the target', async () => {
  await push(registry.host, repository, [], rdiffImage(v1, v2, { packing: 'zstd' }));
  await push(registry.host, repository, ['delta'], delta);
  assert.equal((await pull(delta.digest)).at(-1)?.error, undefined);
  const image = await engine.json(`/images/${proxy.host}/${repository}@${delta.digest}/json`);
  assert.deepEqual([image.Id, image.RepoTags, image.RepoDigests], [v2.configDigest, [], []]);
  await engine.kill();
  await engine.boot();
  assert.equal((await engine.get(`/images/${proxy.host}/${repository}@${delta.digest}/json`)).status, 200);
  await engine.ok(['rmi', `${proxy.host}/${repository}@${delta.digest}`]);
  assert.equal((await engine.get(`/images/${v2.configDigest}/json`)).status, 404);
  assert.deepEqual(layersHere(), sorted(shared, old));
});

test('the blob of a delta is not taken for that of the layer which it makes', async () => {
  await push(registry.host, repository, ['delta'], delta);
  assert.equal((await pull('delta')).at(-1)?.error, undefined);
  const files = makeImage({ layers: delta.layers });
  const { error } = await load(engine.socket, archive(layoutMembers([{ image: files }])));
  assert.equal(error, undefined);
  const { RootFS } = await engine.json(`/images/${files.configDigest}/json`);
  assert.deepEqual(
    RootFS.Layers,
    delta.layers.map(({ diffId }) => diffId),
  );
});

test('a target that stands under its own name already gets one more, and nothing is fetched', async () => {
  await push(registry.host, repository, ['v2'], v2);
  await push(registry.host, repository, ['delta'], delta);
  assert.equal((await pull('v2')).at(-1)?.error, undefined);
  proxy.reset();
  assert.equal((await pull('delta')).at(-1)?.error, undefined);
  assert.deepEqual(blobsAsked(), [delta.configDigest]);
  const image = await engine.json(`/images/${named('delta')}/json`);
  assert.deepEqual(image.RepoTags, [named('delta'), named('v2')]);
  assert.deepEqual(image.RepoDigests, [`${proxy.host}/${repository}@${v2.digest}`]);
  await isTarget('delta');
});

for (const packing of ['zstd', 'none'] as const) {
  test(`its layers may be packed by ${packing}; what breaks off is resumed`, async () => {
    const image = rdiffImage(v1, v2, { packing });
    await push(registry.host, repository, ['delta'], image);
    const bytes = image.layers[1]?.blob.length ?? 0;
    const path = new RegExp(`/blobs/${image.layers[1]?.digest}`);
    proxy.fault({ path, times: 1, do: { kind: 'cut', afterBytes: bytes >> 1 } });
    assert.equal((await pull('delta')).at(-1)?.error, undefined);
    const ranges = proxy.seen(path).map(({ headers }) => headers['range']);
    assert.deepEqual(ranges, [undefined, `bytes=${bytes >> 1}-`]);
    await isTarget('delta');
  });
}

test('a base that is not here is named before any layer is fetched', async () => {
  await push(registry.host, repository, ['delta'], rdiffImage(young1(), v2));
  const lines = await pull('delta');
  await isRefused('delta', lines, new RegExp(`base image ${young1().configDigest} is not here`));
  assert.equal(blobsAsked().length, 1);
});

/** An image that is nowhere. */
const young1 = () => makeImage({ layers: [shared, old], config: { Labels: { v: '1.1' } } });

test('a base with a flipped byte is noticed before anything is published, and named', async () => {
  const diffs = readdirSync(join(engine.dataRoot, 'layers')).map((dirId) =>
    join(engine.dataRoot, 'layers', dirId, 'diff/bin/program'),
  );
  const path = diffs.find((program) => existsSync(program)) ?? '';
  const bytes = readFileSync(path);
  writeFileSync(path, Buffer.from(bytes).fill((bytes[1000] ?? 0) ^ 1, 1000, 1001));
  await push(registry.host, repository, ['delta'], delta);
  const lines = await pull('delta');
  await isRefused('delta', lines, new RegExp(`layer ${old.diffId} of its base is damaged`));
  assert.deepEqual(blobsAsked(), [delta.configDigest, delta.layers[1]?.digest]); // and not once more
  // from now on it is known to be damaged, until a pull brings it anew
  proxy.reset();
  assert.match((await pull('delta')).at(-1)?.error ?? '', /base image sha256:[0-9a-f]{64} is damaged/);
  assert.deepEqual(blobsAsked(), [delta.configDigest]);
  assert.equal((await pull('v1')).at(-1)?.error, undefined);
  assert.equal((await pull('delta')).at(-1)?.error, undefined);
  await isTarget('delta');
});

/** A delta of librsync's that copies these ranges of the base (librsync, command.h: COPY N8 N4). */
function copies(...ranges: readonly [position: number, bytes: number][]): Buffer {
  const commands = ranges.map(([position, bytes]) => {
    const command = Buffer.alloc(13, 0);
    command[0] = 0x53;
    command.writeBigUInt64BE(BigInt(position), 1);
    command.writeUInt32BE(bytes, 9);
    return command;
  });
  return Buffer.concat([Buffer.from('72730236', 'hex'), ...commands, Buffer.of(0)]);
}

test('what contradicts itself is refused, and leaves nothing', async () => {
  const good = rdiff(baseTar, young.tar);
  const inDelta = (content: Buffer) => deltaLayer(content);
  const inTar = (...members: Parameters<typeof archive>[0]) => layerOf(archive(members));
  const layers: [RegExp, TestLayer][] = [
    [/it holds nothing for a layer/, emptyLayer],
    [/more than one file "delta"/, inTar({ name: 'delta', content: good }, { name: 'more', content: 'x' })],
    [/more than one file "delta"/, inTar({ name: 'delta', content: good }, { name: 'delta', content: good })],
    [/more than one file "delta"/, inTar({ name: 'etc', type: '5' }, { name: 'delta', content: good })],
    [/more than one file "delta"/, inTar({ name: 'delta', type: '2', linkName: '/etc/passwd' })],
    [/invalid tar/, layerOf(archive([{ name: 'delta', content: good }]).subarray(0, 1024))],
    [/delta/, inDelta(Buffer.from('no delta at all'))],
    [/delta/, inDelta(good.subarray(0, good.length - 20))],
    [/outside|base/, inDelta(copies([0, baseTar.length + 1]))],
    [/outside|base/, inDelta(copies([2 ** 40, 10]))],
    [/it makes layer sha256:[0-9a-f]{64}, not/, inDelta(rdiff(baseTar, old.tar))],
    [/invalid tar/, inDelta(copies([0, 700]))],
  ];
  for (const [at, [why, layer]] of layers.entries()) {
    await push(registry.host, repository, [`bad${at}`], rdiffImage(v1, v2, { layers: [emptyLayer, layer] }));
    await isRefused(`bad${at}`, await pull(`bad${at}`), why);
  }
  const config = (changes: object) => JSON.stringify({ ...JSON.parse(v2.config.toString()), ...changes });
  const labels: [RegExp, Record<string, unknown>][] = [
    [/has no config|is no config|is no text/, { [TARGET_LABEL]: '{' }],
    [/is no text/, { [TARGET_LABEL]: 7 }],
    [/is no text/, { [TARGET_LABEL]: undefined }],
    [/is no image ID/, { [BASE_LABEL]: 'v1' }],
    [/is no image ID/, { [BASE_LABEL]: undefined }],
    [/its base is the image that it leads to/, { [BASE_LABEL]: v2.configDigest }],
    [/it has 2 layers, and .* has 1/, { [TARGET_LABEL]: config({ rootfs: { diff_ids: [young.diffId] } }) }],
    [/is no config/, { [TARGET_LABEL]: config({ rootfs: { diff_ids: ['sha256:../..', young.diffId] } }) }],
    [/an image for windows/, { [TARGET_LABEL]: config({ os: 'windows' }) }],
    [/leads to a delta image/, { [TARGET_LABEL]: delta.config.toString() }],
  ];
  for (const [at, [why, changed]] of labels.entries()) {
    await push(registry.host, repository, [`odd${at}`], rdiffImage(v1, v2, { labels: changed }));
    proxy.reset();
    await isRefused(`odd${at}`, await pull(`odd${at}`), why);
    assert.equal(blobsAsked().length <= 1, true);
  }
});

test('a delta that makes more than the disk may hold is cut short', async () => {
  await using disk = await SmallDisk.mount({ sizeBytes: 96 << 20, inodes: 3000 });
  disk.assertSmall();
  await engine.stop();
  try {
    await using small = await TestEngine.start({ dataRoot: disk.path });
    await small.ok(['pull', '-q', named('v1')]);
    const bomb = copies(...Array.from({ length: 3000 }, () => [0, baseTar.length] as [number, number]));
    const image = rdiffImage(v1, v2, { layers: [emptyLayer, deltaLayer(bomb)] });
    await push(registry.host, repository, ['bomb'], image);
    const { code, stderr } = await small.docker(['pull', '-q', named('bomb')]);
    assert.notEqual(code, 0);
    assert.match(stderr, /failed to register layer: the layer is larger than .* no space left on device/);
    assert.equal(readdirSync(join(disk.path, 'layers')).length, 2);
    assert.deepEqual(readdirSync(join(disk.path, 'staging')), []);
    await small.stop();
  } finally {
    await engine.boot();
  }
});

const name = (tag: string) => ({ 'io.containerd.image.name': named(tag) });
const inArchive = {
  'a docker archive': (image: TestImage, tag: string) => archive(dockerMembers(image, [named(tag)])),
  'an OCI layout': (image: TestImage, tag: string) =>
    archive(layoutMembers([{ image, annotations: name(tag) }])),
};
for (const [kind, pack] of Object.entries(inArchive)) {
  test(`a delta image in ${kind} is loaded as the image that it leads to`, async () => {
    const { error, said } = await load(engine.socket, pack(delta, 'delta'));
    assert.deepEqual([error, said], [undefined, [`Loaded image: ${named('delta')}\n`]]);
    await isTarget('delta');
    assert.deepEqual((await engine.json(`/images/${named('delta')}/json`)).RepoDigests, []);
  });

  test(`one in ${kind} that is not right is refused, and leaves nothing`, async () => {
    const wrong = (layers: TestLayer[]) => rdiffImage(v1, v2, { layers });
    const good = rdiff(baseTar, young.tar);
    const more = layerOf(archive([{ name: 'delta', content: good }, { name: 'x' }]));
    const bad: [RegExp, TestImage][] = [
      [new RegExp(`base image ${young1().configDigest} is not here`), rdiffImage(young1(), v2)],
      [/it holds nothing for a layer/, wrong([emptyLayer, emptyLayer])],
      [/it has 1 layers, and/, wrong([deltaLayer(good)])],
      [/more than one file "delta"/, wrong([emptyLayer, more])],
      [/it makes layer/, wrong([emptyLayer, deltaLayer(rdiff(baseTar, old.tar))])],
    ];
    for (const [why, image] of bad) {
      const { error = '' } = await load(engine.socket, pack(image, 'bad'));
      await isRefused('bad', [{ error }], why);
    }
  });
}

test('an image whose layers only look like those of a delta is loaded like any other', async () => {
  const odd = makeImage({ layers: [emptyLayer, await makeLayer({ delta: 'of a river' })] });
  const { error } = await load(engine.socket, archive(dockerMembers(odd, [named('odd')])));
  assert.equal(error, undefined);
  assert.equal((await engine.json(`/images/${named('odd')}/json`)).Id, odd.configDigest);
  assert.deepEqual(layersHere(), sorted(shared, old, ...odd.layers));
});

test("while an archive comes, what may be a delta is nobody's layer", async () => {
  const bytes = archive(dockerMembers(delta, [named('loaded')]));
  const path = '/images/load';
  const sent = request({ socketPath: engine.socket, path, method: 'POST', agent: false });
  // the config, which tells what the layers are, comes behind them
  const end = bytes.indexOf(hexOf(delta.configDigest));
  sent.write(bytes.subarray(0, end));
  const staging = join(engine.dataRoot, 'staging');
  const staged = () =>
    readdirSync(staging, { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('/layer.json'),
    );
  const isTaken = () => staged().length === 2 || layersHere().length > 2;
  for (const until = Date.now() + 20_000; !isTaken(); await sleep(10))
    assert.ok(Date.now() < until, 'no layer was taken in');
  assert.deepEqual(layersHere(), sorted(shared, old));
  const answered = once(sent, 'response');
  sent.end(bytes.subarray(end));
  const [answer] = await answered;
  assert.match(await textOf(answer), /Loaded image/);
  await isTarget('loaded');
});

test('two pulls of one at once share its layers', async () => {
  await push(registry.host, repository, ['delta'], delta);
  const digest = delta.layers[1]?.digest;
  proxy.fault({
    path: new RegExp(`/blobs/${digest}`),
    times: 1,
    do: { kind: 'drip', bytes: 500, everyMs: 20 },
  });
  const first = pull('delta');
  for (const end = Date.now() + 10_000; !blobsAsked().includes(digest); await sleep(10))
    assert.ok(Date.now() < end, 'nothing was asked for');
  const outcomes = await Promise.all([first, pull('delta')]);
  for (const lines of outcomes) assert.equal(lines.at(-1)?.error, undefined);
  assert.equal(blobsAsked().filter((asked) => asked === digest).length, 1);
  await isTarget('delta');
});

test('killed at any instant it is the old state or the new one, and the next try succeeds', async () => {
  await push(registry.host, repository, ['delta'], delta);
  const rounds = process.env['SKERRY_SOAK'] ? 40 : 6;
  for (let round = 0; round < rounds; round++) {
    const pulled = pull('delta').catch(() => undefined);
    await sleep((round * 300) / rounds);
    await engine.kill();
    await pulled;
    await engine.boot();
    assert.equal((await pull('delta')).at(-1)?.error, undefined);
    await isTarget('delta');
    await engine.ok(['rmi', named('delta')]);
    assert.deepEqual(layersHere(), sorted(shared, old));
  }
});
