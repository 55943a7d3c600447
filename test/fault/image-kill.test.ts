import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { TestEngine } from '../support/engine.ts';
import { faultsOf, finishedLayers } from '../support/estate.ts';
import { act, actAgain, faultyNames, prepare, type Verb, verbs } from '../support/image-verbs.ts';
import {
  bytesOf,
  clearAll,
  type ImageSource,
  type ImageWorld,
  layersAsked,
  type Names,
  namesIn,
  startImageSource,
} from '../support/image-world.ts';
import { enterOwnNetwork } from '../support/network.ts';

/**
 * The daemon is killed at random instants of everything that changes images. After each: every listed image is whole,
 * every layer belongs to something, every name stands for the old image or the new one, and the same request again
 * succeeds and fetches nothing that was finished before.
 */
const rounds = process.env['SKERRY_SOAK'] ? 200 : 2 * verbs.length;
/** About as long as a daemon takes until it serves. */
const BOOT_MS = 800;
/** What may be on its way when the daemon dies: mostly in sockets, while a busy machine starts the child. */
const IN_FLIGHT_BYTES = 768 << 10;

let source: ImageSource;
let world: ImageWorld;
let engine: TestEngine;

before(async () => {
  await enterOwnNetwork();
  source = await startImageSource({ layerBytes: 3_000_000 });
  engine = await TestEngine.start({ flags: ['--pull-lease-seconds', '600'] });
  world = { ...source, engine, hasKeeper: false, turn: 0, dripMs: 12 };
});

after(async () => {
  await engine[Symbol.asyncDispose]();
  await source[Symbol.asyncDispose]();
});

/** How long each verb takes, by the last run of it that nobody disturbed. */
const paces = new Map<string, number>();

for (const verb of verbs) {
  const own = process.env['SKERRY_SOAK'] ? verb.rounds?.soakKills : verb.rounds?.kills;
  const share = own ?? Math.ceil(rounds / verbs.length);
  test(`${verb.name}: killed at ${share} random instants, it has happened or not, and can be repeated`, async (t) => {
    let done = 0;
    for (let round = 0; round < share; round++) {
      const outcome = await killDuring(verb, round);
      if (outcome.isDone) done++;
    }
    if (verb.resumes !== undefined) t.diagnostic(`at most ${mostTwice} bytes were sent twice`);
    t.diagnostic(
      `${share} kills within ${Math.round(paces.get(verb.name) ?? verb.typicalMs)} ms; ${done} came too late`,
    );
  });
}

async function killDuring(verb: Verb, round: number): Promise<{ isDone: boolean }> {
  // one download at a time: then at most one layer can be in flight
  await engine.stop();
  const parallel = round % 2 === 0 ? 1 : 3;
  const spooling = Math.random() < 0.3 ? ['--pull-spool-above', '1m'] : [];
  const flags = ['--max-concurrent-downloads', `${parallel}`, ...spooling];
  await engine.boot(flags);
  await clearAll(engine);
  await prepare(world, verb);
  const old = await namesIn(world);
  const wanted = verb.outcome(old, world);
  source.proxy.reset();
  verb.slowDown?.(world);

  const watch = watchNames(verb.startsDamaged ? new Map() : old, wanted);
  const { isDone } = await actAndKill(verb);
  const where = `${verb.name}, round ${round}`;
  assert.deepEqual(await watch.end(), [], `${where}: meanwhile`);
  const asked = layersAsked(source);
  const blob = verb.resumes?.(world);
  const sentBefore = blob === undefined ? 0 : bytesOf(source, blob.digest);
  if (Math.random() < 0.3) await killDuringBoot(flags);
  await engine.boot(flags);
  const finished = finishedLayers(engine.dataRoot);

  if (isDone || !verb.startsDamaged) {
    assert.deepEqual(await faultsOf(engine), [], `${where}: after the kill`);
    const now = await namesIn(world);
    assert.deepEqual(faultyNames({ before: old, after: wanted, now, isDone }), [], where);
  }
  await verb.checkAlways?.(world);
  source.proxy.reset();
  if (!isDone) {
    const faults = await actAgain(world, verb, { before: old, after: wanted });
    assert.deepEqual(faults, [], `${where}: again`);
    assert.deepEqual(await faultsOf(engine), [], `${where}: after it was repeated`);
  }
  await verb.check?.(world);
  if (blob !== undefined) checkResumed(where, sentBefore + bytesOf(source, blob.digest) - blob.sizeBytes);
  const again = layersAsked(source);
  const [vain, twice] = [finished, asked].map((layers) => [...layers].filter((layer) => again.has(layer)));
  if (!verb.startsDamaged)
    assert.deepEqual(vain, [], `${where}: layers that were here and were fetched again`);
  assert.ok((twice ?? []).length <= parallel, `${where}: ${twice} fetched twice, ${parallel} in flight`);
  await clearAll(engine);
  assert.deepEqual(await faultsOf(engine), [], `${where}: when all is removed`);
  assert.deepEqual(await engine.remains(), [], `${where}: what is left`);
  return { isDone };
}

let mostTwice = 0;

function checkResumed(where: string, twiceBytes: number): void {
  mostTwice = Math.max(mostTwice, twiceBytes);
  assert.ok(twiceBytes <= IN_FLIGHT_BYTES, `${where}: ${twiceBytes} bytes were fetched twice`);
}

/** The instants are spread over as long as the verb takes here and now, and a little longer. */
async function actAndKill(verb: Verb): Promise<{ isDone: boolean }> {
  const pace = paces.get(verb.name) ?? verb.typicalMs;
  const began = performance.now();
  let doneMs = Number.POSITIVE_INFINITY;
  const acting = act(world, verb).then((outcome) => {
    if (outcome.isDone) doneMs = performance.now() - began;
    return outcome;
  });
  await sleep(Math.random() * 1.2 * pace);
  await engine.kill();
  const { isDone } = await acting;
  const killedMs = performance.now() - began;
  if (isDone) paces.set(verb.name, Math.min(doneMs, 1.5 * pace));
  else if (killedMs > 0.6 * pace) paces.set(verb.name, 1.3 * pace);
  return { isDone };
}

/** What the next daemon puts in order must be as safe to die over. */
async function killDuringBoot(flags: readonly string[]): Promise<void> {
  const booting = engine.boot(flags).catch(() => {});
  await sleep(Math.random() * BOOT_MS);
  await engine.kill();
  await booting;
}

/** Asks for every name that stands for something before and after, all the time: it must always stand for one of them. */
function watchNames(old: Names, wanted: Names): { end(): Promise<string[]> } {
  const faults: string[] = [];
  let isOver = false;
  const watching = (async () => {
    while (!isOver) {
      for (const [name, before] of old) {
        const after = wanted.get(name);
        if (after === undefined) continue;
        const answer = await engine.get(`/images/${world.name(name)}/json`).catch(() => undefined);
        if (answer === undefined) continue;
        const id = answer.status === 200 ? JSON.parse(answer.text).Id : `${answer.status} ${answer.text}`;
        if (id !== before && id !== after) faults.push(`${name}: ${id}`);
      }
      await sleep(2);
    }
  })();
  return {
    end: async () => {
      isOver = true;
      await watching;
      return faults;
    },
  };
}
