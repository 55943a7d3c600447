import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import {
  ARTIFACT_MANIFEST_TYPE,
  addReferrer,
  DELTA_TYPE,
  deltaTag,
  EMPTY_CONFIG,
  formatDeltaManifest,
  REFERRERS_TYPE,
  referrersTag,
} from '../../../src/lib/delta-artifact.ts';
import { type Digest, digestOf } from '../../../src/lib/digest.ts';
import { parseReference } from '../../../src/lib/reference.ts';
import { startFaultyProxy } from '../../support/faulty-proxy.ts';
import { startRegistry } from '../../support/registry.ts';
import { makeImage, makeLayer, push } from '../../support/registry-images.ts';
import { testClient } from './pull-suite.ts';

const stack = new AsyncDisposableStack();
const open = stack.use(await startRegistry());
const proxy = stack.use(await startFaultyProxy(open.host));
const client = stack.use(testClient());
const image = makeImage({ layers: [await makeLayer({ a: 'b' })] });
await push(open.host, 'app/web', ['1'], image);
const { signal } = new AbortController();
const [near, far, absent] = ['near', 'far', 'absent'].map((name) => digestOf(Buffer.from(name))) as [
  Digest,
  Digest,
  Digest,
];

after(() => stack.disposeAsync());
beforeEach(() => proxy.reset());

/** A delta from this base, of so many bytes, that says that it leads to `target`. */
function artifactFrom(baseId: Digest, bytes: number, target: Digest = image.digest) {
  const blob = Buffer.alloc(bytes, 'd');
  const facts = { baseId, targetId: digestOf(Buffer.from('id')), targetManifest: target, fullBytes: 10 };
  const manifest = formatDeltaManifest({
    facts,
    subject: { mediaType: image.mediaType, digest: target, size: 1 },
    blob: { mediaType: DELTA_TYPE, digest: digestOf(blob), size: bytes },
  });
  return { blob, facts, manifest };
}

async function put(repository: string, tag: string, artifact: ReturnType<typeof artifactFrom>) {
  const destination = await client.destination(parseReference(`${open.host}/${repository}`), { signal });
  await destination.put(artifact.blob, { signal });
  await destination.put(EMPTY_CONFIG, { signal });
  await destination.putManifest(
    tag,
    { bytes: artifact.manifest, mediaType: ARTIFACT_MANIFEST_TYPE },
    { signal },
  );
}

async function list(repository: string, artifacts: readonly ReturnType<typeof artifactFrom>[]) {
  let bytes: Buffer | undefined;
  for (const { facts, manifest } of artifacts) {
    const descriptor = {
      mediaType: ARTIFACT_MANIFEST_TYPE,
      digest: digestOf(manifest),
      size: manifest.length,
    };
    bytes = addReferrer(bytes, { descriptor, facts });
  }
  assert.ok(bytes !== undefined);
  const destination = await client.destination(parseReference(`${open.host}/${repository}`), { signal });
  await destination.putManifest(referrersTag(image.digest), { bytes, mediaType: REFERRERS_TYPE }, { signal });
}

const sizesFound = async (baseIds: readonly Digest[], repository = 'app/web') => {
  const name = parseReference(`${proxy.host}/${repository}`);
  const found = await client.deltas(name, { targetManifest: image.digest, baseIds }, { signal });
  return found.map(({ facts, blob }) => [facts.baseId, blob.size]);
};

