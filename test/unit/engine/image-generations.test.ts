import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLog } from '../../../src/lib/log.ts';
import type { RefRecord } from '../../../src/store/records.ts';
import { Sidecars } from '../../../src/store/sidecars.ts';
import { World } from '../../support/engine-world.ts';

/** `app:latest` as it was published three times; the last one is current. */
async function withVersions(o: { keepGenerations?: number } = {}) {
  const world = await World.create();
  world.keepGenerations = o.keepGenerations ?? 1;
  await world.boot();
  const ids: string[] = [];
  for (const version of ['v1', 'v2', 'v3']) {
    ids.push(world.registry.put('app:latest', ['base', version]).configDigest);
    await world.pull('app');
  }
  const [v1 = '', v2 = '', v3 = ''] = ids;
  return { world, v1, v2, v3 };
}

async function former(world: World): Promise<string[]> {
  const [app] = await world.engine.images.generations();
  return app?.generations.map(({ imageId }) => imageId) ?? [];
}

async function current(world: World): Promise<string> {
  return (await world.engine.images.inspect('app')).record.id;
}

test('a rollback returns to the image before, and another one goes forward again', async () => {
  const { world, v2, v3 } = await withVersions();
  await using _ = world;
  const { images, events } = world.engine;
  assert.deepEqual(await former(world), [v2]);
  const done = await images.rollBack('app', {});
  assert.deepEqual([done.name, done.from, done.to], ['app:latest', v3, v2]);
  assert.deepEqual([await current(world), await former(world)], [v2, [v3]]);
  await world.assertSettled('after the rollback');
  assert.equal((await images.rollBack('docker.io/library/app:latest', {})).to, v3);
  assert.deepEqual([await current(world), await former(world)], [v3, [v2]]);
  const told: string[] = [];
  const filters = new Map([['type', ['image']]]);
  const until = BigInt(Date.now() + 1) * 1_000_000n;
  for await (const { action, actor } of events.subscribe({
    since: 0n,
    until,
    filters,
    signal: AbortSignal.timeout(5000),
  }))
    told.push(`${action} ${actor.id} ${actor.attributes['name']} ${actor.attributes['from'] ?? ''}`);
  assert.deepEqual(told.slice(-4), [
    `rollback ${v2} app:latest ${v3}`,
    `tag ${v2} app:latest `,
    `rollback ${v3} app:latest ${v2}`,
    `tag ${v3} app:latest `,
  ]);
});

test('as many generations as are to be kept, and one of them can be chosen', async () => {
  const { world, v1, v2, v3 } = await withVersions({ keepGenerations: 5 });
  await using _ = world;
  const { images } = world.engine;
  assert.deepEqual(await former(world), [v2, v1]);
  await images.rollBack('app', { to: v1.slice(7, 20) });
  assert.deepEqual([await current(world), await former(world)], [v1, [v3, v2]]);
  await images.rollBack('app', { to: v2 });
  assert.deepEqual([await current(world), await former(world)], [v2, [v1, v3]]);
  const none = { status: 409, message: `cannot roll app:latest back: ${v2} is none of its earlier images` };
  await assert.rejects(images.rollBack('app', { to: v2 }), none);
  await assert.rejects(images.rollBack('app', { to: 'sha256:' }), { status: 400 });
});

test('what cannot be rolled back says why', async () => {
  const { world, v3 } = await withVersions();
  await using _ = world;
  const { images } = world.engine;
  await images.tag('app', { repo: 'fresh', tag: '' });
  await assert.rejects(images.rollBack('fresh', {}), {
    status: 409,
    message: 'cannot roll fresh:latest back: no earlier image of it is kept',
  });
  await assert.rejects(images.rollBack('nope', {}), { status: 404, message: 'No such image: nope:latest' });
  for (const name of [v3, v3.slice(7), `app@${v3}`])
    await assert.rejects(images.rollBack(name, {}), {
      status: 400,
      message: `cannot roll ${name} back: it is no tag`,
    });
});

