import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { archive, dockerMembers, load } from '../support/archives.ts';
import { deltaBetween } from '../support/delta-files.ts';
import { mutated, mutation } from '../support/delta-mutations.ts';
import { realisticLayers } from '../support/delta-tars.ts';
import { TestEngine } from '../support/engine.ts';
import { faultsOf } from '../support/estate.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { layerOf, makeImage, type TestImage } from '../support/registry-images.ts';

/**
 * The way of test/unit/delta/mutations.test.ts through the whole device: what is damaged or forged is refused, and nothing
 * of it is published or left, or it makes the image that it says.
 */
const rounds = process.env['SKERRY_SOAK'] ? 300 : 20;
const MOST_MS = 10_000;
/** Of the child that makes the layers; an honest delta takes some 100 MB. */
const MOST_CHILD_BYTES = 200 << 20;
const MOST_GROWTH_BYTES = 64 << 20;

let engine: TestEngine;
let [v1, v2]: TestImage[] = [];
let delta: Buffer;

before(async () => {
  await enterOwnNetwork();
  const { base, target } = realisticLayers();
  const image = (layers: typeof base, v: string) =>
    makeImage({
      layers: layers.map(({ read, tarBytes }) => layerOf(read(0, tarBytes))),
      config: { Labels: { v } },
    });
  [v1, v2] = [image(base, '1'), image(target, '2')];
  delta = await deltaBetween(v1, v2, { tags: ['docker.io/library/app:2'], quality: 1 });
  engine = await TestEngine.start();
  assert.equal((await load(engine.socket, archive(dockerMembers(v1, ['app:1'])))).error, undefined);
});

after(async () => {
  await engine.stop();
  const left = await engine.remains();
  await engine[Symbol.asyncDispose]();
  assert.deepEqual(left, []);
});

/** A figure of a process in bytes; none of one that has ended. */
function memoryOf(pid: number | string, name: 'VmHWM' | 'VmRSS'): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return 1024 * Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** Looks at the daemon's children all the time. */
function watchChildren(pid: number): { peakBytes: number } & Disposable {
  const seen = { peakBytes: 0 };
  const look = () => {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
    for (const child of children) seen.peakBytes = Math.max(seen.peakBytes, memoryOf(child, 'VmHWM'));
  };
  const timer = setInterval(look, 5);
  return Object.assign(seen, { [Symbol.dispose]: () => clearInterval(timer) });
}

const entries = (name: string) => readdirSync(join(engine.dataRoot, name));
const ids = async () => (await engine.json<{ Id: string }[]>('/images/json?all=1')).map(({ Id }) => Id);

/** What came of one of them. True if it was taken. */
async function loadMutated(body: Buffer): Promise<boolean> {
  const began = performance.now();
  const { error, said } = await load(engine.socket, body);
  const ms = performance.now() - began;
  assert.ok(ms < MOST_MS, `it took ${ms} ms`);
  if (error === undefined) {
    assert.deepEqual(said, ['Loaded image: app:2\n']);
    assert.deepEqual(new Set(await ids()), new Set([v1?.configDigest, v2?.configDigest]));
    assert.deepEqual(await faultsOf(engine, { isThorough: true }), []);
    await engine.ok(['rmi', 'app:2']);
  }
  assert.deepEqual(await ids(), [v1?.configDigest], error);
  assert.deepEqual([entries('staging'), entries('layers').length], [[], 2], error);
  return error === undefined;
}

test('damaged or forged, a delta is refused by the device and leaves nothing, or makes what it says', async (t) => {
  assert.equal(await loadMutated(delta), true);
  const { pid } = engine;
  const before = memoryOf(pid, 'VmHWM');
  using children = watchChildren(pid);
  let taken = 0;
  for (const change of fc.sample(mutation, rounds)) {
    const outcome = loadMutated(await mutated(delta, change));
    if (await outcome.catch((cause: Error) => assert.fail(`${JSON.stringify(change)}: ${cause.stack}`)))
      taken++;
  }
  const growth = memoryOf(pid, 'VmHWM') - before;
  const peak = children.peakBytes;
  t.diagnostic(
    `${rounds} loads: ${taken} taken, children ${peak >> 20} MiB, the daemon ${growth >> 20} MiB more`,
  );
  assert.ok(peak > 0 && peak < MOST_CHILD_BYTES, `a child had ${peak >> 20} MiB`);
  assert.ok(growth < MOST_GROWTH_BYTES, `the daemon has ${growth >> 20} MiB more`);
  assert.deepEqual(await faultsOf(engine, { isThorough: true }), []);
  assert.doesNotMatch(await engine.log(), /failed by a bug/);
});
