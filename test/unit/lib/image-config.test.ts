import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseImageConfig } from '../../../src/lib/image-config.ts';

test('a hostile image config is an empty one', () => {
  for (const text of ['', 'null', '[]', '5', '{"config":7}', '{"config":{"Env":5,"Labels":{"a":1}}}']) {
    const { config } = parseImageConfig(text);
    assert.deepEqual(config?.Env ?? null, null);
    assert.deepEqual(config?.Labels ?? null, null);
  }
  assert.deepEqual(parseImageConfig('{"config":{"Env":["A=1"],"Cmd":9}}').config?.Env, ['A=1']);
});
