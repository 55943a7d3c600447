import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { seal, unseal } from '../../../src/store/seal.ts';

const values = fc.jsonValue().filter((value) => value !== null);

test('seal: what was sealed comes back under its name, and only there', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), values, (name, other, value) => {
      const wire = JSON.parse(JSON.stringify(value));
      assert.deepEqual(unseal(name, seal(name, value as object)), wire);
      if (other !== name) assert.equal(unseal(other, seal(name, value as object)), undefined);
    }),
  );
});

test('seal: the text is JSON, so that people can read it', () => {
  assert.deepEqual(JSON.parse(seal('images!a', { a: 'ü\ud800' })).body, { a: 'ü\ud800' });
});

test('seal: a changed, cut or longer text is not whole', () => {
  const text = seal('images!a', { id: 'a', layers: ['b', 'c'], note: 'größe' });
  for (let at = 0; at < text.length; at++) {
    const other = text[at] === '0' ? '1' : '0';
    assert.equal(
      unseal('images!a', `${text.slice(0, at)}${other}${text.slice(at + 1)}`),
      undefined,
      `at ${at}`,
    );
    assert.equal(unseal('images!a', text.slice(0, at)), undefined, `cut at ${at}`);
  }
  assert.equal(unseal('images!a', `${text}}`), undefined);
  assert.equal(unseal('images!a', `\0${text}`), undefined);
});
