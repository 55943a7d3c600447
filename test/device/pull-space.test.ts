import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { run } from '../../src/host/exec.ts';
import { digestOf } from '../../src/lib/digest.ts';
import { boxLayer } from '../support/box-image.ts';
import { type CliResult, TestEngine } from '../support/engine.ts';
import { type FaultyProxy, startFaultyProxy } from '../support/faulty-proxy.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeBigLayer, makeImage, makeLayer, push, type TestLayer } from '../support/registry-images.ts';
import { SmallDisk } from '../support/small-disk.ts';

/** A data root on 128 MB, where not every image finds room. */
const MB = 1_000_000;
const blobs = /\/blobs\//;
const skip = process.getuid?.() === 0 ? false : 'needs root: mounts a file system';

let disk: SmallDisk;
let registry: TestRegistry;
let proxy: FaultyProxy;
let engine: TestEngine;
const names = { box: '', fits: '', tooBig: '', bomb: '', crowd: '' };
let slowLayer: TestLayer;

before(async () => {
  if (skip) return;
  await enterOwnNetwork();
  registry = await startRegistry();
  proxy = await startFaultyProxy(registry.host);
  const box = await boxLayer();
  slowLayer = await makeBigLayer(20 * MB);
  const dense = await makeLayer({ noise: slowLayer.blob, zeros: Buffer.alloc(120 * MB) });
  const { tar, diffId } = await makeLayer({ zeros: Buffer.alloc(200 * MB) }, { packing: 'none' });
  const packed = gzipSync(tar, { level: 9 }); // to a thousandth
  const bomb: TestLayer = { tar, diffId, blob: packed, digest: digestOf(packed), packing: 'gzip' };
  const crowd = await makeLayer(
    Object.fromEntries(Array.from({ length: 3000 }, (_, at) => [`files/${at}`, 'x'])),
  );
  const layers = {
    box: [box],
    fits: [box, slowLayer],
    tooBig: [box, dense],
    bomb: [box, bomb],
    crowd: [box, crowd],
  };
  for (const name of Object.keys(names) as (keyof typeof names)[]) {
    await push(registry.host, name.toLowerCase(), ['1'], makeImage({ layers: layers[name] }));
    names[name] = `${proxy.host}/${name.toLowerCase()}:1`;
  }
  disk = await SmallDisk.mount({ sizeBytes: 128 * MB, inodes: 3000 });
  engine = await TestEngine.start({ dataRoot: join(disk.path, 'data') });
  await engine.ok(['pull', names.box]);
  await engine.ok(['run', '--detach', '--name', 'running', '--net', 'none', names.box, 'sleep', '1000']);
});

after(async () => {
  await engine?.[Symbol.asyncDispose]();
  await disk?.[Symbol.asyncDispose]();
  await proxy?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
});

beforeEach(() => proxy?.reset());

/** What must be the same after a pull that came to nothing. */
function state(): { freeMb: number; layers: string[]; staging: string[]; copies: string[] } {
  const { bfree, bsize } = statfsSync(engine.dataRoot);
  const list = (name: string) => readdirSync(join(engine.dataRoot, name)).sort();
  return {
    freeMb: Math.round((bfree * bsize) / MB),
    layers: list('layers'),
    staging: list('staging'),
    copies: list('images'),
  };
}

/** The pull fails in these words, and nothing but those has come of it. */
async function refused(image: string, words: RegExp): Promise<CliResult> {
  const before = state();
  const images = await engine.json('/images/json?all=1');
  const result = await engine.docker(['pull', image]);
  assert.equal(result.code, 1, result.stdout);
  assert.match(result.stderr, words);
  const now = state();
  assert.ok(Math.abs(before.freeMb - now.freeMb) <= 1, `${before.freeMb} MB were free, now ${now.freeMb}`);
  assert.deepEqual({ ...now, freeMb: 0 }, { ...before, freeMb: 0 });
  assert.deepEqual(await engine.json('/images/json?all=1'), images);
  return result;
}

