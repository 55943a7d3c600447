import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, statSync, truncateSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { boxLayer } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { type FaultyProxy, startFaultyProxy } from '../support/faulty-proxy.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeBigLayer, makeImage, push, type TestLayer } from '../support/registry-images.ts';

/** Pulls by the real docker CLI that share a layer, are given up, or die with their daemon while it is spooled. */
const MB = 1_000_000;
let registry: TestRegistry;
let proxy: FaultyProxy;
let engine: TestEngine;
let big: TestLayer;
let image: string;
let other: string;

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  proxy = await startFaultyProxy(registry.host);
  big = await makeBigLayer(12 * MB);
  const [box, top] = [await boxLayer(), await makeBigLayer(1000, { name: 'top' })];
  await push(registry.host, 'one', ['1'], makeImage({ layers: [box, big] }));
  await push(registry.host, 'two', ['1'], makeImage({ layers: [box, big, top] }));
  [image, other] = [`${proxy.host}/one:1`, `${proxy.host}/two:1`];
  engine = await TestEngine.start({ flags: ['--pull-spool-above', '4m'] });
});

after(async () => {
  await engine[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

beforeEach(() => {
  proxy.reset();
  proxy.fault({ path: new RegExp(big.digest), do: { kind: 'drip', bytes: 65_536, everyMs: 5 } });
});

afterEach(async () => {
  await engine.docker(['rmi', image]);
  await engine.docker(['rmi', other]);
  assert.deepEqual(readdirSync(join(engine.dataRoot, 'layers')), []);
  assert.deepEqual(readdirSync(join(engine.dataRoot, 'staging')), []);
  assert.ok(!existsSync(spoolDirectory()));
});

const spoolDirectory = () => join(engine.dataRoot, 'spool');
const requests = () => proxy.seen(new RegExp(big.digest));

function spoolPath(): string | undefined {
  const [name] = existsSync(spoolDirectory()) ? readdirSync(spoolDirectory()) : [];
  return name === undefined ? undefined : join(spoolDirectory(), name);
}

function begin(name: string): { cli: ChildProcess; ended: Promise<number | null> } {
  const cli = spawn('docker', ['pull', '-q', name], {
    stdio: 'ignore',
    env: { ...process.env, ...engine.cliEnvironment() },
  });
  return { cli, ended: new Promise((resolve) => cli.once('exit', resolve)) };
}

async function until(what: string, isSo: () => boolean): Promise<void> {
  for (const end = Date.now() + 10_000; Date.now() < end; await sleep(5)) if (isSo()) return;
  assert.fail(`${what}: not within 10 s`);
}

const spooled = (bytes: number) => () => {
  const path = spoolPath();
  return path !== undefined && statSync(path).size >= bytes;
};

async function assertWhole(name: string): Promise<void> {
  assert.equal(
    await engine.ok(['run', '--rm', '--net', 'none', name, 'stat', '-c', '%s', '/big']),
    `${12 * MB}`,
  );
}

test('two who pull one image, and one that shares a layer with it, fetch it once', async () => {
  const pulls = [image, image, other].map(begin);
  assert.deepEqual(await Promise.all(pulls.map(({ ended }) => ended)), [0, 0, 0]);
  assert.equal(requests().length, 1);
  await assertWhole(image);
  await assertWhole(other);
});

test('one of two leaves, even the one that began: the other gets its image, and nothing is fetched twice', async () => {
  const first = begin(image);
  await until('a part has come', spooled(MB));
  const second = begin(image);
  await until('the second has asked', () => proxy.seen(/manifests/).length >= 2);
  await sleep(300); // and waits for the layer
  first.cli.kill('SIGINT');
  await first.ended;
  assert.equal(await second.ended, 0);
  assert.equal(requests().length, 1);
  await assertWhole(image);
});

test('both leave: the work stops at once, and the next pull goes on from what was spooled', async () => {
  const pulls = [begin(image), begin(image)];
  await until('a part has come', spooled(MB));
  for (const { cli } of pulls) cli.kill('SIGINT');
  await Promise.all(pulls.map(({ ended }) => ended));
  await until('nothing is staged', () => readdirSync(join(engine.dataRoot, 'staging')).length === 0);
  const { size } = statSync(spoolPath() ?? '');
  assert.ok(size < 12 * MB);
  await engine.ok(['pull', image]);
  assert.equal(requests().at(-1)?.headers.range, `bytes=${size}-`);
  assert.equal(requests().length, 2);
  await assertWhole(image);
});

/** The daemon dies in mid-pull, something happens to the spool, and the next daemon pulls. */
async function dieAndPull(spoil: (path: string) => Promise<void> | void): Promise<(string | undefined)[]> {
  const { ended } = begin(image);
  await until('a part has come', spooled(3 * MB));
  await engine.kill();
  await ended;
  await spoil(spoolPath() ?? '');
  await engine.boot();
  assert.deepEqual(readdirSync(join(engine.dataRoot, 'staging')), []);
  assert.ok(spoolPath() !== undefined, 'the spool of a live lease stays');
  proxy.reset();
  await engine.ok(['pull', image]);
  await assertWhole(image);
  return requests().map(({ headers }) => headers.range);
}

test('a daemon that was killed: the next one fetches only the rest', async () => {
  let size = 0;
  const ranges = await dieAndPull((path) => {
    ({ size } = statSync(path));
  });
  assert.deepEqual(ranges, [`bytes=${size}-`]);
});

test('a spool that a power cut shortened, or filled with zeros, costs a request and no image', async () => {
  const short = await dieAndPull((path) => truncateSync(path, 1_500_000));
  assert.deepEqual(short, ['bytes=1500000-']);
  await engine.ok(['rmi', image]);
  proxy.fault({ path: new RegExp(big.digest), do: { kind: 'drip', bytes: 65_536, everyMs: 5 } });
  let size = 0;
  const zeroed = await dieAndPull(async (path) => {
    ({ size } = statSync(path));
    await using file = await open(path, 'r+');
    await file.write(Buffer.alloc(100_000), 0, 100_000, 2_000_000);
  });
  assert.equal(zeroed.at(-1), undefined, 'once from zero');
  assert.ok(zeroed.length <= 2 && (zeroed.length === 1 || zeroed[0] === `bytes=${size}-`), `${zeroed}`);
});

test('a pull that is never taken up again leaves no spool once its lease has ended', async () => {
  await engine.stop();
  await engine.boot(['--pull-lease-seconds', '1']);
  const { ended } = begin(image);
  await until('a part has come', spooled(MB));
  await engine.kill();
  await ended;
  await sleep(1000);
  await engine.boot();
  assert.ok(!existsSync(spoolDirectory()));
});
