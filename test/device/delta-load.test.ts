import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { formatHeader, PREFIX_BYTES, parsePrefix } from '../../src/delta/delta-header.ts';
import { archive, dockerMembers, load } from '../support/archives.ts';
import { deltaBetween } from '../support/delta-files.ts';
import { noise } from '../support/delta-tars.ts';
import { TestEngine } from '../support/engine.ts';
import { faultsOf, publishedLayers } from '../support/estate.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { makeImage, makeLayer, type TestImage } from '../support/registry-images.ts';

/** Deltas that come as files: `docker load -i app.delta`, where no registry is. */
let engine: TestEngine;
let v1: TestImage;
let v2: TestImage;
let delta: Buffer;

before(async () => {
  await enterOwnNetwork();
  const program = noise(600_000);
  const shared = await makeLayer({ 'etc/shared': noise(5000, 4) });
  const old = await makeLayer({ 'bin/program': program });
  const parts = [program.subarray(0, 300_000), noise(2000, 3), program.subarray(300_000)];
  const young = await makeLayer({ 'bin/program': Buffer.concat(parts) });
  const added = await makeLayer({ 'var/data': noise(100_000, 9) });
  v1 = makeImage({ layers: [shared, old], config: { Labels: { v: '1' } } });
  v2 = makeImage({ layers: [shared, young, added], config: { Labels: { v: '2' } } });
  delta = await deltaBetween(v1, v2, {
    tags: ['docker.io/library/app:2'],
    baseTags: ['docker.io/library/app:1'],
  });
  engine = await TestEngine.start();
});

after(async () => {
  await engine.stop();
  const left = await engine.remains();
  await engine[Symbol.asyncDispose]();
  assert.deepEqual(left, []);
});

beforeEach(async () => {
  assert.deepEqual((await load(engine.socket, archive(dockerMembers(v1, ['app:1'])))).said, [
    'Loaded image: app:1\n',
  ]);
});

afterEach(async () => {
  await removeImages();
  assert.deepEqual(await faultsOf(engine), []);
  assert.deepEqual(entries('layers'), []);
});

const entries = (name: string) => readdirSync(join(engine.dataRoot, name));

async function removeImages(): Promise<void> {
  for (const { Id } of await engine.json<{ Id: string }[]>('/images/json?all=1'))
    await engine.get(`/images/${Id}?force=1`, { method: 'DELETE' });
}

/** Only v1 is here, and nothing else is left. */
async function assertOldAlone(what: string): Promise<void> {
  for (let tries = 0; entries('staging').length > 0 && tries < 40; tries++) await sleep(50);
  const images = await engine.json<{ Id: string }[]>('/images/json?all=1');
  assert.deepEqual(
    images.map(({ Id }) => Id),
    [v1.configDigest],
    what,
  );
  assert.deepEqual([entries('staging'), entries('layers').length], [[], 2], what);
}

async function assertNew(name: string): Promise<void> {
  const { Id, RootFS } = await engine.json(`/images/${name}/json`);
  assert.equal(Id, v2.configDigest);
  assert.deepEqual(
    RootFS.Layers,
    v2.layers.map(({ diffId }) => diffId),
  );
  assert.deepEqual(await faultsOf(engine, { isThorough: true }), []);
}

test('a delta becomes its image, whatever it is packed with, and the layers that are here serve it', async () => {
  const packings = { none: delta, gzip: gzipSync(delta), zstd: zstdCompressSync(delta) };
  const here = publishedLayers(engine.dataRoot).map(({ dirId }) => dirId);
  for (const [packing, body] of Object.entries(packings)) {
    const since = Math.floor(Date.now() / 1000);
    const answer = await load(engine.socket, body, { query: '?quiet=0' });
    assert.deepEqual([answer.error, answer.said], [undefined, ['Loaded image: app:2\n']], packing);
    const shown = new Set(
      answer.lines.filter(({ status }) => status === 'Loading layer').map(({ id }) => id),
    );
    assert.deepEqual(
      [...shown].sort(),
      v2.layers
        .slice(1)
        .map(({ diffId }) => diffId.slice(7, 19))
        .sort(),
    );
    const quiet = await load(engine.socket, body, { query: '?quiet=1' });
    assert.deepEqual(quiet.lines, [{ stream: 'Loaded image: app:2\n' }], 'again, and quiet');
    await assertNew('app:2');
    assert.equal(
      here.every((dirId) => entries('layers').includes(dirId)),
      true,
    );
    assert.equal(entries('layers').length, 4);
    // it was emitted before the load was answered; `since` counts whole seconds, and the image has been loaded before
    const until = Math.floor(Date.now() / 1000) + 1;
    const { text } = await engine.get(`/events?since=${since}&until=${until}&type=image`);
    const isOurs = (line: string) => line.includes('"load"') && line.includes(v2.configDigest);
    assert.deepEqual(JSON.parse(text.split('\n').find(isOurs) ?? '').Actor, {
      ID: v2.configDigest,
      Attributes: { name: v2.configDigest, v: '2' },
    });
    await engine.ok(['rmi', 'app:2']);
    await assertOldAlone(packing);
  }
});

