import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CrashDisk, crashDiskObstacle, type PowerCut } from '../support/crash-disk.ts';
import { TestEngine } from '../support/engine.ts';
import { faultsOf } from '../support/estate.ts';
import { faultyNames, prepare, type Verb, verbs } from '../support/image-verbs.ts';
import {
  ask,
  clearAll,
  type ImageSource,
  type ImageWorld,
  type Names,
  namesIn,
  startImageSource,
} from '../support/image-world.ts';
import { enterOwnNetwork } from '../support/network.ts';

/**
 * The power goes at random instants of everything that changes images, and up to ten seconds after its success was
 * reported. What the disk then holds is given to a fresh engine: what was acknowledged is there and whole, what was
 * under way can be asked for again, nothing broken is listed, nothing is left over, and a container of the old image
 * is up again by its policy, its volume as it was.
 */
const isSoak = Boolean(process.env['SKERRY_SOAK']);
const rounds = isSoak ? 50 : verbs.length;
/** How long after success the last cut may come. */
const latestMs = isSoak ? 10_000 : 4000;
/** Of all cuts; the others were spoiled by someone's sync(2), or came right before one of the engine's own. */
const provenShare = 0.5;
const obstacle = crashDiskObstacle();

let source: ImageSource;
let disk: CrashDisk;
let world: ImageWorld;
let engine: TestEngine;
let [cutCount, provenCount] = [0, 0];

before(async () => {
  if (obstacle !== undefined) return;
  await enterOwnNetwork();
  source = await startImageSource({ layerBytes: 1_500_000 });
  disk = await CrashDisk.create();
  engine = await TestEngine.start({
    dataRoot: disk.mountPoint,
    flags: ['--pull-lease-seconds', '600', '--log-level', 'info'],
  });
  world = { ...source, engine };
});

after(async () => {
  if (obstacle !== undefined) return;
  await engine[Symbol.asyncDispose]();
  await disk[Symbol.asyncDispose]();
  await source[Symbol.asyncDispose]();
});

/** One cut, and what the client knew by then. */
interface Moment {
  cut: PowerCut;
  isDone: boolean;
  /** For people. */
  when: string;
}

for (let round = 0; round < rounds; round++) {
  const verb = verbs[round % verbs.length] as Verb;
  test(`${verb.name}: a power cut at any instant (round ${round})`, {
    skip: obstacle ?? false,
  }, async (t) => {
    await clearAll(engine);
    await prepare(world, verb);
    await startKeeper();
    const old = await namesIn(world);
    const wanted = verb.outcome(old, world);
    const moments = await actAndCut(verb);
    t.diagnostic(moments.map(({ when }) => when).join(', '));
    for (const moment of moments) {
      await engine.powerOff();
      cutCount++;
      if (await disk.restore(moment.cut)) provenCount++;
      await disk.forget(moment.cut);
      await bootAfresh();
      await checkAfter(verb, { old, wanted, ...moment });
    }
  });
}

test('the cuts were such that unsynced bytes were lost', { skip: obstacle ?? false }, (t) => {
  t.diagnostic(`${cutCount} cuts, ${provenCount} of them with the canary lost`);
  assert.ok(provenCount >= cutCount * provenShare, `only ${provenCount} of ${cutCount} cuts prove anything`);
});

/** Does it, and cuts the power twice meanwhile and twice after; the engine itself does not notice. */
async function actAndCut(verb: Verb): Promise<Moment[]> {
  const moments: Moment[] = [];
  let isDone = false;
  const began = performance.now();
  const cutAt = async (when: string, o: { isCanaryNew?: boolean } = {}) => {
    const wasDone = isDone; // before the cut: what is acknowledged while it is made need not be in it
    const cut = await disk.cut(o);
    moments.push({ cut, isDone: wasDone, when: `${when} ${Math.round(performance.now() - began)} ms` });
  };
  const acting = ask(engine, verb.request(world)).then((outcome) => {
    assert.ok(outcome.isDone, outcome.text);
    isDone = true;
  });
  const pace = paces.get(verb.name) ?? 200;
  for (const at of [Math.random(), Math.random()].sort()) {
    await sleep(Math.max(0, began + at * pace - performance.now()));
    await cutAt('at');
  }
  await acting;
  const ms = performance.now() - began;
  paces.set(verb.name, ms);
  await cutAt('done');
  const later = Math.random() * latestMs;
  await sleep(later);
  await cutAt('later', { isCanaryNew: false }); // the canary's last chance to be written back
  await verb.check?.(world);
  return moments;
}

/** How long each verb took the last time. */
const paces = new Map<string, number>();

async function checkAfter(
  verb: Verb,
  { old, wanted, isDone, when }: Moment & { old: Names; wanted: Names },
): Promise<void> {
  const where = `${verb.name}, cut ${when}`;
  assert.deepEqual(await faultsOf(engine), [], `${where}: what the disk holds`);
  const now = await namesIn(world);
  assert.deepEqual(faultyNames({ before: old, after: wanted, now, isDone }), [], where);
  await checkKeeper(where);
  const hasHappened = faultyNames({ before: old, after: wanted, now, isDone: true }).length === 0;
  if (!hasHappened) {
    const { isDone: isDoneNow, text } = await ask(engine, verb.request(world));
    assert.ok(isDoneNow, `${where}: again: ${text}`);
    const then = await namesIn(world);
    assert.deepEqual(
      faultyNames({ before: old, after: wanted, now: then, isDone: true }),
      [],
      `${where}: again`,
    );
    assert.deepEqual(await faultsOf(engine), [], `${where}: after it was repeated`);
  }
  await verb.check?.(world);
}

async function bootAfresh(): Promise<void> {
  await engine.boot();
}

/** A container of v1 that its policy wants up, with a volume. Everything about it is acknowledged before the act. */
async function startKeeper(): Promise<void> {
  await engine.ok([
    'run',
    '-d',
    ...['--name', 'keeper', '--restart', 'always', '--net', 'none', '-v', 'kept:/kept'],
    world.name('app:current'),
    ...['sh', '-c', 'cat /etc/version > /tmp/up; exec sleep 1000'],
  ]);
}

async function checkKeeper(where: string): Promise<void> {
  for (const until = Date.now() + 20_000; ; await sleep(20)) {
    const { State, Image } = await engine.json('/containers/keeper/json');
    assert.equal(Image, source.versions.v1.configDigest, `${where}: keeper's image`);
    if (State.Running) break;
    if (Date.now() > until)
      assert.fail(`${where}: keeper is ${JSON.stringify(State)}\n${await engine.log()}`);
  }
  assert.equal(await engine.ok(['exec', 'keeper', 'cat', '/etc/version']), '1', `${where}: keeper's files`);
}
