import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf, hexOf, isDigest, parseDigest, shortDigest } from '../../../src/lib/digest.ts';

test('a digest of bytes, and its parts', () => {
  const digest = digestOf('');
  assert.equal(digest, 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  assert.equal(hexOf(digest).length, 64);
  assert.equal(shortDigest(digest), 'e3b0c44298fc');
});

test('what is no digest', () => {
  const hex = 'a'.repeat(64);
  assert.ok(isDigest(`sha256:${hex}`));
  for (const text of [
    '',
    hex,
    `sha256:${hex}a`,
    `sha256:${hex.toUpperCase()}`,
    `sha512:${hex}`,
    `sha256:${hex}\n`,
  ]) {
    assert.ok(!isDigest(text));
    assert.throws(() => parseDigest(text), { status: 400 });
  }
});