test('what does not fit is refused before its first byte, with what is needed and what is there', {
  skip,
}, async () => {
  await refused(
    names.tooBig,
    /no space left on device: 127\.0\.0\.1:\d+\/toobig:1 needs at least 14\d(\.\d+)?MB and 5 inodes, \d+(\.\d+)?MB and \d+ inodes are free in \/.*\/data, of which 8\.389MB are kept back/,
  );
  const asked = proxy.seen(blobs).filter(({ headers }) => headers.range !== undefined);
  assert.deepEqual(
    asked.map(({ headers }) => headers.range),
    ['bytes=-4'],
  );
  assert.equal(proxy.seen(blobs).length, 2, 'that, and the config');
});

test('a bomb is stopped at its share of what is free', { skip }, async () => {
  const { freeMb } = state();
  const { stderr } = await refused(
    names.bomb,
    /failed to register layer: the layer is larger than \d+ bytes, all that it may have of \/.*: no space left on device/,
  );
  const stoppedAt = Number(/larger than (\d+) bytes/.exec(stderr)?.[1]);
  assert.ok(stoppedAt < 0.6 * freeMb * MB, `${stoppedAt} bytes of ${freeMb} MB`);
  assert.equal(proxy.seen(blobs).length, 2, 'it is not fetched twice');
});

test('inodes that run out in mid-pull are given back', { skip }, async () => {
  const before = statfsSync(engine.dataRoot).ffree;
  await refused(names.crowd, /failed to register layer: \w+ \/files\/\d+: no space left on device/);
  assert.equal(statfsSync(engine.dataRoot).ffree, before);
});

test('too few inodes are seen before the first byte', { skip }, async () => {
  const directory = join(engine.dataRoot, 'filler');
  disk.assertSmall();
  mkdirSync(directory);
  try {
    for (let at = 0; statfsSync(engine.dataRoot).ffree > 3; at++) writeFileSync(join(directory, `${at}`), '');
    await refused(names.fits, /needs at least \S+ and 5 inodes, \S+ and 3 inodes are free/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('a disk that is filled from outside in mid-pull: all as before, and the next pull works', {
  skip,
}, async () => {
  proxy.fault({ path: new RegExp(slowLayer.digest), do: { kind: 'drip', bytes: 65_536, everyMs: 5 } });
  const filler = join(engine.dataRoot, 'filler');
  const { freeMb, ...before } = state();
  const pull = spawn('docker', ['pull', names.fits], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...engine.cliEnvironment() },
  });
  let said = '';
  for (const output of [pull.stdout, pull.stderr]) output.on('data', (bytes) => (said += bytes));
  const ended = new Promise((resolve) => pull.once('exit', resolve));
  while (state().freeMb > freeMb - 3 && pull.exitCode === null) await sleep(10);
  // everything that there is, what is kept for root too
  disk.assertSmall();
  await run('sh', ['-c', 'cat /dev/zero >"$1" 2>/dev/null', 'sh', filler]);
  const code = await ended;
  try {
    assert.equal(code, 1, said);
    assert.match(said, /failed to register layer: .*no space left on device/);
    const { freeMb: freed, ...now } = state();
    assert.deepEqual(now, before);
    assert.ok(freed >= 2, `${freed} MB of what the pull had taken are free again`);
    assert.equal(await engine.ok(['exec', 'running', 'echo', 'still here']), 'still here');
    assert.equal(await engine.ok(['run', '--rm', '--net', 'none', names.box, 'echo', 'hi']), 'hi');
  } finally {
    rmSync(filler);
  }
  proxy.reset();
  await engine.ok(['pull', names.fits]);
  const size = await engine.ok(['run', '--rm', '--net', 'none', names.fits, 'stat', '-c', '%s', '/big']);
  assert.equal(size, `${20 * MB}`);
  await engine.ok(['rmi', names.fits]);
});

test('the log holds no bug and no lease that could not be ended', { skip }, async () => {
  const log = await engine.log();
  assert.doesNotMatch(log, /failed by a bug|lease not ended/);
});
