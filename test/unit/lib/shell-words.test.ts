// biome-ignore-all lint/suspicious/noTemplateCurlyInString: it is about what such text means
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Failure } from '../../../src/errors.ts';
import { expandWords } from '../../../src/lib/shell-words.ts';

const variables = ['A=one', 'B=two words', 'EMPTY=', 'A=last'];
const text = (source: string) => expandWords(source, variables).text;

test('variables stand for their values, the last of a name counts', () => {
  assert.equal(text('$A-${A}$MISSING.$'), 'last-last.$');
  assert.equal(text('$A1 $1A'), ' A');
  assert.equal(text('${EMPTY:-x}${EMPTY-x}${MISSING-$A}'), 'xlast');
  assert.equal(text('${A:+set}${EMPTY:+set}${EMPTY+set}${MISSING+set}'), 'setset');
  assert.equal(text('${A:?no}'), 'last');
});

test('quotes and escapes keep what they enclose, and go', () => {
  assert.equal(text(`'$A "x"' "$A 'x' \\" \\$A \\n" \\$A`), `$A "x" last 'x' " $A \\n $A`);
  assert.equal(text('end\\'), 'end');
  assert.equal(expandWords('`$A', variables, '`').text, '$A');
});

test('words end at white space that is not quoted', () => {
  assert.deepEqual(expandWords('$B "$B" a\\ b', variables).words, ['two', 'words', 'two words', 'a b']);
});

test('what has no end or no meaning is refused in dockerd’s words', () => {
  const refused = (source: string, message: string) =>
    assert.throws(() => text(source), { code: 'BAD_REQUEST', message: `failed to process ${message}` });
  refused('"a', '"\\"a": unexpected end of statement while looking for matching double-quote');
  refused("'a", '"\'a": unexpected end of statement while looking for matching single-quote');
  refused('${A', `"\${A": syntax error: missing '}'`);
  refused('${', `"\${": syntax error: missing '}'`);
  refused('${A:-x', `"\${A:-x": syntax error: missing '}'`);
  refused('${}', '"${}": syntax error: bad substitution');
  refused('${A^x}', '"${A^x}": unsupported modifier (^) in substitution');
  refused('${MISSING?}', '"${MISSING?}": MISSING: is not allowed to be unset');
  refused('${A:-'.repeat(51), `${JSON.stringify('${A:-'.repeat(51))}: syntax error: bad substitution`);
  refused('${EMPTY:?why}', '"${EMPTY:?why}": EMPTY: why');
});

test('any text is expanded or refused', () => {
  const piece = fc.constantFrom('$', '{', '}', ':', '-', '"', "'", '\\', ' ', 'A', '1', 'é');
  fc.assert(
    fc.property(
      fc.array(piece).map((pieces) => pieces.join('')),
      (source) => {
        try {
          text(source);
        } catch (cause) {
          assert.ok(cause instanceof Failure);
        }
      },
    ),
  );
});

test('a hostile text takes no longer than its length', () => {
  const began = performance.now();
  text('$a'.repeat(500_000));
  text('"$a" '.repeat(200_000));
  assert.ok(performance.now() - began < 3000);
});
