import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortable, Locks, Semaphore } from '../../../src/lib/locks.ts';

test('holders of one key follow each other in order, other keys are free', async () => {
  const locks = new Locks();
  const seen: string[] = [];
  const work = async (key: string, name: string) => {
    await using _lock = await locks.hold(key);
    seen.push(`${name}+`);
    await sleep(2);
    seen.push(`${name}-`);
  };
  await Promise.all([work('a', '1'), work('a', '2'), work('b', 'x')]);
  assert.deepEqual(
    seen.filter((step) => !step.startsWith('x')),
    ['1+', '1-', '2+', '2-'],
  );
  assert.ok(seen.indexOf('x+') < seen.indexOf('1-'));
});

test('a waiter that gives up throws its reason and does not block those behind it', async () => {
  const locks = new Locks();
  const first = await locks.hold('a');
  const leaving = new AbortController();
  const second = locks.hold('a', { signal: leaving.signal });
  const third = locks.hold('a');
  leaving.abort(new Error('left'));
  await assert.rejects(second, /left/);
  const isThere = await Promise.race([third.then(() => true), sleep(5).then(() => false)]);
  assert.equal(isThere, false, 'the first still holds it');
  await first[Symbol.asyncDispose]();
  await (await third)[Symbol.asyncDispose]();
});

test('a semaphore lets in as many as it is wide, and passes places on', async () => {
  const places = new Semaphore(2);
  let inside = 0;
  let most = 0;
  const work = async () => {
    await using _place = await places.hold();
    most = Math.max(most, ++inside);
    await sleep(1);
    inside--;
  };
  await Promise.all(Array.from({ length: 7 }, work));
  assert.equal(most, 2);
  assert.equal(inside, 0);
});

test('a semaphore loses no place to a waiter that gives up', async () => {
  const places = new Semaphore(1);
  const held = await places.hold();
  const leaving = new AbortController();
  const waiting = places.hold({ signal: leaving.signal });
  leaving.abort(new Error('left'));
  await assert.rejects(waiting, /left/);
  await held[Symbol.asyncDispose]();
  await held[Symbol.asyncDispose]();
  const again = await Promise.race([places.hold().then(() => true), sleep(20).then(() => false)]);
  assert.equal(again, true);
  const second = await Promise.race([places.hold().then(() => true), sleep(20).then(() => false)]);
  assert.equal(second, false, 'disposing twice gave no second place');
});

test('abortable throws at once where the signal came first', async () => {
  await assert.rejects(abortable(new Promise(() => {}), AbortSignal.abort(new Error('gone'))), /gone/);
  assert.equal(await abortable(Promise.resolve(7), new AbortController().signal), 7);
});

test('a promise that is given up before it is waited for may fail unheard', async () => {
  const failing = sleep(1).then(() => Promise.reject(new Error('late')));
  await assert.rejects(abortable(failing, AbortSignal.abort(new Error('enough'))), /enough/);
  await sleep(5); // an unhandled rejection would end this process
});

test('several locks at once: no order of keys makes two wait for each other, and an abort gives all back', async () => {
  const locks = new Locks();
  const { signal } = new AbortController();
  const first = await locks.holdAll(['b', 'a', 'b']);
  const second = locks.holdAll(['c', 'a', 'b'], { signal });
  const abort = new AbortController();
  const third = locks.holdAll(['a', 'd'].toReversed(), { signal: abort.signal });
  abort.abort(new Error('enough'));
  await assert.rejects(third, /enough/);
  await first[Symbol.asyncDispose]();
  await (await second)[Symbol.asyncDispose]();
  await using _all = await locks.holdAll(['d', 'c', 'b', 'a'], { signal: AbortSignal.timeout(1000) });
});
