import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { VolumeRecord } from '../../../src/engine/volumes.ts';
import { World } from '../../support/engine-world.ts';

/** Root file systems have `/data/seed`. */
function seedImage(world: World): void {
  const { layers } = world.life;
  const mountRootfs = layers.mountRootfs.bind(layers);
  layers.mountRootfs = async (o) => {
    const merged = await mountRootfs(o);
    await mkdir(join(merged, 'data'), { recursive: true });
    await writeFile(join(merged, 'data', 'seed'), 'from the image');
    return merged;
  };
}

async function withApp() {
  const world = await World.open();
  world.registry.put('app:latest', ['base']);
  await world.pull('app');
  const names = async () => (await world.records<VolumeRecord>('volumes')).map(({ name }) => name).sort();
  return { world, names };
}

test('names that are none', async () => {
  const { world } = await withApp();
  await using _ = world;
  const create = (name: string) => world.create('c1', { hostConfig: { binds: [`${name}:/x`] } });
  await assert.rejects(create('a'), {
    status: 400,
    message: 'create a: volume name is too short, names should be at least two alphanumeric characters',
  });
  await assert.rejects(create('bad!'), {
    status: 400,
    message:
      'create bad!: "bad!" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path',
  });
  await assert.rejects(create('..'), { status: 400 });
  await world.create('c1'); // the name was given back
});

test('a container that does not come to be leaves no anonymous volume', async () => {
  const { world, names } = await withApp();
  await using _ = world;
  const binds = ['/anonymous', 'named:/named', 'bad!:/x'];
  await assert.rejects(world.create('c1', { hostConfig: { binds } }), { status: 400 });
  assert.deepEqual(await names(), ['named']);
  await world.assertSettled('after the refusal');
});

test('a removal with volumes takes the anonymous ones that nobody else uses', async () => {
  const { world, names } = await withApp();
  await using _ = world;
  await world.create('c1', { hostConfig: { binds: ['/one', '/two', 'named:/named'] } });
  const [one, two] = world.container('c1')?.mounts.map(({ name }) => name) ?? [];
  await world.create('c2', { hostConfig: { binds: [`${one}:/shared`] } });
  await world.engine.containers.remove('c1', { force: false, withVolumes: true });
  assert.deepEqual(await names(), [one, 'named'].sort());
  assert.ok(two);
  await world.engine.containers.remove('c2', { force: false, withVolumes: false });
  assert.deepEqual(await names(), [one, 'named'].sort());
  await world.assertSettled('at the end');
});

test('an empty volume begins with what the image has there, one with content keeps it', async () => {
  const { world } = await withApp();
  await using _ = world;
  seedImage(world);
  await world.create('c1', { hostConfig: { binds: ['filled:/data', 'declined:/data2:nocopy'] } });
  const seed = join(world.dataRoot, 'volumes/filled/_data/seed');
  assert.equal(await readFile(seed, 'utf8'), 'from the image');
  await writeFile(seed, 'changed');
  await world.create('c2', { hostConfig: { binds: ['filled:/data'] } });
  assert.equal(await readFile(seed, 'utf8'), 'changed');
  assert.equal(world.kernel.mounts.size, 0);
});

test('boot: a volume that was half filled is empty, and filled by the next container', async () => {
  const { world } = await withApp();
  await using _ = world;
  await world.create('c1', { hostConfig: { binds: ['half:/data'] } });
  const filling = join(world.dataRoot, 'volumes/half/filling');
  await mkdir(filling);
  await writeFile(join(filling, 'seed'), 'from the im');
  await world.die('crash');
  await world.boot();
  assert.deepEqual(await readdir(join(world.dataRoot, 'volumes/half')), ['_data']);
  seedImage(world);
  await world.create('c2', { hostConfig: { binds: ['half:/data'] } });
  const seed = join(world.dataRoot, 'volumes/half/_data/seed');
  assert.equal(await readFile(seed, 'utf8'), 'from the image');
});

test('boot: a directory half removed goes; where records were lost it is a user’s data', async () => {
  const { world, names } = await withApp();
  await using _ = world;
  const half = async (name: string) => {
    await mkdir(join(world.dataRoot, 'volumes', name, '_data'), { recursive: true });
    await writeFile(join(world.dataRoot, 'volumes', name, '_data', 'file'), 'x');
  };
  await half('left');
  await writeFile(join(world.dataRoot, 'volumes', 'metadata.db'), 'not a volume');
  await world.die('crash');
  await world.boot();
  assert.deepEqual(await names(), []);
  await half('precious');
  await world.die('power cut');
  await world.loseDatabase();
  for (const end of ['crash', 'power cut'] as const) {
    await world.boot();
    assert.deepEqual(await names(), ['precious'], end);
    await world.die(end);
  }
  await world.boot();
  assert.equal(await readFile(join(world.dataRoot, 'volumes', 'metadata.db'), 'utf8'), 'not a volume');
});

const filters = (from: Record<string, string[]>) => new Map(Object.entries(from));

