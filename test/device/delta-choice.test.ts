import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type ClientRequest, request } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { addReferrer, REFERRERS_TYPE } from '../../src/lib/delta-artifact.ts';
import { digestOf } from '../../src/lib/digest.ts';
import { type PublishedDelta, publishDelta } from '../support/delta-artifacts.ts';
import { noise } from '../support/delta-tars.ts';
import { TestEngine } from '../support/engine.ts';
import { type FaultyProxy, startFaultyProxy } from '../support/faulty-proxy.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { registryUser, startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeImage, makeLayer, push, pushManifest, type TestImage } from '../support/registry-images.ts';

/** Which delta a pull takes, which it takes next, and what it tells a balena-style supervisor of it. */
let engine: TestEngine;
let registry: TestRegistry;
/** In front of the registry with the images. */
let proxy: FaultyProxy;
/** Another registry to everybody who looks at names, and guarded; its storage is the same. */
let guarded: TestRegistry;
let apart: FaultyProxy;
let bases: readonly TestImage[];
let target: TestImage;

interface Line {
  status?: string;
  id?: string;
  progressDetail?: { current?: number; total?: number };
  error?: string;
  message?: string;
  aux?: { delta?: { base?: string; fetchedBytes: number; fullBytes: number; whyNot?: string } };
}

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  guarded = await startRegistry({ isPasswordWanted: true, storage: registry.storage });
  proxy = await startFaultyProxy(registry.host);
  apart = await startFaultyProxy(guarded.host);
  const program = noise(300_000);
  const sharedFile = noise(60_000, 4);
  const shared = await makeLayer({ 'etc/shared': sharedFile });
  // each base lacks more of the program than the one before
  bases = await Promise.all(
    [0, 20_000, 40_000, 60_000].map(async (cut, v) => {
      const layer = await makeLayer({ 'bin/program': program.subarray(cut) });
      return makeImage({ layers: [shared, layer], config: { Labels: { v: String(v) } } });
    }),
  );
  target = makeImage({
    layers: [
      shared,
      await makeLayer({ 'bin/program': Buffer.concat([program, noise(2000, 3)]) }),
      await makeLayer({ 'etc/copy': Buffer.concat([sharedFile, noise(1000, 5)]) }),
    ],
    config: { Labels: { v: 'target' } },
  });
  engine = await TestEngine.start({ flags: ['--supervisor-compat', '--max-download-attempts', '1'] });
});

after(async () => {
  await engine.stop();
  const left = await engine.remains();
  await engine[Symbol.asyncDispose]();
  for (const part of [proxy, apart, guarded, registry]) await part[Symbol.asyncDispose]();
  assert.deepEqual(left, []);
});

let repository = '';
let count = 0;

/** No image is here, and the target is in a new repository. */
beforeEach(async () => {
  proxy.reset();
  apart.reset();
  await engine.ok(['image', 'prune', '-af']);
  repository = `choice${++count}`;
  await push(registry.host, repository, ['new'], target);
});

function baseOf(v: number): TestImage {
  const base = bases[v];
  assert.ok(base !== undefined);
  return base;
}

/** Brings these bases here, each under a tag of its own. */
async function have(...versions: number[]): Promise<void> {
  for (const v of versions) {
    await push(registry.host, repository, [`v${v}`], baseOf(v));
    assert.equal((await pull({}, `v${v}`)).at(-1)?.error, undefined);
  }
  proxy.reset();
}

const publish = (v: number, o: Partial<Parameters<typeof publishDelta>[2]> = {}, where = repository) =>
  publishDelta(registry.host, where, { base: baseOf(v), target, ...o });

const truncated = (delta: Buffer) => delta.subarray(0, delta.length - 100);

/** A pull under way. */
interface Begun {
  sent: ClientRequest;
  answered: Promise<unknown>;
  lines: Promise<Line[]>;
}

