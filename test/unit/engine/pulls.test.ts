import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ProgressMessage } from '../../../src/engine/progress.ts';
import { withResolvers } from '../../../src/lib/promises.ts';
import type { ImageRecord, LayerRecord, LeaseRecord } from '../../../src/store/records.ts';
import { World } from '../../support/engine-world.ts';
import { fakeLayer } from '../../support/fake-registry.ts';

test("a pull tells its way in dockerd's order", async () => {
  await using world = await World.open();
  const { digest, layers } = world.registry.put('app:1', ['base', 'app', 'base']);
  const messages = await world.pull('app:1');
  const short = layers.map((layer) => layer.digest.slice(7, 19));
  const of = (id: string | undefined) =>
    messages.filter((message) => message.id === id).map(({ status }) => status);
  assert.deepEqual(messages[0], { status: 'Pulling from library/app', id: '1' });
  assert.deepEqual(
    messages.slice(1, 3).map(({ status }) => status),
    ['Pulling fs layer', 'Pulling fs layer'],
  );
  for (const id of short.slice(0, 2)) {
    const told = of(id).filter((status) => status !== 'Downloading' && status !== 'Waiting');
    const order = [
      'Pulling fs layer',
      'Verifying Checksum',
      'Download complete',
      'Extracting',
      'Pull complete',
    ];
    assert.deepEqual(told, order);
  }
  assert.deepEqual(messages.slice(-2), [
    { status: `Digest: ${digest}` },
    { status: 'Status: Downloaded newer image for app:1' },
  ]);
  await world.assertSettled('after a pull');
  assert.deepEqual(await world.records('leases'), []);
});

test('what is here is not fetched: all of an image, or some of it', async () => {
  await using world = await World.open();
  world.registry.put('app:1', ['base', 'app']);
  await world.pull('app:1');
  const again = await world.pull('app:1');
  assert.deepEqual(
    again.filter(({ id }) => id !== '1').map(({ status }) => status?.replace(/sha256:.*/, '')),
    ['Digest: ', 'Status: Image is up to date for app:1'],
  );
  world.registry.put('app:2', ['base', 'other']);
  world.registry.asked.length = 0;
  await world.pull('app:2');
  assert.deepEqual(world.registry.asked, [fakeLayer('other').digest]);
});

test('a pull by digest gives no tag', async () => {
  await using world = await World.open();
  const image = world.registry.put('app:1', ['base']);
  world.registry.images.set(`app@${image.digest}`, image);
  const { signal } = new AbortController();
  const ids: (string | undefined)[] = [];
  const progress = ({ id }: ProgressMessage) => void ids.push(id);
  await world.engine.pulls.pull({ fromImage: 'app', tag: image.digest }, { signal, progress });
  assert.equal(ids[0], `docker.io/library/app@${image.digest}`);
  const { repoTags, repoDigests } = await world.engine.images.inspect(`app@${image.digest}`);
  assert.deepEqual([repoTags, repoDigests], [[], [`app@${image.digest}`]]);
});

test('without a tag every image of the repository comes, one after the other, and the outcome is told once', async () => {
  await using world = await World.open();
  const [one, two] = [world.registry.put('app:1', ['base']), world.registry.put('app:2', ['base', 'more'])];
  world.registry.put('app-other:1', ['other']);
  const pullAll = async () => {
    const messages: ProgressMessage[] = [];
    const progress = (message: ProgressMessage) => void messages.push(message);
    const { signal } = new AbortController();
    await world.engine.pulls.pull({ fromImage: 'app' }, { signal, progress });
    return messages.filter(({ progressDetail }) => progressDetail === undefined);
  };
  const told = (outcome: string) => [
    { status: 'Pulling from library/app', id: '1' },
    { status: `Digest: ${one.digest}` },
    { status: 'Pulling from library/app', id: '2' },
    { status: `Digest: ${two.digest}` },
    { status: `Status: ${outcome} app` },
  ];
  assert.deepEqual(await pullAll(), told('Downloaded newer image for'));
  assert.deepEqual(await pullAll(), told('Image is up to date for'));
  world.registry.put('app:2', ['base', 'newer']);
  assert.deepEqual((await pullAll()).at(-1), { status: 'Status: Downloaded newer image for app' });
  const tags = await Promise.all(['app:1', 'app:2'].map((name) => world.engine.images.inspect(name)));
  assert.deepEqual(
    tags.map(({ repoTags }) => repoTags),
    [['app:1'], ['app:2']],
  );
  await assert.rejects(world.engine.images.inspect('app-other:1'), { status: 404 });
});

