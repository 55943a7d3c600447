import assert from 'node:assert/strict';
import { test } from 'node:test';
import { frame } from '../../../src/lib/frames.ts';

test('a frame is stream, three zeros, length, bytes', () => {
  assert.equal(frame(2, Buffer.from('err\n')).toString('hex'), '0200000000000004' + '6572720a');
});
