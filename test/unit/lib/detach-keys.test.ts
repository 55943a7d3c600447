import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DetachFilter, parseDetachKeys } from '../../../src/lib/detach-keys.ts';

test('detach keys: held back while they may come, swallowed when they do', () => {
  assert.equal(parseDetachKeys(undefined).toString('hex'), '1011');
  assert.equal(parseDetachKeys('ctrl-a').toString('hex'), '01');
  assert.throws(() => parseDetachKeys('zzz'), { status: 400, message: 'Invalid detach keys (zzz) provided' });
  const filter = new DetachFilter(parseDetachKeys('ctrl-p,ctrl-q'));
  assert.equal(filter.push(Buffer.from('a\x10')).bytes.toString(), 'a');
  assert.equal(filter.push(Buffer.from('b')).bytes.toString(), '\x10b');
  assert.deepEqual(filter.push(Buffer.from('c\x10\x11d')), { bytes: Buffer.from('c'), isDetached: true });
});
