import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { after, before, type TestContext, test } from 'node:test';
import { messageOf } from '../../src/errors.ts';
import { readTar } from '../../src/lib/tar-reader.ts';
import { archive, dockerMembers, load, membersOf, openStream } from '../support/archives.ts';
import { Dockerd } from '../support/dockerd.ts';
import { TestEngine } from '../support/engine.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeImage, makeLayer, pushLayout } from '../support/registry-images.ts';
import type { Member } from '../support/tar-archive.ts';

/**
 * Archives go from this engine into Debian's dockerd 20.10 and back. `SKERRY_IMAGE_PAIRS=DIR` (OCI layouts by pair and
 * version) adds real images.
 */
const pairs = process.env['SKERRY_IMAGE_PAIRS'];

let dockerd: Dockerd | undefined;
let reason = '';
let engine: TestEngine;
let registry: TestRegistry;

before(async () => {
  // the network is needed to fetch it, and is gone in our own
  dockerd = await Dockerd.start().catch((cause: unknown) => {
    reason = `dockerd cannot be had: ${messageOf(cause)}`;
    return undefined;
  });
  await enterOwnNetwork();
  registry = await startRegistry();
  engine = await TestEngine.start();
});

after(async () => {
  await dockerd?.[Symbol.asyncDispose]();
  await engine[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

/** dockerd's, or undefined with the test skipped. */
function other(t: TestContext): Dockerd | undefined {
  if (dockerd === undefined) t.skip(reason);
  return dockerd;
}

/** ID and layers of every image, by tag. */
async function imagesOf(socket: string): Promise<[string, string, string[]][]> {
  const listed = JSON.parse(await text(await openStream(socket, '/v1.41/images/json')));
  const found: [string, string, string[]][] = [];
  for (const { Id, RepoTags } of listed) {
    const { RootFS } = JSON.parse(await text(await openStream(socket, `/v1.41/images/${Id}/json`)));
    for (const tag of RepoTags ?? ['<none>']) found.push([tag, Id, RootFS.Layers]);
  }
  return found.sort(([a], [b]) => (a < b ? -1 : 1));
}

async function removeAll(socket: string): Promise<void> {
  for (const [, id] of await imagesOf(socket)) {
    const sent = request({
      socketPath: socket,
      method: 'DELETE',
      path: `/v1.41/images/${id}?force=1`,
      agent: false,
    });
    sent.end();
    await new Promise<void>((resolve) =>
      sent.once('response', (response) => response.resume().once('end', resolve)),
    );
  }
}

/** Sends what one engine saves straight into another. */
async function transfer(from: string, to: string, names: readonly string[]): Promise<void> {
  const query = names.map((name) => `names=${encodeURIComponent(name)}`).join('&');
  const { status, error } = await load(to, await openStream(from, `/v1.41/images/get?${query}`));
  assert.deepEqual([status, error], [200, undefined]);
}

test('images go to dockerd and back, and are what they were', async (t) => {
  const docker = other(t);
  if (docker === undefined) return;
  const base = await makeLayer({ 'etc/base': 'base', 'bin/tool': 'x'.repeat(100_000) });
  const image = (n: number) =>
    makeLayer({ [`n${n}`]: `${n}` }).then((top) => makeImage({ layers: [base, top] }));
  for (const n of [1, 2])
    await load(
      engine.socket,
      archive(dockerMembers(await image(n), [`app:${n}`, `reg.example:5000/b:${n}`])),
    );
  const ours = await imagesOf(engine.socket);
  assert.equal(ours.length, 4);
  await transfer(
    engine.socket,
    docker.socket,
    ours.map(([tag]) => tag),
  );
  assert.deepEqual(await imagesOf(docker.socket), ours);
  await removeAll(engine.socket);
  assert.deepEqual(readdirSync(join(engine.dataRoot, 'layers')), []);
  await transfer(
    docker.socket,
    engine.socket,
    ours.map(([tag]) => tag),
  );
  assert.deepEqual(await imagesOf(engine.socket), ours);
});

test('a legacy archive becomes the same image in both', async (t) => {
  const docker = other(t);
  if (docker === undefined) return;
  const layers = await Promise.all(['one', 'two', 'three'].map((name) => makeLayer({ [name]: name })));
  const image = makeImage({
    layers,
    config: { Cmd: ['a', '<b>'], Labels: { 'a.b': 'c & d' } },
    configFile: { docker_version: '20.10.24', author: 'me' },
  });
  await load(docker.socket, archive(dockerMembers(image, ['old:1'])));
  const members: Member[] = [];
  for await (const { entry, content } of readTar(
    await openStream(docker.socket, '/images/get?names=old:1'),
  )) {
    const isNew = entry.name === 'manifest.json' || /^[0-9a-f]{64}\.json$/.test(entry.name);
    const kind = { file: '0', directory: '5', symlink: '2' }[entry.type as string];
    const bytes = await buffer(content);
    if (!isNew)
      members.push({ name: entry.name, type: kind ?? '0', content: bytes, linkName: entry.linkName });
  }
  for (const socket of [docker.socket, engine.socket]) {
    await removeAll(socket);
    assert.equal((await load(socket, archive(members))).error, undefined);
  }
  const [ours, theirs] = [await imagesOf(engine.socket), await imagesOf(docker.socket)];
  assert.deepEqual(
    ours,
    theirs.filter(([tag]) => tag === 'old:1'),
  );
  assert.deepEqual(
    ours[0]?.[2],
    layers.map(({ diffId }) => diffId),
  );
});

test('both refuse in the same words', async (t) => {
  const docker = other(t);
  if (docker === undefined) return;
  const ask = async (socket: string, name: string) => {
    const response = await openStream(socket, `/v1.41/images/${name}/get`);
    return [response.statusCode, JSON.parse(await text(response))];
  };
  for (const name of ['nope', 'nope:1', 'a.example/b', `nope@sha256:${'0'.repeat(64)}`, '0123456789ab'])
    assert.deepEqual(await ask(engine.socket, name), await ask(docker.socket, name), name);
  const tell = async (socket: string, members: Member[]) =>
    (await load(socket, archive(members))).error?.replace(/\/\S*docker-import-\d+/, '');
  const image = makeImage({ layers: [await makeLayer({ a: 'a' })] });
  const good = dockerMembers(image, ['app:1']);
  const item = JSON.parse(String(good.at(-1)?.content))[0];
  const manifest = (change: object) => [
    ...good.slice(0, -1),
    { name: 'manifest.json', content: JSON.stringify([{ ...item, ...change }]) },
  ];
  for (const members of [
    [{ name: 'x', content: 'x' }],
    good.filter(({ name }) => !String(name).endsWith('layer.tar')),
    manifest({ Layers: [] }),
    manifest({ RepoTags: ['app'] }),
    manifest({ Config: 'nope' }),
  ])
    assert.equal(await tell(engine.socket, members), await tell(docker.socket, members));
});

test('every layer of the fixture pairs comes back as it was, from here and from dockerd', {
  timeout: 1_200_000,
}, async (t) => {
  if (pairs === undefined) return t.skip('SKERRY_IMAGE_PAIRS is not set');
  await removeAll(engine.socket);
  for (const pair of readdirSync(pairs)) {
    const versions = ['v1', 'v2'].filter((version) => existsSync(join(pairs, pair, version)));
    const names = versions.map((version) => `${registry.host}/${pair}:${version}`);
    for (const version of versions)
      await pushLayout(registry.host, pair, [version], join(pairs, pair, version));
    const platform = pair === 'arm64' ? ['--platform', 'linux/arm64'] : [];
    for (const name of names) await engine.ok(['pull', '-q', ...platform, name], { timeoutMs: 300_000 });
    const ours = await imagesOf(engine.socket);
    const members = await membersOf(
      await openStream(engine.socket, `/images/get?${names.map((name) => `names=${name}`).join('&')}`),
    );
    for (const diffId of ours.flatMap(([, , layers]) => layers))
      assert.equal(members.get(`blobs/sha256/${diffId.slice(7)}`)?.digest, diffId);
    if (dockerd !== undefined) {
      await removeAll(dockerd.socket);
      await transfer(engine.socket, dockerd.socket, names);
      assert.deepEqual(await imagesOf(dockerd.socket), ours, pair);
      await removeAll(engine.socket);
      await transfer(dockerd.socket, engine.socket, names);
      assert.deepEqual(await imagesOf(engine.socket), ours, pair);
      await removeAll(dockerd.socket);
    }
    await removeAll(engine.socket);
    t.diagnostic(`${pair}: ${new Set(ours.flatMap(([, , layers]) => layers)).size} layers`);
  }
});
