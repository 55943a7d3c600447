import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasLabels, namesMeant, passes } from '../../../src/engine/filters.ts';

test('a key that is absent or empty lets everything pass, another one of its values', () => {
  const filters = new Map([
    ['a', ['1', '2']],
    ['b', []],
  ]);
  assert.ok(passes(filters, 'a', (wanted) => wanted === '2'));
  assert.ok(!passes(filters, 'a', (wanted) => wanted === '3'));
  for (const key of ['b', 'c']) assert.ok(passes(filters, key, () => false));
});

test('labels: there at all, or exactly so, and every one of them', () => {
  const labels = { tier: 'front', expr: 'a=b', empty: '' };
  const has = (...label: string[]) => hasLabels(new Map([['label', label]]), labels);
  assert.ok(has('tier', 'tier=front', 'expr=a=b', 'empty', 'empty='));
  assert.ok(!has('tier=back'));
  assert.ok(!has('tier', 'absent'));
  assert.ok(!hasLabels(new Map([['label', ['toString']]]), null));
  assert.ok(hasLabels(new Map(), null));
});

test('names that a filter means: as they are, by a pattern, and in bounded time', { timeout: 5000 }, () => {
  const long = `${'a'.repeat(60)}!`;
  const names = ['web', 'web-2', '(', long];
  const meant = (...wanted: string[]) => {
    const found = namesMeant(new Map([['name', wanted]]), 'name', names);
    return found && names.filter((name) => found.has(name));
  };
  assert.equal(meant(), undefined);
  assert.equal(namesMeant(new Map(), 'name', names), undefined);
  assert.deepEqual(meant('^web'), ['web', 'web-2']);
  assert.deepEqual(meant('2$', '('), ['web-2', '(']);
  assert.deepEqual(meant('^(a+)+$'), [], 'would take for ever');
});
