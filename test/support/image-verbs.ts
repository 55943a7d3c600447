/** What can be done to images, as a table: how it begins, the request, and how it must end if it is not cut short. */
import assert from 'node:assert/strict';
import { closeSync, fsyncSync, openSync, readdirSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Digest } from '../../src/lib/digest.ts';
import { publishedLayers } from './estate.ts';
import {
  type ApiRequest,
  ask,
  demand,
  type ImageWorld,
  type Names,
  namesIn,
  type Outcome,
  pullRequest,
} from './image-world.ts';
import type { TestImage } from './registry-images.ts';

/** One thing that a client can have done to images. */
export interface Verb {
  readonly name: string;
  /** About how long it takes; the instants of death are spread over that until they have shown how long it is. */
  readonly typicalMs: number;
  /** Brings about what it needs, on top of `app:current`, which stands for v1 and may have containers. */
  prepare?(world: ImageWorld): Promise<void>;
  /** One request, or several that are sent at once. */
  request(world: ImageWorld): ApiRequest | readonly ApiRequest[];
  /** What the tags stand for afterwards; `NEW` is an image that was not there before. */
  outcome(before: Names, world: ImageWorld): Names;
  /** Once it has happened it cannot be asked for again, or does something else then. */
  readonly isOnce?: boolean;
  /** The network while it is under way, but not while it is done again. */
  slowDown?(world: ImageWorld): void;
  /** A blob of which no byte is to be fetched twice, but for those that had not arrived or were not yet durable. */
  resumes?(world: ImageWorld): { digest: Digest; sizeBytes: number };
  /** How often it is cut short, where that is not its share of all. */
  readonly rounds?: { readonly kills: number; readonly soakKills: number; readonly soakCuts: number };
  /** A layer of `app:v2` is damaged when it begins, so that nothing is promised of that image until it succeeds. */
  readonly startsDamaged?: boolean;
  /** What else must hold once it has succeeded. */
  check?(world: ImageWorld): Promise<void>;
  /** What else must hold whatever became of it. */
  checkAlways?(world: ImageWorld): Promise<void>;
}

/** Stand for the ID of an image that nobody can know beforehand: one that was not there before, and any. */
export const NEW = 'new';
const ANY = 'any';

const current = 'app:current';

const tagRequest = ({ name }: ImageWorld): ApiRequest => ({
  method: 'POST',
  path: `/images/${name(current)}/tag?repo=${encodeURIComponent(name('app'))}&tag=also`,
});

const loadRequest = ({ archive }: ImageWorld): ApiRequest => ({
  method: 'POST',
  path: '/images/load',
  headers: { 'content-type': 'application/x-tar' },
  body: archive,
});

