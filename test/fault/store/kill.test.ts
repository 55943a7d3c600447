import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import test from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { all, openStore, RecordingLog, temporaryDirectory } from '../../unit/store/fixtures.ts';
import { keep, lanes, partKeys } from './batches.ts';

const rounds = 20;
const child = join(import.meta.dirname, 'committing-child.ts');

/** Lets a child commit until it is killed at a random instant; the numbers that it acknowledged, in order. */
async function commitUntilKilled(dataRoot: string, first: number): Promise<number[]> {
  const committer = spawn(process.execPath, [child, dataRoot, String(first)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const acknowledged: number[] = [];
  const gone = once(committer, 'exit');
  for await (const line of createInterface(committer.stdout)) {
    if (line === 'ready') void delay(Math.random() * 250).then(() => committer.kill('SIGKILL'));
    else acknowledged.push(Number(line));
  }
  const [, signal] = await gone;
  assert.equal(signal, 'SIGKILL', 'the child must not have ended by itself');
  return acknowledged;
}

test(`kill -9 at ${rounds} random instants: acknowledged commits are whole, none is half there`, async (t) => {
  const dataRoot = await temporaryDirectory(t);
  const log = new RecordingLog();
  let last = -1;
  let total = 0;
  for (let round = 0; round < rounds; round++) {
    const acknowledged = await commitUntilKilled(dataRoot, last + 1);
    total += acknowledged.length;
    await using store = await openStore(dataRoot, { log });
    assert.equal(store.wasRebuilt, false);

    const parts = new Map<number, string[]>();
    for (const [key, { n }] of await all(store.table<{ n: number }>('containers').entries()))
      parts.set(n, [...(parts.get(n) ?? []), key]);
    for (const [n, keys] of parts) assert.deepEqual(keys.sort(), partKeys(n), `round ${round}: batch ${n}`);

    const newest = Math.max(last, ...acknowledged);
    for (const n of acknowledged) {
      // what was under way when the child died may or may not have removed its forerunner
      if (n > newest + lanes - keep) assert.ok(parts.has(n), `round ${round}: batch ${n} is lost`);
      assert.ok(!parts.has(n - keep), `round ${round}: batch ${n - keep} is back`);
    }
    last = Math.max(newest, ...parts.keys());
  }
  assert.ok(total > rounds, 'the children must have committed something');
  assert.deepEqual(log.errors, []);
});