test('the docker CLI loads one from a file; one without names goes by its ID', async () => {
  const file = join(engine.dataRoot, '../app.delta');
  writeFileSync(file, delta);
  assert.equal(await engine.ok(['load', '-i', file]), 'Loaded image: app:2');
  await assertNew('app:2');
  // what is here needs no base any more
  await engine.ok(['rmi', 'app:1']);
  assert.equal(await engine.ok(['load', '-i', file]), 'Loaded image: app:2');
  await engine.ok(['rmi', 'app:2']);
  await load(engine.socket, archive(dockerMembers(v1, ['app:1'])));
  const unnamed = await load(engine.socket, await deltaBetween(v1, v2));
  assert.deepEqual(unnamed.said, [`Loaded image ID: ${v2.configDigest}\n`]);
});

test('a name moves to the image of the delta, which is told, and can go back', async () => {
  const moving = await deltaBetween(v1, v2, { tags: ['docker.io/library/app:1'] });
  const { said } = await load(engine.socket, moving);
  assert.deepEqual(said, [
    `The image app:1 already exists, renaming the old one with ID ${v1.configDigest} to empty string\n`,
    'Loaded image: app:1\n',
  ]);
  await assertNew('app:1');
});

test('a base that is not here is named before a frame is read', async () => {
  await removeImages();
  const { bytes } = parsePrefix(delta.subarray(0, PREFIX_BYTES));
  const sent = request({ socketPath: engine.socket, path: '/images/load', method: 'POST', agent: false });
  sent.on('error', () => {});
  sent.write(delta.subarray(0, PREFIX_BYTES + bytes)); // and nothing more
  const text = await new Promise<string>((resolve, reject) => {
    sent.on('response', (response) => {
      response.once('data', (chunk: Buffer) => resolve(chunk.toString()));
      response.on('error', reject);
    });
  });
  sent.destroy();
  const { error } = JSON.parse(text);
  assert.equal(
    error,
    `the delta's base image ${v1.configDigest} (app:1) is not here: layer ${v1.layers[0]?.diffId} is missing`,
  );
  assert.deepEqual([entries('staging'), entries('layers')], [[], []]);
  const unnamed = await load(engine.socket, await deltaBetween(v1, v2));
  assert.match(
    unnamed.error ?? '',
    /^the delta's base image is not here: layer sha256:[0-9a-f]{64} is missing$/,
  );
});

test('a damaged base is noticed, the layer named, and nothing published', async () => {
  const old = publishedLayers(engine.dataRoot).find(({ diffId }) => diffId === v1.layers[1]?.diffId);
  const file = join(engine.dataRoot, 'layers', old?.dirId ?? '', 'diff/bin/program');
  const bytes = readFileSync(file);
  bytes[1000] = (bytes[1000] ?? 0) ^ 1;
  writeFileSync(file, bytes);
  const named = new RegExp(`^delta: layer ${old?.diffId} of its base is damaged`);
  assert.match((await load(engine.socket, delta)).error ?? '', named);
  await assertOldAlone('damaged');
  // known to be damaged, it is not even tried
  await engine.get('/images/app:1/verify', { method: 'POST' });
  assert.match((await load(engine.socket, delta)).error ?? '', new RegExp(`${named.source}: verify`));
  await assertOldAlone('known to be damaged');
});

/** The same frames behind another header. */
async function withHeader(
  change: (header: ReturnType<typeof headerOf>['header']) => object,
): Promise<Buffer> {
  const { header, end } = headerOf(delta);
  return Buffer.concat([
    await formatHeader({ ...header, ...change(header) } as typeof header),
    delta.subarray(end),
  ]);
}

function headerOf(bytes: Buffer) {
  const { bytes: headerBytes, parse } = parsePrefix(bytes.subarray(0, PREFIX_BYTES));
  const end = PREFIX_BYTES + headerBytes;
  return { header: parse(bytes.subarray(PREFIX_BYTES, end)), end };
}

