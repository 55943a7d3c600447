import assert from 'node:assert/strict';
import { test } from 'node:test';
import { endProcess, stopSignalOf } from '../../../src/engine/ending.ts';
import { fail } from '../../../src/errors.ts';
import { withResolvers } from '../../../src/lib/promises.ts';
import { containerRecord } from '../../support/container-records.ts';

/** A process that ends on one of these signals. */
function process(mortal: readonly number[]) {
  const { promise: exit, resolve } = withResolvers<void>();
  const sent: number[] = [];
  const send = async (signal: number) => {
    sent.push(signal);
    if (mortal.includes(signal)) setTimeout(resolve, 5);
  };
  return { id: 'c', exit, send, sent, resolve };
}

// timers of the code under test do not keep the process alive
const alive = setInterval(() => {}, 1000);
test.after(() => clearInterval(alive));

test('one that listens gets one signal', async () => {
  const polite = process([15]);
  await endProcess(polite, 15, 5000);
  assert.deepEqual(polite.sent, [15]);
});

test('one that does not is killed after the timeout, and not at once if that is very long', async () => {
  const deaf = process([9]);
  await endProcess(deaf, 15, 20);
  assert.deepEqual(deaf.sent, [15, 9]);
  const slow = process([]);
  const ended = endProcess(slow, 15, 10_000_000 * 1000);
  setTimeout(slow.resolve, 50);
  await ended;
  assert.deepEqual(slow.sent, [15]);
});

test('without a timeout it is waited for', async () => {
  const slow = process([]);
  const ended = endProcess(slow, 15);
  setTimeout(slow.resolve, 30);
  await ended;
  assert.deepEqual(slow.sent, [15]);
});

test('one that has just ended by itself is no failure, one that cannot be killed is', async () => {
  const gone = { ...process([]), exit: Promise.resolve() };
  gone.send = async () => {
    throw fail.notRunning('c');
  };
  await endProcess(gone, 15, 5000);
  await assert.rejects(
    endProcess(process([]), 9, undefined, { killWaitMs: 20 }),
    /did not exit within 0.02s/,
  );
  const broken = process([]);
  broken.send = async () => {
    throw fail.runtime('no');
  };
  await assert.rejects(endProcess(broken, 15, 5000), { code: 'RUNTIME' });
});

test('an image may not make its containers unstoppable', () => {
  const signalOf = (stopSignal: string) => stopSignalOf(containerRecord({ config: { stopSignal } }));
  assert.deepEqual(['', 'SIGINT', 'BOGUS', '99'].map(signalOf), [15, 2, 15, 15]);
});
