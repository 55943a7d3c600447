import assert from 'node:assert/strict';
import { test } from 'node:test';
import { layerPlaces } from '../../../src/engine/layer-sources.ts';
import type { ProgressMessage } from '../../../src/engine/progress.ts';
import type { VerificationRequest } from '../../../src/engine/verifications.ts';
import type { Digest } from '../../../src/lib/digest.ts';
import { repositoryOf } from '../../../src/lib/reference.ts';
import type { ImageRecord, LayerRecord, RefRecord } from '../../../src/store/records.ts';
import { createRequest } from '../../support/container-requests.ts';
import { World } from '../../support/engine-world.ts';
import { fakeDiffId, fakeLayer } from '../../support/fake-registry.ts';
import { makeImage } from '../../support/registry-images.ts';

async function worldWithApp(): Promise<World> {
  const world = await World.open();
  world.registry.put('app:latest', ['base', 'app']);
  await world.pull('app');
  return world;
}

interface Told {
  messages: ProgressMessage[];
  layers: { DiffID: string; State: string; Error?: string; Differences?: string[] }[];
}

async function verify(world: World, request: VerificationRequest): Promise<Told> {
  const messages: ProgressMessage[] = [];
  const o = {
    progress: (message: ProgressMessage) => void messages.push(message),
    signal: AbortSignal.timeout(9000),
  };
  const error = await world.engine.verifications.verify(request, o).catch((cause: Error) => cause);
  if (error !== undefined) messages.push({ error: error.message });
  const aux = messages.findLast((message) => message.aux !== undefined)?.aux as
    | { Layers: Told['layers'] }
    | undefined;
  return { messages, layers: aux?.Layers ?? [] };
}

async function dirIdOf(world: World, content: string): Promise<string> {
  const layers = await world.records<LayerRecord>('layers');
  return layers.find(({ diffId }) => diffId === fakeDiffId(content))?.dirId ?? assert.fail();
}

test('damage is told and remembered; a verification that finds none takes it back', async () => {
  await using world = await worldWithApp();
  const dirId = await dirIdOf(world, 'app');
  world.kernel.damaged.add(dirId);
  const { layers } = await verify(world, { name: 'app', isRepairing: false });
  assert.deepEqual(
    layers.map(({ State }) => State),
    ['ok', 'damaged'],
  );
  assert.deepEqual(layers[1]?.Differences, ['/bin/app is missing']);
  const damage = async () =>
    (await world.records<LayerRecord>('layers')).flatMap((layer) => layer.damage ?? []);
  assert.deepEqual(await damage(), ['/bin/app is missing']);
  const warnings = async (name: string) =>
    (await world.engine.containers.create(createRequest({ name }))).warnings;
  assert.match((await warnings('c1')).join(), /The image is damaged/);
  world.kernel.damaged.clear(); // someone put it right by hand
  assert.deepEqual(
    (await verify(world, { isRepairing: false })).layers.map(({ State }) => State),
    ['ok', 'ok'],
  );
  assert.deepEqual(await damage(), []);
  assert.deepEqual(await warnings('c2'), []);
});

test('a container keeps the old directory of a layer until it is unmounted', async () => {
  await using world = await worldWithApp();
  await world.create('c1');
  await world.engine.containers.start('c1');
  const old = await dirIdOf(world, 'app');
  world.kernel.damaged.add(old);
  const { layers } = await verify(world, { name: 'app', isRepairing: true });
  assert.deepEqual(
    layers.map(({ State }) => State),
    ['ok', 'repaired'],
  );
  const fresh = await dirIdOf(world, 'app');
  assert.notEqual(fresh, old);
  assert.ok(world.kernel.layers.has(old));
  await world.die('crash');
  await world.boot();
  assert.ok(world.kernel.layers.has(old), 'the next daemon keeps it too');
  await world.engine.containers.restart('c1', { timeoutSeconds: 0 });
  assert.equal(world.kernel.layers.has(old), false);
  assert.ok([...world.kernel.lowers.values()].some((dirIds) => dirIds.includes(fresh)));
  await world.assertSettled('after the repair');
});

test('of two directories of one layer, a lost database adopts the one on which nothing runs', async () => {
  await using world = await worldWithApp();
  await world.create('c1');
  await world.engine.containers.start('c1');
  const old = await dirIdOf(world, 'app');
  world.kernel.damaged.add(old);
  await verify(world, { name: 'app', isRepairing: true });
  const fresh = await dirIdOf(world, 'app');
  await world.die('crash');
  await world.loseDatabase();
  await world.boot();
  assert.equal(await dirIdOf(world, 'app'), fresh);
  assert.ok(world.kernel.layers.has(old));
});

test('records that forgot a repair find the layer where it is', async () => {
  await using world = await worldWithApp();
  const old = world.kernel.layers.get(await dirIdOf(world, 'app')) ?? assert.fail();
  await world.die('crash');
  world.kernel.layers.delete(old.dirId);
  world.kernel.layers.set('elsewhere', { ...old, dirId: 'elsewhere' });
  await world.boot();
  assert.equal(await dirIdOf(world, 'app'), 'elsewhere');
  await world.engine.images.inspect('app');
  await world.assertSettled('after the boot');
});

