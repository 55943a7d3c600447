import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Space } from '../../../src/engine/space.ts';
import { fail } from '../../../src/errors.ts';
import { spaceOf } from '../../../src/host/files.ts';

async function open(t: TestContext) {
  const directory = await mkdtemp(join(tmpdir(), 'skerry-space-'));
  t.after(() => rm(directory, { recursive: true }));
  mkdirSync(join(directory, 'data'));
  const { freeBytes } = await spaceOf(directory);
  const asked: number[] = [];
  const layer = (sizeBytes: number, unpackedBytes: number) => ({
    sizeBytes,
    unpackedBytes: async () => {
      asked.push(sizeBytes);
      return unpackedBytes;
    },
  });
  return { space: new Space(join(directory, 'data')), freeBytes, layer, asked };
}

test('where there is plenty, nobody is asked', async (t) => {
  const { space, freeBytes, layer, asked } = await open(t);
  await space.check('app:1', [layer(freeBytes / 100, 2 * freeBytes), layer(1, 1)]);
  await space.check('app:1', []);
  assert.deepEqual(asked, []);
});

test('where space is short, what the layers unpack to is what counts', async (t) => {
  const { space, freeBytes, layer, asked } = await open(t);
  await space.check('app:1', [layer(freeBytes / 5, freeBytes / 2), layer(freeBytes / 5, freeBytes / 4)]);
  assert.equal(asked.length, 2);
  await assert.rejects(space.check('app:1', [layer(freeBytes / 5, freeBytes)]), {
    code: 'NO_SPACE',
    message:
      /^no space left on device: app:1 needs at least \S+B and 5 inodes, \S+B and \d+ inodes are free in \S+data, of which 67\.11MB are kept back$/,
  });
});

test('what cannot even hold the packed bytes is refused without a question', async (t) => {
  const { space, freeBytes, layer, asked } = await open(t);
  await assert.rejects(space.check('app:1', [layer(freeBytes, 1)]), { code: 'NO_SPACE' });
  assert.deepEqual(asked, []);
});

test('one layer may have what is free; one that expands beyond all measure half of it', async (t) => {
  const { space, freeBytes } = await open(t);
  const near = (actual: number, wanted: number) =>
    assert.ok(Math.abs(actual / wanted - 1) < 0.1, `${actual} ${wanted}`);
  near(await space.limitFor(freeBytes / 100), freeBytes);
  near(await space.limitFor(1), freeBytes / 2);
  assert.ok(await space.hasRoomFor(freeBytes / 2));
  assert.ok(!(await space.hasRoomFor(freeBytes)));
});

test('what ended an extraction is told in the words that clients know', async (t) => {
  const { space } = await open(t);
  const { message } = space.failureOf(fail.noSpace('write /big: no space left on device'));
  assert.equal(message, 'failed to register layer: write /big: no space left on device');
  assert.match(
    space.failureOf(fail.layerTooLarge(5)).message,
    /^failed to register layer: the layer is larger than 5 bytes, .*: no space left on device$/,
  );
});
