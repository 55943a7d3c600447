import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { escapedJson, parseJson } from '../../../src/lib/json.ts';

/** What is wrong with a text, by the decoder's and by the whole reading. */
function complaints(text: string): string[] {
  return (['decoder', 'whole'] as const).map((reading) => {
    try {
      parseJson(text, reading);
      return 'ok';
    } catch (cause) {
      return (cause as Error).message;
    }
  });
}

test('says what is wrong in the words of Go', () => {
  for (const [text, decoder, whole = decoder] of [
    ['', 'EOF', 'unexpected end of JSON input'],
    [' \n', 'EOF', 'unexpected end of JSON input'],
    ['{', 'unexpected EOF', 'unexpected end of JSON input'],
    ['{"a":[1,', 'unexpected EOF', 'unexpected end of JSON input'],
    ['"abc', 'unexpected EOF', 'unexpected end of JSON input'],
    ['tru', 'unexpected EOF', 'unexpected end of JSON input'],
    ['z', "invalid character 'z' looking for beginning of value"],
    ['[1,]', "invalid character ']' looking for beginning of value"],
    ['{a', "invalid character 'a' looking for beginning of object key string"],
    ['{"a":1,}', "invalid character '}' looking for beginning of object key string"],
    ['{"a" 1}', "invalid character '1' after object key"],
    ['{"a":1 "b"}', `invalid character '"' after object key:value pair`],
    ['[1 2]', "invalid character '2' after array element"],
    ['trux', "invalid character 'x' in literal true (expecting 'e')"],
    ['nil', "invalid character 'i' in literal null (expecting 'u')"],
    ['"a\nb"', "invalid character '\\n' in string literal"],
    ['"a\x01b"', "invalid character '\\x01' in string literal"],
    ['"\\x"', "invalid character 'x' in string escape code"],
    ['"\\u12g4"', "invalid character 'g' in \\u hexadecimal character escape"],
    ['-a', "invalid character 'a' in numeric literal"],
    ['1.x', "invalid character 'x' after decimal point in numeric literal"],
    ['1ex', "invalid character 'x' in exponent of numeric literal"],
    ["'", "invalid character '\\'' looking for beginning of value"],
    ['é', "invalid character 'é' looking for beginning of value"],
    ['{} x', 'ok', "invalid character 'x' after top-level value"],
    ['01', 'ok', "invalid character '1' after top-level value"],
  ]) {
    assert.deepEqual(complaints(text ?? ''), [decoder, whole], text);
  }
});

test('the decoder takes one value and tells whether more follows; a stray bracket is an end', () => {
  for (const [text, value, hasMore] of [
    ['{"a":[{},[]]} {}', { a: [{}, []] }, true],
    ['[1] ', [1], false],
    ['[1]]', [1], false],
    ['1}', 1, false],
    ['"a""b"', 'a', true],
    ['null,', null, true],
  ] as const) {
    assert.deepEqual(parseJson(text), { value, hasMore });
  }
});

test('nesting without end is refused and overflows nothing', () => {
  assert.deepEqual(complaints('['.repeat(1_000_000)), ['exceeded max depth', 'exceeded max depth']);
  assert.deepEqual(
    complaints(`${'['.repeat(9_000)}x`)[0],
    "invalid character 'x' looking for beginning of value",
  );
});

test('agrees with JSON.parse on what is JSON', () => {
  const cut = fc
    .tuple(fc.json(), fc.nat(), fc.constantFrom('', ',', '}', '"', '\\', 'e', '.', '-', ' '))
    .map(([text, at, extra]) => {
      const where = at % (text.length + 1);
      return text.slice(0, where) + extra + text.slice(where + extra.length);
    });
  fc.assert(
    fc.property(fc.oneof(fc.json(), cut), (text) => {
      let expected: { value: unknown } | undefined;
      try {
        expected = { value: JSON.parse(text) };
      } catch {}
      const [, whole] = complaints(text);
      assert.equal(whole === 'ok', expected !== undefined, text);
      if (expected !== undefined) assert.deepEqual(parseJson(text).value, expected.value);
    }),
    { numRuns: 2000 },
  );
});

test('escapes what HTML would take for its own', () => {
  assert.equal(escapedJson({ a: '<&>\u2028' }), '{"a":"\\u003c\\u0026\\u003e\\u2028"}');
  assert.deepEqual(JSON.parse(escapedJson({ a: '<&>\u2029' })), { a: '<&>\u2029' });
});
