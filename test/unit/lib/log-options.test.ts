import assert from 'node:assert/strict';
import { test } from 'node:test';
import { logConfigComplaint } from '../../../src/lib/log-options.ts';

test('options of the cache are taken by every driver, as by dockerd', () => {
  const options = {
    'cache-disabled': 'true',
    'cache-max-size': '1m',
    'cache-max-file': '2',
    'cache-compress': 'false',
  };
  for (const driver of ['json-file', 'local', 'journald', 'none'])
    assert.equal(logConfigComplaint(driver, options), undefined);
  assert.equal(
    logConfigComplaint('local', { 'cache-disabled': 'maybe' }),
    'invalid value for option cache-disabled: maybe',
  );
  assert.equal(
    logConfigComplaint('json-file', { 'cache-size': '1' }),
    "unknown log opt 'cache-size' for json-file log driver",
  );
});
