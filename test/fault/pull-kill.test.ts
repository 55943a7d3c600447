import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Layers } from '../../src/layers/layers.ts';
import { parseDigest } from '../../src/lib/digest.ts';
import { silentLog } from '../../src/lib/log.ts';
import { boxLayer } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeBigLayer, makeImage, push, pushLayout } from '../support/registry-images.ts';

/**
 * The daemon is killed at random instants of a pull. `SKERRY_IMAGE_PAIRS=DIR` (OCI layouts by pair and version)
 * makes it a real image, node-red v1; else a generated one of several layers.
 */
const pairs = process.env['SKERRY_IMAGE_PAIRS'];
const childPath = fileURLToPath(new URL('../../dist/extract-layer.js', import.meta.url));
const rounds = process.env['SKERRY_SOAK'] ? 200 : pairs === undefined ? 20 : 30;

let registry: TestRegistry;
let engine: TestEngine;
let image: string;

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  image = `${registry.host}/victim:1`;
  if (pairs !== undefined) await pushLayout(registry.host, 'victim', ['1'], join(pairs, 'node-red/v1'));
  else {
    const big = await Promise.all([1, 2, 3, 4].map((n) => makeBigLayer(n * 5_000_000, { name: `big${n}` })));
    await push(registry.host, 'victim', ['1'], makeImage({ layers: [await boxLayer(), ...big] }));
  }
  engine = await TestEngine.start({ flags: ['--pull-lease-seconds', '600'] });
});

after(async () => {
  await engine[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

/** How long a pull takes that nobody disturbs; it leaves nothing behind. */
async function undisturbedMs(): Promise<number> {
  const began = performance.now();
  await engine.ok(['pull', '-q', image]);
  const ms = performance.now() - began;
  await engine.ok(['rmi', image]);
  return ms;
}

test(`killed at ${rounds} random instants, an image is absent or whole`, async (t) => {
  let ms = await undisturbedMs();
  let [whole, reused] = [0, 0];
  for (let round = 0; round < rounds; round++) {
    const pull = spawn('docker', ['pull', '-q', image], {
      stdio: 'ignore',
      env: { ...process.env, ...engine.cliEnvironment() },
    });
    const ended = once(pull, 'exit');
    await sleep(Math.random() * ms * 1.2);
    await engine.kill();
    await ended;
    await engine.boot();
    const listed = await engine.json<{ Id: string }[]>('/images/json?all=1');
    const staged = readdirSync(join(engine.dataRoot, 'staging'));
    assert.deepEqual(staged, [], `round ${round}: staging is empty after a restart`);
    assert.deepEqual(await engine.remains(), [], `round ${round}: no mount, process or cgroup is left`);
    const finished = readdirSync(join(engine.dataRoot, 'layers'));
    if (listed.length > 0) {
      whole++;
      await checkWhole(round);
    } else {
      // what was finished stays under the dead pull's lease, and the next pull takes it from there
      const began = performance.now();
      const said = await engine.ok(['pull', image]);
      ms = performance.now() - began; // the disk of a busy machine sets the pace, and changes it
      const taken = said.match(/Already exists/g)?.length ?? 0;
      assert.equal(taken, finished.length, `round ${round}: every finished layer is reused`);
      reused += taken;
      await checkWhole(round);
    }
    await engine.ok(['rmi', image]);
    assert.deepEqual(readdirSync(join(engine.dataRoot, 'layers')), [], `round ${round}: no layer is left`);
  }
  t.diagnostic(`${rounds} kills within ${Math.round(ms)} ms: ${whole} times whole, ${reused} layers reused`);
});

test('once its lease has run out, a dead pull has left nothing at all', async () => {
  await engine.stop();
  await engine.boot(['--pull-lease-seconds', '1']);
  const pull = spawn('docker', ['pull', '-q', image], {
    stdio: 'ignore',
    env: { ...process.env, ...engine.cliEnvironment() },
  });
  const ended = once(pull, 'exit');
  while (
    existsSync(join(engine.dataRoot, 'layers')) &&
    readdirSync(join(engine.dataRoot, 'layers')).length === 0
  )
    await sleep(2);
  await engine.kill();
  await ended;
  await sleep(1100);
  await engine.boot();
  assert.deepEqual(readdirSync(join(engine.dataRoot, 'layers')), []);
  assert.deepEqual(readdirSync(join(engine.dataRoot, 'staging')), []);
});

/** Every layer of every image, hashed again from its files, is the layer its config names. */
async function checkWhole(round: number): Promise<void> {
  const [{ Id }] = await engine.json('/images/json');
  const { RootFS } = await engine.json(`/images/${Id}/json`);
  const layers = await Layers.open({ dataRoot: engine.dataRoot, childPath, parallel: 1, log: silentLog });
  const byDiffId = new Map<string, string>();
  for (const dirId of readdirSync(join(engine.dataRoot, 'layers'))) {
    const { diffId } = JSON.parse(readFileSync(join(engine.dataRoot, 'layers', dirId, 'layer.json'), 'utf8'));
    byDiffId.set(diffId, dirId);
  }
  for (const diffId of RootFS.Layers) {
    const dirId = byDiffId.get(diffId);
    assert.ok(dirId, `round ${round}: layer ${diffId} is on disk`);
    const verdict = await layers.verify(dirId, parseDigest(diffId), { signal: AbortSignal.timeout(60_000) });
    assert.deepEqual(verdict, { state: 'ok', differences: [] }, `round ${round}: layer ${diffId}`);
  }
}