test('what is no whole delta, or leads elsewhere, is refused and leaves nothing', async () => {
  const flipped = (at: number) => {
    const copy = Buffer.from(delta);
    copy[at] = (copy[at] ?? 0) ^ 4;
    return copy;
  };
  const windows = makeImage({ layers: v2.layers, configFile: { os: 'windows' } });
  const cases: [string, Buffer, RegExp][] = [
    ['another version', flipped(7), /^delta: this is none, or one of another version/],
    ['header', flipped(60), /^delta: its header is damaged/],
    ['frame', flipped(delta.length - 9), /^delta: a frame is damaged/],
    ['its mark alone', delta.subarray(0, 8), /^delta: this is none/],
    ['half a header', delta.subarray(0, 60), /^delta: it is cut/],
    ['half of it', delta.subarray(0, delta.length >> 1), /^delta: it is cut/],
    ['a byte too many', Buffer.concat([delta, Buffer.alloc(1)]), /^delta: it is longer than it says/],
    ['packed and cut', gzipSync(delta).subarray(0, -20), /unexpected end of file|it is cut/],
    ['windows', await deltaBetween(v1, windows), /^cannot load windows image on linux/],
    [
      'another manifest',
      await withHeader(({ target }) => ({ target: { ...target, manifest: '{}' } })),
      /its manifest is not/,
    ],
    [
      'another config',
      await withHeader(({ target }) => ({ target: { ...target, config: v1.config.toString() } })),
      /its config is not/,
    ],
    [
      'a name that is none',
      await withHeader(({ target }) => ({ target: { ...target, tags: ['A b'] } })),
      /invalid reference format|must be lowercase/,
    ],
    [
      'a name without a tag',
      await withHeader(({ target }) => ({ target: { ...target, tags: ['app'] } })),
      /^invalid tag "app"/,
    ],
    [
      'a layer too few',
      await withHeader(({ layers }) => ({ layers: layers.slice(1) })),
      /base image .* is not here: layer/,
    ],
    [
      'a layer twice',
      await withHeader(({ layers }) => ({ layers: [...layers, ...layers] })),
      /it makes a layer twice/,
    ],
    [
      'layers exchanged',
      await withHeader(({ layers: [a, b] }) => ({
        layers: [
          { ...a, diffId: b?.diffId },
          { ...b, diffId: a?.diffId },
        ],
      })),
      /layer verification failed/,
    ],
    [
      'another size of a base',
      await withHeader(({ base: [a, ...rest] }) => ({ base: [{ ...a, tarBytes: 512 }, ...rest] })),
      /has another size/,
    ],
    [
      'frames of 250 GB',
      await withHeader(({ layers: [a, b] }) => ({
        layers: [
          a,
          { ...b, tarBytes: 2 ** 24 * 15_000, frames: Array(15_000).fill([1000, 2 ** 24, 'A'.repeat(22)]) },
        ],
      })),
      /no space left on device: the image of the delta needs/,
    ],
  ];
  for (const [what, body, message] of cases) {
    const answer = await load(engine.socket, body);
    assert.deepEqual([answer.status, answer.said], [200, []], what);
    assert.match(answer.error ?? '', message, what);
    await assertOldAlone(what);
  }
  assert.doesNotMatch(await engine.log(), /failed by a bug/);
});

test('a client that leaves has loaded nothing; one that only waits hears what is wrong', async () => {
  const { end } = headerOf(delta);
  const start = (body: Buffer) => {
    const sent = request({ socketPath: engine.socket, path: '/images/load', method: 'POST', agent: false });
    sent.on('error', () => {});
    sent.write(body);
    return sent;
  };
  for (const bytes of [4, 30, end, delta.length - 1]) {
    const sent = start(delta.subarray(0, bytes));
    if (bytes >= end)
      for (let tries = 0; entries('staging').length === 0 && tries < 100; tries++) await sleep(20);
    sent.destroy();
    await assertOldAlone(`${bytes} bytes were sent`);
  }
  const damaged = Buffer.from(delta);
  damaged[end + 5] = (damaged[end + 5] ?? 0) ^ 1;
  const waiting = start(damaged.subarray(0, -1));
  const text = await new Promise<string>((resolve) => {
    waiting.on('response', (response) => response.once('data', (chunk: Buffer) => resolve(chunk.toString())));
  });
  waiting.destroy();
  assert.match(text, /delta: a frame is damaged/);
  await assertOldAlone('stalled');
});

test('loads of one delta at once, and beside the archive of its target, all end well', async () => {
  const whole = archive(dockerMembers(v2, ['app:whole']));
  const answers = await Promise.all([delta, whole, delta, delta].map((body) => load(engine.socket, body)));
  assert.deepEqual(
    answers.map(({ error, said }) => error ?? said[0]),
    ['app:2', 'app:whole', 'app:2', 'app:2'].map((name) => `Loaded image: ${name}\n`),
  );
  await assertNew('app:2');
  assert.deepEqual([entries('staging'), entries('layers').length], [[], 4]);
  assert.equal(existsSync(join(engine.dataRoot, 'spool')), false);
});
