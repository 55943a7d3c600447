import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatLayer, parseLayer } from '../../../src/layers/layer-records.ts';
import { digestOf } from '../../../src/lib/digest.ts';

const layer = { dirId: 'abc', diffId: digestOf('x'), sizeBytes: 12, tarBytes: 3072 };
const text = formatLayer(layer);

test('comes back as written', () => {
  assert.deepEqual(parseLayer('abc', text), layer);
});

test('half a record, another name or changed numbers are no layer', () => {
  for (let length = 0; length < text.length - 1; length++)
    assert.equal(parseLayer('abc', text.slice(0, length)), undefined, text.slice(0, length));
  assert.equal(parseLayer('other', text), undefined);
  assert.equal(parseLayer('abc', text.replace('"sizeBytes":12', '"sizeBytes":13')), undefined);
  for (const junk of ['null', '[]', '7', '"text"', '{}', '{"version":1}', '\0'.repeat(40)])
    assert.equal(parseLayer('abc', junk), undefined, junk);
});