function begin(headers: Record<string, string>, tag = 'new'): Begun {
  const path = `/images/create?fromImage=${proxy.host}/${repository}&tag=${tag}`;
  const sent = request({ socketPath: engine.socket, path, method: 'POST', headers });
  const lines = new Promise<Line[]>((resolve, reject) => {
    sent.on('error', reject).on('response', async (answer) => {
      const all: Line[] = [];
      try {
        for await (const line of createInterface(answer)) all.push(JSON.parse(line) as Line);
        resolve(answer.statusCode === 200 ? all : [{ error: `${answer.statusCode} ${all[0]?.message}` }]);
      } catch (cause) {
        reject(cause);
      }
    });
  });
  const answered = new Promise((resolve) => sent.once('response', resolve));
  sent.end();
  return { sent, answered, lines };
}

const pull = (headers: Record<string, string>, tag = 'new') => begin(headers, tag).lines;

const asked = (digest = '') => proxy.seen(new RegExp(`/blobs/${digest}`)).length;
const layersAsked = () => target.layers.slice(1).filter(({ digest }) => asked(digest) > 0).length;
const auxOf = (lines: readonly Line[]) => lines.find(({ aux }) => aux?.delta !== undefined)?.aux?.delta;

async function idOf(tag: string): Promise<string | undefined> {
  const { status, text } = await engine.get(`/images/${proxy.host}/${repository}:${tag}/json`);
  return status === 200 ? (JSON.parse(text) as { Id: string }).Id : undefined;
}

async function succeeds(lines: readonly Line[]): Promise<void> {
  assert.equal(lines.at(-1)?.error, undefined);
  assert.equal(await idOf('new'), target.configDigest);
  assert.deepEqual(readdirSync(join(engine.dataRoot, 'staging')), []);
}

/** `require` fails in the stream and publishes nothing; then `auto` fetches the layers. */
async function fallsBack(why: RegExp, headers: Record<string, string> = {}): Promise<Line[]> {
  const required = await pull({ ...headers, 'x-delta-mode': 'require' });
  assert.match(required.at(-1)?.error ?? '', /^a delta is required for .*: /);
  assert.match(required.at(-1)?.error ?? '', why);
  assert.equal(layersAsked(), 0);
  assert.equal(await idOf('new'), undefined);
  const lines = await pull({ ...headers, 'x-delta-mode': 'auto' });
  assert.match(auxOf(lines)?.whyNot ?? '', why);
  assert.equal(layersAsked() > 0, true);
  await succeeds(lines);
  return lines;
}

test('of several deltas and bases the smallest delta is taken', async () => {
  await have(2, 0, 1);
  const sizes = [];
  for (const v of [2, 0, 1]) sizes.push((await publish(v)).bytes);
  const lines = await pull({ 'x-delta-mode': 'require' });
  await succeeds(lines);
  const { base, fetchedBytes } = auxOf(lines) ?? {};
  assert.deepEqual([base, fetchedBytes], [baseOf(0).configDigest, Math.min(...sizes)]);
  const log = (await engine.log()).split('\n').filter((line) => line.includes('"delta applied"'));
  const told = JSON.parse(log.at(-1) ?? '') as Record<string, unknown>;
  const savedBytes =
    target.layers.slice(1).reduce((sum, { blob }) => sum + blob.length, 0) - Math.min(...sizes);
  assert.deepEqual([told['base'], told['bytes'], told['savedBytes']], [base, fetchedBytes, savedBytes]);
});

test('after one that is of no use the next is tried, in the same pull', async () => {
  await have(0, 1);
  const bad = await publish(0, { spoil: truncated });
  const good = await publish(1);
  const lines = await pull({ 'x-delta-mode': 'require' });
  await succeeds(lines);
  assert.equal(layersAsked(), 0);
  const { base, fetchedBytes = 0, whyNot } = auxOf(lines) ?? {};
  assert.deepEqual([base, whyNot], [baseOf(1).configDigest, undefined]);
  assert.equal(fetchedBytes > good.bytes && fetchedBytes <= good.bytes + bad.bytes, true);
});

test('after one whose base is damaged those with another base are tried', async () => {
  await have(0, 1);
  await publish(0);
  const { bytes } = await publish(1);
  flip(layerDirectory(baseOf(0), 1), 'diff/bin/program');
  const lines = await pull({ 'x-delta-mode': 'require' });
  await succeeds(lines);
  assert.equal(auxOf(lines)?.base, baseOf(1).configDigest);
  assert.equal((auxOf(lines)?.fetchedBytes ?? 0) > bytes, true);
});

