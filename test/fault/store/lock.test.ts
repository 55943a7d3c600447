import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'node:test';
import { openStore, temporaryDirectory } from '../../unit/store/fixtures.ts';

test('a database that another process holds is a clear failure, and is left alone', async (t) => {
  const dataRoot = await temporaryDirectory(t);
  const holder = spawn(process.execPath, [join(import.meta.dirname, 'committing-child.ts'), dataRoot], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const gone = once(holder, 'exit');
  t.after(() => holder.kill('SIGKILL'));
  await once(holder.stdout, 'data');
  holder.stdout.resume();
  await assert.rejects(openStore(dataRoot), { code: 'STORE', message: /is in use by another process/ });
  assert.deepEqual((await readdir(dataRoot)).sort(), ['db', 'db.reserve']);
  holder.kill('SIGKILL');
  await gone;
  await using store = await openStore(dataRoot);
  assert.equal(store.wasRebuilt, false);
});

test('a database that this process holds is the same failure', async (t) => {
  const dataRoot = await temporaryDirectory(t);
  await using store = await openStore(dataRoot);
  await assert.rejects(openStore(dataRoot), { code: 'STORE', message: /is in use by another process/ });
  await store.commit([store.endRebuild()]);
});
