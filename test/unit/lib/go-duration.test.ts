import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseGoDuration } from '../../../src/lib/go-duration.ts';

test('durations as Go writes them', () => {
  assert.deepEqual(
    ['1h30m', '90s', '-1.5h', '10ms', '0'].map(parseGoDuration),
    [5_400_000, 90_000, -5_400_000, 10, 0],
  );
  for (const text of ['', '5', 'h', '1x', '1h 2m']) assert.equal(parseGoDuration(text), undefined);
});
