import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatBytes, progressBar } from '../../../src/lib/progress-bar.ts';

test('bytes as people read them', () => {
  assert.deepEqual([0, 999, 28_230_000, 1_500_000_000].map(formatBytes), ['0B', '999B', '28.23MB', '1.5GB']);
  assert.match(progressBar(50, 100), /^\[=+> +\] {6}50B\/100B$/);
  assert.equal(progressBar(0, 0), '');
});