test('after three there is no fourth, and what was found to be bad is not fetched again before a restart', async () => {
  await engine.stop();
  await engine.boot(); // the deltas of the tests before are the same
  await have(0, 1, 2, 3);
  const deltas: PublishedDelta[] = [];
  for (const v of [0, 1, 2, 3]) deltas.push(await publish(v, { spoil: truncated }));
  const bySize = deltas.toSorted((a, b) => a.bytes - b.bytes);
  const asks = () => bySize.map(({ digest }) => asked(digest));
  const require = async () => {
    const lines = await pull({ 'x-delta-mode': 'require' });
    assert.match(lines.at(-1)?.error ?? '', /a delta is required for .*: delta: it is cut/);
  };
  await require();
  assert.deepEqual(asks(), [1, 1, 1, 0]);
  await require();
  await require();
  assert.deepEqual(asks(), [1, 1, 1, 1]);
  await engine.stop();
  await engine.boot();
  await require();
  assert.deepEqual(asks(), [2, 2, 2, 1]);
  await publish(1);
  await succeeds(await pull({ 'x-delta-mode': 'require' }));
});

const lies: Record<string, Partial<Parameters<typeof publishDelta>[2]>> = {
  'a size that is too small': { lie: (blob) => ({ ...blob, size: blob.size - 50 }) },
  'a size that is too large': { lie: (blob) => ({ ...blob, size: blob.size + 50 }) },
  'the digest of something else': { lie: (blob) => ({ ...blob, digest: digestOf('{}'), size: 2 }) },
};
for (const [what, how] of Object.entries(lies))
  test(`an artifact that tells ${what}: \`require\` fails, \`auto\` falls back`, async () => {
    await have(0);
    await publish(0, how);
    await fallsBack(/./);
  });

test('a delta that is gone: `require` fails, `auto` falls back', async () => {
  await have(0);
  const { digest } = await publish(0);
  proxy.fault({ path: new RegExp(`/blobs/${digest}`), do: { kind: 'status', status: 404 } });
  await fallsBack(/404/);
});

test('a source by name is used instead of what lies beside the image', async () => {
  await have(0);
  const beside = await publish(0);
  const other = await publish(0, { tag: 'mine', spoil: (delta) => delta }, 'deltas/app');
  proxy.reset();
  const lines = await pull({ 'x-delta-mode': 'require', 'x-delta-source': `${proxy.host}/deltas/app:mine` });
  await succeeds(lines);
  assert.equal(proxy.seen(/\/manifests\/delta-/).length, 0);
  assert.equal(beside.digest, other.digest);
  assert.equal(proxy.seen(new RegExp(`/deltas/app/blobs/${other.digest}`)).length, 1);
});

test('of an index the smallest delta from an image that is here is taken', async () => {
  await have(1, 2);
  let bytes: Buffer | undefined;
  for (const v of [0, 1, 2]) {
    const { entry } = await publish(v, { tag: `v${v}` }, 'deltas/many');
    bytes = addReferrer(bytes, entry);
  }
  assert.ok(bytes !== undefined);
  await pushManifest(registry.host, 'deltas/many', 'all', { mediaType: REFERRERS_TYPE, bytes });
  const lines = await pull({ 'x-delta-mode': 'require', 'x-delta-source': `${proxy.host}/deltas/many:all` });
  await succeeds(lines);
  assert.equal(auxOf(lines)?.base, baseOf(1).configDigest);
});

test('a source that is of no use: `require` fails, `auto` falls back', async (t) => {
  const other = makeImage({ layers: target.layers, config: { Labels: { v: 'other' } } });
  await publish(1, { tag: 'base1' }, 'deltas/app');
  await publishDelta(registry.host, 'deltas/app', { base: baseOf(0), target: other, tag: 'other' });
  const sources: Record<string, RegExp> = {
    '127.0.0.1:1/deltas/app:v1': /connection refused/,
    [`${proxy.host}/deltas/app:none`]: /manifest unknown/,
    [`${proxy.host}/deltas/app:other`]: /it leads to sha256:[0-9a-f]{64}, not to/,
    [`${proxy.host}/deltas/app:base1`]: /deltas\/app:base1 has no delta from an image that is here/,
    [`${proxy.host}/SELF:new`]: /its artifact is malformed/,
  };
  for (const [source, why] of Object.entries(sources))
    await t.test(source.replace(/^.*?\//, ''), async () => {
      proxy.reset();
      await engine.ok(['image', 'prune', '-af']);
      await have(0);
      await fallsBack(why, { 'x-delta-source': source.replace('SELF', repository) });
    });
});

