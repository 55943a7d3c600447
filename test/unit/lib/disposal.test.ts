import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Disposal } from '../../../src/lib/disposal.ts';

test('owners close backwards, all of them, and the first error is thrown', async () => {
  const seen: number[] = [];
  const disposal = new Disposal();
  for (const n of [1, 2, 3]) {
    disposal.defer(() => {
      seen.push(n);
      if (n === 2) throw new Error('two');
    });
  }
  await assert.rejects(disposal[Symbol.asyncDispose](), /two/);
  assert.deepEqual(seen, [3, 2, 1]);
  await disposal[Symbol.asyncDispose]();
});