test('a pull that fails leaves the images as they were', async () => {
  await using world = await World.open();
  world.registry.put('app:1', ['base', 'old']);
  await world.pull('app:1');
  const before = await world.records<ImageRecord>('images');
  world.registry.put('app:1', ['base', 'new', 'broken']);
  world.registry.broken.add(fakeLayer('broken').digest);
  await assert.rejects(world.pull('app:1'), { message: 'connection reset by peer' });
  assert.deepEqual(await world.records('images'), before);
  assert.deepEqual((await world.engine.images.inspect('app:1')).record, before[0]);
  await world.assertSettled('after a failed pull');
  world.registry.broken.clear();
  await world.pull('app:1');
  assert.deepEqual(await world.records<LeaseRecord>('leases'), []);
});

test('a pull that failed keeps what it made and what an earlier one left, and nothing of other images', async () => {
  await using world = await World.open();
  world.registry.put('app:1', ['base', 'old']);
  await world.pull('app:1');
  const [base, made, broken] = ['base', 'made', 'broken'].map((content) => fakeLayer(content));
  assert.ok(base !== undefined && made !== undefined && broken !== undefined);
  world.registry.broken.add(broken.digest);
  world.registry.put('app:2', ['base', 'broken']);
  await assert.rejects(world.pull('app:2'));
  assert.deepEqual(await world.records<LeaseRecord>('leases'), [], 'it made nothing');
  world.registry.broken.clear();
  const { promise, reject } = withResolvers<void>();
  world.registry.held.set(broken.digest, promise);
  world.registry.put('app:3', ['base', 'made', 'broken']);
  const failing = assert.rejects(world.pull('app:3'), /gone/);
  for (let waitedMs = 0; world.kernel.layers.size < 3 && waitedMs < 2000; waitedMs += 5) await sleep(5);
  reject(new Error('gone'));
  await failing;
  const leases = () => world.records<LeaseRecord>('leases');
  assert.deepEqual(
    (await leases()).map(({ diffIds }) => diffIds),
    [[made.diffId, broken.diffId]],
  );
  await assert.rejects(world.pull('app:3'), /gone/);
  assert.equal((await leases()).length, 2);
  assert.deepEqual((await leases()).at(-1)?.diffIds.toSorted(), [made.diffId, broken.diffId].toSorted());
  await world.engine.images.remove('app:1', { force: true });
  const here = (await world.records<LayerRecord>('layers')).map(({ diffId }) => diffId);
  assert.deepEqual(here, [made.diffId]);
  world.registry.held.clear();
  await world.pull('app:3');
  assert.deepEqual(await leases(), []);
});

test('what a lost client had finished serves the next try', async () => {
  await using world = await World.open();
  world.registry.put('app:1', ['first', 'second']);
  const { promise, resolve } = withResolvers<void>();
  world.registry.held.set(fakeLayer('second').digest, promise);
  const abort = new AbortController();
  const pull = world.pull('app:1', abort.signal);
  for (let waitedMs = 0; world.kernel.layers.size === 0 && waitedMs < 2000; waitedMs += 5) await sleep(5);
  abort.abort(new Error('client left'));
  await assert.rejects(pull, /client left/);
  resolve();
  assert.equal((await world.records('leases')).length, 1);
  world.registry.asked.length = 0;
  await world.pull('app:1');
  assert.deepEqual(world.registry.asked, [fakeLayer('second').digest]);
  await world.assertSettled('after the second try');
});

test('two pulls at once share the layers they have in common', async () => {
  await using world = await World.open();
  world.registry.put('one:1', ['base', 'one']);
  world.registry.put('two:1', ['base', 'two']);
  const [one, two] = await Promise.all([world.pull('one:1'), world.pull('two:1')]);
  for (const messages of [one, two]) assert.match(messages.at(-1)?.status ?? '', /^Status: Downloaded newer/);
  assert.equal(world.registry.asked.filter((digest) => digest === fakeLayer('base').digest).length, 1);
  assert.equal(world.kernel.layers.size, 3);
  await world.assertSettled('after both');
  assert.deepEqual(await world.records('leases'), []);
});

test('what fails before the first message says what it is', async () => {
  await using world = await World.open();
  const cases: [{ fromImage: string; tag?: string }, object][] = [
    [{ fromImage: 'nope' }, { status: 404, message: 'repository nope not found: name unknown' }],
    [
      { fromImage: 'nope', tag: 'latest' },
      { status: 404, message: 'manifest for nope:latest not found: manifest unknown' },
    ],
    [
      { fromImage: 'UPPER' },
      { status: 400, message: 'invalid reference format: repository name must be lowercase' },
    ],
    [
      { fromImage: 'app', tag: 'a b' },
      { status: 400, message: 'invalid tag format' },
    ],
    [{ fromImage: 'scratch' }, { status: 403, message: "'scratch' is a reserved name" }],
  ];
  for (const [request, failure] of cases) {
    const progress = () => assert.fail('no message yet');
    await assert.rejects(
      world.engine.pulls.pull(request, { signal: new AbortController().signal, progress }),
      failure,
    );
  }
  assert.deepEqual(await world.records('leases'), []);
});
