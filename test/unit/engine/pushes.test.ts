import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import type { ProgressMessage } from '../../../src/engine/progress.ts';
import { digestOf } from '../../../src/lib/digest.ts';
import { withResolvers } from '../../../src/lib/promises.ts';
import type { LayerRecord, LeaseRecord, RefRecord } from '../../../src/store/records.ts';
import { World } from '../../support/engine-world.ts';
import { fakeDiffId } from '../../support/fake-registry.ts';

/** What was told of a layer that was made of this text. */
function toldOf(messages: readonly ProgressMessage[], content: string): (string | undefined)[] {
  const id = fakeDiffId(content).slice(7, 19);
  return messages.filter((message) => message.id === id).map(({ status }) => status);
}

/** The digest of the manifest that a push put, as the last message tells it. */
function digestIn(messages: readonly ProgressMessage[]): string {
  const { aux } = messages.at(-1) ?? {};
  assert.ok(aux !== undefined && 'Digest' in aux && typeof aux.Digest === 'string');
  return aux.Digest;
}

/** A world that has pulled app:1 of these layers, and that image. */
async function pulled(contents: readonly string[]) {
  const world = await World.open();
  const image = world.registry.put('app:1', contents);
  await world.pull('app:1');
  return { world, image };
}

test("a push tells its way in dockerd's order, the topmost layer first", async () => {
  const { world } = await pulled(['base', 'app', 'base']);
  await using _world = world;
  const messages = await world.push('app', '1');
  assert.deepEqual(messages[0], { status: 'The push refers to repository [docker.io/library/app]' });
  const short = (content: string) => fakeDiffId(content).slice(7, 19);
  const preparing = ['base', 'app'].map((content) => ({
    status: 'Preparing',
    progressDetail: {},
    id: short(content),
  }));
  assert.deepEqual(messages.slice(1, 3), preparing);
  assert.deepEqual(
    toldOf(messages, 'app').filter((status) => status !== 'Pushing'),
    ['Preparing', 'Pushed'],
  );
  const { bytes } = world.registry.repositories.get('docker.io/library/app').manifests.get('1') ?? {};
  assert.ok(bytes);
  const [Digest, Size] = [digestOf(bytes), bytes.length];
  assert.deepEqual(messages.slice(-2), [
    { status: `1: digest: ${Digest} size: ${Size}` },
    { progressDetail: {}, aux: { Tag: '1', Digest, Size } },
  ]);
});

test('layers beyond the limit wait', async () => {
  const { world } = await pulled(['a', 'b', 'c', 'd', 'e']);
  await using _world = world;
  const messages = await world.push('app', '1');
  const waiting = messages.filter(({ status }) => status === 'Waiting').map(({ id }) => id);
  assert.deepEqual(
    waiting,
    ['b', 'a'].map((content) => fakeDiffId(content).slice(7, 19)),
  );
});

test('what arrives can be pulled: manifest, config and layers fit each other', async () => {
  const { world, image } = await pulled(['base', 'app', 'base']);
  await using _world = world;
  await world.push('app', '1');
  const { blobs, manifests } = world.registry.repositories.get('docker.io/library/app');
  const manifest = JSON.parse(manifests.get('1')?.bytes.toString() ?? '');
  assert.equal(manifest.config.digest, image.configDigest);
  assert.ok(blobs.get(manifest.config.digest)?.equals(image.config));
  const tars = manifest.layers.map(({ digest, size, mediaType }: Record<string, string>) => {
    const blob = blobs.get(digest as LayerRecord['diffId']);
    assert.equal(blob?.length, size);
    assert.equal(mediaType, 'application/vnd.oci.image.layer.v1.tar+gzip'); // it came as OCI
    return gunzipSync(blob ?? '').toString();
  });
  assert.deepEqual(tars, ['base', 'app', 'base']);
});

