import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseReference } from '../../../src/lib/reference.ts';
import { refusalOf } from '../../../src/registry/refusal.ts';

const ref = parseReference('debian:12');

function say(status: number, text: string, headers: Record<string, string> = {}): string {
  return refusalOf({ status, statusText: '', headers, text }, ref).message;
}

function errors(code: string, message?: string): string {
  return JSON.stringify({ errors: [{ code, message, detail: {} }] });
}

test('codes in the words of dockerd', () => {
  assert.equal(
    say(404, errors('MANIFEST_UNKNOWN')),
    'manifest for debian:12 not found: manifest unknown: manifest unknown',
  );
  assert.equal(say(404, errors('NAME_UNKNOWN', 'gone')), 'repository debian not found: name unknown: gone');
  assert.equal(
    say(403, errors('DENIED', 'no')),
    "pull access denied for debian, repository does not exist or may require 'docker login': denied: no",
  );
  assert.equal(say(429, errors('TOOMANYREQUESTS', 'slow down')), 'toomanyrequests: slow down');
  assert.equal(say(404, errors('BLOB_UNKNOWN', 'x')), 'unknown blob');
  assert.equal(say(400, errors('SOMETHING_OWN', 'what?')), 'unknown: what?');
  assert.equal(say(400, errors('toString', 'what?')), 'unknown: what?');
  assert.equal(say(400, errors('TAG_INVALID')), 'tag invalid: manifest tag did not match URI');
});

test('the challenge may say more than the body', () => {
  const denied = { 'www-authenticate': 'Bearer realm="r",error="insufficient_scope"' };
  assert.match(
    say(401, errors('UNAUTHORIZED'), denied),
    /^pull access denied for debian, .*: denied: requested access to the resource is denied$/,
  );
  const invalid = {
    'www-authenticate': 'Bearer realm="r",error="invalid_token",error_description="too old"',
  };
  assert.equal(say(401, '', invalid), 'unauthorized: too old');
});

test('bodies of other servers', () => {
  assert.equal(say(401, '<html>'), 'unauthorized: authentication required');
  assert.equal(say(401, '{"details":"who are you?"}'), 'unauthorized: who are you?');
  assert.equal(say(429, '{"details":"slow down"}'), 'toomanyrequests: slow down');
  assert.equal(say(403, ''), 'error parsing HTTP 403 response body: unexpected end of JSON input: ""');
  assert.equal(
    say(403, '{}'),
    'error parsing HTTP 403 response body: no error details found in HTTP response body: "{}"',
  );
  assert.match(say(403, '<html>'), /invalid character '<' looking for beginning of value: "<html>"$/);
});

test('a status that nobody expects', () => {
  assert.equal(say(503, 'anything'), 'received unexpected HTTP status: 503 Service Unavailable');
  assert.equal(say(304, ''), 'received unexpected HTTP status: 304 Not Modified');
  assert.equal(say(599, ''), 'received unexpected HTTP status: 599');
});

test('which of them may pass', () => {
  const passing = [408, 429, 500, 502, 503, 504];
  for (const status of [400, 401, 403, 404, 416, ...passing]) {
    const refusal = refusalOf({ status, statusText: '', headers: { 'retry-after': '3' }, text: '' }, ref);
    assert.equal(refusal.isPassing, passing.includes(status), `${status}`);
    assert.equal(refusal.waitMs, 3000);
  }
});

test('a stranger’s text is short and does nothing to a terminal', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(400, 401, 403, 404, 429, 500),
      fc.string({ unit: 'binary' }),
      fc.jsonValue(),
      (status, text, json) => {
        for (const body of [
          text,
          JSON.stringify(json),
          errors('UNKNOWN', text),
          JSON.stringify({ details: text }),
        ]) {
          const { message } = refusalOf({ status, statusText: text, headers: {}, text: body }, ref);
          assert.doesNotMatch(message, /\p{Cc}/u);
        }
      },
    ),
  );
  assert.equal(say(400, errors('UNKNOWN', '\u001b[31mred\u001b[0m')), 'unknown: [31mred [0m');
  assert.ok(say(400, errors('UNKNOWN', 'x'.repeat(60_000))).length < 1100);
});
