import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chainIds } from '../../../src/lib/chain-id.ts';
import { digestOf, shortDigest } from '../../../src/lib/digest.ts';
import { parseReference } from '../../../src/lib/reference.ts';
import type { ImageRecord } from '../../../src/store/records.ts';
import { World } from '../../support/engine-world.ts';
import { imageRecord } from '../../support/image-records.ts';

const none: ReadonlyMap<string, readonly string[]> = new Map();
const everything = new Map([['dangling', ['false']]]);

async function withApp() {
  const world = await World.open();
  world.registry.put('app:latest', ['base', 'app']);
  await world.pull('app');
  const { images } = world.engine;
  return { world, images, app: (await images.inspect('app')).record };
}

/** An image made on another one, as a commit makes it, of the same layers. */
async function commitOn(world: World, parent: ImageRecord, name?: string): Promise<ImageRecord> {
  const record = {
    ...imageRecord({ config: { comment: parent.id, author: name }, diffIds: parent.diffIds }),
    parent: parent.id,
  };
  const refs = name === undefined ? [] : [{ ref: parseReference(name) }];
  await world.engine.images.adopt([{ record, refs }], []);
  return record;
}

async function ids(world: World, o: { isAll?: boolean; filters?: ReadonlyMap<string, string[]> } = {}) {
  const list = await world.engine.images.list({
    withSharedSize: false,
    filters: o.filters ?? none,
    isAll: o.isAll ?? false,
  });
  return new Set(list.map(({ record }) => record.id));
}

test('a step between images is listed with all alone, and goes with the last image made on it', async () => {
  const { world, images, app } = await withApp();
  await using _ = world;
  const step = await commitOn(world, app);
  const top = await commitOn(world, step, 'top:1');
  assert.deepEqual(await ids(world), new Set([app.id, top.id]));
  assert.deepEqual(await ids(world, { isAll: true }), new Set([app.id, step.id, top.id]));
  assert.deepEqual(await ids(world, { filters: new Map([['dangling', ['true']]]) }), new Set());
  assert.deepEqual(await images.remove('top:1', { force: false }), [
    { untagged: 'top:1' },
    { deleted: top.id },
    { deleted: step.id },
  ]);
  assert.deepEqual(await ids(world, { isAll: true }), new Set([app.id])); // it has a name
  await world.assertSettled('after the removal');
});

test('layers go with the lowest image that had them, and a parent that a tag remembers stays', async () => {
  const { world, images, app } = await withApp();
  await using _ = world;
  const [lowest] = app.diffIds;
  assert.ok(lowest);
  const below = imageRecord({ config: { author: 'below' }, diffIds: [lowest] });
  const top = { ...imageRecord({ config: { author: 'top' }, diffIds: app.diffIds }), parent: below.id };
  const adopt = () =>
    images.adopt(
      [
        { record: below, refs: [{ ref: parseReference('moving:1') }] },
        { record: top, refs: [{ ref: parseReference('top:1') }, { ref: parseReference('moving:1') }] },
      ],
      [],
    );
  await adopt();
  await images.remove('app', { force: false });
  await images.remove('moving:1', { force: false });
  const chains = chainIds(app.diffIds);
  assert.deepEqual(await images.remove('top:1', { force: false }), [
    { untagged: 'top:1' },
    { deleted: top.id },
    { deleted: chains[1] },
    { deleted: below.id },
    { deleted: chains[0] },
  ]);
  await world.assertSettled('without any image');

  await world.pull('app');
  await adopt();
  await images.tag(below.id, { repo: 'moving', tag: '1' });
  await images.tag('app', { repo: 'moving', tag: '1' }); // which stood for `below` before
  await images.remove('top:1', { force: false });
  assert.equal((await images.rollBack('moving:1', {})).to, below.id);
});

test('a container that is made while a prune looks around keeps its image', async () => {
  const { world, images, app } = await withApp();
  await using _ = world;
  const [, { removals }] = await Promise.all([world.create('c1'), images.prune({ filters: everything })]);
  assert.deepEqual(removals, []);
  assert.equal((await images.inspect('app')).record.id, app.id);
  await world.assertSettled('after both');
});

