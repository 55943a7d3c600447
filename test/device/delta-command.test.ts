import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { deltaTag, parseDeltaManifest, parseReferrers, referrersTag } from '../../src/lib/delta-artifact.ts';
import { archive, dockerMembers } from '../support/archives.ts';
import { TestEngine } from '../support/engine.ts';
import { writeLayout } from '../support/layouts.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { registryUser, startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeImage, makeLayer, push, type TestImage } from '../support/registry-images.ts';

/** `skerry delta`, as a pipeline runs it: images in a registry and in files, no daemon. */
let directory: string;
let registry: TestRegistry;
let v1: TestImage;
let v2: TestImage;
let other: TestImage;

const skerry = resolve(import.meta.dirname, '../../scripts/skerry');
const created = (day: string) => ({ configFile: { created: `2026-01-${day}T00:00:00Z` } });

function start(argv: readonly string[], env: Record<string, string> = {}) {
  const temporary = join(directory, 'tmp');
  return spawn(skerry, ['delta', ...argv], { env: { ...process.env, TMPDIR: temporary, ...env } });
}

async function run(argv: readonly string[], env: Record<string, string> = {}) {
  const child = start(argv, env);
  const [stdout, stderr, [code]] = await Promise.all([
    textOf(child.stdout),
    textOf(child.stderr),
    once(child, 'close'),
  ]);
  assert.deepEqual(readdirSync(join(directory, 'tmp')), [], 'the temporary directory is empty');
  return { code: Number(code), stdout, stderr };
}

async function ok(argv: readonly string[], env: Record<string, string> = {}): Promise<string> {
  const { code, stdout, stderr } = await run(argv, env);
  assert.equal(code, 0, stderr);
  return stdout;
}

async function manifest(tag: string): Promise<Buffer> {
  const accept = 'application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json';
  const answer = await fetch(`http://${registry.host}/v2/app/manifests/${tag}`, { headers: { accept } });
  assert.equal(answer.status, 200, tag);
  return Buffer.from(await answer.arrayBuffer());
}

before(async () => {
  await enterOwnNetwork();
  directory = await mkdtemp(join(tmpdir(), 'skt-delta-'));
  await mkdir(join(directory, 'tmp'));
  const system = await makeLayer({ 'etc/motd': 'hello\n', 'lib/shared': randomBytes(200_000) });
  const program = randomBytes(300_000);
  const changed = Buffer.from(program);
  changed.fill('changed', 1000, 1100);
  const old = await makeLayer({ 'bin/app': program, 'etc/version': '1\n' });
  const young = await makeLayer({ 'bin/app': changed, 'etc/version': '2\n' }, { packing: 'zstd' });
  v1 = makeImage({ layers: [system, old], ...created('01') });
  v2 = makeImage({ layers: [system, young], ...created('02') });
  other = makeImage({ layers: [await makeLayer({ other: randomBytes(200_000) })], ...created('03') });
  for (const [name, image] of Object.entries({ v1, v2, other }))
    await writeLayout(join(directory, name), [{ image }]);
  registry = await startRegistry();
  await push(registry.host, 'app', ['1.0', 'stable'], v1);
  await push(registry.host, 'app', ['1.1'], v2);
  await push(registry.host, 'app', ['1.2'], other);
});

