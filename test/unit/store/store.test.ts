import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { all, openStore, RecordingLog, temporaryDirectory } from './fixtures.ts';

test('store: records are there after reopening, in the order of their keys', async (t) => {
  const root = await temporaryDirectory(t);
  {
    await using store = await openStore(root);
    const images = store.table<{ n: number }>('images');
    await store.commit([images.put('b', { n: 2 }), images.put('a', { n: 1 }), images.put('c', { n: 3 })]);
    await store.commit([images.remove('b')]);
  }
  await using store = await openStore(root);
  const images = store.table<{ n: number }>('images');
  assert.deepEqual(await all(images.entries()), [
    ['a', { n: 1 }],
    ['c', { n: 3 }],
  ]);
  assert.deepEqual(await images.get('c'), { n: 3 });
  assert.equal(await images.get('b'), undefined);
  assert.equal(store.wasRebuilt, false);
});

test('store: tables do not see each other, and a prefix picks its keys alone', async (t) => {
  await using store = await openStore(await temporaryDirectory(t));
  const [refs, layers] = [store.table<{ n: number }>('refs'), store.table<{ n: number }>('layers')];
  const names = ['docker.io/a:1', 'docker.io/a:2', 'docker.io/ab:1', 'docker.io/b:1', 'é:1'];
  await store.commit([
    ...names.map((name, n) => refs.put(name, { n })),
    layers.put('docker.io/a:1', { n: 9 }),
  ]);
  assert.deepEqual(
    (await all(refs.entries({ prefix: 'docker.io/a:' }))).map(([key]) => key),
    ['docker.io/a:1', 'docker.io/a:2'],
  );
  assert.equal((await all(refs.entries())).length, 5);
  assert.deepEqual(await all(layers.entries()), [['docker.io/a:1', { n: 9 }]]);
  const counts = await store.counts();
  assert.deepEqual([counts.refs, counts.layers, counts.images], [5, 1, 0]);
});

test('store: a change holds the value as it was when the change was made', async (t) => {
  await using store = await openStore(await temporaryDirectory(t));
  const leases = store.table<{ diffIds: string[] }>('leases');
  const lease = { diffIds: ['a'] };
  const change = leases.put('l', lease);
  lease.diffIds.push('b');
  await store.commit([change]);
  assert.deepEqual(await leases.get('l'), { diffIds: ['a'] });
});

test('store: commits that wait together are all made, in their order', async (t) => {
  await using store = await openStore(await temporaryDirectory(t));
  const table = store.table<{ n: number }>('containers');
  await Promise.all(
    Array.from({ length: 200 }, (_, n) =>
      store.commit([table.put(`k${n % 10}`, { n }), table.put(`n${n}`, { n })]),
    ),
  );
  for (let k = 0; k < 10; k++) assert.deepEqual(await table.get(`k${k}`), { n: 190 + k });
  assert.equal((await store.counts()).containers, 210);
});

test('store: an iteration sees the table as it was when it began', async (t) => {
  await using store = await openStore(await temporaryDirectory(t));
  const table = store.table<{ n: number }>('images');
  await store.commit(Array.from({ length: 100 }, (_, n) => table.put(`${1000 + n}`, { n })));
  let seen = 0;
  for await (const [key] of table.entries()) {
    seen++;
    await store.commit([table.remove(key), table.put(`9${key}`, { n: 0 })]);
  }
  assert.equal(seen, 100);
});

test('store: needs a rebuild until one is committed, over restarts', async (t) => {
  const root = await temporaryDirectory(t);
  {
    await using store = await openStore(root);
    assert.equal(store.needsRebuild, true);
  }
  {
    await using store = await openStore(root);
    assert.equal(store.needsRebuild, true);
    await store.commit([store.endRebuild()]);
    assert.equal(store.needsRebuild, false);
  }
  await using store = await openStore(root);
  assert.equal(store.needsRebuild, false);
});

test('store: closing waits for commits under way, and nothing is accepted after', async (t) => {
  const root = await temporaryDirectory(t);
  const store = await openStore(root);
  const table = store.table<{ n: number }>('images');
  const commits = Array.from({ length: 20 }, (_, n) => store.commit([table.put(`${n}`, { n })]));
  await store[Symbol.asyncDispose]();
  await Promise.all(commits);
  await store[Symbol.asyncDispose]();
  await assert.rejects(store.commit([table.put('late', { n: 0 })]), { code: 'STORE' });
  await assert.rejects(table.get('0'), { code: 'STORE' });
  await assert.rejects(all(table.entries()), { code: 'STORE' });
  await using again = await openStore(root);
  assert.equal((await again.counts()).images, 20);
});

test('store: a healthy database opens without a word, and puts space by', async (t) => {
  const root = await temporaryDirectory(t);
  const log = new RecordingLog();
  for (let round = 0; round < 3; round++) {
    await using store = await openStore(root, { log });
    const table = store.table<{ text: string }>('images');
    await store.commit(Array.from({ length: 50 }, (_, n) => table.put(`${n}`, { text: 'x'.repeat(4000) })));
  }
  assert.deepEqual(log.errors, []);
  assert.ok(existsSync(join(root, 'db.reserve')));
});