test('the history names the images that the last steps ended with, and their tags', async () => {
  const { world, images } = await withApp();
  await using _ = world;
  const history = ['one', 'two', 'three', 'four'].map((created_by) => ({ created_by, empty_layer: true }));
  world.registry.put('made:1', ['base'], { configFile: { history: history.slice(0, 2) } });
  await world.pull('made:1');
  const { record: below } = await images.inspect('made:1');
  const record = (parent: ImageRecord, steps: number): ImageRecord => ({
    ...imageRecord({ config: { history: history.slice(0, steps) }, diffIds: below.diffIds }),
    parent: parent.id,
  });
  const middle = record(below, 3);
  const top = record(middle, 4);
  await images.adopt(
    [
      { record: middle, refs: [] },
      { record: top, refs: [{ ref: parseReference('top:1') }] },
    ],
    [],
  );
  assert.deepEqual(
    (await images.history('top:1')).map(({ id, createdBy, tags }) => [id, createdBy, tags]),
    [
      [top.id, 'four', ['top:1']],
      [middle.id, 'three', []],
      [below.id, 'two', ['made:1']],
      [undefined, 'one', []],
    ],
  );
});

test('a digest is one name of several: it goes alone, and by ID only force takes them all', async () => {
  const { world, images, app } = await withApp();
  await using _ = world;
  const digest = digestOf('another manifest');
  const ref = parseReference(`other@${digest}`);
  await images.adopt([{ record: app, refs: [{ ref, digest }] }], []);
  const { repoDigests } = await images.inspect('app');
  assert.equal(repoDigests.length, 2);
  await assert.rejects(images.remove(app.id, { force: false }), {
    status: 409,
    message: /multiple repositories/,
  });
  await images.remove('app', { force: false });
  assert.deepEqual(
    await images.remove(`other:x@${digest}`, { force: false }).then((steps) => steps.slice(0, 2)),
    [{ untagged: `other@${digest}` }, { deleted: app.id }],
  );
  await world.assertSettled('after the last digest went');
});

test('noprune leaves the parents', async () => {
  const { world, images, app } = await withApp();
  await using _ = world;
  const step = await commitOn(world, app);
  const top = await commitOn(world, step, 'top:1');
  assert.deepEqual(await images.remove('top:1', { force: false, isPruning: false }), [
    { untagged: 'top:1' },
    { deleted: top.id },
  ]);
  assert.deepEqual(await ids(world), new Set([app.id, step.id]));
});

test('an image that others are made on loses its name and stays; by ID it cannot go at all', async () => {
  const { world, images, app } = await withApp();
  await using _ = world;
  await commitOn(world, app, 'top:1');
  for (const force of [false, true])
    await assert.rejects(images.remove(app.id, { force }), {
      status: 409,
      message: `conflict: unable to delete ${shortDigest(app.id)} (cannot be forced) - image has dependent child images`,
    });
  const steps = await images.remove('app', { force: false });
  assert.ok(steps.every((step) => 'untagged' in step));
  assert.deepEqual((await ids(world, { isAll: true })).size, 2);
  await world.assertSettled('without its name');
});

test('a prune takes what has no tag, tells each step and the bytes, and leaves what is needed', async () => {
  const { world, images } = await withApp();
  await using _ = world;
  world.registry.put('old:latest', ['base', 'longer']);
  await world.pull('old');
  const { record: old, repoDigests } = await images.inspect('old');
  await images.tag('app', { repo: 'old', tag: 'latest' });
  await images.remove('old:latest', { force: false }); // so that it is no generation
  world.registry.put('used:latest', ['base', 'used']);
  await world.pull('used');
  await world.create('c1', { config: { image: 'used' } });
  await images.remove('used', { force: true }).catch(() => {});
  const { removals, freedBytes } = await images.prune({ filters: none });
  assert.deepEqual(removals.slice(0, 2), [{ untagged: repoDigests[0] }, { deleted: old.id }]);
  assert.equal(removals.length, 3);
  assert.equal(freedBytes, 'longer'.length);
  assert.deepEqual((await images.prune({ filters: none })).removals, []);
  await world.assertSettled('after the prune');
});

