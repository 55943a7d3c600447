import assert from 'node:assert/strict';
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'node:test';
import { mount, unmount } from '../../../src/host/kernel.ts';
import { digestOf, hexOf } from '../../../src/lib/digest.ts';
import type { ImageRecord } from '../../../src/store/records.ts';
import { Sidecars } from '../../../src/store/sidecars.ts';
import { all, RecordingLog, temporaryDirectory } from './fixtures.ts';

function image(text: string): ImageRecord {
  return {
    id: digestOf(text),
    manifestDigest: digestOf(`manifest of ${text}`),
    manifestMediaType: 'application/vnd.oci.image.manifest.v1+json',
    manifest: '{}',
    config: text,
    diffIds: [],
    sizeBytes: 0,
    pulledAt: '2026-01-02T03:04:05Z',
    platform: { os: 'linux', architecture: 'arm', variant: 'v7' },
  };
}

async function setUp(t: Parameters<typeof temporaryDirectory>[0]) {
  const dataRoot = await temporaryDirectory(t);
  const log = new RecordingLog();
  return { dataRoot, log, sidecars: new Sidecars({ dataRoot, log }) };
}

test('sidecars: what was written comes back, replaced and removed ones do not', async (t) => {
  const { sidecars, log } = await setUp(t);
  assert.deepEqual(await all(sidecars.images()), []);
  assert.deepEqual(await all(sidecars.containers()), []);
  await sidecars.writeImage(image('a'), []);
  await sidecars.writeImage(image('a'), ['docker.io/library/a:1']);
  await sidecars.writeImage(image('b'), []);
  await sidecars.removeImage(image('b').id);
  await sidecars.removeImage(image('never').id);
  await sidecars.writeContainer('c1', { id: 'c1', name: 'one' });
  await sidecars.writeContainer('c2', { id: 'c2', name: 'two' });
  await sidecars.removeContainer('c2');
  await sidecars.removeContainer('c3');
  assert.deepEqual(await all(sidecars.images()), [{ record: image('a'), names: ['docker.io/library/a:1'] }]);
  assert.deepEqual(await all(sidecars.containers()), [{ id: 'c1', name: 'one' }]);
  assert.deepEqual(log.errors, []);
});

test('sidecars: junk is absent and said aloud', async (t) => {
  const { sidecars, log, dataRoot } = await setUp(t);
  const file = (text: string) => join(dataRoot, 'images', `${hexOf(digestOf(text))}.json`);
  for (const text of ['whole', 'changed', 'cut', 'empty']) await sidecars.writeImage(image(text), []);
  await writeFile(file('changed'), (await readFile(file('changed'), 'utf8')).replace('"arm"', '"ARM"'));
  await writeFile(file('cut'), (await readFile(file('cut'))).subarray(0, 100));
  await writeFile(file('empty'), '');
  await copyFile(file('whole'), file('copied')); // whole, but not in its place
  await mkdir(file('directory'));
  await mkdir(join(dataRoot, 'containers/half'), { recursive: true });
  await writeFile(join(dataRoot, 'containers/stray'), 'x');

  assert.deepEqual(
    (await all(sidecars.images())).map(({ record }) => record.config),
    ['whole'],
  );
  assert.equal(log.errors.length, 5);
  assert.deepEqual(await all(sidecars.containers()), []);
  assert.equal(log.errors.length, 5, 'a container without a copy is nothing to shout about');
});

test('sidecars: copies that were never finished are no copies, and are swept', async (t) => {
  const { sidecars, log, dataRoot } = await setUp(t);
  await sidecars.writeImage(image('a'), []);
  const name = `${hexOf(image('a').id)}.json`;
  await writeFile(join(dataRoot, 'images', `.${name}.0123456789ab`), 'half');
  assert.equal((await all(sidecars.images())).length, 1);
  await sidecars.writeImage(image('b'), []);
  await mkdir(join(dataRoot, 'images', `${hexOf(image('c').id)}.json`, 'deep'), { recursive: true });
  await sidecars.sweep(new Set([image('a').id, image('c').id]));
  const left = [name, `${hexOf(image('c').id)}.json`].sort();
  assert.deepEqual(
    (await readdir(join(dataRoot, 'images'))).sort(),
    left,
    'what is wanted is mended, not swept',
  );
  assert.deepEqual(log.errors, []);
});

test('sidecars: a failure to write or remove is a Failure', async (t) => {
  const { sidecars, dataRoot } = await setUp(t);
  await writeFile(join(dataRoot, 'images'), 'in the way');
  await assert.rejects(sidecars.writeImage(image('a'), []), { code: 'STORE' });
  await mkdir(join(dataRoot, 'containers/c1/config.json/mount'), { recursive: true });
  mount('tmpfs', join(dataRoot, 'containers/c1/config.json/mount'), { type: 'tmpfs' });
  try {
    await assert.rejects(sidecars.removeContainer('c1'), { code: 'STORE' });
  } finally {
    unmount(join(dataRoot, 'containers/c1/config.json/mount'));
  }
});
