import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestOf, hexOf } from '../../src/lib/digest.ts';
import { membersOf, openStream } from '../support/archives.ts';
import { TestEngine } from '../support/engine.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeBigLayer, makeImage, makeLayer, push, type TestImage } from '../support/registry-images.ts';

let registry: TestRegistry;
let engine: TestEngine;
let one: TestImage;
let two: TestImage;
let repo: string;

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  const base = await makeBigLayer(20_000_000, { name: 'base' });
  const top = await makeLayer({ 'etc/motd': 'hello' }, { packing: 'zstd' });
  const labels = { Labels: { tier: 'front' } };
  one = makeImage({ layers: [base, top], config: labels });
  two = makeImage({ layers: [base, top, base], configFile: { created: '2020-02-02T02:02:02.5Z' } });
  repo = `${registry.host}/app`;
  await push(registry.host, 'app', ['1', 'one'], one);
  await push(registry.host, 'app', ['2'], two);
  engine = await TestEngine.start();
  for (const tag of ['1', 'one', '2']) await engine.ok(['pull', '-q', `${repo}:${tag}`]);
});

after(async () => {
  await engine[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

async function save(...names: string[]): Promise<Buffer> {
  const query = names.map((name) => `names=${encodeURIComponent(name)}`).join('&');
  const response = await openStream(engine.socket, `/images/get?${query}`);
  assert.equal(response.statusCode, 200);
  assert.equal(response.headers['content-type'], 'application/x-tar');
  return buffer(response);
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

const jsonIn = (members: Awaited<ReturnType<typeof membersOf>>, name: string) =>
  JSON.parse(members.get(name)?.text ?? assert.fail(`no ${name}`));

test('an archive holds every layer once, as the tar that it was, and both kinds of lists', async () => {
  const members = await membersOf(once(await save(`${repo}:1`, `${repo}:2`, `${repo}:one`)));
  for (const [name, { type, digest }] of members)
    if (name.startsWith('blobs/') && type === 'file') assert.equal(name, `blobs/sha256/${digest.slice(7)}`);
  const [base, top] = one.layers;
  assert.ok(base && top);
  const path = (digest: string) => `blobs/sha256/${digest.slice(7)}`;
  const items = jsonIn(members, 'manifest.json');
  assert.deepEqual(
    items.map(({ LayerSources: _, ...item }: Record<string, unknown>) => item),
    [
      {
        Config: path(one.configDigest),
        RepoTags: [`${repo}:1`, `${repo}:one`],
        Layers: [path(base.diffId), path(top.diffId)],
      },
      {
        Config: path(two.configDigest),
        RepoTags: [`${repo}:2`],
        Layers: [path(base.diffId), path(top.diffId), path(base.diffId)],
      },
    ],
  );
  assert.equal(items[0].LayerSources[base.diffId].size, base.tar.length);
  assert.deepEqual(jsonIn(members, 'oci-layout'), { imageLayoutVersion: '1.0.0' });
  assert.deepEqual(jsonIn(members, 'repositories'), {
    [repo]: { 1: hexOf(top.diffId), one: hexOf(top.diffId), 2: hexOf(base.diffId) },
  });
  const { manifests } = jsonIn(members, 'index.json');
  assert.deepEqual(
    manifests.map(({ annotations }: { annotations: object }) => annotations),
    ['1', 'one', '2'].map((tag) => ({
      'io.containerd.image.name': `${repo}:${tag}`,
      'org.opencontainers.image.ref.name': tag,
    })),
  );
  for (const { digest, size } of manifests) assert.equal(members.get(path(digest))?.size, size);
  assert.equal(members.get(path(two.configDigest))?.mtime, Date.parse('2020-02-02T02:02:02Z') / 1000);
  assert.equal(members.size, 4 + 2 + 2 * 2 + 2);
});

test('the same images make the same archive; by ID it names none', async () => {
  const names = [`${repo}:2`, `${repo}:1`];
  assert.equal(digestOf(await save(...names)), digestOf(await save(...names)));
  for (const name of [one.configDigest, hexOf(one.configDigest), hexOf(one.configDigest).slice(0, 12)]) {
    const members = await membersOf(once(await save(name)));
    assert.deepEqual(
      jsonIn(members, 'manifest.json').map(({ RepoTags }: { RepoTags: unknown }) => RepoTags),
      [null],
      name,
    );
    assert.equal(members.has('repositories'), false);
    assert.equal(jsonIn(members, 'index.json').manifests.length, 1);
  }
});

test('a repository without a tag means all that go by it', async () => {
  const members = await membersOf(await openStream(engine.socket, `/images/${encodeURIComponent(repo)}/get`));
  const tags = jsonIn(members, 'manifest.json').flatMap(({ RepoTags }: { RepoTags: string[] }) => RepoTags);
  assert.deepEqual(tags.sort(), [`${repo}:1`, `${repo}:2`, `${repo}:one`]);
});

test('what is not here is refused before any byte', async () => {
  const cases: [string, number, string][] = [
    ['nope', 404, 'No such image: nope'],
    ['nope:1', 404, 'reference does not exist'],
    [`${repo}:3`, 404, 'reference does not exist'],
    ['0'.repeat(64), 404, `No such image: ${'0'.repeat(64)}`],
    ['UPPER', 400, 'invalid reference format: repository name must be lowercase'],
    [`${repo}:1,${repo}:2`, 400, 'invalid reference format'],
  ];
  for (const [name, status, message] of cases) {
    for (const path of [`/images/${name}/get`, `/images/get?names=${repo}:1&names=${name}`]) {
      const answer = await engine.get(path);
      assert.deepEqual([answer.status, JSON.parse(answer.text)], [status, { message }], path);
    }
  }
  assert.equal((await engine.get('/images/get')).status, 200);
});

test('the CLI saves, and an event tells of it', async () => {
  const since = Math.floor(Date.now() / 1000);
  const file = join(engine.directory, 'saved.tar');
  await engine.ok(['save', '-o', file, `${repo}:1`]);
  const members = await membersOf(once(readFileSync(file)));
  assert.ok(members.has('manifest.json'));
  const { text } = await engine.get(`/events?since=${since}&until=${since + 2}&type=image`);
  // the second may hold an earlier test's save as well
  const isOurs = (line: string) => line.includes('"save"') && line.includes(one.configDigest);
  const event = text.split('\n').find(isOurs) ?? assert.fail(text);
  const { Actor } = JSON.parse(event);
  assert.equal(Actor.ID, one.configDigest);
  assert.deepEqual(Actor.Attributes, { name: one.configDigest, tier: 'front' });
});

test('an image that is removed in mid-save is saved whole, and goes afterwards', async () => {
  const big = makeImage({ layers: [await makeBigLayer(30_000_000, { name: 'other' })] });
  await push(registry.host, 'big', ['1'], big);
  const name = `${registry.host}/big:1`;
  await engine.ok(['pull', '-q', name]);
  const layers = () => readdirSync(join(engine.dataRoot, 'layers')).length;
  const before = layers();
  const response = await openStream(engine.socket, `/images/${encodeURIComponent(name)}/get`);
  await engine.ok(['rmi', name]);
  assert.equal(layers(), before, 'its layer stays while it is read');
  const members = await membersOf(response);
  const diffId = big.layers[0]?.diffId;
  assert.ok([...members.values()].some(({ digest }) => digest === diffId));
  await sleep(200);
  assert.equal(layers(), before - 1);

  await engine.ok(['pull', '-q', name]);
  const left = await openStream(engine.socket, `/images/${encodeURIComponent(name)}/get`);
  await engine.ok(['rmi', name]);
  left.destroy();
  for (let tries = 0; layers() !== before - 1 && tries < 50; tries++) await sleep(50);
  assert.equal(layers(), before - 1, 'a client that leaves lets go of it');
});

test('a damaged layer breaks the stream', async () => {
  const damaged = makeImage({ layers: [await makeLayer({ 'a/file': 'x'.repeat(300_000) })] });
  await push(registry.host, 'damaged', ['1'], damaged);
  await engine.ok(['pull', '-q', `${registry.host}/damaged:1`]);
  const root = join(engine.dataRoot, 'layers');
  const dir = readdirSync(root).find((name) =>
    readFileSync(join(root, name, 'layer.json'), 'utf8').includes(damaged.layers[0]?.diffId ?? '-'),
  );
  assert.ok(dir);
  const path = `/images/${encodeURIComponent(`${registry.host}/damaged:1`)}/get`;
  const content = readFileSync(join(root, dir, 'diff/a/file'));
  for (const bytes of [Buffer.alloc(300_000, 'y'), Buffer.alloc(10)]) {
    writeFileSync(join(root, dir, 'diff/a/file'), bytes);
    await assert.rejects(buffer(await openStream(engine.socket, path)), { code: 'ECONNRESET' });
  }
  writeFileSync(join(root, dir, 'diff/a/file'), content);
  await buffer(await openStream(engine.socket, path));
  assert.match(await engine.log(), /is damaged on disk/);
});
