import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CrashDisk, crashDiskObstacle, type PowerCut } from '../support/crash-disk.ts';
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
 * The power goes at random instants of everything that changes images, and up to ten seconds after its success was
 * reported. What the disk then holds is given to a fresh engine: what was acknowledged is there and whole, what was
 * under way can be asked for again, nothing broken is listed, nothing is left over, and a container of the old image
 * is up again by its policy, its volume as it was.
 */
const isSoak = Boolean(process.env['SKERRY_SOAK']);
/** Each once, unless there is time for all of them. */
const essentials = [
  ...['pull', 'update', 'delete', 'load', 'commit', 'rollback'],
  ...['pull of a delta', 'load of a delta', 'pull of a delta image'],
];
const chosen = verbs.filter(({ name }) => isSoak || essentials.includes(name));
const turns = chosen.flatMap((verb) => {
  const soakRounds = verb.rounds?.soakCuts ?? Math.ceil(50 / chosen.length);
  return Array.from({ length: isSoak ? soakRounds : 1 }, () => verb);
});
/** How many cuts come while it is done; one at once and one later follow. */
const cutsAmid = isSoak ? 3 : 1;
/** How long after success the last cut may come. */
const latestMs = isSoak ? 10_000 : 3000;
/** Of all cuts; the others were spoiled by someone's sync(2), or came right before one of the engine's own. */
const provenShare = 0.5;
/** About as long as a daemon takes until it serves and has started its containers. */
const BOOT_MS = 1200;
/** About as long as an update takes over a slow network. */
const SLOW_MS = 13_000;
/** What came so long before a cut is durable: 5 s are promised to a delta; and what a busy machine adds. */
const DURABLE_MS = 7000;
/** Less than this need not be synced yet, or is on its way in sockets. */
const IN_FLIGHT_BYTES = 96 << 10;
const obstacle = crashDiskObstacle();

let source: ImageSource;
let disk: CrashDisk;
let world: ImageWorld;
let engine: TestEngine;
let [cutCount, provenCount] = [0, 0];
const resumptions: string[] = [];

