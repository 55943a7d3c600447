import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import type { ProgressMessage } from '../../../src/engine/progress.ts';
import { Failure } from '../../../src/errors.ts';
import { digestOf, hexOf } from '../../../src/lib/digest.ts';
import type { ImageRecord, LeaseRecord, RefRecord } from '../../../src/store/records.ts';
import { archive, dockerMembers, layoutMembers, legacyMembers } from '../../support/archives.ts';
import { World } from '../../support/engine-world.ts';
import { makeImage, makeLayer } from '../../support/registry-images.ts';
import type { Member } from '../../support/tar-archive.ts';

const layers = await Promise.all(
  ['one', 'two'].map((name) => makeLayer({ [name]: name }, { packing: 'none' })),
);
const image = makeImage({ layers });
const kinds: Record<string, Member[]> = {
  docker: dockerMembers(image, ['app:1']),
  layout: layoutMembers([{ image, annotations: { 'io.containerd.image.name': 'docker.io/library/app:1' } }]),
  legacy: legacyMembers(image, { app: { 1: 1 } }),
};

async function* piecesOf(bytes: Buffer, size = 1000): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function load(
  world: World,
  input: AsyncIterable<Buffer>,
  signal = new AbortController().signal,
): Promise<string[]> {
  const said: ProgressMessage[] = [];
  const progress = (message: ProgressMessage) => void said.push(message);
  await world.engine.archives.load(input, { isQuiet: true, progress, signal });
  return said.map(({ stream }) => stream ?? '');
}

async function save(world: World, ...names: string[]): Promise<Buffer> {
  return buffer(await world.engine.archives.save(names, { signal: new AbortController().signal }));
}

/** Takes every image away again; what is left belongs to nobody. */
async function clear(world: World): Promise<void> {
  for (const { id } of await world.records<ImageRecord>('images'))
    await world.engine.images.remove(id, { force: true } as Parameters<typeof world.engine.images.remove>[1]);
  await world.assertSettled('after the images are gone');
  assert.deepEqual(await world.records('layers'), []);
}

test('what an engine saves, another one loads: images, names, layers, and who is whose parent', async () => {
  await using one = await World.open();
  await using other = await World.open();
  one.registry.put('app:1', ['base', 'app']);
  one.registry.put('app:2', ['base', 'newer']);
  for (const name of ['app:1', 'app:2']) await one.pull(name);
  const saved = await save(one, 'app');
  assert.equal(digestOf(saved), digestOf(await save(one, 'app')));
  const said = await load(other, piecesOf(saved));
  assert.deepEqual(said.sort(), ['Loaded image: app:1\n', 'Loaded image: app:2\n']);
  await other.assertSettled('after the load');
  const [here, there] = [
    await one.records<ImageRecord>('images'),
    await other.records<ImageRecord>('images'),
  ];
  assert.deepEqual(
    there.map(({ id, config, diffIds }) => [id, config, diffIds]),
    here.map(({ id, config, diffIds }) => [id, config, diffIds]),
  );
  assert.deepEqual(await other.records<LeaseRecord>('leases'), []);
  await clear(other);
});

test('only a child of its own steps has a parent', async () => {
  await using world = await World.open();
  const history = (steps: number) => ({
    history: Array.from({ length: steps }, (_, n) => ({ created_by: `${n}` })),
  });
  const parent = makeImage({ layers: layers.slice(0, 1), configFile: history(1) });
  const child = makeImage({ layers, configFile: history(2) });
  const items = [parent, child].map((one) => ({
    Config: `${hexOf(one.configDigest)}.json`,
    Layers: one.layers.map((_, at) => `${at}.tar`),
    Parent: (one === child ? parent : child).configDigest,
  }));
  const members: Member[] = [
    ...layers.map(({ tar }, at) => ({ name: `${at}.tar`, content: tar })),
    ...[parent, child].map(({ configDigest, config }) => ({
      name: `${hexOf(configDigest)}.json`,
      content: config,
    })),
    { name: 'manifest.json', content: JSON.stringify(items) },
  ];
  await load(world, piecesOf(archive(members)));
  const parents = new Map((await world.records<ImageRecord>('images')).map(({ id, parent }) => [id, parent]));
  assert.equal(parents.get(child.configDigest), parent.configDigest);
  assert.equal(parents.get(parent.configDigest), undefined);
  const saved = await save(world, child.configDigest, parent.configDigest);
  assert.ok(saved.includes(`"Parent":"${parent.configDigest}"`));
  assert.ok(!(await save(world, child.configDigest)).includes('"Parent"'), 'not if the parent stays behind');
});