after(async () => {
  await registry[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

const layout = (name: string) => `oci:${join(directory, name)}`;

test('create: a delta between layouts says what it saves, and is the same each time', async () => {
  const paths = ['a.delta', 'b.delta'].map((name) => join(directory, name));
  const images = [layout('v1'), layout('v2')];
  const said = await ok(['create', ...images, '--output', paths[0] ?? '']);
  assert.match(said, /layers: 1 to make, 1 that the base has/);
  assert.match(said, /instead of 30\d(\.\d+)?kB: 99\.\d % saved/);
  const [facts] = JSON.parse(await ok(['create', ...images, '-o', paths[1] ?? '', '--json', '--jobs', '1']));
  assert.equal(facts.target.id, v2.configDigest);
  assert.equal(facts.fullBytes, v2.layers[1]?.blob.length);
  assert.equal(facts.deltaBytes, statSync(paths[0] ?? '').size);
  const [first, second] = await Promise.all(paths.map((path) => readFile(path)));
  assert.ok(first !== undefined && second !== undefined && first.equals(second));
});

test('create: a delta that saves too little is not kept, and the exit code says so', async () => {
  const output = join(directory, 'none.delta');
  const { code, stdout } = await run(['create', layout('v1'), layout('other'), '--output', output]);
  assert.equal(code, 3);
  assert.match(stdout, /not kept: it saves less than 30 %/);
  assert.equal(existsSync(output), false);
});

test('create: what is wrong with the command line or an image is said, with exit code 1', async () => {
  const cases: [string[], RegExp][] = [
    [['create', layout('v1'), layout('v2')], /give either --output or --push/],
    [['create', layout('v1'), layout('v2'), '--push'], /--push needs a target that is in a registry/],
    [['create', layout('v1'), '-o', 'x'], /name BASE and TARGET/],
    [
      ['create', layout('v2'), '--from-tags', '2', '-o', 'x'],
      /--from-tags needs a target that is in a registry/,
    ],
    [['create', layout('v1'), layout('v2'), '--push', '-t', 'a:1'], /--tag needs --output/],
    [
      ['create', layout('v1'), layout('v2'), '-o', 'x', '-t', 'A b'],
      /invalid reference format|must be lowercase/,
    ],
    [['create', layout('v1'), layout('v2'), '-o', 'x', '--quality', '12'], /must be from 0 to 11/],
    [['create', layout('nowhere'), layout('v2'), '-o', 'x'], /index\.json is missing/],
    [['create', `${registry.host}/app:9`, layout('v2'), '-o', 'x'], /manifest unknown/],
  ];
  for (const [argv, message] of cases) {
    const { code, stderr } = await run(argv);
    assert.equal(code, 1, argv.join(' '));
    assert.match(stderr, message);
  }
});

test('create --push: the delta lies beside its target, under its tag and in the list of referrers', async () => {
  const [target, base] = [`${registry.host}/app:1.1`, `${registry.host}/app:1.0`];
  assert.match(await ok(['create', base, target, '--push']), /written to 127\.0\.0\.1:\d+\/app:delta-/);
  const tag = deltaTag(v2.digest, v1.configDigest);
  const bytes = await manifest(tag);
  const artifact = parseDeltaManifest(bytes);
  assert.deepEqual(artifact.facts, {
    baseId: v1.configDigest,
    baseManifest: v1.digest,
    targetId: v2.configDigest,
    targetManifest: v2.digest,
    fullBytes: v2.layers[1]?.blob.length,
  });
  const list = await manifest(referrersTag(v2.digest));
  assert.deepEqual(
    parseReferrers(list).map(({ facts }) => facts),
    [artifact.facts],
  );
  await ok(['create', base, target, '--push']);
  assert.deepEqual([await manifest(tag), await manifest(referrersTag(v2.digest))], [bytes, list]);
  const dated = { SOURCE_DATE_EPOCH: '1767225600' };
  await ok(['create', base, target, '--push'], dated);
  const later = parseDeltaManifest(await manifest(tag));
  assert.deepEqual(later, { ...artifact, facts: { ...artifact.facts, createdAt: '2026-01-01T00:00:00Z' } });
  await ok(['create', base, target, '--push']);
  assert.deepEqual([await manifest(tag), await manifest(referrersTag(v2.digest))], [bytes, list]);
});

test('create --push: a registry that keeps the list of referrers itself is not given another', async () => {
  const put: string[] = [];
  const proxy = createServer((incoming, answer) => {
    const { method, url = '', headers } = incoming;
    const isManifest = method === 'PUT' && url.includes('/manifests/');
    if (isManifest) put.push(url);
    const outgoing = request(`http://${registry.host}${url}`, { method, headers }, (answered) => {
      const subject = isManifest ? { 'oci-subject': v2.digest } : {};
      answer.writeHead(answered.statusCode ?? 500, { ...answered.headers, ...subject });
      answered.pipe(answer);
    });
    incoming.pipe(outgoing);
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const address = proxy.address();
  const host = `127.0.0.1:${typeof address === 'object' ? address?.port : ''}`;
  try {
    await ok(['create', `${host}/app:1.0`, `${host}/app:1.1`, '--push']);
  } finally {
    proxy.close();
  }
  assert.deepEqual(put, [`/v2/app/manifests/${deltaTag(v2.digest, v1.configDigest)}`]);
});

test('create --from-tags: from the images before it, each once, and never from what is no image', async () => {
  const facts = JSON.parse(
    await ok(['create', `${registry.host}/app:1.1`, '--from-tags', '3', '--push', '--json']),
  );
  assert.deepEqual(
    facts.map(({ base }: { base: { id: string } }) => base.id),
    [v1.configDigest],
  );
});

test('create --from-tags --output: each delta has a file of its own in the directory', async () => {
  const usb = join(directory, 'usb/deltas');
  const said = await ok(['create', `${registry.host}/app:1.1`, '--from-tags', '3', '-o', usb]);
  const [name, ...others] = readdirSync(usb);
  assert.match(name ?? '', /^(?:1\.0|stable)-to-1\.1\.delta$/);
  assert.deepEqual(others, []);
  assert.match(said, new RegExp(`written to ${join(usb, name ?? '')}`));
});

test('create --output: the file tells what it is called, and a daemon loads it by that name', async () => {
  const [old, young] = [`${registry.host}/app:1.0`, `${registry.host}/app:1.1`];
  const named = join(directory, 'named.delta');
  const inspected = async () => JSON.parse(await ok(['inspect', named, '--json']));
  await ok(['create', old, young, '-o', named]);
  await using engine = await TestEngine.start();
  const early = await engine.docker(['load', '-i', named]);
  assert.match(early.stderr, new RegExp(`base image ${v1.configDigest} \\(${old}\\) is not here`));
  await engine.ok(['pull', '-q', old]);
  assert.equal(await engine.ok(['load', '-i', named]), `Loaded image: ${young}`);
  const { target, baseId, baseTags } = await inspected();
  assert.deepEqual([target.tags, baseId, baseTags], [[young], v1.configDigest, [old]]);
  assert.match(await ok(['inspect', named]), new RegExp(`^Loads as: +${young}$`, 'm'));
  await ok(['create', layout('v1'), layout('v2'), '-o', named, '--tag', 'app']);
  assert.deepEqual((await inspected()).target.tags, ['docker.io/library/app:latest']);
  const annotations = { 'org.opencontainers.image.ref.name': 'registry.example/app:2' };
  await writeLayout(join(directory, 'annotated'), [{ image: v2, annotations }]);
  await ok(['create', layout('v1'), layout('annotated'), '-o', named]);
  assert.deepEqual((await inspected()).target.tags, ['registry.example/app:2']);
  await writeFile(join(directory, 'v2.tar'), archive(dockerMembers(v2, ['app:2', 'b:x'])));
  await ok(['create', layout('v1'), `docker-archive:${join(directory, 'v2.tar')}`, '-o', named]);
  assert.deepEqual((await inspected()).target.tags, ['docker.io/library/app:2', 'docker.io/library/b:x']);
});

test('create --from-tags: the newest of them first, and 3 if none of the deltas saves enough', async () => {
  const { code, stdout } = await run([
    'create',
    `${registry.host}/app:1.2`,
    '--from-tags',
    '1',
    '--push',
    '--json',
  ]);
  assert.equal(code, 3);
  const made = JSON.parse(stdout) as { base: { id: string }; isKept: boolean }[];
  assert.deepEqual(
    made.map(({ base, isKept }) => [base.id, isKept]),
    [[v2.configDigest, false]],
  );
  const first = await run(['create', `${registry.host}/app:1.0`, '--from-tags', '1', '--push']);
  assert.match(first.stderr, /its repository has no earlier image/);
});

test('create: with the credentials of docker login, and not without', async () => {
  await using guarded = await startRegistry({ isPasswordWanted: true, storage: registry.storage });
  const { username, password } = registryUser;
  const auth = Buffer.from(`${username}:${password}`).toString('base64');
  await writeFile(join(directory, 'config.json'), JSON.stringify({ auths: { [guarded.host]: { auth } } }));
  const argv = ['create', `${guarded.host}/app:1.0`, `${guarded.host}/app:1.1`, '--push'];
  assert.match((await run(argv, { DOCKER_CONFIG: '/nowhere' })).stderr, /no basic auth credentials/);
  await ok(argv, { DOCKER_CONFIG: directory });
});

test('create: a signal ends it and leaves nothing', async () => {
  const output = join(directory, 'interrupted.delta');
  const child = start(['create', layout('v1'), layout('other'), '-o', output]);
  const closed = once(child, 'close');
  await once(child.stderr, 'data');
  child.kill('SIGINT');
  const [code] = await closed;
  assert.equal(code, 130);
  assert.deepEqual(readdirSync(join(directory, 'tmp')), []);
  assert.equal(existsSync(output), false);
});

test('apply: what a pushed delta makes loads into the daemon as the target', async () => {
  const delta = `${registry.host}/app:${deltaTag(v2.digest, v1.configDigest)}`;
  const archive = join(directory, 'made.tar');
  const made = join(directory, 'made');
  const argv = ['apply', delta, '--base', layout('v1')];
  assert.match(
    await ok([...argv, '-o', `docker-archive:${archive}`, '-t', 'app:made']),
    new RegExp(v2.configDigest),
  );
  await ok([...argv, '-o', `oci:${made}`]);
  assert.deepEqual(
    readdirSync(directory).filter((name) => name.includes('.part')),
    [],
  );
  const again = await run(['create', `oci:${made}`, layout('v2'), '-o', 'x']);
  assert.equal(again.code, 3, 'the layout has all layers of the target');
  await using engine = await TestEngine.start();
  await engine.ok(['load', '-i', archive]);
  assert.equal((await engine.json('/images/app:made/json')).Id, v2.configDigest);
  assert.deepEqual(
    await engine.json('/images/app:made/json').then(({ RootFS }) => RootFS.Layers),
    v2.layers.map(({ diffId }) => diffId),
  );
});

test('verify: a delta is whole, damaged, or not for this base', async () => {
  const path = join(directory, 'a.delta');
  assert.match(
    await ok(['verify', path, '--base', layout('v1')]),
    new RegExp(`makes 1 layer of ${v2.configDigest}`),
  );
  const remote = `${registry.host}/app:${deltaTag(v2.digest, v1.configDigest)}`;
  await ok(['verify', remote, '--base', `${registry.host}/app:1.0`]);
  const bytes = await readFile(path);
  bytes[bytes.length - 1] = 255 - (bytes.at(-1) ?? 0);
  const damaged = join(directory, 'damaged.delta');
  await writeFile(damaged, bytes);
  await writeFile(join(directory, 'cut.delta'), bytes.subarray(0, -1));
  const cases: [string, string, RegExp][] = [
    [damaged, 'v1', /a frame is damaged/],
    [join(directory, 'cut.delta'), 'v1', /it is cut/],
    [path, 'other', /is not the delta's base: it lacks the layer/],
    [join(directory, 'config.json'), 'v1', /delta: this is none/],
    [join(directory, 'no.delta'), 'v1', /there is no such file/],
  ];
  for (const [delta, base, message] of cases) {
    const { code, stderr } = await run(['verify', delta, '--base', layout(base)]);
    assert.equal(code, 1);
    assert.match(stderr, message);
  }
});

test('inspect: facts of a file or of a name in a registry, and with the base what costs most', async () => {
  const delta = `${registry.host}/app:${deltaTag(v2.digest, v1.configDigest)}`;
  const remote = JSON.parse(await ok(['inspect', delta, '--json']));
  const local = JSON.parse(await ok(['inspect', join(directory, 'a.delta'), '--json']));
  for (const fact of ['target', 'base', 'fullBytes', 'layers', 'columns'])
    assert.deepEqual(remote[fact], local[fact], fact);
  assert.deepEqual([remote.baseId, local.baseId], [v1.configDigest, v1.configDigest]);
  assert.equal(local.target.id, v2.configDigest);
  assert.deepEqual(
    local.layers.map(({ diffId }: { diffId: string }) => diffId),
    [v2.layers[1]?.diffId],
  );
  const said = await ok(['inspect', delta, '--base', `${registry.host}/app:1.0`]);
  assert.match(said, /^LAYER +TAR +PULL +DELTA +FRAMES$/m);
  assert.match(said, /^OPERATION +COUNT +MAKES +ABOUT$/m);
  assert.match(said, /^\d+B +bin\/app$/m);
});