test('where all of its blobs are, the manifest goes back as it came', async () => {
  const { world, image } = await pulled(['base', 'app']);
  await using _world = world;
  const { blobs, manifests } = world.registry.repositories.get('docker.io/library/app');
  for (const { digest, blob } of image.layers) blobs.set(digest, blob);
  const messages = await world.push('app', '1');
  assert.deepEqual(toldOf(messages, 'app'), ['Preparing', 'Layer already exists']);
  assert.ok(manifests.get('1')?.bytes.equals(image.bytes));
  assert.deepEqual(world.registry.repositories.log, []);
});

test('layers are mounted from where the image came, and then the manifest is the same too', async () => {
  const { world, image } = await pulled(['base', 'app']);
  await using _world = world;
  for (const { digest, blob } of image.layers)
    world.registry.repositories.get('docker.io/library/app').blobs.set(digest, blob);
  await world.engine.images.tag('app:1', { repo: 'me/copy', tag: '2' });
  const messages = await world.push('me/copy', '2');
  assert.deepEqual(toldOf(messages, 'app'), ['Preparing', 'Mounted from library/app']);
  const { manifests } = world.registry.repositories.get('docker.io/me/copy');
  assert.ok(manifests.get('2')?.bytes.equals(image.bytes));
});

test('what a push has sent the next one finds, also in another repository', async () => {
  const { world } = await pulled(['base', 'app']);
  await using _world = world;
  const first = await world.push('app', '1');
  const { blobs, pushed } =
    (await world.records<LayerRecord>('layers')).find(({ diffId }) => diffId === fakeDiffId('app')) ?? {};
  assert.ok(pushed);
  assert.deepEqual(blobs?.at(-1), pushed.digest);
  const second = await world.push('app', '1');
  assert.deepEqual(toldOf(second, 'base'), ['Preparing', 'Layer already exists']);
  await world.engine.images.tag('app:1', { repo: 'copy', tag: '2' });
  const third = await world.push('copy', '2');
  assert.deepEqual(toldOf(third, 'base'), ['Preparing', 'Mounted from library/app']);
  assert.deepEqual([digestIn(second), digestIn(third)], [digestIn(first), digestIn(first)]);
});

test('afterwards the image goes by its digest there, and a pull finds it up to date', async () => {
  const { world } = await pulled(['base']);
  await using _world = world;
  await world.engine.images.tag('app:1', { repo: 'copy', tag: '2' });
  const abort = new AbortController();
  const events = world.engine.events.subscribe({ filters: new Map(), signal: abort.signal });
  const next = events.next();
  const messages = await world.push('copy', '2');
  const { repoDigests } = await world.engine.images.inspect('copy:2');
  assert.ok(repoDigests.includes(`copy@${digestIn(messages)}`));
  const event = (await next).value;
  abort.abort();
  assert.deepEqual([event?.action, event?.actor], ['push', { id: 'copy:2', attributes: { name: 'copy' } }]);
  await world.die('crash');
  await world.boot();
  assert.deepEqual((await world.engine.images.inspect('copy:2')).repoDigests, repoDigests);
  await world.assertSettled('after a push');
});

test('without a tag all of the repository goes', async () => {
  const { world } = await pulled(['base']);
  await using _world = world;
  world.registry.put('app:2', ['base', 'more']);
  await world.pull('app:2');
  const messages = await world.push('app');
  assert.deepEqual(
    [...world.registry.repositories.get('docker.io/library/app').manifests.keys()],
    ['1', '2'],
  );
  assert.deepEqual(toldOf(messages, 'base'), [
    'Preparing',
    'Pushing',
    'Pushed',
    'Preparing',
    'Layer already exists',
  ]);
});

test('a name that has nothing to push', async () => {
  const { world, image } = await pulled(['base']);
  await using _world = world;
  await assert.rejects(world.push('nope', '1'), {
    message: 'An image does not exist locally with the tag: nope',
  });
  await assert.rejects(world.push('app', '7'), { message: 'tag does not exist: app:7' });
  await assert.rejects(world.push(`app@${image.digest}`), { message: 'cannot push a digest reference' });
  await world.engine.images.remove('app:1', { force: false });
  await assert.rejects(world.push('app', '1'), {
    message: 'An image does not exist locally with the tag: app',
  });
  const { promise: told, resolve: tell } = withResolvers<boolean>();
  const bad = world.engine.pushes.push(
    { name: 'Bad', tag: '1' },
    { signal: AbortSignal.timeout(1000), progress: () => tell(false) },
  );
  await assert.rejects(bad, { status: 400 });
  tell(true);
  assert.ok(await told, 'that is told before anything else');
});

