import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matching } from '../../../src/lib/go-pattern.ts';

test('patterns as Go has them, flags and named groups too', () => {
  const names = ['web', 'db', 'a.b', 'Web'];
  const cases: [string, string[]][] = [
    ['', names],
    ['^w', ['web']],
    ['a.b$', ['a.b']],
    ['(?i)WEB', ['web', 'Web']],
    ['(?P<first>d)b|\\.', ['db', 'a.b']],
    ['^[a-d]{2}$', ['db']],
  ];
  for (const [pattern, expected] of cases) assert.deepEqual(matching(pattern, names), expected, pattern);
});

test('a pattern that is none, and one that would take for ever', () => {
  assert.throws(() => matching('(', ['x']), { name: 'SyntaxError' });
  assert.throws(() => matching('^(a+)+$', [`${'a'.repeat(40)}!`]), { code: 'ERR_SCRIPT_EXECUTION_TIMEOUT' });
});