test('a volume is made once, whatever else is asked for later', async () => {
  await using world = await World.open();
  const { volumes } = world.engine;
  const both = await Promise.all([
    volumes.create('twice', { labels: { first: '1' }, options: { type: 'tmpfs', device: 'x' } }),
    volumes.create('twice', { labels: { second: '2' }, options: { bogus: 'not looked at' } }),
  ]);
  assert.deepEqual(
    both.map(({ record }) => record.labels),
    [{ first: '1' }, { first: '1' }],
  );
  const plain = await volumes.create('plain');
  assert.deepEqual([plain.record.labels, plain.record.options], [null, null]);
  const empty = await volumes.create('empty', { labels: {}, options: {} });
  assert.deepEqual([empty.record.labels, empty.record.options], [{}, {}]);
  const { record } = await volumes.create('', { labels: { a: 'b' } });
  assert.match(record.name, /^[0-9a-f]{64}$/);
  assert.deepEqual(record.labels, { a: 'b', 'com.docker.volume.anonymous': '' });
  for (const [name, wish, message] of [
    ['bad', { driver: 'nope' }, 'create bad: error looking up volume plugin nope: plugin "nope" not found'],
    [
      'twice',
      { driver: 'nope' },
      'create twice: error looking up volume plugin nope: plugin "nope" not found',
    ],
    ['bad', { options: { bogus: '1' } }, 'create bad: invalid option: "bogus"'],
    [
      'a/b',
      {},
      'create a/b: "a/b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path',
    ],
  ] as const)
    await assert.rejects(volumes.create(name, wish), { message });
  await world.assertSettled('at the end');
});

test('a volume that somebody has is not removed, by name or with force', async () => {
  const { world, names } = await withApp();
  await using _ = world;
  const { volumes } = world.engine;
  const id = await world.create('c1', { hostConfig: { binds: ['mine:/data'] } });
  const told = { status: 409, message: `remove mine: volume is in use - [${id}]` };
  for (const force of [false, true]) await assert.rejects(volumes.remove('mine', { force }), told);
  await world.engine.containers.remove('c1', { force: false, withVolumes: true });
  await volumes.remove('mine', { force: false });
  await assert.rejects(volumes.remove('mine', { force: false }), {
    status: 404,
    message: 'get mine: no such volume',
  });
  await volumes.remove('mine', { force: true });
  assert.deepEqual(await names(), []);
  await world.assertSettled('at the end');
});

test('a new volume never shows what an earlier one of its name has left', async () => {
  await using world = await World.open();
  const left = join(world.dataRoot, 'volumes/again/_data');
  await mkdir(left, { recursive: true });
  await writeFile(join(left, 'old'), 'secret');
  const { path } = await world.engine.volumes.create('again');
  assert.deepEqual(await readdir(path), []);
});

test('anonymous volumes of another container do not go while they are taken over', async () => {
  const { world } = await withApp();
  await using _ = world;
  const donor = await world.create('donor', { config: { volumes: { '/data': {} } } });
  const { layers } = world.life;
  const mountRootfs = layers.mountRootfs.bind(layers);
  layers.mountRootfs = async (o) => {
    layers.mountRootfs = mountRootfs;
    await world.engine.containers.remove(donor, { force: false, withVolumes: true });
    return mountRootfs(o);
  };
  await world.create('heir', { hostConfig: { volumesFrom: ['donor'], binds: ['own:/own'] } });
  await world.engine.containers.start('heir');
  await world.assertSettled('at the end');
});

test('lists are narrowed by use, driver, label and name', async () => {
  const { world } = await withApp();
  await using _ = world;
  const { volumes } = world.engine;
  await world.create('c1', { hostConfig: { binds: ['used-1:/data'] } });
  await volumes.create('free-1', { labels: { tier: 'db', x: '' } });
  await volumes.create('free-2', { labels: { tier: 'web' } });
  const list = async (from: Record<string, string[]>) =>
    (await volumes.list({ filters: filters(from) })).map(({ record }) => record.name);
  const cases: [Record<string, string[]>, string[]][] = [
    [{}, ['free-1', 'free-2', 'used-1']],
    [{ dangling: ['true'] }, ['free-1', 'free-2']],
    [{ dangling: ['0'] }, ['used-1']],
    [{ driver: ['local', 'nope'] }, ['free-1', 'free-2', 'used-1']],
    [{ driver: ['nope'] }, []],
    [{ label: ['tier'] }, ['free-1', 'free-2']],
    [{ label: ['tier=db', 'x'] }, ['free-1']],
    [{ label: ['x=1'] }, []],
    [{ name: ['1$'] }, ['free-1', 'used-1']],
    [{ name: ['ree-1', 'used'] }, ['free-1', 'used-1']],
    [{ name: ['[', 'free-2'], dangling: ['1'] }, ['free-2']],
  ];
  for (const [from, expected] of cases) assert.deepEqual(await list(from), expected, JSON.stringify(from));
  for (const [from, message] of [
    [{ bogus: ['1'] }, "invalid filter 'bogus'"],
    [{ dangling: ['x'] }, "invalid filter 'dangling=[x]'"],
    [{ dangling: ['1', 'false'] }, "invalid filter 'dangling=[1 false]'"],
  ] as const)
    await assert.rejects(list(from as never), { status: 400, message });
});
