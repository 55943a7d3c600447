import assert from 'node:assert/strict';
import { posix } from 'node:path';
import test from 'node:test';
import fc from 'fast-check';
import { cleanPath, encodePath, parseQuery, percentDecode } from '../../../src/lib/url.ts';

test('percent escapes are decoded, broken ones are found', () => {
  for (const [text, expected] of [
    ['plain', 'plain'],
    ['a%2Fb%20c', 'a/b c'],
    ['%C3%A9', 'é'],
    ['é%ff', 'é\ufffd'],
    ['%', undefined],
    ['%4', undefined],
    ['%zz', undefined],
    ['%%41', undefined],
  ] as const) {
    assert.equal(percentDecode(text), expected, text);
  }
});

test('paths are cleaned as Go cleans them; a slash at the end stays', () => {
  for (const [path, expected] of [
    ['/a/b', '/a/b'],
    ['/a/b/', '/a/b/'],
    ['//a///b', '/a/b'],
    ['/a/./b/../c', '/a/c'],
    ['/../a', '/a'],
    ['/a/..', '/'],
    ['/a/b/..', '/a'],
    ['/a/b/../', '/a/'],
    ['', '/'],
    ['a', '/a'],
    ['/..a/.b', '/..a/.b'],
  ] as const) {
    assert.equal(cleanPath(path), expected, path);
  }
});

test('cleaning agrees with normalization and does nothing twice', () => {
  const path = fc
    .array(fc.constantFrom('a', '.', '..', '', 'b.c'), { maxLength: 8 })
    .map((parts) => `/${parts.join('/')}`);
  fc.assert(
    fc.property(path, (text) => {
      const cleaned = cleanPath(text);
      assert.equal(cleanPath(cleaned), cleaned);
      const expected = posix.normalize(text);
      const isDirectory = text.endsWith('/') && expected !== '/';
      assert.equal(cleaned, isDirectory ? expected : expected.replace(/(.)\/$/, '$1'));
    }),
  );
});

test('a path is encoded for a header', () => {
  assert.equal(
    encodePath("/a b/c:1@d,e;f=g+h&$/(x)'!*?#é"),
    '/a%20b/c:1@d,e;f=g+h&$/%28x%29%27%21%2A%3F%23%C3%A9',
  );
});

test('a query is read as Go reads it', () => {
  const entries = (text: string) => [...parseQuery(text)];
  assert.deepEqual(entries('a=1&b&a=2&=x&&c=d=e&f=%20+g'), [
    ['a', ['1', '2']],
    ['b', ['']],
    ['', ['x']],
    ['c', ['d=e']],
    ['f', ['  g']],
  ]);
  assert.deepEqual(entries(''), []);
  assert.throws(() => parseQuery('a=1;b=2'), /^QueryError: invalid semicolon separator in query$/);
  assert.throws(() => parseQuery('a=%2'), /invalid URL escape "%2"$/);
  assert.throws(() => parseQuery('%zza=1'), /invalid URL escape "%zz"$/);
});
