/**
 * Lives through a full disk, then dies by kill -9. Commits until nothing fits any more, reads meanwhile, frees space
 * and goes on. Prints one JSON line of what it saw. argv: data root, alone on a small file system.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { codeOf } from '../../../src/errors.ts';
import { openStore } from '../../unit/store/fixtures.ts';

const [dataRoot = ''] = process.argv.slice(2);
const filler = join(dataRoot, 'filler');
// so large that every commit stays in the log that the full disk tears
const store = await openStore(dataRoot, { writeBufferBytes: 1 << 20 });
const table = store.table<{ text: string }>('containers');
const acknowledged: string[] = [];
const failures: (string | undefined)[] = [];

async function commit(key: string): Promise<void> {
  try {
    await store.commit([table.put(key, { text: key.repeat(700) })]);
    acknowledged.push(key);
  } catch (cause) {
    failures.push(codeOf(cause));
  }
}

function fill(): void {
  const file = openSync(filler, 'w');
  for (const bytes of [64 << 10, 512]) {
    const write = () => {
      for (;;) writeSync(file, Buffer.alloc(bytes));
    };
    assert.throws(write, { code: 'ENOSPC' });
  }
  closeSync(file);
}

for (let n = 0; n < 20; n++) await commit(`before-${n}`);
fill();
for (let n = 0; failures.length < 3; n++) {
  await commit(`full-${n}`);
  if (n % 50 === 49) fill(); // what LevelDB freed is taken again
}
const fullCommits = acknowledged.length - 20;
assert.deepEqual(await table.get('before-0'), { text: 'before-0'.repeat(700) });
for await (const [key] of table.entries()) assert.ok(key);
rmSync(filler);
for (let n = 0; n < 20; n++) await commit(`after-${n}`);
fill();
writeSync(1, `${JSON.stringify({ acknowledged, failures, fullCommits })}\n`);
process.kill(process.pid, 'SIGKILL');
