import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { boxImage } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { push } from '../support/registry-images.ts';

/** The daemon is killed at random instants of a commit of a container that runs. */
const rounds = process.env['SKERRY_SOAK'] ? 100 : 10;

let registry: TestRegistry;
let engine: TestEngine;

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  await push(registry.host, 'box', ['1'], await boxImage());
  engine = await TestEngine.start();
  await engine.ok(['pull', '-q', `${registry.host}/box:1`]);
  // it writes a line twenty times a second; what is to be committed is large enough to be hit
  const script =
    'head -c 30000000 /dev/urandom > /big; touch /ready; while :; do echo x >> /log; usleep 50000; done';
  await engine.ok(['run', '-d', '--name', 'busy', `${registry.host}/box:1`, 'sh', '-c', script]);
  while ((await engine.docker(['exec', 'busy', 'test', '-e', '/ready'])).code !== 0) await sleep(50);
});

after(async () => {
  await engine.clear();
  await engine.stop();
  const left = await engine.remains();
  await engine[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  assert.deepEqual(left, []);
});

const lines = async () => Number(await engine.ok(['exec', 'busy', 'sh', '-c', 'wc -l < /log']));

test(`killed at ${rounds} random instants, an image is absent or whole, and the container runs on`, async (t) => {
  const layers = readdirSync(join(engine.dataRoot, 'layers')).length;
  const undisturbed = performance.now();
  await engine.ok(['commit', 'busy', 'made']);
  const ms = performance.now() - undisturbed;
  await engine.ok(['rmi', 'made']);
  let [whole, held] = [0, 0];
  for (let round = 0; round < rounds; round++) {
    const commit = spawn('docker', ['commit', 'busy', 'made'], {
      stdio: 'ignore',
      env: { ...process.env, ...engine.cliEnvironment() },
    });
    const ended = once(commit, 'exit');
    await sleep(Math.random() * ms * 1.2);
    await engine.kill();
    const [code] = await ended;
    await engine.boot();
    const { State } = await engine.json('/containers/busy/json');
    assert.equal(State.Status, 'running', `round ${round}: it runs on`);
    const filters = encodeURIComponent('{"event":["unpause"]}');
    if ((await engine.get(`/events?since=1&until=${Date.now() / 1000}&filters=${filters}`)).text !== '')
      held++;
    const before = await lines();
    await sleep(200);
    assert.ok((await lines()) > before, `round ${round}: its process runs on`);
    assert.deepEqual(readdirSync(join(engine.dataRoot, 'staging')), [], `round ${round}: staging is empty`);
    const isThere = (await engine.json('/images/json?all=1')).length === 2;
    if (code === 0) assert.ok(isThere, `round ${round}: what was reported is there`);
    if (isThere) {
      whole++;
      const look = 'test $(wc -c < /big) = 30000000 && test -s /log && echo whole';
      assert.equal(await engine.ok(['run', '--rm', 'made', 'sh', '-c', look]), 'whole');
      await engine.ok(['rmi', 'made']);
    }
    assert.equal(
      readdirSync(join(engine.dataRoot, 'layers')).length,
      layers,
      `round ${round}: no layer is left`,
    );
  }
  t.diagnostic(`${rounds} kills within ${Math.round(ms)} ms: ${whole} times whole, ${held} times held`);
});