describe('the deltas beside an image', () => {
  test('are none, without an error, where there are none, or no such repository, or nothing answers', async () => {
    assert.deepEqual(await sizesFound([near]), []);
    assert.deepEqual(await sizesFound([near], 'no/such'), []);
    const dead = client.deltas(
      parseReference('127.0.0.1:1/app/web'),
      { targetManifest: image.digest, baseIds: [near] },
      { signal },
    );
    assert.deepEqual(await dead, []);
  });

  test('are found by their tags, the smallest first', async () => {
    await put('app/tagged', deltaTag(image.digest, near), artifactFrom(near, 200));
    await put('app/tagged', deltaTag(image.digest, far), artifactFrom(far, 100));
    assert.deepEqual(await sizesFound([near, absent, far], 'app/tagged'), [
      [far, 100],
      [near, 200],
    ]);
    assert.deepEqual(await sizesFound([near], 'app/tagged'), [[near, 200]]);
    assert.deepEqual(await sizesFound([absent], 'app/tagged'), []);
  });

  test('are found in the list of referrers, which the registry keeps or has under a tag', async () => {
    const artifact = artifactFrom(far, 70);
    await put('app/listed', 'other', artifact);
    await list('app/listed', [artifact]);
    assert.deepEqual(await sizesFound([near, far], 'app/listed'), [[far, 70]]);
    const { facts, manifest } = artifactFrom(near, 300);
    await put('app/kept', 'other', artifactFrom(near, 300));
    const descriptor = {
      mediaType: ARTIFACT_MANIFEST_TYPE,
      digest: digestOf(manifest),
      size: manifest.length,
    };
    const body = addReferrer(undefined, { descriptor, facts }).toString();
    proxy.fault({ path: /\/referrers\/sha256:.*artifactType=/, do: { kind: 'status', status: 200, body } });
    assert.deepEqual(await sizesFound([near], 'app/kept'), [[near, 300]]);
  });

  test('of another target, or that are no deltas, are passed over', async () => {
    await put('app/other', deltaTag(image.digest, near), artifactFrom(near, 50, absent));
    await put('app/other', deltaTag(image.digest, far), artifactFrom(near, 60));
    assert.deepEqual(await sizesFound([far], 'app/other'), []);
    await push(open.host, 'app/other', [deltaTag(image.digest, far)], image);
    assert.deepEqual(await sizesFound([far], 'app/other'), []);
    for (const body of [
      '',
      '[]',
      '{"schemaVersion":2,"manifests":[null,{"digest":"x"}]}',
      '{"manifests":7}',
    ]) {
      proxy.reset();
      proxy.fault({ path: /\/referrers\//, do: { kind: 'status', status: 200, body } });
      assert.deepEqual(await sizesFound([far], 'app/other'), []);
    }
  });
});

describe('deltas by name', () => {
  const named = async (name: string, baseIds: readonly Digest[]) => {
    const wish = { targetManifest: image.digest, baseIds };
    const found = await client.deltas(parseReference(`${proxy.host}/${name}`), wish, {
      isNamed: true,
      signal,
    });
    return found.map(({ facts, blob }) => [facts.baseId, blob.size]);
  };

  test('are found by tag and by digest, in whatever repository', async () => {
    const artifact = artifactFrom(near, 90);
    await put('deltas/web', 'v2', artifact);
    assert.deepEqual(await named('deltas/web:v2', [far, near]), [[near, 90]]);
    assert.deepEqual(await named(`deltas/web@${digestOf(artifact.manifest)}`, [near]), [[near, 90]]);
    assert.deepEqual(await named('deltas/web:v2', [far]), []);
  });

  test('of an index are those that fit, the smallest first; one that is gone is passed over', async () => {
    const artifacts = [artifactFrom(near, 95), artifactFrom(far, 94), artifactFrom(absent, 93)];
    for (const [at, artifact] of artifacts.slice(0, 2).entries())
      await put('deltas/many', `n${at}`, artifact);
    await list('deltas/many', artifacts.slice(0, 2));
    const name = `deltas/many:${referrersTag(image.digest)}`;
    assert.deepEqual(await named(name, [near, far]), [
      [far, 94],
      [near, 95],
    ]);
    proxy.fault({ path: /\/manifests\/sha256:/, times: 1, do: { kind: 'status', status: 404 } });
    assert.equal((await named(name, [near, far])).length, 1);
  });

  test('that are none, lead elsewhere or cannot be had are told as trouble', async () => {
    await put('deltas/elsewhere', 'v2', artifactFrom(near, 96, absent));
    await assert.rejects(named('deltas/elsewhere:v2', [near]), /it leads to sha256:.*, not to sha256:/);
    await assert.rejects(named('app/web:1', [near]), /artifact is malformed/);
    await assert.rejects(named('deltas/web:none', [near]), { code: 'MANIFEST_NOT_FOUND' });
    proxy.fault({ path: /\/manifests\//, do: { kind: 'status', status: 403 } });
    await assert.rejects(named('deltas/web:v2', [near]), /403/);
    const dead = parseReference('127.0.0.1:1/deltas/web:v2');
    const wish = { targetManifest: image.digest, baseIds: [near] };
    await assert.rejects(client.deltas(dead, wish, { isNamed: true, signal }), /connection refused/);
  });
});
