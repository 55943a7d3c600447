import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shortDigest } from '../../../src/lib/digest.ts';
import { silentLog } from '../../../src/lib/log.ts';
import { parseReference, withDefaultTag } from '../../../src/lib/reference.ts';
import type { ImageRecord, RefRecord } from '../../../src/store/records.ts';
import { Sidecars } from '../../../src/store/sidecars.ts';
import { World } from '../../support/engine-world.ts';
import { imageRecord } from '../../support/image-records.ts';

const noFilters: ReadonlyMap<string, readonly string[]> = new Map();

/** A world with the image `app:latest`, pulled. */
async function withApp() {
  const world = await World.open();
  const image = world.registry.put('app:latest', ['base', 'app'], { config: { Labels: { tier: 'front' } } });
  await world.pull('app');
  const { images } = world.engine;
  return { world, images, id: image.configDigest, hex: image.configDigest.slice(7), digest: image.digest };
}

async function copies(world: World): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  for await (const { record, names } of new Sidecars({ dataRoot: world.dataRoot, log: silentLog }).images())
    found.set(record.id, [...names].sort());
  return found;
}

test('an image is found by tag, digest, ID and the beginning of it', async () => {
  const { world, images, id, hex, digest } = await withApp();
  await using _ = world;
  const names = [
    'app',
    'app:latest',
    'docker.io/library/app',
    `app@${digest}`,
    `app:other@${digest}`,
    id,
    hex,
    hex.slice(0, 5),
    `sha256:${hex.slice(0, 5)}`,
  ];
  for (const name of names) assert.equal((await images.find(name)).id, id, name);
  const missing: [string, string][] = [
    ['nope', 'No such image: nope:latest'],
    ['nope:1', 'No such image: nope:1'],
    ['docker.io/library/nope', 'No such image: nope:latest'],
    ['app:2', 'No such image: app:2'],
    ['0'.repeat(64), `No such image: sha256:${'0'.repeat(64)}`],
    [`sha256:${'0'.repeat(64)}`, `No such image: sha256:${'0'.repeat(64)}`],
  ];
  for (const [name, message] of missing)
    await assert.rejects(images.find(name), { status: 404, message }, name);
  await assert.rejects(images.find('UPPER'), {
    status: 400,
    message: 'invalid reference format: repository name must be lowercase',
  });
});

test('a name that two images begin with is none, and a tag comes before a prefix', async () => {
  const { world, images, id, hex } = await withApp();
  await using _ = world;
  await images.tag('app', { repo: hex.slice(0, 1), tag: '' });
  for (let n = 0; n < 20; n++) world.registry.put(`more:${n}`, ['base', `more${n}`]);
  const others = await Promise.all(
    [...world.registry.images.keys()]
      .filter((name) => name.startsWith('more'))
      .map(async (name) => {
        await world.pull(name);
        return (await images.find(name)).id;
      }),
  );
  const twin = others.find((other, at) => others.some((third, b) => b !== at && third[7] === other[7]));
  assert.ok(twin);
  const letter = twin.slice(7, 8);
  if (letter !== hex[0]) await assert.rejects(images.find(letter), { status: 404 });
  assert.equal((await images.find(hex.slice(0, 1))).id, id);
});

test('a name that moves leaves its image, in the records and in their copies', async () => {
  const { world, images, id } = await withApp();
  await using _ = world;
  const newer = world.registry.put('app:latest', ['base', 'newer']);
  await world.pull('app');
  const [ref] = (await world.records<RefRecord>('refs')).filter(
    ({ imageId }) => imageId === newer.configDigest,
  );
  assert.deepEqual(
    ref?.previous.map(({ imageId }) => imageId),
    [id],
  );
  assert.deepEqual((await images.inspect(id)).repoTags, []);
  const named = await copies(world);
  assert.ok(named.get(newer.configDigest)?.includes('docker.io/library/app:latest'));
  assert.ok(!named.get(id)?.includes('docker.io/library/app:latest'));
  await images.tag(id, { repo: 'app', tag: 'latest' });
  assert.deepEqual((await images.inspect('app')).record.id, id);
  assert.ok(!(await copies(world)).get(newer.configDigest)?.includes('docker.io/library/app:latest'));
});

