import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { World } from '../../support/engine-world.ts';

const none: ReadonlyMap<string, readonly string[]> = new Map();
const filters = (from: Record<string, string[]>) => new Map(Object.entries(from));

async function withApp() {
  const world = await World.open();
  world.registry.put('app:latest', ['base', 'app']);
  await world.pull('app');
  return { world, prunes: world.engine.prunes };
}

test('containers without a process go, by label and age, and their bytes are told', async () => {
  const { world, prunes } = await withApp();
  await using _ = world;
  await world.create('up');
  await world.engine.containers.start('up');
  const plain = await world.create('plain');
  const labelled = await world.create('labelled', { config: { labels: { keep: 'no' } } });
  const upper = join(world.dataRoot, 'containers', labelled, 'upper');
  await mkdir(upper, { recursive: true });
  await writeFile(join(upper, 'file'), '12345');
  const past = filters({ until: ['1h'] });
  assert.deepEqual(await prunes.containers({ filters: past }), { removed: [], freedBytes: 0 });
  const byLabel = filters({ label: ['keep=no'] });
  assert.deepEqual(await prunes.containers({ filters: byLabel }), { removed: [labelled], freedBytes: 5 });
  assert.deepEqual((await prunes.containers({ filters: none })).removed, [plain]);
  assert.deepEqual(
    world.engine.records.all().map(({ name }) => name),
    ['up'],
  );
  await assert.rejects(prunes.containers({ filters: filters({ dangling: ['1'] }) }), {
    status: 400,
    message: "invalid filter 'dangling'",
  });
  await world.assertSettled('after the prune');
});

test('volumes that no container has go: anonymous ones, or all', async () => {
  const { world, prunes } = await withApp();
  await using _ = world;
  await world.create('c1', { config: { volumes: { '/used': {} } } });
  await world.create('c2', { config: { volumes: { '/left': {} } }, hostConfig: { binds: ['named:/data'] } });
  await world.engine.containers.remove('c2', { force: false, withVolumes: false });
  const [first, second, third] = [
    await prunes.volumes({ filters: none }),
    await prunes.volumes({ filters: none }),
    await prunes.volumes({ filters: filters({ all: ['true'] }) }),
  ];
  assert.match(first.removed.join(), /^[0-9a-f]{64}$/);
  assert.deepEqual([second.removed, third.removed], [[], ['named']]);
  await assert.rejects(prunes.volumes({ filters: filters({ until: ['1h'] }) }), { status: 400 });
  await assert.rejects(prunes.volumes({ filters: filters({ all: ['x'] }) }), {
    status: 400,
    message: 'invalid filter \'all\': strconv.ParseBool: parsing "x": invalid syntax',
  });
  await assert.rejects(prunes.volumes({ filters: filters({ all: ['1', '0'] }) }), {
    status: 400,
    message: "invalid filter 'all=[1 0]': only one value is expected",
  });
  await world.assertSettled('after the prunes');
});

test('a volume of a container that is being made stays', async () => {
  const { world, prunes } = await withApp();
  await using _ = world;
  await world.create('old', { hostConfig: { binds: ['shared:/data'] } });
  await world.engine.containers.remove('old', { force: false, withVolumes: false });
  const { layers } = world.life;
  const mountRootfs = layers.mountRootfs.bind(layers);
  const seen: unknown[] = [];
  layers.mountRootfs = async (o) => {
    // it has its volumes by now, and no record
    seen.push((await prunes.volumes({ filters: filters({ all: ['1'] }) })).removed);
    const told = await world.engine.volumes.remove('shared', { force: true }).catch((cause) => cause);
    seen.push([told.status, told.message.replace(/[0-9a-f]{64}/, 'ID')]);
    return mountRootfs(o);
  };
  await world.create('new', { hostConfig: { binds: ['shared:/data'] } });
  assert.deepEqual(seen, [[], [409, 'remove shared: volume is in use - [ID]']]);
  layers.mountRootfs = mountRootfs;
  await world.assertSettled('after both');
  await world.engine.containers.remove('new', { force: false, withVolumes: true });
  assert.deepEqual((await prunes.volumes({ filters: filters({ all: ['1'] }) })).removed, ['shared']);
  await world.assertSettled('after the container');
});

test('one prune of a kind at a time', async () => {
  const { world, prunes } = await withApp();
  await using _ = world;
  await world.create('c1');
  const first = prunes.containers({ filters: none });
  await assert.rejects(prunes.containers({ filters: none }), {
    status: 409,
    message: 'a prune operation is already running',
  });
  assert.equal((await first).removed.length, 1);
});

test('disk usage: each layer once, what containers and volumes hold, and only what is asked for', async () => {
  const { world } = await withApp();
  await using _ = world;
  world.registry.put('other:1', ['base', 'other']);
  await world.pull('other:1');
  const id = await world.create('c1', { hostConfig: { binds: ['named:/data'] } });
  await writeFile(join(world.dataRoot, 'volumes/named/_data/file'), '123');
  const { usage } = world.engine;
  const all = await usage.measure(['images', 'containers', 'volumes'], { isAlone: false });
  assert.equal(all.layersBytes, 'base'.length + 'app'.length + 'other'.length);
  assert.deepEqual(all.images?.map(({ containers, sharedBytes }) => [containers, sharedBytes]).sort(), [
    [0, 4],
    [1, 4],
  ]);
  assert.deepEqual(
    all.containers?.map(({ record, sizes }) => [record.id, sizes?.rwBytes]),
    [[id, 0]],
  );
  assert.deepEqual(
    all.volumes?.map(({ record, sizeBytes, users }) => [record.name, sizeBytes, users]),
    [['named', 3, 1]],
  );
  assert.deepEqual(Object.keys(await usage.measure(['volumes'], { isAlone: false })), ['volumes']);
  const first = usage.measure(['volumes'], { isAlone: true });
  await assert.rejects(usage.measure([], { isAlone: true }), {
    status: 500,
    message: 'a disk usage operation is already running',
  });
  await first;
});