test('a prune spares generations while their tag is there', async () => {
  const { world, images, app } = await withApp();
  await using _ = world;
  world.registry.put('app:latest', ['base', 'newer']);
  await world.pull('app');
  assert.deepEqual((await images.prune({ filters: none })).removals, []);
  await world.create('c1', { config: { image: 'app' } });
  assert.deepEqual((await images.prune({ filters: everything })).removals, []);
  assert.equal((await images.rollBack('app', {})).to, app.id);
  await images.rollBack('app', {});
  await world.engine.containers.remove('c1', { force: true, withVolumes: true });
  const { freedBytes } = await images.prune({ filters: everything });
  assert.equal(freedBytes, 'base'.length + 'app'.length + 'newer'.length);
  assert.equal(world.kernel.layers.size, 0);
  await world.assertSettled('when all is gone');
});

test('a prune with filters', async () => {
  const { world, images } = await withApp();
  await using _ = world;
  for (const [name, day, label] of [
    ['a', 1, 'x'],
    ['b', 2, 'y'],
    ['c', 3, 'x'],
  ] as const) {
    const config = {
      config: { Labels: { kind: label } },
      configFile: { created: `2026-01-0${day}T00:00:00Z` },
    };
    world.registry.put(`${name}:1`, ['base', name], config);
    await world.pull(`${name}:1`);
  }
  const prune = async (filters: Record<string, string[]>) =>
    (
      await images.prune({ filters: new Map(Object.entries({ dangling: ['0'], ...filters })) })
    ).removals.flatMap((step) => ('untagged' in step && !step.untagged.includes('@') ? step.untagged : []));
  assert.deepEqual(await prune({ until: ['2026-01-02T12:00:00Z'], label: ['kind=x'] }), ['a:1']);
  assert.deepEqual(await prune({ 'label!': ['kind=x'], label: ['kind'] }), ['b:1']);
  assert.deepEqual(await prune({ until: ['2020-01-01T00:00:00Z'] }), []);
  assert.deepEqual(await prune({ 'label!': ['kind=x'] }), ['app:latest']);
  await assert.rejects(prune({ reference: ['x'] }), { status: 400, message: "invalid filter 'reference'" });
  await assert.rejects(prune({ dangling: ['x'] }), { status: 400, message: "invalid filter 'dangling=[x]'" });
  await assert.rejects(prune({ until: ['x'] }), {
    status: 500,
    message: 'failed to parse value as time or duration: "x"',
  });
  await assert.rejects(prune({ until: ['1', '2'] }), { message: 'more than one until filter specified' });
});

test('one prune at a time, and none takes what a pull is about to use', async () => {
  const { world, images } = await withApp();
  await using _ = world;
  const first = images.prune({ filters: everything });
  await assert.rejects(images.prune({ filters: none }), {
    status: 409,
    message: 'a prune operation is already running',
  });
  await first;
  world.registry.put('app:latest', ['base', 'newer']);
  await Promise.all([
    world.pull('app'),
    images.prune({ filters: everything }),
    images.prune({ filters: everything }).catch(() => {}),
  ]);
  await world.assertSettled('after pull and prune at once');
});

test('events of a removal name the image, as dockerd tells them', async () => {
  const { world, images, app } = await withApp();
  await using _ = world;
  await images.prune({ filters: everything });
  const told: string[] = [];
  const until = BigInt(Date.now() + 1) * 1_000_000n;
  for await (const { action, actor } of world.engine.events.subscribe({
    since: 0n,
    until,
    filters: none,
    signal: AbortSignal.timeout(5000),
  }))
    told.push(`${action} ${actor.id} ${JSON.stringify(actor.attributes)}`);
  const untag = `untag ${app.id} {"name":"${app.id}"}`;
  assert.deepEqual(told.slice(-4), [
    untag,
    untag,
    `delete ${app.id} {"name":"${app.id}"}`,
    'prune  {"reclaimed":"7"}',
  ]);
});
