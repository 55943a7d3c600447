import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { type Digest, hexOf } from '../../src/lib/digest.ts';
import {
  archive,
  dockerMembers,
  layoutMembers,
  legacyMembers,
  load,
  membersOf,
  openStream,
} from '../support/archives.ts';
import { boxLayer } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import {
  makeBigLayer,
  makeImage,
  makeIndex,
  makeLayer,
  push,
  type TestImage,
  type TestLayer,
} from '../support/registry-images.ts';
import type { Member } from '../support/tar-archive.ts';

let registry: TestRegistry;
let engine: TestEngine;
let base: TestLayer;
let image: TestImage;

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  base = await makeLayer({ 'bin/tool': 'x'.repeat(70_000), 'etc/hosts': '' });
  const top = await makeLayer({ 'etc/motd': 'loaded' }, { packing: 'zstd' });
  image = makeImage({ layers: [base, top], config: { Labels: { tier: 'back' } } });
  engine = await TestEngine.start();
});

after(async () => {
  await engine[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

afterEach(async () => {
  for (const { Id } of await engine.json<{ Id: string }[]>('/images/json?all=1'))
    await engine.get(`/images/${Id}?force=1`, { method: 'DELETE' });
  await assertNothingLeft('after the test');
});

function entriesOf(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

async function assertNothingLeft(when: string): Promise<void> {
  const left = () =>
    ['layers', 'staging', 'images'].flatMap((name) => entriesOf(join(engine.dataRoot, name)));
  for (let tries = 0; left().length > 0 && tries < 40; tries++) await sleep(50);
  assert.deepEqual(left(), [], when);
  assert.deepEqual(await engine.json('/images/json?all=1'), [], when);
}

const idsOf = async () =>
  (await engine.json<{ Id: string; RepoTags: string[] }[]>('/images/json?all=1')).map(({ Id }) => Id).sort();

/** Everything that the image consists of is here, and hashes to what it is called. */
async function assertWhole(loaded: TestImage, name: string = loaded.configDigest): Promise<void> {
  const { Id, RootFS } = await engine.json(`/images/${encodeURIComponent(name)}/json`);
  assert.equal(Id, loaded.configDigest);
  assert.deepEqual(
    RootFS.Layers,
    loaded.layers.map(({ diffId }) => diffId),
  );
  const members = await membersOf(await openStream(engine.socket, `/images/${Id}/get`));
  for (const { diffId } of loaded.layers) assert.ok(members.has(`blobs/sha256/${hexOf(diffId)}`));
}

test('archives of every kind, packed in every way, become the image that they hold', async () => {
  const kinds: Record<string, Member[]> = {
    docker: dockerMembers(image, ['app:1', 'localhost:5000/a/b:x']),
    layout: layoutMembers([
      { image, annotations: { 'io.containerd.image.name': 'docker.io/library/app:1' } },
    ]),
  };
  const packings: Record<string, (bytes: Buffer) => Buffer> = {
    none: (bytes) => bytes,
    gzip: (bytes) => gzipSync(bytes, { level: 1 }),
    zstd: (bytes) => zstdCompressSync(bytes),
    xz: (bytes) => execFileSync('xz', ['-0', '-c'], { input: bytes, maxBuffer: 1 << 30 }),
    bzip2: (bytes) => execFileSync('bzip2', ['-1', '-c'], { input: bytes, maxBuffer: 1 << 30 }),
  };
  for (const [kind, members] of Object.entries(kinds)) {
    for (const [packing, pack] of Object.entries(packings)) {
      if (kind === 'layout' && packing !== 'none') continue;
      const answer = await load(engine.socket, pack(archive(members)));
      const names = kind === 'docker' ? ['app:1', 'localhost:5000/a/b:x'] : ['app:1'];
      assert.deepEqual(
        answer.said,
        names.map((name) => `Loaded image: ${name}\n`),
        `${kind} ${packing}`,
      );
      assert.deepEqual([answer.status, answer.type], [200, 'application/json']);
      await assertWhole(image, 'app:1');
      await engine.get('/images/app:1?force=1', { method: 'DELETE' });
      await engine.get(`/images/${image.configDigest}?force=1`, { method: 'DELETE' });
    }
  }
});

test('a container runs from what the CLI loaded, and the order in an archive does not matter', async () => {
  const top = await makeLayer({ 'etc/motd': 'loaded' });
  const members = dockerMembers(makeImage({ layers: [await boxLayer(), top] }), ['app:1']);
  const said = await engine.ok(['load'], { input: archive(members.reverse()) as unknown as string });
  assert.equal(said, 'Loaded image: app:1');
  assert.equal(await engine.ok(['run', '--rm', '--net', 'none', 'app:1', 'cat', '/etc/motd']), 'loaded');
});

test('what was saved is loaded as it was, images without a name by their ID', async () => {
  await push(registry.host, 'app', ['1'], image);
  const name = `${registry.host}/app:1`;
  await engine.ok(['pull', '-q', name]);
  const saved = await buffer(await openStream(engine.socket, `/images/get?names=${name}`));
  const unnamed = await buffer(await openStream(engine.socket, `/images/get?names=${image.configDigest}`));
  await engine.ok(['rmi', name]);
  assert.deepEqual((await load(engine.socket, saved)).said, [`Loaded image: ${name}\n`]);
  await assertWhole(image, name);
  assert.deepEqual((await load(engine.socket, saved)).said, [`Loaded image: ${name}\n`], 'again');
  await engine.ok(['rmi', name]);
  assert.deepEqual((await load(engine.socket, unnamed)).said, [`Loaded image ID: ${image.configDigest}\n`]);
  await assertWhole(image);
  assert.deepEqual((await engine.json('/images/json'))[0].RepoTags, []);
  // the OCI half of it, by itself; one big piece is never cut off
  const isList = (name: string) => name === 'manifest.json' || name === 'repositories';
  const layout: Member[] = [];
  for (const [path, { text, type }] of await membersOf(Readable.from([unnamed])))
    if (type === 'file' && !isList(path)) layout.push({ name: path, content: Buffer.from(text, 'latin1') });
  await engine.ok(['rmi', image.configDigest]);
  assert.deepEqual((await load(engine.socket, archive(layout))).said, [
    `Loaded image ID: ${image.configDigest}\n`,
  ]);
  await assertWhole(image);
});

test('progress is told for layers that come, an event for each image', async () => {
  const since = Math.floor(Date.now() / 1000);
  const body = archive(layoutMembers([{ image }]));
  const { lines, said } = await load(engine.socket, body, { query: '?quiet=0' });
  const ids = new Set(lines.filter(({ status }) => status === 'Loading layer').map(({ id }) => id));
  assert.deepEqual(
    [...ids],
    image.layers.map(({ digest }) => hexOf(digest).slice(0, 12)),
  );
  const last = lines.filter(({ id }) => id === hexOf(base.digest).slice(0, 12)).at(-1);
  assert.deepEqual(last?.['progressDetail'], { current: base.blob.length, total: base.blob.length });
  assert.deepEqual(said, [`Loaded image ID: ${image.configDigest}\n`]);
  const again = await load(engine.socket, body, { query: '?quiet=0' });
  assert.equal(again.lines.length, 1, 'what is here is not unpacked again');
  const { text } = await engine.get(`/events?since=${since}&until=${since + 3}&type=image`);
  // the second may hold an earlier test's load as well
  const isOurs = (line: string) => line.includes('"load"') && line.includes(image.configDigest);
  const event = text.split('\n').find(isOurs) ?? assert.fail(text);
  assert.deepEqual(JSON.parse(event).Actor, {
    ID: image.configDigest,
    Attributes: { name: image.configDigest, tier: 'back' },
  });
});

test('a name moves to the image that is loaded, which is told', async () => {
  const other = makeImage({ layers: [base] });
  await load(engine.socket, archive(dockerMembers(other, ['app:1'])));
  const { said } = await load(engine.socket, archive(dockerMembers(image, ['app:1'])));
  assert.deepEqual(said, [
    `The image app:1 already exists, renaming the old one with ID ${other.configDigest} to empty string\n`,
    'Loaded image: app:1\n',
  ]);
  assert.deepEqual(await idsOf(), [image.configDigest, other.configDigest].sort());
});

test('a legacy archive becomes its named images, with a config made of its steps', async () => {
  const body = archive(legacyMembers(image, { old: { base: 0, full: 1 } }));
  const { said } = await load(engine.socket, body);
  assert.deepEqual(said.sort(), ['Loaded image: old:base\n', 'Loaded image: old:full\n']);
  const full = await engine.json('/images/old:full/json');
  assert.deepEqual(
    full.RootFS.Layers,
    image.layers.map(({ diffId }) => diffId),
  );
  assert.deepEqual(full.Config.Labels, { tier: 'back' });
  const history = await engine.json('/images/old:full/history');
  assert.deepEqual(
    history.map(({ CreatedBy }: { CreatedBy: string }) => CreatedBy),
    ['/bin/sh -c step 1 <&>', '/bin/sh -c step 0 <&>'],
  );
  assert.equal((await engine.json('/images/old:base/json')).RootFS.Layers.length, 1);
  const chain = legacyMembers(image, {});
  assert.equal((await load(engine.socket, archive(chain))).said.length, 1, 'the tip alone, by its ID');
});

test('of an index the image for this host is taken; names are read from both annotations', async () => {
  const foreign = makeImage({ layers: [base], platform: { os: 'linux', architecture: 's390x' } });
  const index = makeIndex([foreign, image]);
  const members = layoutMembers([{ image }, { image: foreign }]).filter(({ name }) => name !== 'index.json');
  const list = (manifests: object[]) => ({
    name: 'index.json',
    content: JSON.stringify({ schemaVersion: 2, manifests }),
  });
  const nested = {
    mediaType: index.mediaType,
    digest: index.digest,
    size: index.bytes.length,
    annotations: { 'org.opencontainers.image.ref.name': 'quay.io/a/b:c' },
  };
  const blob = { name: `blobs/sha256/${hexOf(index.digest as Digest)}`, content: index.bytes };
  const one = await load(engine.socket, archive([...members, blob, list([nested])]));
  assert.deepEqual([one.error, one.said], [undefined, ['Loaded image: quay.io/a/b:c\n']]);
  assert.deepEqual(await idsOf(), [image.configDigest]);
  const flat = [foreign, image].map(({ mediaType, digest, bytes, platform }) => ({
    mediaType,
    digest,
    size: bytes.length,
    platform,
    annotations: { 'org.opencontainers.image.ref.name': 'latest' },
  }));
  const two = await load(engine.socket, archive([...members, list(flat)]));
  assert.deepEqual(two.said, [`Loaded image ID: ${image.configDigest}\n`]);
  const alone = await load(engine.socket, archive([...members, list(flat.slice(0, 1))]));
  assert.deepEqual(alone.said, [`Loaded image ID: ${foreign.configDigest}\n`]);
  const none = await load(
    engine.socket,
    archive([
      ...members,
      list([
        flat[0] ?? {},
        { ...flat[0], digest: image.digest, platform: { os: 'linux', architecture: 'ppc64le' } },
      ]),
    ]),
  );
  assert.match(none.error ?? '', /no matching manifest for linux\/amd64/);
});

test('links stand for layers, and an archive may leave out what is here', async () => {
  const twice = makeImage({ layers: [base, base] });
  const members = dockerMembers(twice, ['app:twice']);
  const at = members.findIndex(
    ({ name, content }, n) => n > 3 && String(name).endsWith('layer.tar') && content,
  );
  const [first] = members.filter(({ name }) => String(name).endsWith('layer.tar'));
  const target = String(first?.name);
  for (const link of [
    { type: '2', linkName: `../${target}` },
    { type: '1', linkName: target },
  ]) {
    const linked = members.map((one, n) => (n === at ? { name: one.name, ...link } : one));
    assert.deepEqual((await load(engine.socket, archive(linked))).said, ['Loaded image: app:twice\n']);
    await assertWhole(twice, 'app:twice');
  }
  const bare = dockerMembers(image, ['app:bare']).filter(({ name }) => name !== target);
  assert.deepEqual((await load(engine.socket, archive(bare))).said, ['Loaded image: app:bare\n']);
});

test('what is wrong with an archive is told, and nothing of it stays', async () => {
  const good = dockerMembers(image, ['app:1']);
  const oci = layoutMembers([{ image }]);
  const config = `${hexOf(image.configDigest)}.json`;
  const change = (members: Member[], name: string | RegExp, to: Partial<Member> | undefined) =>
    members.flatMap((one) => {
      const isIt = typeof name === 'string' ? one.name === name : name.test(String(one.name));
      return !isIt ? [one] : to === undefined ? [] : [{ ...one, ...to }];
    });
  const item = JSON.parse(String(good.at(-1)?.content))[0];
  const manifest = (changed: object) =>
    change(good, 'manifest.json', { content: JSON.stringify([{ ...item, ...changed }]) });
  const whole = archive(good);
  const layers = JSON.parse(image.bytes.toString()).layers as { size: number }[];
  const lying = makeImage({
    layers: image.layers,
    manifest: { layers: layers.map((layer) => ({ ...layer, size: layer.size + 1 })) },
  });
  const sized = JSON.stringify({
    schemaVersion: 2,
    manifests: [{ mediaType: image.mediaType, digest: image.digest, size: image.bytes.length + 1 }],
  });
  const cases: [string, Buffer, RegExp][] = [
    ['lying layer sizes', archive(layoutMembers([{ image: lying }])), /has \d+ bytes, not \d+$/],
    ['lying sizes', archive(change(oci, 'index.json', { content: sized })), /has \d+ bytes, not \d+$/],
    ['nothing', Buffer.alloc(0), /^open \/repositories: no such file or directory$/],
    ['no tar', Buffer.from('x'.repeat(2000)), /^invalid tar: /],
    ['cut', whole.subarray(0, whole.indexOf('layer.tar') + 600), /^invalid tar: cut inside/],
    ['cut gzip', gzipSync(whole).subarray(0, -100), /^invalid gzip data/],
    ['another tar', archive([{ name: 'etc/passwd', content: 'root' }]), /^open \/repositories: no such file/],
    [
      'no JSON',
      archive(change(good, 'manifest.json', { content: '{"Config' })),
      /^manifest.json is no JSON$/,
    ],
    [
      'another JSON',
      archive(change(good, 'manifest.json', { content: '{"a":1}' })),
      /^manifest.json is not valid/,
    ],
    ['no config', archive(change(good, config, undefined)), new RegExp(`^open /${config}: no such file`)],
    [
      'another config',
      archive(change(good, config, { content: '{"rootfs":{"type":"layers"}}' })),
      /is not what its name says/,
    ],
    ['no layer', archive(change(good, /1.*layer\.tar/, undefined)), /^open \/.*layer.tar: no such file/],
    [
      'few layers',
      archive(manifest({ Layers: item.Layers.slice(1) })),
      /^invalid manifest, layers length mismatch: expected 1, got 2$/,
    ],
    [
      'swapped layers',
      archive(manifest({ Layers: [...item.Layers].reverse() })),
      /^invalid diffID for layer 0: expected "sha256:/,
    ],
    ['no tag', archive(manifest({ RepoTags: ['app'] })), /^invalid tag "app"$/],
    ['bad name', archive(manifest({ RepoTags: ['APP:1'] })), /^invalid reference format/],
    ['climbing', archive(manifest({ Config: '../../../etc/passwd' })), /^invalid path in the archive/],
    ['climbing member', archive([{ name: '../x', content: 'x' }, ...good]), /^invalid path in the archive/],
    [
      'climbing link',
      archive([...good, { name: 'a', type: '2', linkName: '../../etc/passwd' }]),
      /^invalid path in the archive/,
    ],
    [
      'link loop',
      archive([
        ...manifest({ Config: 'a' }),
        { name: 'a', type: '2', linkName: 'b' },
        { name: 'b', type: '2', linkName: 'a' },
      ]),
      /^too many links/,
    ],
    ['device', archive([...good, { name: 'dev', type: '3', major: 1, minor: 3 }]), /is a character file$/],
    [
      'two of a name',
      archive([...good, { name: 'manifest.json', content: '[]' }]),
      /two different files manifest.json/,
    ],
    [
      'another blob',
      archive(change(oci, `blobs/sha256/${hexOf(image.digest)}`, { content: `${image.bytes} ` })),
      /is damaged$/,
    ],
    [
      'another layer',
      archive(
        change(oci, `blobs/sha256/${hexOf(base.digest)}`, { content: gzipSync(base.tar, { level: 2 }) }),
      ),
      /is damaged$/,
    ],
    [
      'another plain layer',
      archive([{ name: `blobs/sha256/${hexOf(base.digest)}`, content: base.tar }]),
      /verification failed/,
    ],
    [
      'windows',
      archive(
        dockerMembers(
          makeImage({ layers: [base], platform: { os: 'windows', architecture: 'amd64' } }),
          null,
        ),
      ),
      /^cannot load windows image on linux$/,
    ],
    [
      'no rootfs',
      archive([
        { name: 'c', content: '{}' },
        { name: 'manifest.json', content: '[{"Config":"c","Layers":[]}]' },
      ]),
      /rootfs/,
    ],
    [
      'a bomb',
      archive(
        dockerMembers(
          makeImage({
            layers: [
              await makeLayer({ zeros: Buffer.alloc(1 << 20) }, { packing: 'none' }),
              {
                ...base,
                blob: Buffer.concat([
                  gzipSync(archive([{ name: 'a', size: 0o77777777777 }], Buffer.alloc(0))),
                ]),
              },
            ],
          }),
          null,
        ),
      ),
      /cut inside a/,
    ],
    [
      'legacy without a parent',
      archive(legacyMembers(image, { old: { x: 1 } }).filter(({ name }) => !String(name).includes('1/'))),
      /^open \/.*1\/json: no such file/,
    ],
  ];
  for (const [what, body, message] of cases) {
    const answer = await load(engine.socket, body);
    assert.deepEqual([answer.status, answer.said], [200, []], what);
    assert.match(answer.error ?? '', message, what);
    await assertNothingLeft(what);
  }
  assert.doesNotMatch(await engine.log(), /failed by a bug/);
});

test('the CLI hears what is wrong while it still sends', async () => {
  const junk = Buffer.concat([archive([{ name: '../x', content: 'x' }]), Buffer.alloc(30_000_000)]);
  const { code, stderr } = await engine.docker(['load'], { input: junk as unknown as string });
  assert.deepEqual([code, /invalid path in the archive/.test(stderr)], [1, true], stderr);
});

test('a layer that is damaged is told of, at once, to a client that stalls in its middle', async () => {
  const packed = Buffer.concat([gzipSync('').subarray(0, 10), Buffer.alloc(300_000, 0xff)]); // no such block
  const plain = Buffer.from((await makeLayer({ noise: randomBytes(300_000) })).tar);
  plain.fill('x', 300_544, 301_056); // where the end of the tar should be
  const contents = [packed, Buffer.concat([plain, randomBytes(300_000)])];
  for (const content of contents) {
    for (const name of ['layer.tar', `blobs/sha256/${'0'.repeat(64)}`]) {
      const bytes = archive([{ name, content }]);
      const options = { socketPath: engine.socket, path: '/images/load', method: 'POST', agent: false };
      const sent = request(options);
      const [response] = await Promise.all([once(sent, 'response'), sent.write(bytes.subarray(0, -60_000))]);
      const [chunk] = await once(response[0], 'data');
      sent.destroy();
      assert.match(`${chunk}`, /errorDetail/);
      await assertNothingLeft(`after ${name}`);
    }
  }
});

test('a client that leaves has loaded nothing', async () => {
  const big = makeImage({ layers: [base, await makeBigLayer(20_000_000)] });
  const body = archive(dockerMembers(big, ['app:1']));
  for (const part of [0.3, 0.6, 0.95]) {
    const sent = request({ socketPath: engine.socket, path: '/images/load', method: 'POST', agent: false });
    sent.on('error', () => {});
    await new Promise<void>((resolve) => sent.write(body.subarray(0, body.length * part), () => resolve()));
    const layers = () => readdirSync(join(engine.dataRoot, 'layers')).length;
    for (let tries = 0; layers() < 1 && tries < 100; tries++) await sleep(20);
    assert.equal(layers(), 1, 'the first layer has come');
    sent.destroy();
    await assertNothingLeft(`${part} of it was sent`);
  }
  // while it is silent as well
  const socket = connect(engine.socket);
  socket.write(
    'POST /images/load HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n',
  );
  const [said] = await new Promise<[Buffer]>((resolve) => socket.once('data', (bytes) => resolve([bytes])));
  assert.match(said.toString(), /^HTTP\/1.1 100 Continue/);
  socket.destroy();
  assert.equal((await engine.docker(['images'])).code, 0);
});

test('loads at once, and beside a pull of the same layers, all end well', async () => {
  const shared = await makeBigLayer(8_000_000);
  const images = await Promise.all(
    [1, 2, 3].map(async (n) => makeImage({ layers: [shared, await makeLayer({ n: `${n}` })] })),
  );
  const [first] = images;
  assert.ok(first);
  await push(registry.host, 'shared', ['1'], first);
  const loads = images.map((one, n) => load(engine.socket, archive(dockerMembers(one, [`app:${n}`]))));
  const [pulled, ...answers] = await Promise.all([
    engine.ok(['pull', '-q', `${registry.host}/shared:1`]),
    ...loads,
  ]);
  assert.ok(pulled);
  for (const [n, { said, error }] of answers.entries())
    assert.deepEqual([said, error], [[`Loaded image: app:${n}\n`], undefined]);
  for (const [n, one] of images.entries()) await assertWhole(one, `app:${n}`);
  assert.equal(readdirSync(join(engine.dataRoot, 'layers')).length, 4);
  assert.deepEqual(readdirSync(join(engine.dataRoot, 'staging')), []);
  const records = readdirSync(join(engine.dataRoot, 'layers')).map((dir) =>
    readFileSync(join(engine.dataRoot, 'layers', dir, 'layer.json'), 'utf8'),
  );
  assert.equal(new Set(records.map((text) => JSON.parse(text).diffId)).size, 4);
});
