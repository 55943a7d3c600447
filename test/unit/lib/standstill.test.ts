import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { withoutStandstill } from '../../../src/lib/standstill.ts';

async function* after(...waits: number[]): AsyncGenerator<Buffer> {
  for (const ms of waits) {
    await sleep(ms);
    yield Buffer.from('x');
  }
}

test('a client that sends is let send, however slow its taker', async () => {
  let count = 0;
  for await (const _ of withoutStandstill(after(1, 1, 1), 200)) {
    count++;
    await sleep(250);
  }
  assert.equal(count, 3);
});

test('one that stops sending is given up, even if nothing ever comes', async () => {
  const taken: string[] = [];
  const take = async (pieces: AsyncIterable<Buffer>) => {
    for await (const piece of withoutStandstill(pieces, 30)) taken.push(piece.toString());
  };
  await assert.rejects(take(after(1, 300)), { code: 'STANDSTILL', status: 400 });
  assert.deepEqual(taken, ['x']);
  await assert.rejects(take({ [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }) }), {
    code: 'STANDSTILL',
  });
});

test('what the client’s stream fails with is what its taker hears', async () => {
  const broken = async function* (): AsyncGenerator<Buffer> {
    yield Buffer.from('x');
    throw new Error('aborted');
  };
  await assert.rejects(async () => {
    for await (const _ of withoutStandstill(broken(), 1000));
  }, /aborted/);
});
