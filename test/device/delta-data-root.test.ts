import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';

import { request } from 'node:http';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { after, before, beforeEach, test } from 'node:test';
import { run } from '../../src/host/exec.ts';
import { archive, dockerMembers, load } from '../support/archives.ts';
import { publishDelta } from '../support/delta-artifacts.ts';
import { deltaBetween } from '../support/delta-files.ts';
import { noise } from '../support/delta-tars.ts';
import { TestEngine } from '../support/engine.ts';
import { type FaultyProxy, startFaultyProxy } from '../support/faulty-proxy.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { rdiffImage } from '../support/rdiff.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeImage, makeLayer, push, type TestImage } from '../support/registry-images.ts';

/** Bases out of the data root of an engine that does not run, on a mount that cannot be written to. */
let registry: TestRegistry;
let proxy: FaultyProxy;
/** It has the base, and was stopped. */
let other: TestEngine;
let engine: TestEngine;
let mount: string;
let v1: TestImage;
let v2: TestImage;
let untouched: string[];

const repository = 'app';
const nameOf = (tag: string) => `${proxy.host}/${repository}:${tag}`;

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  proxy = await startFaultyProxy(registry.host);
  const program = noise(600_000);
  const shared = await makeLayer({ 'etc/shared': noise(5000, 4) });
  const old = await makeLayer({ 'bin/program': program });
  const young = await makeLayer({ 'bin/program': Buffer.concat([program, noise(2000, 3)]) });
  v1 = makeImage({ layers: [shared, old], config: { Labels: { v: '1' } } });
  v2 = makeImage({ layers: [shared, young], config: { Labels: { v: '2' } } });
  await push(registry.host, repository, ['v1'], v1);
  await push(registry.host, repository, ['v2'], v2);
  await push(registry.host, repository, ['delta'], rdiffImage(v1, v2));
  other = await TestEngine.start();
  await other.ok(['pull', '-q', nameOf('v1')]);
  await other.stop();
  untouched = everything(other.dataRoot);
  mount = join(other.directory, 'second');
  mkdirSync(mount);
  await run('mount', ['--bind', other.dataRoot, mount]);
  await run('mount', ['-o', 'remount,bind,ro', mount]);
  engine = await TestEngine.start({ flags: ['--delta-data-root', mount] });
});

after(async () => {
  await engine.stop();
  const left = await engine.remains();
  await engine[Symbol.asyncDispose]();
  await run('umount', [mount]);
  const now = everything(other.dataRoot);
  await other[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  assert.deepEqual(left, []);
  assert.deepEqual(now, untouched);
});

beforeEach(async () => {
  await engine.ok(['image', 'prune', '-af']);
  proxy.reset();
});

/** Every path with what shows that it was written to. */
function everything(root: string): string[] {
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .map((path) => {
      const { size, mtimeMs, ctimeMs } = lstatSync(join(root, path));
      return `${path} ${size} ${mtimeMs} ${ctimeMs}`;
    })
    .sort();
}

async function pull(tag: string, headers: Record<string, string> = {}): Promise<{ error?: string }[]> {
  const path = `/images/create?fromImage=${proxy.host}/${repository}&tag=${tag}`;
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
    .map((line) => JSON.parse(line) as { error?: string });
}

const layersAsked = () =>
  proxy.seen(/\/blobs\//).filter(({ path }) => v2.layers.some(({ digest }) => path.endsWith(digest))).length;

/** v2 is here, whole, in our own data root. */
async function isTarget(name: string): Promise<void> {
  assert.equal((await engine.json(`/images/${name}/json`)).Id, v2.configDigest);
  assert.equal(readdirSync(join(engine.dataRoot, 'layers')).length, 2);
}

test('a delta image builds on an image of the second store, and layers that it has are copied', async () => {
  assert.equal((await pull('delta')).at(-1)?.error, undefined);
  assert.equal(proxy.seen(/\/blobs\//).length, 2); // its config, and the one layer that is a delta
  await isTarget(nameOf('delta'));
  await engine.ok(['image', 'prune', '-af']);
  const file = archive(dockerMembers(rdiffImage(v1, v2), ['loaded:1']));
  assert.equal((await load(engine.socket, file)).error, undefined);
  await isTarget('loaded:1');
});

test('so do deltas of our own: beside the image, by the name of the base there, and as a file', async () => {
  await publishDelta(registry.host, repository, { base: v1, target: v2 });
  for (const base of [undefined, nameOf('v1'), v1.configDigest]) {
    const headers = { 'x-delta-mode': 'require', ...(base && { 'x-delta-base': base }) };
    assert.equal((await pull('v2', headers)).at(-1)?.error, undefined);
    assert.equal(layersAsked(), 0);
    await isTarget(nameOf('v2'));
    await engine.ok(['image', 'prune', '-af']);
  }
  const file = await deltaBetween(v1, v2, { tags: ['docker.io/library/loaded:2'] });
  assert.equal((await load(engine.socket, file)).error, undefined);
  await isTarget('loaded:2');
});

test('a base that is damaged there is noticed; nothing of it is published', async () => {
  const program = readdirSync(other.dataRoot, { recursive: true, encoding: 'utf8' }).find((path) =>
    path.endsWith('diff/bin/program'),
  );
  const path = join(other.dataRoot, program ?? '');
  const bytes = readFileSync(path);
  writeFileSync(path, Buffer.from(bytes).fill((bytes[1000] ?? 0) ^ 1, 1000, 1001));
  const lines = await pull('delta');
  assert.match(lines.at(-1)?.error ?? '', new RegExp(`layer ${v1.layers[1]?.diffId} of its base is damaged`));
  assert.equal((await engine.get(`/images/${v2.configDigest}/json`)).status, 404);
  writeFileSync(path, bytes);
  untouched = everything(other.dataRoot);
});

test('one that is missing is told at the start, and keeps nothing from starting', async () => {
  await engine.stop();
  await engine.boot(['--delta-data-root', '/nowhere/at/all']);
  assert.match(await engine.log(), /"level":40[^\n]*delta-data-root has no images to read/);
  assert.match(
    (await pull('delta')).at(-1)?.error ?? '',
    new RegExp(`base image ${v1.configDigest} is not here`),
  );
  await engine.stop();
  await engine.boot();
});
