import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { publishDelta as publish } from '../support/delta-artifacts.ts';
import { noise } from '../support/delta-tars.ts';
import { TestEngine } from '../support/engine.ts';
import { type FaultyProxy, startFaultyProxy } from '../support/faulty-proxy.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeImage, makeLayer, push, type TestImage } from '../support/registry-images.ts';

/** Pulls that make layers of a delta beside the image, and what they do where it is of no use. */
let engine: TestEngine;
let registry: TestRegistry;
let proxy: FaultyProxy;
let [v1, v2]: TestImage[] = [];
let shared: Awaited<ReturnType<typeof makeLayer>>;

interface Line {
  status?: string;
  id?: string;
  error?: string;
  aux?: { delta?: { base?: string; fetchedBytes: number; fullBytes: number; whyNot?: string } };
}

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  proxy = await startFaultyProxy(registry.host);
  const program = noise(600_000);
  shared = await makeLayer({ 'etc/shared': noise(5000, 4) });
  const old = await makeLayer({ 'bin/program': program });
  const young = await makeLayer({
    'bin/program': Buffer.concat([program.subarray(0, 300_000), noise(2000, 3), program.subarray(300_000)]),
  });
  v1 = makeImage({ layers: [shared, old], config: { Labels: { v: '1' } } });
  v2 = makeImage({ layers: [shared, young], config: { Labels: { v: '2' } } });
  engine = await TestEngine.start();
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

/** v1 is here; v2 is in the registry, under the same tag of a new repository. */
async function freshStart(): Promise<void> {
  proxy.reset();
  await engine.clear();
  await engine.ok(['image', 'prune', '-af']);
  repository = `app${++count}`;
  await push(registry.host, repository, ['latest'], image(v1));
  assert.equal((await pull()).at(-1)?.error, undefined);
  await push(registry.host, repository, ['latest'], image(v2));
  proxy.reset();
}

beforeEach(freshStart);

function image(one: TestImage | undefined): TestImage {
  assert.ok(one !== undefined);
  return one;
}

async function pull(headers: Record<string, string> = {}): Promise<Line[]> {
  const path = `/images/create?fromImage=${proxy.host}/${repository}&tag=latest`;
  const text = await new Promise<string>((resolve, reject) => {
    request({ socketPath: engine.socket, path, method: 'POST', headers }, (answer) =>
      textOf(answer).then(resolve, reject),
    )
      .on('error', reject)
      .end();
  });
  return text
    .trim()
    .split('\r\n')
    .map((line) => JSON.parse(line) as Line);
}

/** Puts the delta from v1 to v2 beside v2. */
async function publishDelta(o: Omit<Parameters<typeof publish>[2], 'base' | 'target'> = {}): Promise<number> {
  const delta = await publish(registry.host, repository, { base: image(v1), target: image(v2), ...o });
  return delta.bytes;
}

const layerBlob = () => image(v2).layers[1]?.digest ?? '';
const asked = (digest: string) => proxy.seen(new RegExp(`/blobs/${digest}`)).length;
const auxOf = (lines: readonly Line[]) => lines.find(({ aux }) => aux?.delta !== undefined)?.aux?.delta;

async function currentId(): Promise<string> {
  return (await engine.json(`/images/${proxy.host}/${repository}:latest/json`)).Id;
}

/** What each kind of trouble does: `auto` fetches the layer after all, `require` fails and the old image stays. */
async function fallsBack(why: RegExp, headers: Record<string, string> = {}): Promise<void> {
  const required = await pull({ ...headers, 'x-delta-mode': 'require' });
  assert.match(required.at(-1)?.error ?? '', why);
  assert.equal(asked(layerBlob()), 0);
  assert.equal(await currentId(), image(v1).configDigest);
  const lines = await pull({ ...headers, 'x-delta-mode': 'auto' });
  assert.equal(lines.at(-1)?.error, undefined);
  assert.match(auxOf(lines)?.whyNot ?? '', why);
  assert.equal(asked(layerBlob()) > 0, true);
  await isWhole();
}

async function isWhole(): Promise<void> {
  assert.equal(await currentId(), image(v2).configDigest);
  assert.deepEqual(readdirSync(join(engine.dataRoot, 'staging')), []);
  const diffs = readdirSync(join(engine.dataRoot, 'layers')).map((dirId) => {
    const { diffId } = JSON.parse(
      readFileSync(join(engine.dataRoot, 'layers', dirId, 'layer.json'), 'utf8'),
    ) as { diffId: string };
    return diffId;
  });
  assert.equal(
    diffs.some((diffId) => diffId === image(v2).layers[1]?.diffId),
    true,
  );
}

