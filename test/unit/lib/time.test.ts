import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatNanos, nowNanos, parseNanos } from '../../../src/lib/time.ts';

test('times keep their nanoseconds both ways', () => {
  for (const text of [
    '2026-11-20T17:22:29.83553196Z',
    '1970-01-01T00:00:00Z',
    '2026-01-01T00:00:00.000000001Z',
  ]) {
    assert.equal(formatNanos(parseNanos(text) ?? -1n), text);
  }
  assert.equal(parseNanos('2026-11-20T18:00:00+01:00'), parseNanos('2026-11-20T17:00:00Z'));
  assert.equal(parseNanos('yesterday'), undefined);
  const times = Array.from({ length: 1000 }, nowNanos);
  assert.ok(times.every((time, at) => at === 0 || time > (times[at - 1] ?? time)));
  assert.ok(Math.abs(Number((times[0] ?? 0n) / 1_000_000n) - Date.now()) < 1000);
});