test('the same image again is no new generation; a move by hand is one', async () => {
  const { world, v2, v3 } = await withVersions();
  await using _ = world;
  const { images } = world.engine;
  await world.pull('app');
  await images.tag(v3, { repo: 'app', tag: '' });
  assert.deepEqual(await former(world), [v2]);
  await images.tag(v2, { repo: 'app', tag: '' });
  assert.deepEqual(await former(world), [v3]);
});

test('nothing is remembered where generations are turned off, not even what was', async () => {
  const { world, v3 } = await withVersions();
  await using _ = world;
  await world.die('crash');
  world.keepGenerations = 0;
  await world.boot();
  assert.deepEqual(await world.engine.images.generations(), []);
  await assert.rejects(world.engine.images.rollBack('app', {}), { status: 409 });
  await world.engine.images.prune({ filters: new Map() });
  assert.deepEqual(
    (await world.engine.images.list({ isAll: true, filters: new Map(), withSharedSize: false })).map(
      ({ record }) => record.id,
    ),
    [v3],
  );
});

test('an image that is removed is no generation any more; a tag that is removed has none', async () => {
  const { world, v2 } = await withVersions();
  await using _ = world;
  const { images } = world.engine;
  await images.tag('app', { repo: 'other', tag: '' });
  await images.remove(v2, { force: true });
  assert.deepEqual(await images.generations(), []);
  assert.ok((await world.records<RefRecord>('refs')).every(({ previous }) => previous.length === 0));
  await world.assertSettled('after the removal of the generation');

  world.registry.put('app:latest', ['base', 'v4']);
  await world.pull('app');
  assert.equal((await former(world)).length, 1);
  await images.remove('app', { force: false });
  assert.deepEqual(await images.generations(), []);
});

test('a generation whose layer the disk lost is not gone back to', async () => {
  const { world } = await withVersions();
  await using _ = world;
  const [lost] = [...world.kernel.layers.values()]
    .filter(({ sizeBytes }) => sizeBytes === 'v2'.length)
    .slice(1, 2);
  world.kernel.layers.delete(lost?.dirId ?? '');
  await world.die('crash');
  await world.boot();
  const [app] = await world.engine.images.generations();
  assert.deepEqual(
    app?.generations.map(({ isWhole }) => isWhole),
    [false],
  );
  await assert.rejects(world.engine.images.rollBack('app', {}), { status: 409, message: /is damaged/ });
});

test('tags and their generations come back after the database was lost', async () => {
  const { world, v1, v2, v3 } = await withVersions({ keepGenerations: 2 });
  await using _ = world;
  await world.engine.images.rollBack('app', {});
  await world.die('power cut');
  await world.loseDatabase();
  await world.boot();
  assert.deepEqual([await current(world), await former(world)], [v2, [v3, v1]]);
  await world.engine.images.rollBack('app', { to: v1 });
  await world.assertSettled('after the rollback');
});

test('a tag whose record was damaged comes back alone, with its generations', async () => {
  const { world, v2, v3 } = await withVersions();
  await using _ = world;
  await world.engine.images.tag('app', { repo: 'other', tag: '' });
  const { store } = world.life;
  await store.commit([store.table('refs').remove('docker.io/library/app:latest')]);
  await world.engine.images.rebuild(new Sidecars({ dataRoot: world.dataRoot, log: silentLog }).images());
  assert.deepEqual([await current(world), await former(world)], [v3, [v2]]);
  assert.equal((await world.engine.images.inspect('other')).record.id, v3);
});

test('a rollback under containers: the old one runs on, a new one gets the image that was restored', async () => {
  const { world, v2, v3 } = await withVersions();
  await using _ = world;
  const { containers, images, records } = world.engine;
  await world.create('before', { config: { image: 'app' } });
  await containers.start('before');
  const [, made] = await Promise.all([
    images.rollBack('app', {}),
    world.create('amid', { config: { image: 'app' } }),
  ]);
  await world.create('after', { config: { image: 'app' } });
  await containers.start('after');
  assert.equal(records.find('before').imageId, v3);
  assert.ok([v2, v3].includes(records.find(made).imageId));
  assert.equal(records.find('after').imageId, v2);
  await world.assertSettled('with both at work');
});