/** Flips a byte of the base's program. */
function spoilBase(): void {
  const diffs = readdirSync(join(engine.dataRoot, 'layers')).map((dirId) =>
    join(engine.dataRoot, 'layers', dirId, 'diff'),
  );
  const path = join(diffs.find((diff) => existsSync(join(diff, 'bin'))) ?? '', 'bin/program');
  const bytes = readFileSync(path);
  bytes[1000] = (bytes[1000] ?? 0) ^ 1;
  writeFileSync(path, bytes);
}

test('a pull without a header uses the delta that is there, and fetches nothing else', async () => {
  const deltaBytes = await publishDelta();
  const lines = await pull();
  assert.equal(lines.at(-1)?.error, undefined);
  assert.equal(asked(layerBlob()), 0);
  assert.deepEqual(auxOf(lines), {
    base: image(v1).configDigest,
    fetchedBytes: deltaBytes,
    fullBytes: image(v2).layers[1]?.blob.length,
  });
  const statuses = new Set(lines.map(({ status }) => status));
  for (const status of ['Pulling fs layer', 'Extracting', 'Pull complete', 'Already exists'])
    assert.equal(statuses.has(status), true, status);
  await isWhole();
});

test('with `off` it is left alone; a mode that is none is refused', async () => {
  await publishDelta();
  const lines = await pull({ 'x-delta-mode': 'off' });
  assert.equal(asked(layerBlob()), 1);
  assert.deepEqual(auxOf(lines)?.whyNot, 'deltas are off');
  await isWhole();
  assert.match(JSON.stringify(await pull({ 'x-delta-mode': 'on' })), /invalid X-Delta-Mode/);
});

test('no delta: `require` fails, `auto` falls back', async () => {
  await fallsBack(/has no delta/);
});

test('base missing: `require` fails, `auto` falls back', async () => {
  await publishDelta();
  await fallsBack(/no image is here/, { 'x-delta-base': 'not/here:1' });
});

test('base damaged: `require` fails, `auto` falls back', async () => {
  await publishDelta();
  spoilBase();
  await fallsBack(/layer sha256:[0-9a-f]{64} of its base is damaged/);
});

test('delta truncated: `require` fails, `auto` falls back', async () => {
  await publishDelta({ spoil: (delta) => delta.subarray(0, delta.length - 100) });
  await fallsBack(/^(?:a delta is required for .*: )?delta: it is cut/);
});

test('delta damaged: `require` fails, `auto` falls back', async () => {
  await publishDelta({
    spoil: (delta) => delta.fill((delta.at(-9) ?? 0) ^ 1, delta.length - 9, delta.length - 8),
  });
  await fallsBack(/delta: a frame is damaged/);
});

test('a delta that saves too little is left alone, and one that breaks off is resumed', async () => {
  const bytes = await publishDelta({ spoil: (delta) => Buffer.concat([delta, Buffer.alloc(700_000)]) });
  await fallsBack(/^(?:a delta is required for .*: )?the delta has .* of /);
  await freshStart();
  const smaller = await publishDelta();
  assert.equal(smaller < bytes, true);
  proxy.fault({ path: /\/blobs\//, times: 1, do: { kind: 'cut', afterBytes: smaller >> 1 } });
  const lines = await pull({ 'x-delta-mode': 'require' });
  assert.equal(lines.at(-1)?.error, undefined);
  assert.equal(asked(layerBlob()), 0);
  await isWhole();
});

test('a delta that comes in damaged each time: `require` fails, `auto` falls back', async () => {
  const { digest } = await publish(registry.host, repository, { base: image(v1), target: image(v2) });
  proxy.fault({ path: new RegExp(`/blobs/${digest}`), do: { kind: 'flip', atByte: 500 } });
  await fallsBack(/damaged|verification failed/);
});

test('delta of another target: `require` fails, `auto` falls back', async () => {
  await publishDelta({ goal: makeImage({ layers: image(v2).layers, config: { Labels: { v: 'other' } } }) });
  await fallsBack(/it leads to sha256:[0-9a-f]{64}, not to/);
});

test('killed at any instant it is the old image or the new one, and the next try succeeds', async () => {
  const rounds = process.env['SKERRY_SOAK'] ? 40 : 10;
  for (let round = 0; round < rounds; round++) {
    await freshStart();
    await publishDelta();
    const pulled = pull({ 'x-delta-mode': 'require' }).catch(() => undefined);
    await sleep((round * 250) / rounds);
    await engine.kill();
    await pulled;
    await engine.boot();
    const now = await currentId();
    assert.equal(
      [v1, v2].some((each) => each?.configDigest === now),
      true,
    );
    assert.equal((await pull({ 'x-delta-mode': 'require' })).at(-1)?.error, undefined);
    assert.equal(asked(layerBlob()), 0);
    await isWhole();
  }
});
