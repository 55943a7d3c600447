import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chainIds } from '../../../src/lib/chain-id.ts';
import { type Digest, digestOf } from '../../../src/lib/digest.ts';

test('chain IDs as the image spec computes them', () => {
  const [a, b] = [digestOf('a'), digestOf('b')];
  assert.deepEqual(chainIds([a, b]), [a, digestOf(`${a} ${b}`)]);
  assert.deepEqual(chainIds([] as Digest[]), []);
});
