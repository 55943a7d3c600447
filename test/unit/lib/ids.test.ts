import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newId, randomName } from '../../../src/lib/ids.ts';

test('IDs are 64 hex digits whose short form is never a number', () => {
  for (let i = 0; i < 200; i++) assert.match(newId(), /^(?=.{0,11}[a-f])[0-9a-f]{64}$/);
  assert.match(randomName(), /^[a-z]+_[a-z]+$/);
  assert.match(randomName(2), /^[a-z]+_[a-z]+\d+$/);
});
