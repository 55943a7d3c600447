import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { boxLayer } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { faultsOf } from '../support/estate.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeBigLayer, makeImage, push, type TestImage } from '../support/registry-images.ts';

/** The daemon is killed at random instants of a push to a registry that has nothing of the image. */
const rounds = process.env['SKERRY_SOAK'] ? 100 : 10;

let source: TestRegistry;
let target: TestRegistry;
let engine: TestEngine;
let image: TestImage;

before(async () => {
  await enterOwnNetwork();
  [source, target] = [await startRegistry(), await startRegistry()];
  const big = await Promise.all([1, 2, 3].map((n) => makeBigLayer(n * 1_500_000, { name: `big${n}` })));
  image = makeImage({ layers: [await boxLayer({ packing: 'zstd' }), ...big] });
  await push(source.host, 'victim', ['1'], image);
  engine = await TestEngine.start();
  await engine.ok(['pull', '-q', `${source.host}/victim:1`]);
});

after(async () => {
  await engine[Symbol.asyncDispose]();
  await target[Symbol.asyncDispose]();
  await source[Symbol.asyncDispose]();
});

test(`killed at ${rounds} random instants, a push has happened or not, and can be repeated`, async (t) => {
  let ms = 0;
  let [done, spared] = [0, 0];
  for (let round = -1; round < rounds; round++) {
    // a repository that has nothing, and from which nothing is known
    const name = `${target.host}/round/r${round}:1`;
    await engine.ok(['tag', `${source.host}/victim:1`, name]);
    const began = performance.now();
    if (round < 0) {
      await engine.ok(['push', '-q', name]);
      ms = performance.now() - began;
    } else {
      if (await pushAndKill(name, Math.random() * ms * 1.1)) done++;
      await engine.boot();
      assert.deepEqual(await faultsOf(engine), [], `round ${round}: after the kill`);
      assert.deepEqual(await engine.remains(), [], `round ${round}: no process or mount is left`);
      const before = await manifestOf(round);
      const again = await engine.ok(['push', name]);
      spared += again.match(/Layer already exists/g)?.length ?? 0;
      const after = await manifestOf(round);
      assert.ok(after !== undefined && (before ?? after) === after, `round ${round}: the tag was never half`);
    }
    await checkWhole(round);
    await engine.ok(['rmi', name]);
  }
  assert.deepEqual(await faultsOf(engine), [], 'afterwards');
  t.diagnostic(
    `${rounds} kills within ${Math.round(ms)} ms: ${done} came too late, ${spared} layers were spared`,
  );
});

/** True if the push had succeeded before. */
async function pushAndKill(name: string, afterMs: number): Promise<boolean> {
  const cli = spawn('docker', ['push', '-q', name], {
    stdio: 'ignore',
    env: { ...process.env, ...engine.cliEnvironment() },
  });
  const ended = once(cli, 'exit');
  await sleep(afterMs);
  await engine.kill();
  const [code] = await ended;
  if (code === 0) assert.ok((await manifestOf(name)) !== undefined, 'what was acknowledged is there');
  return code === 0;
}

async function manifestOf(round: number | string): Promise<string | undefined> {
  const repository = typeof round === 'number' ? `round/r${round}` : round.replace(/^[^/]*\/|:1$/g, '');
  const accept = 'application/vnd.oci.image.manifest.v1+json';
  const response = await fetch(`http://${target.host}/v2/${repository}/manifests/1`, { headers: { accept } });
  const text = await response.text();
  return response.ok ? text : undefined;
}

/** Everything that the manifest names is there, and the image is the one that was pushed. */
async function checkWhole(round: number): Promise<void> {
  const { config, layers } = JSON.parse((await manifestOf(round)) ?? '{}');
  assert.equal(config.digest, image.configDigest);
  assert.equal(layers.length, image.layers.length);
  for (const { digest, size } of [config, ...layers]) {
    const url = `http://${target.host}/v2/round/r${round}/blobs/${digest}`;
    const { status, headers } = await fetch(url, { method: 'HEAD' });
    assert.deepEqual([status, Number(headers.get('content-length'))], [200, size]);
  }
}
