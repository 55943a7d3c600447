import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatGoDuration, parseGoDuration } from '../../../src/lib/go-duration.ts';

test('durations as Go writes them', () => {
  assert.deepEqual(
    ['1h30m', '90s', '-1.5h', '10ms', '0'].map(parseGoDuration),
    [5_400_000, 90_000, -5_400_000, 10, 0],
  );
  for (const text of ['', '5', 'h', '1x', '1h 2m']) assert.equal(parseGoDuration(text), undefined);
});

test('a span as Go prints it', () => {
  assert.deepEqual([0, 0.0004, 0.25, 12.25, 999.9999, 1500, 62_500, 3_723_004].map(formatGoDuration), [
    '0s',
    '0s',
    '250\u00b5s',
    '12.25ms',
    '1s',
    '1.5s',
    '1m2.5s',
    '1h2m3.004s',
  ]);
  for (const ms of [1, 59_999.5, 3_600_000]) assert.equal(parseGoDuration(formatGoDuration(ms)), ms);
});