test('several images come in at once, without digests: names move, the last of two gets one, what is known stays', async () => {
  const { world, images, id } = await withApp();
  await using _ = world;
  const { record: app } = await images.inspect('app');
  const { manifest: _manifest, ...bare } = app;
  const other = imageRecord({ config: { author: 'x' }, diffIds: app.diffIds });
  const ref = (name: string) => ({ ref: withDefaultTag(parseReference(name)) });
  const moved = await images.adopt(
    [
      { record: { ...bare, pulledAt: 'later' }, refs: [ref('copy'), ref('both')] },
      { record: other, refs: [ref('app'), ref('both'), ref('app')] },
      { record: bare, refs: [ref('third')] },
    ],
    [],
  );
  assert.deepEqual(moved, [{ name: 'app:latest', from: id, to: other.id }]);
  assert.deepEqual((await images.inspect(id)).repoTags, ['copy:latest', 'third:latest']);
  assert.deepEqual((await images.inspect(other.id)).repoTags, ['app:latest', 'both:latest']);
  assert.deepEqual((await images.inspect(id)).record, app);
  const names = (await copies(world)).get(id)?.filter((name) => !name.includes('@'));
  assert.deepEqual(names, ['docker.io/library/copy:latest', 'docker.io/library/third:latest']);
  await world.assertSettled('after they came');
});

test('tags that are none', async () => {
  const { world, images } = await withApp();
  await using _ = world;
  const cases: [string, string, string][] = [
    ['UPPER', '', 'invalid reference format: repository name must be lowercase'],
    ['sha256', '', 'refusing to create an ambiguous tag using digest algorithm as name'],
    ['app', 'a b', 'invalid tag format'],
    [`app@sha256:${'0'.repeat(64)}`, '', 'refusing to create a tag with a digest reference'],
  ];
  for (const [repo, tag, message] of cases)
    await assert.rejects(images.tag('app', { repo, tag }), { status: 400, message });
  await assert.rejects(images.tag('nope', { repo: 'x', tag: '' }), { status: 404 });
});

test('a removal tells its steps: names, image, layers from the top; layers in use stay', async () => {
  const { world, images, id, digest } = await withApp();
  await using _ = world;
  world.registry.put('other:latest', ['base', 'other']);
  await world.pull('other');
  const { record } = await images.inspect('app');
  const steps = await images.remove('app', { force: false });
  assert.deepEqual(steps.slice(0, 3), [
    { untagged: 'app:latest' },
    { untagged: `app@${digest}` },
    { deleted: id },
  ]);
  assert.equal(steps.length, 4); // the base is the other's too
  assert.equal(world.kernel.layers.size, 2);
  assert.ok(![...world.kernel.layers.values()].some(({ diffId }) => diffId === record.diffIds[1]));
  assert.equal((await copies(world)).get(id), undefined);
  await world.assertSettled('after the removal');
});

test('the last but one name is only taken away, with the digests of its repository', async () => {
  const { world, images, id, digest } = await withApp();
  await using _ = world;
  await images.tag('app', { repo: 'app', tag: '2' });
  await images.tag('app', { repo: 'other', tag: '1' });
  assert.deepEqual(await images.remove('app:2', { force: false }), [{ untagged: 'app:2' }]);
  const both = [{ untagged: 'app:latest' }, { untagged: `app@${digest}` }];
  assert.deepEqual(await images.remove('app', { force: false }), both);
  assert.deepEqual((await images.inspect(id)).repoTags, ['other:1']);
});

test('by ID all names go, if they are of one repository and one tag, or by force', async () => {
  const { world, images, id, hex } = await withApp();
  await using _ = world;
  const manifold = {
    status: 409,
    message: `conflict: unable to delete ${shortDigest(id)} (must be forced) - image is referenced in multiple repositories`,
  };
  await images.tag('app', { repo: 'app', tag: '2' });
  await assert.rejects(images.remove(id, { force: false }), manifold);
  await images.remove('app:2', { force: false });
  await images.tag('app', { repo: 'other', tag: '1' });
  await assert.rejects(images.remove(hex.slice(0, 12), { force: false }), manifold);
  const steps = await images.remove(hex, { force: true });
  assert.deepEqual(
    steps.flatMap((step) => ('untagged' in step ? step.untagged.replace(/@.*/, '@') : [])),
    ['app:latest', 'app@', 'other:1'],
  );
});