test('a source or a base that is no name is refused before anything begins', async () => {
  for (const source of ['', 'Not A Name', 'a:b:c', 'a/b, c/d', 'http://host/a'])
    assert.match(
      (await pull({ 'x-delta-source': source })).at(-1)?.error ?? '',
      /^400 invalid X-Delta-Source: /,
    );
  for (const base of ['A Name', 'app:1, sha256:x y'])
    assert.match((await pull({ 'x-delta-base': base })).at(-1)?.error ?? '', /^400 invalid X-Delta-Base: /);
  assert.deepEqual(proxy.requests, []);
});

test('credentials go to the registry that they are for, and to no other', async () => {
  await have(0);
  await publish(0, { tag: 'mine' }, 'deltas/app');
  const encoded = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64');
  const headers = { 'x-delta-source': `${apart.host}/deltas/app:mine` };
  const credentials = () => apart.requests.filter((seen) => seen.headers.authorization !== undefined);
  await fallsBack(/no basic auth credentials|unauthorized|authentication required/, {
    ...headers,
    'x-registry-auth': encoded(registryUser),
  });
  assert.equal(apart.requests.length > 0, true);
  assert.deepEqual(credentials(), []);
  await engine.ok(['image', 'prune', '-af']);
  await have(0);
  const given = { 'x-registry-config': encoded({ [`http://${apart.host}/`]: registryUser }) };
  await succeeds(await pull({ ...headers, ...given, 'x-delta-mode': 'require' }));
  assert.equal(credentials().length > 0, true);
  const theirs = proxy.requests.filter((seen) => seen.headers.authorization !== undefined);
  assert.deepEqual(theirs, []);
});

test('layers made of a delta have the statuses of all others, and bytes count once', async () => {
  await have(0);
  const { bytes } = await publish(0);
  const delta = await pull({ 'x-delta-mode': 'require' });
  await succeeds(delta);
  for (const { digest } of target.layers.slice(1)) {
    const of = delta.filter(({ id }) => id === digest.slice(7, 19));
    const statuses = [...new Set(of.map(({ status }) => status))];
    const ending = ['Verifying Checksum', 'Download complete', 'Extracting', 'Pull complete'];
    assert.deepEqual(statuses, ['Pulling fs layer', 'Downloading', ...ending]);
  }
  const shares = target.layers.slice(1).map(({ digest }) => {
    const told = delta.filter(({ id, status }) => id === digest.slice(7, 19) && status === 'Downloading');
    const { current, total = 0 } = told.at(-1)?.progressDetail ?? {};
    assert.equal(current, total);
    return total;
  });
  assert.equal(
    shares.reduce((sum, share) => sum + share, 0),
    bytes,
  );
  totalIs(delta, bytes);
  isComplete(delta);
});

test('a delta that was of no use counts in the total with what was fetched of it', async () => {
  await have(0);
  await publish(0, { spoil: (delta) => delta.subarray(0, -99) });
  const lines = await pull({ 'x-delta-mode': 'auto' });
  await succeeds(lines);
  assert.equal((auxOf(lines)?.fetchedBytes ?? 0) > 0 && (auxOf(lines)?.whyNot ?? '') !== '', true);
  totalIs(lines, auxOf(lines)?.fetchedBytes ?? 0);
  isComplete(lines);
});

/** Every total is an object with two honest numbers, and the last one is complete. */
function totalIs(lines: readonly Line[], bytes: number): void {
  const totals = lines.filter(({ id }) => id === 'Total').map(({ progressDetail }) => progressDetail);
  assert.equal(totals.length > 0, true);
  for (const each of totals) assert.equal((each?.current ?? 1) <= (each?.total ?? 0), true);
  assert.deepEqual(totals.at(-1), { current: bytes, total: bytes });
}