export const verbs: readonly Verb[] = [
  {
    name: 'pull',
    typicalMs: 500,
    request: ({ name }) => pullRequest(name('app:v2')),
    outcome: (before, { versions }) => withName(before, 'app:v2', versions.v2.configDigest),
  },
  {
    name: 'update',
    typicalMs: 500,
    prepare: ({ point, versions }) => point('current', versions.v2),
    request: ({ name }) => pullRequest(name(current)),
    outcome: (before, { versions }) => withName(before, current, versions.v2.configDigest),
    check: (world) => checkGeneration(world, world.versions.v1),
  },
  {
    name: 'tag',
    typicalMs: 6,
    request: tagRequest,
    outcome: (before) => withName(before, 'app:also', before.get(current)),
  },
  {
    name: 'delete',
    typicalMs: 50,
    isOnce: true,
    prepare: async ({ engine, name }) => {
      await demand(engine, pullRequest(name('app:v2')));
    },
    request: ({ name }) => ({ method: 'DELETE', path: `/images/${name('app:v2')}` }),
    outcome: (before) => withName(before, 'app:v2', undefined),
  },
  {
    name: 'load',
    typicalMs: 500,
    request: loadRequest,
    outcome: (before, { versions }) => withName(before, 'app:v3', versions.v3.configDigest),
  },
  {
    name: 'load of a delta',
    typicalMs: 300,
    request: ({ delta }) => ({ method: 'POST', path: '/images/load', body: delta }),
    outcome: (before, { versions }) => withName(before, 'app:v4', versions.v4.configDigest),
  },
  {
    name: 'pull of a delta',
    typicalMs: 2000,
    rounds: { kills: 5, soakKills: 100, soakCuts: 10 },
    slowDown: ({ proxy, update, dripMs }) =>
      proxy.fault({
        path: new RegExp(`/blobs/${update.digest}`),
        do: { kind: 'drip', bytes: 16_384, everyMs: dripMs },
      }),
    resumes: ({ update }) => update,
    // no layer may be fetched whole
    request: ({ name }) => pullRequest(name('app:v5'), { 'x-delta-mode': 'require' }),
    outcome: (before, { versions }) => withName(before, 'app:v5', versions.v5.configDigest),
  },
  {
    name: 'pull of a delta image',
    typicalMs: 700,
    rounds: { kills: 2, soakKills: 20, soakCuts: 4 },
    request: ({ name }) => pullRequest(name('app:delta')),
    outcome: (before, { versions }) => withName(before, 'app:delta', versions.v5.configDigest),
  },
  {
    name: 'load of a delta image',
    typicalMs: 700,
    rounds: { kills: 1, soakKills: 20, soakCuts: 4 },
    request: ({ deltaImageArchive }) => ({
      method: 'POST',
      path: '/images/load',
      body: deltaImageArchive,
    }),
    outcome: (before, { versions }) => withName(before, 'app:delta', versions.v5.configDigest),
  },
  {
    name: 'making of a delta image',
    typicalMs: 1500,
    rounds: { kills: 1, soakKills: 20, soakCuts: 4 },
    prepare: async ({ engine, name }) => {
      await demand(engine, pullRequest(name('app:v5')));
    },
    request: ({ name }) => ({
      method: 'POST',
      path: `/images/delta?src=${name(current)}&dest=${name('app:v5')}&t=${name('app:made')}`,
    }),
    outcome: (before) => withName(before, 'app:made', NEW),
  },
  {
    name: 'push',
    typicalMs: 250,
    prepare: async ({ engine, name, turn }) => {
      const repo = encodeURIComponent(name(`pushed/${turn}`));
      await demand(engine, { method: 'POST', path: `/images/${name(current)}/tag?repo=${repo}&tag=1` });
    },
    request: ({ name, turn }) => ({
      method: 'POST',
      path: `/images/${name(`pushed/${turn}`)}/push?tag=1`,
      headers: { 'x-registry-auth': 'e30=' },
    }),
    outcome: (before) => before,
    check: async ({ registry, turn }) => {
      const repository = `http://${registry.host}/v2/pushed/${turn}`;
      const manifest = await fetch(`${repository}/manifests/1`, {
        headers: {
          accept:
            'application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json',
        },
      });
      assert.equal(manifest.status, 200, 'what was pushed has a manifest');
      const { config, layers } = JSON.parse(await manifest.text());
      for (const { digest } of [config, ...layers])
        assert.equal((await fetch(`${repository}/blobs/${digest}`, { method: 'HEAD' })).status, 200, digest);
    },
  },
  {
    name: 'prune',
    typicalMs: 100,
    isOnce: true,
    prepare: async ({ engine, name }) => {
      await demand(engine, pullRequest(name('app:v2')));
    },
    request: () => ({
      method: 'POST',
      path: `/images/prune?filters=${encodeURIComponent('{"dangling":["false"]}')}`,
    }),
    outcome: (before, { hasKeeper }) =>
      new Map([...before].filter(([name]) => hasKeeper && name === current)),
  },
  {
    name: 'commit',
    typicalMs: 400,
    isOnce: true,
    prepare: async ({ engine, name }) => {
      const run = ['run', '-d', '--name', 'maker', '--net', 'none', name(current)];
      await engine.ok([
        ...run,
        'sh',
        '-c',
        'dd if=/dev/urandom of=/made bs=100k count=20 conv=fsync; touch /ready; exec sleep 10000',
      ]);
      const isReady = async () => (await engine.docker(['exec', 'maker', 'test', '-e', '/ready'])).code === 0;
      while (!(await isReady()));
    },
    request: ({ name }) => ({
      method: 'POST',
      path: `/commit?container=maker&repo=${encodeURIComponent(name('made'))}&tag=1`,
      headers: { 'content-type': 'application/json' },
      body: Buffer.from('{}'),
    }),
    outcome: (before) => withName(before, 'made:1', NEW),
    check: async ({ engine, name }) => {
      const size = ['run', '--rm', '--net', 'none', name('made:1'), 'stat', '-c', '%s', '/made'];
      assert.equal(
        await engine.ok(size),
        `${20 * 100 * 1024}`,
        'what was committed has the files of its container',
      );
    },
    checkAlways: async ({ engine }) => {
      const { State } = await engine.json('/containers/maker/json');
      assert.equal(State.Paused, false, 'a container that is being committed does not stay paused');
      if (State.Running) await engine.ok(['exec', 'maker', 'true'], { timeoutMs: 20_000 });
    },
  },
  {
    name: 'rollback',
    typicalMs: 6,
    isOnce: true,
    prepare: async ({ engine, name, point, versions }) => {
      await point('current', versions.v2);
      await demand(engine, pullRequest(name(current)));
    },
    request: ({ name }) => ({ method: 'POST', path: `/images/${name(current)}/rollback` }),
    outcome: (before, { versions }) => withName(before, current, versions.v1.configDigest),
    check: (world) => checkGeneration(world, world.versions.v2),
  },
  {
    name: 'repair',
    typicalMs: 1200,
    startsDamaged: true,
    prepare: async ({ engine, name, versions }) => {
      await demand(engine, pullRequest(name('app:v2')));
      for (const { diffId } of versions.v2.layers.slice(-2)) spoil(engine.dataRoot, diffId);
    },
    request: ({ name }) => ({ method: 'POST', path: `/images/${name('app:v2')}/verify?repair=1` }),
    outcome: (before) => before,
  },
  {
    name: 'pull, load, tag and update at once',
    typicalMs: 900,
    prepare: ({ point, versions }) => point('current', versions.v2),
    request: (world) => {
      const pulls = ['app:v2', current].map((name) => pullRequest(world.name(name)));
      return [...pulls, loadRequest(world), tagRequest(world)];
    },
    // what the new tag stands for depends on who comes first
    outcome: (before, { versions: { v2, v3 } }) => {
      const pulled = withName(withName(before, 'app:v2', v2.configDigest), current, v2.configDigest);
      return withName(withName(pulled, 'app:v3', v3.configDigest), 'app:also', ANY);
    },
  },
];