test('an image that is removed in mid-push is pushed whole, goes afterwards, and stays gone', async () => {
  const { world } = await pulled(['base', 'app']);
  await using _world = world;
  const { promise, resolve } = withResolvers<void>();
  world.registry.repositories.held = promise;
  const push = world.push('app', '1');
  await sleep(20);
  await world.engine.images.remove('app:1', { force: true });
  assert.equal(world.kernel.layers.size, 2);
  resolve();
  await push;
  assert.equal(world.registry.repositories.get('docker.io/library/app').manifests.size, 1);
  await sleep(0);
  assert.equal(world.kernel.layers.size, 0);
  assert.deepEqual(await world.records<RefRecord>('refs'), []);
  await world.assertSettled('after a push of what is gone');
});

test('a tag that goes elsewhere in mid-push stays there', async () => {
  const { world, image } = await pulled(['base']);
  await using _world = world;
  const other = world.registry.put('other:1', ['other']);
  await world.pull('other:1');
  const { promise, resolve } = withResolvers<void>();
  world.registry.repositories.held = promise;
  const push = world.push('app', '1');
  await sleep(20);
  await world.engine.images.tag('other:1', { repo: 'app', tag: '1' });
  resolve();
  const messages = await push;
  assert.equal((await world.engine.images.inspect('app:1')).record.id, other.configDigest);
  const pushed = await world.engine.images.inspect(`app@${digestIn(messages)}`);
  assert.equal(pushed.record.id, image.configDigest);
});

test('a layer whose files are not what they were is not pushed', async () => {
  const { world } = await pulled(['base', 'app']);
  await using _world = world;
  const damaged = [...world.kernel.layers.values()].find(({ diffId }) => diffId === fakeDiffId('app'));
  world.kernel.tars.set(damaged?.dirId ?? '', Buffer.from('other'));
  await assert.rejects(world.push('app', '1'), { code: 'CORRUPT', message: /is damaged on this disk/ });
  assert.equal(world.registry.repositories.get('docker.io/library/app').manifests.size, 0);
});

test('a client that leaves stops the push; nothing is kept but what was finished', async () => {
  const { world } = await pulled(['base', 'app']);
  await using _world = world;
  world.registry.repositories.held = new Promise(() => {});
  const abort = new AbortController();
  const push = world.push('app', '1', abort.signal);
  await sleep(20);
  abort.abort(new Error('left'));
  await assert.rejects(push, /left/);
  assert.equal(world.registry.repositories.get('docker.io/library/app').manifests.size, 0);
  assert.deepEqual(await world.records<LeaseRecord>('leases'), []);
  await world.assertSettled('after a push that nobody waits for');
});

test('two pushes of one layer to one repository send it once', async () => {
  const { world } = await pulled(['base']);
  await using _world = world;
  world.registry.put('app:2', ['base']);
  await world.pull('app:2');
  await Promise.all([world.push('app', '1'), world.push('app', '2')]);
  assert.deepEqual(world.registry.repositories.log, ['upload library/app']);
});

test('a daemon that dies at any step of a push leaves everything as it was, or known by its digest', async () => {
  for (const isLastDone of [false, true]) {
    for (let effects = 0; ; effects++) {
      const { world } = await pulled(['base', 'app']);
      await using _world = world;
      await world.engine.images.tag('app:1', { repo: 'copy', tag: '2' });
      const finished = await world.live(() => world.push('copy', '2'), { effects, isLastDone });
      await world.die('power cut');
      await world.boot();
      await world.assertSettled(`died after ${effects} effects`);
      const again = await world.push('copy', '2');
      const { repoDigests } = await world.engine.images.inspect('copy:2');
      assert.ok(repoDigests.includes(`copy@${digestIn(again)}`));
      if (finished) break;
    }
  }
});