/** Who counts by layer, as docker-progress does, is at 100 % before the last line says so. */
function isComplete(lines: readonly Line[]): void {
  const parts = new Map<string, number>();
  for (const { id = '', status = '', progressDetail } of lines) {
    const { current, total } = progressDetail ?? {};
    if (id === 'Total') continue;
    if (status === 'Pulling fs layer') parts.set(id, 0);
    if (status === 'Already exists' || status === 'Pull complete') parts.set(id, 1);
    if (total === undefined || current === undefined) continue;
    assert.equal(parts.has(id), true, `${status} of ${id}, which was not begun`);
    parts.set(id, current / total);
  }
  for (const [id, part] of parts) assert.equal(part, 1, id);
}

/** The first half of the delta comes at once, the rest never. */
function stall({ digest, bytes }: PublishedDelta): void {
  proxy.fault({
    path: new RegExp(`/blobs/${digest}`),
    times: 1,
    do: { kind: 'stall', afterBytes: bytes >> 1 },
  });
}

async function until(holds: () => boolean): Promise<void> {
  for (const end = Date.now() + 10_000; !holds(); await sleep(10))
    assert.ok(Date.now() < end, 'it takes too long');
}

test('two pulls of one target share a delta', async () => {
  await have(0);
  const delta = await publish(0);
  const slow = { kind: 'drip', bytes: Math.ceil(delta.bytes / 20), everyMs: 20 } as const;
  proxy.fault({ path: new RegExp(`/blobs/${delta.digest}`), times: 1, do: slow });
  const [one, two] = await Promise.all([
    pull({ 'x-delta-mode': 'require' }),
    pull({ 'x-delta-mode': 'require' }),
  ]);
  await succeeds(one);
  await succeeds(two);
  assert.equal(asked(delta.digest), 1);
  assert.equal(layersAsked(), 0);
});

test('pulls of other images wait for the layers that a delta makes, by whatever means they come', async () => {
  await have(0);
  const delta = await publish(0);
  const [whole, twin] = ['whole', 'twin'].map((v) =>
    makeImage({ layers: target.layers, config: { Labels: { v } } }),
  );
  assert.ok(whole !== undefined && twin !== undefined);
  await push(registry.host, repository, ['whole'], whole);
  await push(registry.host, repository, ['twin'], twin);
  const other = await publish(0, { target: twin });
  const slow = { kind: 'drip', bytes: Math.ceil(delta.bytes / 20), everyMs: 20 } as const;
  proxy.fault({ path: new RegExp(`/blobs/${delta.digest}`), times: 1, do: slow });
  const first = pull({ 'x-delta-mode': 'require' });
  await until(() => asked(delta.digest) === 1);
  const rest = [pull({ 'x-delta-mode': 'off' }, 'whole'), pull({ 'x-delta-mode': 'require' }, 'twin')];
  for (const lines of [first, ...rest]) await succeeds(await lines);
  assert.deepEqual([await idOf('whole'), await idOf('twin')], [whole.configDigest, twin.configDigest]);
  assert.deepEqual([layersAsked(), asked(other.digest)], [0, 0]);
  assert.equal(layerDirectories(target, 1).length, 1);
});

test('if the first of two is cancelled the second takes over, and a client that waits can leave', async () => {
  await have(0);
  const delta = await publish(0);
  stall(delta);
  const first = begin({ 'x-delta-mode': 'require' });
  await until(() => asked(delta.digest) === 1);
  const [impatient, patient] = [begin({}), begin({ 'x-delta-mode': 'require' })];
  for (const { answered } of [impatient, patient]) await answered;
  impatient.sent.destroy();
  await assert.rejects(impatient.lines);
  first.sent.destroy();
  await assert.rejects(first.lines);
  await succeeds(await patient.lines);
  assert.equal(asked(delta.digest), 2);
  assert.equal(layersAsked(), 0);
});

test('if the first of two fails the second takes over', async () => {
  await have(0);
  const delta = await publish(0);
  stall(delta);
  const first = pull({ 'x-delta-mode': 'require' });
  await until(() => asked(delta.digest) === 1);
  const second = begin({ 'x-delta-mode': 'require' });
  await second.answered;
  proxy.hangUp(new RegExp(`/blobs/${delta.digest}`));
  assert.match((await first).at(-1)?.error ?? '', /a delta is required for .*: /);
  const lines = await second.lines;
  await succeeds(lines);
  assert.deepEqual([auxOf(lines)?.base, auxOf(lines)?.whyNot], [baseOf(0).configDigest, undefined]);
  assert.deepEqual([asked(delta.digest), layersAsked()], [2, 0]);
});