/** The tag can go back to this one. */
async function checkGeneration({ engine, name }: ImageWorld, { configDigest }: TestImage): Promise<void> {
  const tags =
    await engine.json<{ Name: string; Generations: { Id: string; Whole: boolean }[] }[]>(
      '/images/generations',
    );
  const found = tags.find(({ Name }) => Name === name(current))?.Generations ?? [];
  assert.deepEqual(
    found.map(({ Id, Whole }) => [Id, Whole]),
    [[configDigest, true]],
    'what the tag stood for before is kept',
  );
}

/** Damages a layer, as a failing disk does. */
function spoil(dataRoot: string, diffId: string): void {
  const { dirId } = publishedLayers(dataRoot).find((layer) => layer.diffId === diffId) ?? {};
  const data = join(dataRoot, 'layers', `${dirId}`, 'diff/data');
  const file = openSync(join(data, `${readdirSync(data)[0]}`), 'r+');
  writeSync(file, 'spoiled', 1000);
  fsyncSync(file);
  closeSync(file);
}

function withName(names: Names, name: string, id: string | undefined): Names {
  const changed = new Map(names);
  if (id === undefined) changed.delete(name);
  else changed.set(name, id);
  return changed;
}

/**
 * Brings about what every verb starts from: `app:current` is v1, here and in the registry, and has the containers that
 * `startKeeper` makes.
 */
export async function prepare(
  world: ImageWorld,
  verb: Verb,
  startKeeper: () => Promise<void> = async () => {},
): Promise<void> {
  const { engine, name, point, versions } = world;
  world.turn++;
  await point('current', versions.v1);
  await demand(engine, pullRequest(name(current)));
  await startKeeper();
  await verb.prepare?.(world);
}

/** Does it; it is done when all that it consists of is. */
export async function act(world: ImageWorld, verb: Verb): Promise<Outcome> {
  const outcomes = await Promise.all([verb.request(world)].flat().map((one) => ask(world.engine, one)));
  return {
    isDone: outcomes.every(({ isDone }) => isDone),
    text: outcomes.map(({ text }) => text).join('\n'),
  };
}

/** Does again what was cut short, unless it turns out to have happened; what is wrong then. */
export async function actAgain(
  world: ImageWorld,
  verb: Verb,
  { before, after }: { before: Names; after: Names },
): Promise<string[]> {
  const found = await namesIn(world);
  const hasHappened = faultyNames({ before, after, now: found, isDone: true }).length === 0;
  if (hasHappened && verb.isOnce) return [];
  const { isDone, text } = await act(world, verb);
  const now = await namesIn(world);
  return [...(isDone ? [] : [text]), ...faultyNames({ before, after, now, isDone: true })];
}

/**
 * What is wrong with the names after a verb that was cut short: each must stand for what it stood for before, or for
 * what it stands for after; once the client has heard of success, for nothing else but that.
 */
export function faultyNames(o: { before: Names; after: Names; now: Names; isDone: boolean }): string[] {
  const faults: string[] = [];
  for (const name of new Set([...o.before.keys(), ...o.after.keys(), ...o.now.keys()])) {
    const [was, is] = [o.before.get(name), o.now.get(name)];
    const wanted = o.after.get(name);
    const isNew =
      wanted === ANY || wanted === NEW
        ? is !== undefined && (wanted === ANY || ![...o.before.values()].includes(is))
        : is === wanted;
    const isOld = is === was && !o.isDone;
    if (!isNew && !isOld)
      faults.push(`${name} stands for ${is}, not ${wanted}${o.isDone ? '' : ` or ${was}`}`);
  }
  return faults;
}
