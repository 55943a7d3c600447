import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { boxImage } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { type FaultyProxy, startFaultyProxy } from '../support/faulty-proxy.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { registryUser, startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeBigLayer, makeLayer, push, type TestImage } from '../support/registry-images.ts';

/** Pushes by the docker CLI, from one registry to others. */
let engine: TestEngine;
let source: TestRegistry;
let target: TestRegistry;
let proxy: FaultyProxy;
let image: TestImage;
let name: string;

before(async () => {
  await enterOwnNetwork();
  [source, target] = [await startRegistry(), await startRegistry()];
  proxy = await startFaultyProxy(target.host);
  const zstd = await makeLayer({ 'etc/settings': 'two\n' }, { packing: 'zstd' });
  image = await boxImage({ layers: [zstd, await makeBigLayer(3_000_000)] });
  name = `${source.host}/box:1`;
  await push(source.host, 'box', ['1'], image);
  engine = await TestEngine.start();
  await engine.ok(['pull', name]);
});

after(async () => {
  await engine.stop();
  const left = await engine.remains();
  await engine[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
  await target[Symbol.asyncDispose]();
  await source[Symbol.asyncDispose]();
  assert.deepEqual(left, []);
});

const count = (text: string, what: RegExp) => text.match(new RegExp(what, 'g'))?.length ?? 0;
const digestIn = (said: string) => /digest: (sha256:[0-9a-f]{64}) size: \d+/.exec(said)?.[1] ?? said;
const idOf = async (ref: string) => (await engine.json(`/images/${ref}/json`)).Id;
const repoDigests = async (ref: string) => (await engine.json(`/images/${ref}/json`)).RepoDigests;

test('back to where it came from: nothing is sent, and the digest is the same', async () => {
  const said = await engine.ok(['push', name]);
  assert.match(said, new RegExp(`^The push refers to repository \\[${source.host}/box\\]`));
  assert.equal(count(said, /Layer already exists/), 3);
  assert.equal(digestIn(said), image.digest);
});

test('to a second repository there: all is mounted, and the digest is the same', async () => {
  await engine.ok(['tag', name, `${source.host}/other/copy:2`]);
  const said = await engine.ok(['push', `${source.host}/other/copy:2`]);
  assert.equal(count(said, /Mounted from box/), 3);
  assert.equal(digestIn(said), image.digest);
  assert.ok((await repoDigests(name)).includes(`${source.host}/other/copy@${image.digest}`));
});

describe('to another registry', () => {
  let digest: string;

  test('what is sent can be pulled again, as the same image', async () => {
    const pushed = `${target.host}/new/box:1`;
    await engine.ok(['tag', name, pushed]);
    const said = await engine.ok(['push', pushed]);
    assert.equal(count(said, /: Pushed/), 3);
    digest = digestIn(said);
    assert.deepEqual(
      (await repoDigests(pushed)).filter((ref: string) => ref.startsWith(target.host)),
      [`${target.host}/new/box@${digest}`],
    );
    assert.match(await engine.ok(['pull', pushed]), /Image is up to date for/);

    await using second = await TestEngine.start();
    assert.match(await second.ok(['pull', pushed]), new RegExp(`Digest: ${digest}`));
    assert.equal((await second.json(`/images/${pushed}/json`)).Id, await idOf(name));
    assert.equal(await second.ok(['run', '--rm', '--net', 'none', pushed, 'cat', '/etc/settings']), 'two');
    await second.clear();
  });

  test('a second push sends nothing, and a third repository is given what the second has', async () => {
    const again = await engine.ok(['push', `${target.host}/new/box:1`]);
    assert.equal(count(again, /Layer already exists/), 3);
    assert.equal(digestIn(again), digest);
    await engine.ok(['tag', name, `${target.host}/third:1`]);
    const third = await engine.ok(['push', `${target.host}/third:1`]);
    assert.equal(count(third, /Mounted from new\/box/), 3);
    assert.equal(digestIn(third), digest);
  });

  test('-a sends every tag', async () => {
    for (const tag of ['a', 'b']) await engine.ok(['tag', name, `${target.host}/every:${tag}`]);
    const said = await engine.ok(['push', '-a', `${target.host}/every`]);
    assert.match(said, /a: digest: sha256:[\s\S]*b: digest: sha256:/);
    const listed = await (await fetch(`http://${target.host}/v2/every/tags/list`)).json();
    assert.deepEqual((listed as { tags: string[] }).tags.sort(), ['a', 'b']);
  });
});

test('what is not there', async () => {
  const nothing = await engine.docker(['push', `${target.host}/nothing:1`]);
  assert.equal(nothing.code, 1);
  assert.match(nothing.stderr, /An image does not exist locally with the tag: .*\/nothing/);
  const missing = await engine.docker(['push', `${source.host}/box:7`]);
  assert.match(missing.stderr, /tag does not exist: .*\/box:7/);
  const { status, text } = await engine.get('/v1.41/images/box/push', { method: 'POST' });
  assert.deepEqual(
    [status, JSON.parse(text)],
    [400, { message: 'bad parameters and missing X-Registry-Auth: invalid X-Registry-Auth header: EOF' }],
  );
});

test('a registry that wants a password', async () => {
  await using guarded = await startRegistry({ isPasswordWanted: true });
  const pushed = `${guarded.host}/box:1`;
  await engine.ok(['tag', name, pushed]);
  const refused = await engine.docker(['push', pushed]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /no basic auth credentials/);
  const { username, password } = registryUser;
  const auth = Buffer.from(`${username}:${password}`).toString('base64');
  const config = engine.cliEnvironment()['DOCKER_CONFIG'] ?? '';
  await mkdir(config, { recursive: true });
  await writeFile(join(config, 'config.json'), JSON.stringify({ auths: { [guarded.host]: { auth } } }));
  assert.match(await engine.ok(['push', pushed]), /digest: sha256:/);
  await engine.ok(['rmi', pushed]);
  assert.match(await engine.ok(['pull', pushed]), /Digest: sha256:/);
  const wrong = Buffer.from(`${username}:wrong`).toString('base64');
  await writeFile(
    join(config, 'config.json'),
    JSON.stringify({ auths: { [guarded.host]: { auth: wrong } } }),
  );
  assert.match((await engine.docker(['push', pushed])).stderr, /unauthorized: authentication required/);
});

test('the pieces of a push are events', async () => {
  const since = Date.now() / 1000 - 0.001;
  await engine.ok(['push', '-q', name]);
  const events = await engine.get(`/events?since=${since}&until=${Date.now() / 1000 + 0.001}`);
  const [event] = events.text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    [event.Type, event.Action, event.Actor],
    ['image', 'push', { ID: name, Attributes: { name: `${source.host}/box` } }],
  );
});