test('an image that is here under its names is not written again', async () => {
  await using world = await World.open();
  for (const [kind, members] of Object.entries(kinds)) {
    const named = members.map((one) => ({ ...one }));
    await load(world, piecesOf(archive(named)));
    const refs = await world.records<RefRecord>('refs');
    let commits = 0;
    world.onCommit = () => void commits++;
    await load(world, piecesOf(archive(named)));
    world.onCommit = undefined;
    assert.deepEqual(await world.records<RefRecord>('refs'), refs, kind);
    if (kind === 'layout') assert.equal(commits, 0, 'nothing had to be unpacked to know that');
    await clear(world);
  }
});

test('a layer that no image of the archive needs goes again', async () => {
  await using world = await World.open();
  const stray = await makeLayer({ stray: 'x' }, { packing: 'none' });
  await load(
    world,
    piecesOf(archive([{ name: 'stray.tar', content: stray.tar }, ...(kinds['docker'] ?? [])])),
  );
  await world.assertSettled('after the load');
  assert.equal((await world.records('layers')).length, 2);
});

test('a layout that is loaded keeps its manifest', async () => {
  await using world = await World.open();
  await load(world, piecesOf(archive(kinds['layout'] ?? [])));
  const [record] = await world.records<ImageRecord>('images');
  assert.equal(record?.manifest, image.bytes.toString());
  assert.equal(record?.manifestDigest, image.digest);
});

test('a load that is given up in silence ends at once, with nothing left', async () => {
  await using world = await World.open();
  const bytes = archive(kinds['docker'] ?? []);
  for (const packed of [bytes, gzipSync(bytes)]) {
    const leaving = new AbortController();
    const silent = async function* () {
      yield packed.subarray(0, packed.length - 20);
      await new Promise(() => {});
    };
    const loading = load(world, silent(), leaving.signal);
    await sleep(20);
    leaving.abort(new Error('left'));
    await assert.rejects(loading, /left/);
    await world.assertSettled('after the client left');
    assert.deepEqual(await world.records<LeaseRecord>('leases'), []);
    assert.deepEqual(await world.records('layers'), []);
  }
});

test('what is wrong is told although the client stalls', async () => {
  await using world = await World.open();
  // by the time the layer is taken in, everything that has come has been read
  const layer = await makeLayer({ noise: randomBytes(100_000) }, { packing: 'none' });
  const tail = { name: 'tail', content: randomBytes(100_000) };
  const bytes = archive([{ name: 'layer.tar', content: layer.tar }, { name: '../x' }, tail]);
  for (const packed of [bytes, gzipSync(bytes), execFileSync('xz', ['-0', '-c'], { input: bytes })]) {
    const stalling = async function* () {
      yield packed;
      await new Promise(() => {});
    };
    await assert.rejects(load(world, stalling()), { code: 'INVALID_ARCHIVE' });
  }
});

/** Throws unless a load of these bytes ended in whole images or in a failure that can be told, and in order. */
async function assertTame(world: World, bytes: Buffer): Promise<void> {
  try {
    await load(world, piecesOf(bytes));
  } catch (cause) {
    assert.ok(
      cause instanceof Failure,
      `no failure that can be told: ${cause instanceof Error ? cause.stack : cause}`,
    );
  }
  await world.assertSettled('after the load');
  assert.deepEqual(await world.records<LeaseRecord>('leases'), []);
  for (const { id, config, diffIds } of await world.records<ImageRecord>('images')) {
    assert.equal(digestOf(config), id);
    assert.deepEqual(JSON.parse(config).rootfs.diff_ids ?? [], diffIds);
  }
  await clear(world);
}

const runs = process.env['SKERRY_SOAK'] ? 5000 : 120;