test('a layer of which no repository knows cannot be repaired, and its image serves on', async () => {
  await using world = await worldWithApp();
  const images = world.life.store.table<ImageRecord>('images');
  const [image] = await world.records<ImageRecord>('images');
  assert.ok(image);
  const { manifest: _gone, ...loaded } = image;
  await world.life.store.commit([images.put(image.id, loaded)]);
  world.kernel.damaged.add(await dirIdOf(world, 'app'));
  const { messages, layers } = await verify(world, { name: 'app', isRepairing: true });
  assert.match(messages.at(-1)?.error ?? '', /no repository is known to have it/);
  assert.equal(layers[1]?.State, 'damaged');
  await world.engine.images.inspect('app');
  assert.equal((await world.records('leases')).length, 0);
});

test('what every repository refuses is told with all their words', async () => {
  await using world = await worldWithApp();
  world.registry.broken.add(fakeLayer('app').digest);
  world.kernel.damaged.add(await dirIdOf(world, 'app'));
  const { messages, layers } = await verify(world, { name: 'app', isRepairing: true });
  assert.match(messages.at(-1)?.error ?? '', /could not be fetched again: app: connection reset by peer/);
  assert.match(layers[1]?.Error ?? '', /connection reset/);
  await world.assertSettled('after the refusal');
});

const at = '2026-01-01T00:00:00Z';
const refTo = (imageId: Digest, previous: RefRecord['previous'] = []): RefRecord => ({
  imageId,
  updatedAt: at,
  previous,
});

function recordOf(contents: readonly string[]): ImageRecord {
  const image = makeImage({ layers: contents.map(fakeLayer) });
  return {
    id: image.configDigest,
    manifestMediaType: image.mediaType,
    manifest: image.bytes.toString(),
    config: image.config.toString(),
    diffIds: image.layers.map(({ diffId }) => diffId),
    sizeBytes: 1,
    pulledAt: at,
    platform: image.platform,
  };
}

test('a layer is looked for where its images came from, then everywhere else', () => {
  const [one, two, other] = [recordOf(['base', 'one']), recordOf(['base', 'two']), recordOf(['other'])];
  const refs: [string, RefRecord][] = [
    ['docker.io/library/other:1', refTo(other.id)],
    ['reg.test/one:1', refTo(one.id)],
    ['reg.test/one@sha256:aa', refTo(one.id)],
    ['reg.test/was-two:1', refTo(other.id, [{ imageId: two.id, until: at }])],
  ].map(([key, ref]) => [String(key).replace('sha256:aa', one.id), ref as RefRecord]);
  const places = layerPlaces(fakeDiffId('base'), [one, two, other], refs);
  assert.deepEqual(
    places.map(({ ref }) => repositoryOf(ref)),
    ['reg.test/one', 'reg.test/was-two', 'docker.io/library/other'],
  );
  assert.ok(places.every(({ ref, layer }) => ref.tag === undefined && layer.diffId === fakeDiffId('base')));
  assert.deepEqual(layerPlaces(fakeDiffId('nothing'), [one, two, other], refs), []);
  const { manifest: _gone, ...loaded } = one;
  assert.deepEqual(layerPlaces(fakeDiffId('one'), [loaded], refs), []);
  assert.deepEqual(layerPlaces(fakeDiffId('one'), [{ ...one, manifest: '{' }], refs), []);
});

test('credentials go to the registry that they are for, and to no other', async () => {
  await using world = await worldWithApp();
  const asked: [string, unknown][] = [];
  const blob = world.registry.blob.bind(world.registry);
  world.registry.blob = (ref, layer, o: { signal: AbortSignal; auth?: unknown }) => {
    asked.push([repositoryOf(ref), o.auth]);
    return blob(ref, layer, o);
  };
  world.registry.broken.add(fakeLayer('app').digest);
  await world.engine.images.tag('app', { repo: 'reg.test/app', tag: '1' });
  const given = async (auth: VerificationRequest['auth']) => {
    asked.length = 0;
    world.kernel.damaged.add(await dirIdOf(world, 'app'));
    await verify(world, { name: 'app', isRepairing: true, ...(auth && { auth }) });
    return Object.fromEntries(asked.map(([repository, sent]) => [repository, sent !== undefined]));
  };
  const [hub, mine] = ['docker.io/library/app', 'reg.test/app'];
  assert.deepEqual(await given(undefined), { [hub]: false, [mine]: false });
  assert.deepEqual(await given({ username: 'alice', password: 'x' }), { [hub]: true, [mine]: false });
  const at = (serverAddress: string) => given({ username: 'alice', password: 'x', serverAddress });
  assert.deepEqual(await at('https://index.docker.io/v1/'), { [hub]: true, [mine]: false });
  assert.deepEqual(await at('reg.test'), { [hub]: false, [mine]: true });
  assert.deepEqual(await at('elsewhere.test'), { [hub]: false, [mine]: false });
  asked.length = 0;
  const auths = new Map([
    ['https://reg.test/v2/', { username: 'mine' }],
    ['https://index.docker.io/v1/', { username: 'hub' }],
    ['elsewhere.test', { username: 'other' }],
  ]);
  world.kernel.damaged.add(await dirIdOf(world, 'app'));
  await verify(world, { isRepairing: true, auths });
  assert.deepEqual(Object.fromEntries(asked), { [hub]: { username: 'hub' }, [mine]: { username: 'mine' } });
});
