import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import test from 'node:test';
import type { Migration } from '../../../src/store/schema.ts';
import type { Change } from '../../../src/store/tables.ts';
import { openStore, temporaryDirectory } from './fixtures.ts';

interface NetworkV1 {
  name: string;
}
interface NetworkV2 {
  name: string;
  labels: Record<string, string>;
}

const addLabels: Migration = async (tables) => {
  const changes: Change[] = [];
  for await (const [id, network] of tables.table<NetworkV1>('networks').entries()) {
    changes.push(tables.table<NetworkV2>('networks').put(id, { ...network, labels: {} }));
  }
  return changes;
};

const keyByName: Migration = async (tables) => {
  const changes: Change[] = [];
  const networks = tables.table<NetworkV2>('networks');
  for await (const [id, network] of networks.entries())
    changes.push(networks.remove(id), networks.put(network.name, network));
  return changes;
};

async function makeVersion1(root: string): Promise<void> {
  await using store = await openStore(root, { migrations: [] });
  await store.commit([store.table<NetworkV1>('networks').put('id1', { name: 'home' }), store.endRebuild()]);
}

test('schema: an older database is brought up step by step, once', async (t) => {
  const root = await temporaryDirectory(t);
  await makeVersion1(root);
  for (let round = 0; round < 2; round++) {
    await using store = await openStore(root, { migrations: [addLabels, keyByName] });
    const networks = store.table<NetworkV2>('networks');
    assert.deepEqual(await networks.get('home'), { name: 'home', labels: {} });
    assert.equal(await networks.get('id1'), undefined);
    assert.deepEqual(await store.table('meta').get('schema'), { version: 3 });
    assert.equal(store.needsRebuild, false);
  }
});

test('schema: a migration that fails leaves the version before it, and can be tried again', async (t) => {
  const root = await temporaryDirectory(t);
  await makeVersion1(root);
  const broken: Migration = async () => {
    throw new Error('no');
  };
  await assert.rejects(openStore(root, { migrations: [addLabels, broken] }), /no/);
  {
    await using store = await openStore(root, { migrations: [addLabels] });
    assert.deepEqual(await store.table('networks').get('id1'), { name: 'home', labels: {} });
  }
  await using store = await openStore(root, { migrations: [addLabels, keyByName] });
  assert.deepEqual(await store.table('networks').get('home'), { name: 'home', labels: {} });
});

test('schema: a newer database is refused by name and left as it is', async (t) => {
  const root = await temporaryDirectory(t);
  await makeVersion1(root);
  {
    await using _store = await openStore(root, { migrations: [addLabels, keyByName] });
  }
  await assert.rejects(openStore(root, { migrations: [addLabels] }), {
    code: 'STORE',
    message: /has schema version 3 and this program knows versions up to 2/,
  });
  assert.deepEqual((await readdir(root)).sort(), ['db', 'db.reserve']);
  await using store = await openStore(root, { migrations: [addLabels, keyByName] });
  assert.equal(store.wasRebuilt, false);
  assert.ok(await store.table('networks').get('home'));
});
