import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { RegistryAccess } from '../../../src/cli/registry-access.ts';
import { openImage, type SourceImage } from '../../../src/cli/source-image.ts';
import { Workspace } from '../../../src/cli/workspace.ts';
import { digestOf } from '../../../src/lib/digest.ts';
import { archive, dockerMembers, layoutMembers } from '../../support/archives.ts';
import { writeLayout } from '../../support/layouts.ts';
import { makeImage, makeLayer, type TestImage } from '../../support/registry-images.ts';

let directory: string;
let image: TestImage;
let other: TestImage;
const access = new RegistryAccess({}, { insecure: [] });

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'skt-source-'));
  process.env['TMPDIR'] = directory;
  const layers = [
    await makeLayer({ 'etc/one': '1\n' }),
    await makeLayer({ 'b/two': '2\n' }, { packing: 'zstd' }),
  ];
  image = makeImage({ layers });
  other = makeImage({ layers: layers.slice(0, 1), platform: { os: 'linux', architecture: 'arm64' } });
});

after(async () => {
  delete process.env['TMPDIR'];
  await access[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

async function withImage(
  name: string,
  check: (image: SourceImage, workspace: Workspace) => Promise<void>,
  platform?: string,
): Promise<void> {
  const { signal } = new AbortController();
  await using workspace = await Workspace.open();
  await check(await openImage(name, { access, workspace, platform, signal }), workspace);
}

async function checkWhole(found: SourceImage, workspace: Workspace): Promise<void> {
  assert.equal(found.id, image.configDigest);
  assert.deepEqual(found.config, image.config);
  for (const [at, layer] of found.layers.entries()) {
    const tar = await workspace.tar(layer, new AbortController());
    assert.deepEqual(tar.read(0, tar.tarBytes + 1), image.layers[at]?.tar);
    assert.equal(layer.packedBytes, image.layers[at]?.blob.length);
    assert.equal(await workspace.tar(layer, new AbortController()), tar);
  }
}

test('an image is the same from a layout and from archives, packed or not', async () => {
  const layout = join(directory, 'layout');
  await writeLayout(layout, [{ image }]);
  const archives = {
    new: archive(layoutMembers([{ image }])),
    old: archive(dockerMembers(image, null)),
    packed: gzipSync(archive(dockerMembers(image, null))),
  };
  for (const [name, bytes] of Object.entries(archives)) await writeFile(join(directory, name), bytes);
  await withImage(`oci:${layout}`, async (found, workspace) => {
    await checkWhole(found, workspace);
    assert.deepEqual(found.manifest.bytes, image.bytes);
    assert.equal(found.manifest.digest, image.digest);
  });
  for (const name of Object.keys(archives)) {
    await withImage(`docker-archive:${join(directory, name)}`, async (found, workspace) => {
      await checkWhole(found, workspace);
      assert.equal(found.manifest.digest, digestOf(found.manifest.bytes));
    });
  }
  assert.deepEqual(
    readdirSync(directory).filter((name) => name.startsWith('skerry-delta-')),
    [],
  );
});

test('of several images, the tag or the platform says which', async () => {
  const layout = join(directory, 'several');
  const named = (tag: string) => ({ 'org.opencontainers.image.ref.name': tag });
  const platformOf = ({ platform }: TestImage) => ({ platform });
  await writeLayout(layout, [
    { image, annotations: named('v1'), ...platformOf(image) },
    { image: other, annotations: named('v2'), ...platformOf(other) },
  ]);
  const idOf = async (name: string, platform?: string) => {
    let id = '';
    const keep = async (found: SourceImage) => {
      id = found.id;
    };
    await withImage(name, keep, platform);
    return id;
  };
  assert.equal(await idOf(`oci:${layout}:v1`), image.configDigest);
  assert.equal(await idOf(`oci:${layout}:v2`), other.configDigest);
  assert.equal(await idOf(`oci:${layout}`, 'linux/arm64'), other.configDigest);
  await assert.rejects(idOf(`oci:${layout}:v3`), /there is no such image/);
  await assert.rejects(idOf(`oci:${layout}:v1`, 'linux/arm64'), { code: 'PLATFORM_MISMATCH' });
});

test('a layer that is not what its diff ID says is refused, and so is a blob that is not what its name says', async () => {
  const layout = join(directory, 'damaged');
  await writeLayout(layout, [{ image }]);
  const [first, second] = image.layers;
  const pathOf = (digest: string) => join(layout, 'blobs/sha256', digest.slice('sha256:'.length));
  await writeFile(pathOf(first?.digest ?? ''), second?.blob ?? '');
  await withImage(`oci:${layout}`, async (found, workspace) => {
    const [layer] = found.layers;
    assert.ok(layer);
    await assert.rejects(workspace.tar({ ...layer, compression: 'auto' }, new AbortController()), {
      code: 'CORRUPT',
      message: /layer verification failed/,
    });
  });
  await writeFile(pathOf(image.configDigest), image.config.toString().replace('/bin/sh', '/bin/sH'));
  await assert.rejects(
    withImage(`oci:${layout}`, async () => {}),
    { code: 'INVALID_ARCHIVE' },
  );
});

test('an archive that is none, or that holds no JSON, is said to be so', async () => {
  const cases: [string, Buffer | string, string][] = [
    ['text', 'no archive at all, but long enough to be looked at'.repeat(40), 'CORRUPT'],
    ['json', archive([{ name: 'manifest.json', content: '{' }]), 'INVALID_ARCHIVE'],
    ['index', archive([{ name: 'index.json', content: '{' }]), 'REGISTRY'],
    ['empty', archive([]), 'INVALID_ARCHIVE'],
  ];
  for (const [name, bytes, code] of cases) {
    await writeFile(join(directory, name), bytes);
    const read = withImage(`docker-archive:${join(directory, name)}`, async () => {});
    await assert.rejects(read, { code }, name);
  }
  await assert.rejects(
    withImage('docker-archive:/nowhere', async () => {}),
    /cannot read \/nowhere/,
  );
});

test('a workspace is gone when it is left', async () => {
  const workspace = await Workspace.open();
  const path = workspace.newPath();
  await writeFile(path, 'x');
  await workspace[Symbol.asyncDispose]();
  assert.equal(existsSync(path), false);
});