test('containers hold their image: each conflict in its words', async () => {
  const { world, images, id } = await withApp();
  await using _ = world;
  const container = await world.create('c1');
  const [shortImage, shortContainer] = [shortDigest(id), container.slice(0, 12)];
  const conflict = (message: string) => ({ status: 409, message: `conflict: ${message}` });
  await assert.rejects(
    images.remove('app', { force: false }),
    conflict(
      `unable to remove repository reference "app" (must force) - container ${shortContainer} is using its referenced image ${shortImage}`,
    ),
  );
  await assert.rejects(
    images.remove(id, { force: false }),
    conflict(
      `unable to delete ${shortImage} (must be forced) - image is being used by stopped container ${shortContainer}`,
    ),
  );
  await world.engine.containers.start('c1');
  for (const force of [false, true]) {
    await assert.rejects(
      images.remove(id, { force }),
      conflict(
        `unable to delete ${shortImage} (cannot be forced) - image is being used by running container ${shortContainer}`,
      ),
    );
  }
  // by name and by force, one that runs keeps its image, which has no name any more
  const steps = await images.remove('app', { force: true });
  assert.ok(steps.every((step) => 'untagged' in step));
  assert.deepEqual((await images.inspect(id)).repoTags, []);
  await world.engine.containers.stop('c1', { timeoutSeconds: 1 });
  await images.remove(id, { force: true });
  assert.equal(world.kernel.layers.size, 2); // the container can still be started
  await world.engine.containers.start('c1');
  await world.engine.containers.remove('c1', { force: true, withVolumes: false });
});

test('an image cannot be removed under a container that is being made', async () => {
  const { world, images, id } = await withApp();
  await using _ = world;
  const created = world.create('c1');
  await assert.rejects(images.remove(id, { force: false }), { status: 409 });
  await created;
  await world.assertSettled('after both');
});

test('a list: newest first, with containers and what is shared', async () => {
  const { world, images } = await withApp();
  await using _ = world;
  world.registry.put('old:1', ['base', 'old'], { configFile: { created: '2020-01-01T00:00:00Z' } });
  await world.pull('old:1');
  await world.create('c1');
  const list = await images.list({ filters: noFilters, withSharedSize: true });
  assert.deepEqual(
    list.map(({ repoTags, containers, sharedBytes }) => [repoTags, containers, sharedBytes]),
    [
      [['app:latest'], 1, 4],
      [['old:1'], 0, 4],
    ],
  );
  const [first] = await images.list({ filters: noFilters, withSharedSize: false });
  assert.equal(first?.sharedBytes, -1);
});

test('the history gives each layer to the step that made it', async () => {
  const { world, images } = await withApp();
  await using _ = world;
  const history = [
    { created_by: 'base' },
    { created_by: 'ENV', empty_layer: true },
    { created_by: 'top', comment: 'x' },
  ];
  const { configDigest } = world.registry.put('h:1', ['base', 'longer'], { configFile: { history } });
  await world.pull('h:1');
  const steps = await images.history('h:1');
  assert.deepEqual(
    steps.map(({ id, createdBy, sizeBytes, tags, comment }) => [id, createdBy, sizeBytes, tags, comment]),
    [
      [configDigest, 'top', 6, ['h:1'], 'x'],
      [undefined, 'ENV', 0, [], ''],
      [undefined, 'base', 4, [], ''],
    ],
  );
});

test('an image whose layer the disk lost is as good as absent, over restarts, until a pull makes it whole', async () => {
  const { world, id } = await withApp();
  await using _ = world;
  const [lost] = [...world.kernel.layers.values()].filter(({ sizeBytes }) => sizeBytes === 'app'.length);
  world.kernel.layers.delete(lost?.dirId ?? '');
  for (let boot = 0; boot < 2; boot++) {
    await world.die('crash');
    await world.boot();
    await assert.rejects(world.engine.images.find('app'), { status: 404 }, `boot ${boot}`);
    assert.deepEqual(await world.engine.images.list({ filters: noFilters, withSharedSize: false }), []);
  }
  await world.pull('app');
  assert.equal((await world.engine.images.find('app')).id, id);
  assert.equal((await world.records<ImageRecord>('images')).length, 1);
});