before(async () => {
  if (obstacle !== undefined) return;
  await enterOwnNetwork();
  source = await startImageSource({ layerBytes: 1_500_000 });
  disk = await CrashDisk.create();
  engine = await TestEngine.start({
    dataRoot: disk.mountPoint,
    flags: ['--pull-lease-seconds', '600', '--log-level', 'info'],
  });
  world = { ...source, engine, hasKeeper: true, turn: 0, dripMs: 140 };
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
  /** Of the blob that is to be resumed, those that had come long enough before. */
  durableBytes: number;
  /** For people. */
  when: string;
}

for (const [round, verb] of turns.entries()) {
  test(`${verb.name}: a power cut at any instant (round ${round})`, {
    skip: obstacle ?? false,
  }, async (t) => {
    await clearAll(engine);
    await prepare(world, verb, startKeeper);
    const old = await namesIn(world);
    const wanted = verb.outcome(old, world);
    source.proxy.reset();
    verb.slowDown?.(world);
    const moments = await actAndCut(verb);
    t.diagnostic(moments.map(({ when }) => when).join(', '));
    for (const moment of moments) {
      await engine.powerOff();
      await restore(moment.cut);
      if (Math.random() < 0.3) {
        await cutDuringBoot();
        moment.when += ' and again during the boot';
      }
      await engine.boot(someFlags());
      await checkAfter(verb, { old, wanted, ...moment });
    }
    await clearAll(engine);
    assert.deepEqual(await faultsOf(engine), [], 'when all is removed');
    assert.deepEqual(await engine.remains(), [], 'what is left');
  });
}

test('the cuts were such that unsynced bytes were lost', { skip: obstacle ?? false }, (t) => {
  t.diagnostic(`bytes fetched after a cut, of those that may: ${resumptions.join(', ')}`);
  t.diagnostic(`${cutCount} cuts, ${provenCount} of them with the canary lost`);
  assert.ok(provenCount >= cutCount * provenShare, `only ${provenCount} of ${cutCount} cuts prove anything`);
});

/** Does it, and cuts the power meanwhile and twice after; the engine itself does not notice. */
async function actAndCut(verb: Verb): Promise<Moment[]> {
  const moments: Moment[] = [];
  let isDone = false;
  const began = performance.now();
  const { digest } = verb.resumes?.(world) ?? {};
  const arrivals: { atMs: number; bytes: number }[] = [];
  const watch = setInterval(() => {
    if (digest !== undefined) arrivals.push({ atMs: performance.now(), bytes: bytesOf(source, digest) });
  }, 50);
  const cutAt = async (at: string) => {
    const durableMs = performance.now() - DURABLE_MS;
    const durableBytes = arrivals.findLast(({ atMs }) => atMs <= durableMs)?.bytes ?? 0;
    const wasDone = isDone; // before the cut: what is acknowledged while it is made need not be in it
    const cut = await disk.cut();
    const when = `${at} ${Math.round(performance.now() - began)} ms`;
    moments.push({ cut, isDone: wasDone, durableBytes, when });
  };
  const acting = act(world, verb).then((outcome) => {
    isDone = outcome.isDone;
    return outcome;
  });
  const pace = paces.get(verb.name) ?? (verb.slowDown === undefined ? verb.typicalMs : SLOW_MS);
  // where something is to be resumed, one cut that comes late tells most
  const earliest = digest === undefined || isSoak ? 0 : 0.7;
  for (const random of Array.from({ length: cutsAmid }, Math.random).sort()) {
    const at = earliest + (1 - earliest) * random;
    await sleep(Math.max(0, began + at * pace - performance.now()));
    await disk.sowCanary(); // the engine's own syncs come at any time
    await cutAt('at');
  }
  const { text } = await acting;
  clearInterval(watch);
  assert.ok(isDone, text);
  paces.set(verb.name, performance.now() - began);
  await disk.sowCanary();
  if (isSoak) await cutAt('done');
  await sleep(Math.random() * latestMs);
  await cutAt('later');
  await verb.check?.(world);
  return moments;
}

/** How long each verb took the last time. */
const paces = new Map<string, number>();

async function checkAfter(
  verb: Verb,
  { old, wanted, isDone, durableBytes, when }: Moment & { old: Names; wanted: Names },
): Promise<void> {
  const where = `${verb.name}, cut ${when}`;
  if (isDone || !verb.startsDamaged) {
    assert.deepEqual(await faultsOf(engine, { isThorough: true }), [], `${where}: what the disk holds`);
    const now = await namesIn(world);
    assert.deepEqual(faultyNames({ before: old, after: wanted, now, isDone }), [], where);
  }
  await checkKeeper(where);
  await verb.checkAlways?.(world);
  const finished = finishedLayers(engine.dataRoot);
  source.proxy.reset();
  const faults = await actAgain(world, verb, { before: old, after: wanted });
  assert.deepEqual(faults, [], `${where}: again`);
  const blob = verb.resumes?.(world);
  if (blob !== undefined) {
    const most = blob.sizeBytes - durableBytes + IN_FLIGHT_BYTES;
    const sent = bytesOf(source, blob.digest);
    resumptions.push(`${sent} of ${isDone ? 0 : most}`);
    assert.ok(
      sent <= (isDone ? 0 : most),
      `${where}: ${sent} bytes were fetched, ${durableBytes} had come before`,
    );
  }
  const vain = [...layersAsked(source)].filter((layer) => finished.has(layer));
  if (!verb.startsDamaged)
    assert.deepEqual(vain, [], `${where}: layers that were here and were fetched again`);
  assert.deepEqual(await faultsOf(engine), [], `${where}: after it was repeated`);
  await verb.check?.(world);
}

async function restore(cut: PowerCut): Promise<void> {
  cutCount++;
  if (await disk.restore(cut)) provenCount++;
  await disk.forget(cut);
}

/** Parts of large blobs are kept, or not: what a cut leaves of them is not synced. */
function someFlags(): string[] {
  return Math.random() < 0.5 ? ['--pull-spool-above', '1m'] : [];
}

/** The power comes and goes: what the first boot puts in order must survive that as well. */
async function cutDuringBoot(): Promise<void> {
  const booting = engine.boot(someFlags()).catch(() => {});
  await sleep(Math.random() * BOOT_MS);
  const cut = await disk.cut();
  await engine.powerOff();
  await booting;
  await restore(cut);
}

/** A container of v1 that its policy wants up, with a volume. Everything about it is acknowledged before the act. */
async function startKeeper(): Promise<void> {
  await engine.ok([
    'run',
    '-d',
    ...['--name', 'keeper', '--restart', 'always', '--net', 'none', '-v', 'kept:/kept'],
    world.name('app:current'),
    ...['sleep', '100000'],
  ]);
  // synced by whoever wrote it, which is all that a program can do
  await engine.ok(['exec', 'keeper', 'sh', '-c', `echo ${world.turn} | dd of=/kept/turn conv=fsync`]);
}

async function checkKeeper(where: string): Promise<void> {
  for (const until = Date.now() + 20_000; ; await sleep(20)) {
    const { State, Image } = await engine.json('/containers/keeper/json');
    assert.equal(Image, source.versions.v1.configDigest, `${where}: keeper's image`);
    if (State.Running) break;
    if (Date.now() > until)
      assert.fail(`${where}: keeper is ${JSON.stringify(State)}\n${await engine.log()}`);
  }
  const read = (path: string) => engine.ok(['exec', 'keeper', 'cat', path]);
  assert.equal(await read('/etc/version'), '1', `${where}: keeper's image`);
  assert.equal(await read('/kept/turn'), `${world.turn}`, `${where}: keeper's volume`);
}
