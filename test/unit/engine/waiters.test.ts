import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as tick } from 'node:timers/promises';
import { type WaitCondition, Waiters } from '../../../src/engine/waiters.ts';

const conditions: WaitCondition[] = ['not-running', 'next-exit', 'removed'];

/** Which of the three conditions are met by what happens. */
async function met(happen: (waiters: Waiters) => void): Promise<WaitCondition[]> {
  const waiters = new Waiters();
  const done: WaitCondition[] = [];
  for (const condition of conditions) void waiters.next('c', condition).then(() => done.push(condition));
  void waiters.next('other', 'removed').then(() => assert.fail('not its container'));
  happen(waiters);
  await tick();
  return done;
}

test('who is told by what', async () => {
  const ending = { exitCode: 1 };
  assert.deepEqual(await met((w) => w.ended('c', ending, { isFinal: true })), ['not-running', 'next-exit']);
  assert.deepEqual(await met((w) => w.ended('c', ending, { isFinal: false })), ['next-exit']);
  assert.deepEqual(await met((w) => w.idle('c', ending)), ['not-running']);
  assert.deepEqual(await met((w) => w.removed('c', ending)), conditions);
  assert.deepEqual(await met((w) => w.stuck('c', ending)), ['removed']);
});

test('a wait gives the ending, and the reason if it is given up', async () => {
  const waiters = new Waiters();
  const one = waiters.next('c', 'next-exit');
  const abort = new AbortController();
  const other = waiters.next('c', 'next-exit', abort.signal);
  abort.abort(new Error('gone'));
  await assert.rejects(other, /gone/);
  waiters.ended('c', { exitCode: 7 }, { isFinal: true });
  assert.deepEqual(await one, { exitCode: 7 });
  await assert.rejects(waiters.next('c', 'removed', AbortSignal.abort(new Error('before'))), /before/);
});

test('an ending is told once: the next wait is for the next one', async () => {
  const waiters = new Waiters();
  const first = waiters.next('c', 'next-exit');
  waiters.ended('c', { exitCode: 1 }, { isFinal: true });
  await first;
  let isOver = false;
  void waiters.next('c', 'next-exit').then(() => {
    isOver = true;
  });
  await tick();
  assert.equal(isOver, false);
});
