import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startBoxEngine } from '../support/box-engine.ts';
import type { TestEngine } from '../support/engine.ts';

/**
 * Containers are made, run, waited for and removed, several at a time, and again and again the daemon is killed in
 * the midst of it. Clients ask again, as clients do; afterwards every exit code was right and nothing is left.
 */
const [rounds, kills] = process.env['SKERRY_SOAK'] ? [300, 20] : [40, 4];
const WIDTH = 8;
const PATIENCE_MS = 60_000;

let engine: TestEngine;

before(async () => {
  engine = await startBoxEngine({ box: {} });
});

after(async () => {
  await engine[Symbol.asyncDispose]();
});

test(`${rounds} containers, ${WIDTH} at a time, the daemon killed ${kills} times`, async () => {
  const queue = Array.from({ length: rounds }, (_, round) => round);
  let ended = 0;
  const worker = async () => {
    for (let round = queue.shift(); round !== undefined; round = queue.shift()) {
      await liveOf(round);
      ended++;
    }
  };
  const workers = Promise.all(Array.from({ length: WIDTH }, worker));
  workers.catch(() => {}); // told below
  for (let kill = 0; kill < kills; kill++) {
    const wanted = ((kill + Math.random()) / kills) * rounds * 0.95; // spread over the whole run
    while (ended < wanted) await Promise.race([sleep(2), workers]);
    await engine.kill();
    await engine.boot();
  }
  await workers;
  assert.deepEqual(await engine.remains(), []);
  assert.deepEqual(leftIn(engine), []);
  assert.deepEqual(await engine.json('/containers/json?all=1'), []);
});

/** One container from beginning to end. Every third one has a volume of its own, every second one takes a while. */
async function liveOf(round: number): Promise<void> {
  const name = `soak-${round}`;
  const exitCode = 1 + (round % 100);
  const script = `${round % 2 ? 'sleep 0.2; ' : ''}exit ${exitCode}`;
  await insist(name, async () => {
    const { status, text } = await engine.get(`/containers/create?name=${name}`, {
      method: 'POST',
      body: {
        Image: 'box',
        Cmd: ['sh', '-c', script],
        HostConfig: { NetworkMode: round % 4 ? 'none' : 'bridge' },
        ...(round % 3 === 0 && { Volumes: { '/data': {} } }),
      },
    });
    // a create whose answer was lost has happened
    assert.ok(status === 201 || status === 409, `create: ${status} ${text}`);
  });
  const ending = await insist(name, async () => {
    const before = await engine.json(`/containers/${name}/json`);
    // one that was cut off in its start is as it was before
    if (before.State.Status === 'created') await engine.json(`/containers/${name}/start`, { method: 'POST' });
    return engine.json(`/containers/${name}/wait`, { method: 'POST' });
  });
  assert.equal(ending.StatusCode, exitCode, `exit code of ${name}`);
  await insist(name, async () => {
    const { status, text } = await engine.get(`/containers/${name}?v=1`, { method: 'DELETE' });
    assert.ok(status === 204 || status === 404, `remove: ${status} ${text}`);
  });
}

/** Does it until the daemon lives to answer. */
async function insist<T>(what: string, work: () => Promise<T>): Promise<T> {
  for (const until = Date.now() + PATIENCE_MS; ; await sleep(10)) {
    try {
      return await work();
    } catch (cause) {
      if (!isCutOff(cause) || Date.now() > until) throw new Error(`${what}: ${cause}\n`, { cause });
    }
  }
}

function isCutOff(cause: unknown): boolean {
  return (
    cause instanceof Error &&
    /ECONN|ENOENT|EPIPE|socket hang up|aborted/.test(`${cause.message} ${'code' in cause ? cause.code : ''}`)
  );
}

/** Files of containers, of their runs and of their volumes. */
function leftIn({ dataRoot, execRoot }: TestEngine): string[] {
  const inData = ['containers', 'volumes', 'staging'].map((name) => join(dataRoot, name));
  const inExec = ['bundles', 'exits', 'oci/crun', 'oci/runc', 'etc', 'shm', 'health'];
  const places = [...inData, ...inExec.map((name) => join(execRoot, name))];
  return places
    .filter((place) => existsSync(place))
    .flatMap((place) => readdirSync(place).map((name) => join(place, name)));
}