/** The directory of one of an image's layers. */
function layerDirectory(image: TestImage, at: number): string {
  const [found] = layerDirectories(image, at);
  assert.ok(found !== undefined);
  return found;
}

function layerDirectories(image: TestImage, at: number): string[] {
  const { diffId = '?' } = image.layers[at] ?? {};
  const layers = join(engine.dataRoot, 'layers');
  const tells = (path: string) => existsSync(path) && readFileSync(path).includes(diffId);
  return readdirSync(layers)
    .map((name) => join(layers, name))
    .filter((path) => tells(join(path, 'layer.json')));
}

function flip(directory: string, file: string, at = 0.5): void {
  const path = join(directory, file);
  const bytes = readFileSync(path);
  const place = Math.floor(bytes.length * at);
  bytes[place] = (bytes[place] ?? 0) ^ 1;
  writeFileSync(path, bytes);
}

for (const file of ['diff/bin/program', 'tar-split'])
  test(`a flipped byte of ${file} of a base is noticed, noted, and mended by the next pull of it`, async () => {
    await have(0);
    await publish(0);
    flip(layerDirectory(baseOf(0), 1), file);
    const { diffId, digest } = baseOf(0).layers[1] ?? {};
    await fallsBack(new RegExp(`layer ${diffId} of its base is damaged`));
    assert.match(await engine.log(), /"a layer is damaged"/);
    await engine.ok(['image', 'rm', `${proxy.host}/${repository}:new`]);
    proxy.reset();
    const again = await pull({ 'x-delta-mode': 'require' });
    assert.match(again.at(-1)?.error ?? '', new RegExp(`layer ${diffId} of its base is damaged`));
    assert.deepEqual(proxy.seen(/\/manifests\/delta-/), []);
    assert.equal((await pull({}, 'v0')).at(-1)?.error, undefined);
    assert.equal(asked(digest), 1);
    await succeeds(await pull({ 'x-delta-mode': 'require' }));
  });

test('a damaged layer that the target shares is brought anew in the same pull', async () => {
  await have(0);
  await publish(0);
  flip(layerDirectory(baseOf(0), 0), 'diff/etc/shared');
  const { diffId, digest = '' } = target.layers[0] ?? {};
  const lines = await pull({});
  await succeeds(lines);
  assert.match(auxOf(lines)?.whyNot ?? '', new RegExp(`layer ${diffId} of its base is damaged`));
  const statuses = lines.filter(({ id }) => id === digest.slice(7, 19)).map(({ status }) => status);
  assert.deepEqual(statuses.slice(0, 2), ['Already exists', 'Pulling fs layer']);
  assert.equal(statuses.at(-1), 'Pull complete');
  assert.equal(asked(target.layers[0]?.digest), 1);
  const { tar } = target.layers[0] ?? {};
  const copy = readFileSync(join(layerDirectory(target, 0), 'diff/etc/shared'));
  assert.equal(tar?.includes(copy), true);
});

test('`require` as the default serves a docker command line, or fails it', async () => {
  await have(0);
  await engine.stop();
  await engine.boot(['--delta-mode', 'require']);
  const name = `${proxy.host}/${repository}:new`;
  const { code, stderr } = await engine.docker(['pull', name]);
  assert.equal(code, 1);
  assert.match(stderr, /a delta is required for .*: the registry has no delta from an image that is here/);
  assert.equal(layersAsked(), 0);
  await publish(0);
  assert.match(await engine.ok(['pull', name]), /Pull complete(?s:.)*Status: Downloaded newer image for/);
  assert.equal(layersAsked(), 0);
  await engine.ok(['image', 'rm', name]);
  await engine.stop();
  await engine.boot();
  assert.match(await engine.ok(['pull', name]), /Pull complete(?s:.)*Status: Downloaded newer image for/);
  assert.equal(layersAsked(), 0);
  assert.equal(await idOf('new'), target.configDigest);
});
