import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { pathPattern } from '../../../src/lib/path-pattern.ts';

// the table of Go's own tests, path/match_test.go, and a few of ours
const cases: [string, string, boolean | undefined][] = [
  ['abc', 'abc', true],
  ['*', 'abc', true],
  ['*', '', true],
  ['*c', 'abc', true],
  ['a*', 'a', true],
  ['a*', 'ab/c', false],
  ['a*/b', 'abc/b', true],
  ['a*/b', 'a/c/b', false],
  ['a*b*c*d*e*/f', 'axbxcxdxe/f', true],
  ['a*b*c*d*e*/f', 'axbxcxdxexxx/fff', false],
  ['a*b?c*x', 'abxbbxdbxebxczzx', true],
  ['a*b?c*x', 'abxbbxdbxebxczzy', false],
  ['ab[c]', 'abc', true],
  ['ab[b-d]', 'abc', true],
  ['ab[e-g]', 'abc', false],
  ['ab[^c]', 'abc', false],
  ['ab[^e-g]', 'abc', true],
  ['a\\*b', 'a*b', true],
  ['a\\*b', 'ab', false],
  ['a?b', 'a/b', false],
  ['[a-ζ]*', 'α', true],
  ['*[a-ζ]', 'A', false],
  ['[\\]a]', ']', true],
  ['[\\-x]', '-', true],
  ['[x\\-]', 'z', false],
  ['[z-a]', 'm', false],
  ['[]a]', ']', undefined],
  ['[-]', '-', undefined],
  ['[x-]', 'x', undefined],
  ['[', 'a', undefined],
  ['[^', 'a', undefined],
  ['[^bc', 'a', undefined],
  ['a[', 'ab', undefined],
  ['\\', 'a', undefined],
  ['*x', 'xxx', true],
  ['', '', true],
  ['', 'a', false],
  ['**', 'a', true],
];

for (const [pattern, name, expected] of cases) {
  test(`${JSON.stringify(pattern)} and ${JSON.stringify(name)}: ${expected ?? 'no pattern'}`, () => {
    assert.equal(pathPattern(pattern)?.(name), expected);
  });
}

test('a name matches itself, quotedd, and the star that stands for a piece of it', () => {
  const name = fc.string({ maxLength: 30 }).filter((text) => !text.includes('/'));
  fc.assert(
    fc.property(name, fc.nat(30), fc.nat(30), (text, a, b) => {
      const quoted = (piece: string) => piece.replace(/[\\*?[]/g, '\\$&');
      assert.equal(pathPattern(quoted(text))?.(text), true);
      const [from, to] = [Math.min(a, b), Math.max(a, b)];
      const [head, tail] = [text.slice(0, from), text.slice(to)];
      assert.equal(pathPattern(`${quoted(head)}*${quoted(tail)}`)?.(text), true);
    }),
  );
});

test('a pattern of many stars takes no time', () => {
  const began = performance.now();
  assert.equal(pathPattern(`${'*a'.repeat(200)}*b`)?.('a'.repeat(5000)), false);
  assert.ok(performance.now() - began < 1000);
});
