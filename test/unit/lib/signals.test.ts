import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSignal } from '../../../src/lib/signals.ts';

test('signals by number, name and real-time offset', () => {
  assert.deepEqual(
    ['9', 'KILL', 'SIGKILL', 'sigterm', 'RTMIN+3', 'SIGRTMAX-1'].map(parseSignal),
    [9, 9, 9, 15, 37, 63],
  );
  for (const text of ['0', '65', 'BOGUS', '', 'RTMIN-1'])
    assert.throws(() => parseSignal(text), { status: 400 });
});
