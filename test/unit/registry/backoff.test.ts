import assert from 'node:assert/strict';
import { test } from 'node:test';
import { countDown, parseRetryAfter, pauseMs } from '../../../src/registry/backoff.ts';

test('pauses double up to thirty seconds, and half of each is chance', () => {
  assert.equal(pauseMs(0, 1000), 0);
  assert.deepEqual(
    [1, 2, 3, 20].map((failures) => pauseMs(failures, 1000, 1)),
    [1000, 2000, 4000, 30_000],
  );
  assert.equal(pauseMs(2, 1000, 0), 1000);
});

test('Retry-After as seconds, as a date, as nonsense', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  assert.equal(parseRetryAfter('7', now), 7000);
  assert.equal(parseRetryAfter('Thu, 01 Jan 2026 00:00:05 GMT', now), 5000);
  assert.equal(parseRetryAfter('Thu, 01 Jan 2025 00:00:05 GMT', now), 0);
  assert.equal(parseRetryAfter('soon', now), undefined);
  assert.equal(parseRetryAfter('-5x', now), undefined);
  assert.equal(parseRetryAfter(undefined, now), undefined);
});

test('a countdown tells the seconds that are left, and ends with its signal', async () => {
  const told: number[] = [];
  await countDown(1020, { onTick: (left) => told.push(left), signal: new AbortController().signal });
  assert.deepEqual(told, [2, 1]);
  await assert.rejects(countDown(60_000, { signal: AbortSignal.timeout(10) }), { name: 'AbortError' });
});