test('damaged archives: whole images or a clear failure', async () => {
  await using world = await World.open();
  const change = fc.record({
    at: fc.nat(),
    kind: fc.constantFrom('flip', 'cut', 'drop', 'repeat', 'noise'),
    length: fc.integer({ min: 1, max: 1500 }),
    noise: fc.uint8Array({ minLength: 1, maxLength: 40 }),
  });
  const kind = fc.constantFrom(...Object.keys(kinds));
  await fc.assert(
    fc.asyncProperty(
      kind,
      fc.array(change, { minLength: 1, maxLength: 4 }),
      fc.boolean(),
      async (kind, changes, isPacked) => {
        let bytes = archive(kinds[kind] ?? []);
        for (const { at, kind, length, noise } of changes) {
          const start = at % bytes.length;
          const [before, after] = [bytes.subarray(0, start), bytes.subarray(start)];
          if (kind === 'flip')
            bytes = Buffer.from(bytes.map((byte, n) => (n === start ? byte ^ (1 << (length % 8)) : byte)));
          else if (kind === 'cut') bytes = before;
          else if (kind === 'drop') bytes = Buffer.concat([before, after.subarray(length)]);
          else if (kind === 'repeat') bytes = Buffer.concat([before, after.subarray(0, length), after]);
          else bytes = Buffer.concat([before, noise, after.subarray(noise.length)]);
          if (bytes.length === 0) break;
        }
        await assertTame(world, isPacked ? gzipSync(bytes, { level: 1 }) : bytes);
      },
    ),
    { numRuns: runs },
  );
});

test('archives whose documents say anything at all: whole images or a clear failure', async () => {
  await using world = await World.open();
  const digests = [image.digest, image.configDigest, ...layers.map(({ digest }) => digest)];
  const paths = Object.values(kinds).flatMap((members) => members.map(({ name }) => String(name)));
  const value = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.constantFrom(...digests, ...paths, '../x', '', 'app:1', 'linux', 'layers', '__proto__'),
    },
    { weight: 2, arbitrary: fc.constantFrom<unknown>(null, 0, 2, -1, 1e300, [], {}, true) },
    { weight: 1, arbitrary: fc.jsonValue() },
  );
  const edits = fc.array(fc.tuple(fc.nat(), fc.constantFrom('set', 'delete', 'double'), value), {
    minLength: 1,
    maxLength: 4,
  });
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...Object.keys(kinds)), fc.nat(), edits, async (kind, which, edits) => {
      const change = (document: object) => edited(document, edits) ?? null;
      await assertTame(
        world,
        archive(kind === 'layout' ? layoutWith(which % 3, change) : membersWith(kind, which, change)),
      );
    }),
    { numRuns: runs },
  );
});

/** The members of an archive, one of its documents changed. */
function membersWith(kind: string, which: number, change: (document: object) => unknown): Member[] {
  const members = kinds[kind] ?? [];
  const documents = members.filter(({ content }) => /^[[{]/.test(String(content ?? '')));
  const chosen = documents[which % documents.length];
  return members.map((one) =>
    one === chosen ? { ...one, content: JSON.stringify(change(JSON.parse(String(one.content)))) } : one,
  );
}

/** A layout whose config, manifest or index is changed, and whose digests and sizes are right all the same. */
function layoutWith(which: number, change: (document: object) => unknown): Member[] {
  const blobs: Member[] = layers.map(({ digest, tar }) => ({
    name: `blobs/sha256/${hexOf(digest)}`,
    content: tar,
  }));
  const put = (at: number, document: object) => {
    const content = Buffer.from(JSON.stringify(which === at ? change(document) : document));
    blobs.push({ name: `blobs/sha256/${hexOf(digestOf(content))}`, content });
    return { digest: digestOf(content), size: content.length };
  };
  const { config, ...manifest } = JSON.parse(image.bytes.toString());
  const described = { ...manifest, config: { ...config, ...put(0, JSON.parse(image.config.toString())) } };
  const manifests = [{ mediaType: image.mediaType, ...put(1, described) }];
  const index = { schemaVersion: 2, manifests };
  const content = JSON.stringify(which === 2 ? change(index) : index);
  return [...blobs, { name: 'index.json', content }];
}

/** A JSON value with some of its places changed. */
function edited(value: unknown, edits: readonly [number, string, unknown][]): unknown {
  const root = { value };
  for (const [at, kind, to] of edits) {
    const places: [object, string][] = [];
    const walk = (node: unknown) => {
      if (typeof node !== 'object' || node === null) return;
      for (const [key, child] of Object.entries(node)) {
        places.push([node, key]);
        walk(child);
      }
    };
    walk(root);
    const [node, key] = places[at % places.length] ?? [root, 'value'];
    if (kind === 'set') Object.assign(node, { [key]: to });
    else if (kind === 'double' && Array.isArray(node)) node.push(...structuredClone(node));
    else if (Array.isArray(node)) node.splice(Number(key), 1);
    else Reflect.deleteProperty(node, key);
  }
  return root.value;
}