async function seenThree(wanted: string): Promise<void> {
  const seen = () => proxy.requests.filter(({ method }) => method === wanted).length;
  for (const until = Date.now() + 20_000; seen() < 3 && Date.now() < until; ) await sleep(10);
  assert.equal(seen(), 3, wanted);
}

test('a client that leaves stops the push, and the image can be removed at once', async () => {
  proxy.reset();
  // less than the smallest of the three layers, or that one would be done before the client leaves
  proxy.fault({ path: /uploads/, method: 'PATCH', do: { kind: 'stall upload', afterBytes: 50 } });
  const pushed = `${proxy.host}/left:1`;
  await engine.ok(['tag', name, pushed]);
  const cli = spawn('docker', ['push', pushed], {
    stdio: 'ignore',
    env: { ...process.env, ...engine.cliEnvironment() },
  });
  const ended = once(cli, 'exit');
  await seenThree('PATCH');
  cli.kill('SIGKILL');
  await ended;
  await seenThree('DELETE');
  assert.equal(proxy.seen(/manifests/).length, 0);
  proxy.reset();
  assert.match(await engine.ok(['push', pushed]), /digest: sha256:/);
});

test('a connection that breaks is no more than a delay', async () => {
  await using other = await startRegistry();
  await using bad = await startFaultyProxy(other.host);
  const cut = { kind: 'cut upload', afterBytes: 200_000 } as const;
  bad.fault({ path: /uploads/, method: 'PATCH', times: 2, do: cut });
  const pushed = `${bad.host}/cut:1`;
  await engine.ok(['tag', name, pushed]);
  const said = await engine.ok(['push', pushed]);
  assert.match(said, /Retrying in 1 second/);
  await using second = await TestEngine.start();
  assert.match(await second.ok(['pull', pushed]), new RegExp(`Digest: ${digestIn(said)}`));
});

test('an image that is removed in mid-push arrives whole, and then its layers go', async () => {
  await using other = await startRegistry();
  await using slow = await startFaultyProxy(other.host);
  await push(source.host, 'gone', ['1'], await boxImage({ layers: [await makeBigLayer(8_000_000)] }));
  await engine.ok(['pull', '-q', `${source.host}/gone:1`]);
  const layers = (await readdir(join(engine.dataRoot, 'layers'))).length;
  await engine.ok(['tag', `${source.host}/gone:1`, `${slow.host}/gone:1`]);
  slow.fault({
    path: /uploads/,
    method: 'PATCH',
    times: 1,
    do: { kind: 'status', status: 503, headers: { 'retry-after': '1' } },
  });
  const pushing = engine.docker(['push', `${slow.host}/gone:1`]);
  while (slow.seen(/uploads/).length === 0) await sleep(5);
  await engine.ok(['rmi', '-f', `${source.host}/gone:1`, `${slow.host}/gone:1`]);
  assert.equal((await readdir(join(engine.dataRoot, 'layers'))).length, layers);
  const { code, stdout, stderr } = await pushing;
  assert.equal(code, 0, stderr);
  assert.match(stdout, /digest: sha256:/);
  while ((await readdir(join(engine.dataRoot, 'layers'))).length >= layers) await sleep(20);
  await engine.ok(['pull', `${slow.host}/gone:1`]);
});
