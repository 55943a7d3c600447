import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { configurationPage, pagePath } from '../../../scripts/reference.ts';
import { daemonSchema } from '../../../src/config/schema.ts';

test('the reference page is what the schema says: node scripts/reference.ts makes it anew', () => {
  assert.equal(readFileSync(pagePath, 'utf8'), configurationPage());
});

test('the reference page has a row for every key', () => {
  const page = configurationPage();
  for (const key of Object.keys(daemonSchema.shape))
    assert.match(page, new RegExp(`^\\| \`${key}\` \\| \`--`, 'm'));
});
