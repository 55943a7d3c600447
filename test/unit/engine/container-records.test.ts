import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ContainerRecords } from '../../../src/engine/container-records.ts';
import { silentLog } from '../../../src/lib/log.ts';
import { Sidecars } from '../../../src/store/sidecars.ts';
import { Store } from '../../../src/store/store.ts';
import { containerRecord } from '../../support/container-records.ts';

const id = (start: string) => start.padEnd(64, '0');

async function open(t: TestContext) {
  const dataRoot = await mkdtemp(join(tmpdir(), 'skerry-records-'));
  const sizes = {
    cacheBytes: 64 << 10,
    writeBufferBytes: 64 << 10,
    blockBytes: 4 << 10,
    fileBytes: 64 << 10,
  };
  const store = await Store.open({ dir: join(dataRoot, 'db'), ...sizes, log: silentLog });
  t.after(async () => {
    await store[Symbol.asyncDispose]();
    await rm(dataRoot, { recursive: true, force: true });
  });
  const sidecars = new Sidecars({ dataRoot, log: silentLog });
  const records = await ContainerRecords.open({ store, sidecars });
  const add = async (key: string, name: string) => {
    records.reserveName(id(key), name);
    await records.create(containerRecord({ id: id(key), name }));
  };
  return { dataRoot, store, sidecars, records, add };
}

test('a container is found by ID, name and the beginning of its ID, in this order', async (t) => {
  const { records, add } = await open(t);
  await add('abc1', 'web');
  await add('abc2', 'abc1');
  assert.equal(records.find(id('abc1')).name, 'web');
  assert.equal(records.find('abc1').name, 'abc1');
  assert.equal(records.find('/web').name, 'web');
  assert.equal(records.find('abc10').name, 'web');
  assert.throws(() => records.find('abc'), {
    status: 400,
    message: 'multiple IDs found with provided prefix: abc',
  });
  for (const ref of ['', 'nope', 'abd', 'ABC1', '.*'])
    assert.throws(() => records.find(ref), { status: 404, message: `No such container: ${ref}` });
});

test('names: what they may be, whose they are, and that they come back', async (t) => {
  const { records, add } = await open(t);
  await add('a', 'web');
  for (const name of ['-bad', 'a', 'a b', 'ü1', '.x'])
    assert.throws(() => records.reserveName(id('b'), name), {
      status: 400,
      message: `Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
    });
  const taken = {
    status: 409,
    message: `Conflict. The container name "/web" is already in use by container "${id('a')}". You have to remove (or rename) that container to be able to reuse that name.`,
  };
  assert.throws(() => records.reserveName(id('b'), '/web'), taken);
  records.reserveName(id('b'), 'db');
  assert.throws(() => records.find('db'), { status: 404 }); // promised, and not yet there
  assert.throws(() => records.reserveName(id('c'), 'db'), { status: 409 });
  records.releaseName('db');
  records.reserveName(id('c'), 'db');
  await records.remove(records.find('web'));
  records.reserveName(id('d'), 'web');
  assert.match(records.reserveName(id('e'), undefined), /^[a-z]+_[a-z]+\d*$/);
  assert.match(records.reserveName(id('f'), ''), /^[a-z]+_[a-z]+\d*$/);
});

test('a rename that is refused changes nothing', async (t) => {
  const { records, add } = await open(t);
  await add('a', 'web');
  await add('b', 'db');
  const web = records.find('web');
  await assert.rejects(records.rename(web, 'db'), {
    status: 409,
    message: /^Error when allocating new name: Conflict\. The container name "\/db"/,
  });
  await assert.rejects(records.rename(web, '-x'), {
    status: 400,
    message:
      'Error when allocating new name: Invalid container name (/-x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed',
  });
  assert.equal(records.find('web').id, id('a'));
  await records.rename(web, '/www');
  assert.equal(records.find('www').id, id('a'));
  assert.throws(() => records.find('web'), { status: 404 });
  records.reserveName(id('c'), 'web');
});

test('a change that cannot be committed is not seen, and a new name is given back', async (t) => {
  const { store, records, add } = await open(t);
  await add('a', 'web');
  const { commit } = store;
  store.commit = async () => {
    throw new Error('disk full');
  };
  const web = records.find('web');
  await assert.rejects(records.move(web, { status: 'running' }), /disk full/);
  await assert.rejects(records.rename(web, 'www'), /disk full/);
  await assert.rejects(records.remove(web), /disk full/);
  store.commit = commit.bind(store);
  assert.equal(records.find('web').state.status, 'created');
  records.reserveName(id('b'), 'www');
});

test('records are there again, and from their copies where the database has lost them', async (t) => {
  const { store, sidecars, dataRoot, records, add } = await open(t);
  await add('a', 'web');
  await records.move(records.find('web'), { status: 'exited' });
  const again = await ContainerRecords.open({ store, sidecars });
  assert.equal(again.find('web').state.status, 'exited');
  await store.commit([store.table('containers').remove(id('a'))]);
  assert.ok(store.needsRebuild);
  const rebuilt = await ContainerRecords.open({ store, sidecars });
  assert.equal(rebuilt.find('web').state.status, 'created'); // as it was when its copy was written
  assert.match(await readFile(join(dataRoot, 'containers', id('a'), 'config.json'), 'utf8'), /"name":"web"/);
  await store.commit([store.endRebuild(), store.table('containers').remove(id('a'))]);
  assert.equal((await ContainerRecords.open({ store, sidecars })).size, 0);
});

test('who stands on an image', async (t) => {
  const { records, add } = await open(t);
  await add('a', 'web');
  await add('b', 'db');
  await records.move(records.find('db'), { status: 'paused' });
  const { imageId } = records.find('web');
  assert.deepEqual(records.usersOf(imageId), [
    { id: id('a'), isRunning: false },
    { id: id('b'), isRunning: true },
  ]);
  assert.deepEqual(records.usersOf('sha256:other'), []);
});
