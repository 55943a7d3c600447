import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  canonicalString,
  familiarString,
  parseReference,
  withDefaultTag,
} from '../../../src/lib/reference.ts';

const hex = 'a'.repeat(64);
const digest = `sha256:${hex}`;

const cases: [written: string, canonical: string, familiar: string][] = [
  ['debian', 'docker.io/library/debian', 'debian'],
  ['debian:12', 'docker.io/library/debian:12', 'debian:12'],
  ['docker.io/debian', 'docker.io/library/debian', 'debian'],
  ['index.docker.io/library/debian', 'docker.io/library/debian', 'debian'],
  ['me/app:1.0', 'docker.io/me/app:1.0', 'me/app:1.0'],
  ['localhost/app', 'localhost/app', 'localhost/app'],
  ['localhost:5000/app', 'localhost:5000/app', 'localhost:5000/app'],
  ['127.0.0.1:5000/a/b/c:x', '127.0.0.1:5000/a/b/c:x', '127.0.0.1:5000/a/b/c:x'],
  ['[::1]:5000/app', '[::1]:5000/app', '[::1]:5000/app'],
  [`debian@${digest}`, `docker.io/library/debian@${digest}`, `debian@${digest}`],
  [`debian:12@${digest}`, `docker.io/library/debian:12@${digest}`, `debian:12@${digest}`],
  ['library/a/b', 'docker.io/library/a/b', 'library/a/b'],
];

for (const [written, canonical, familiar] of cases) {
  test(`${written} is ${canonical}`, () => {
    const ref = parseReference(written);
    assert.equal(canonicalString(ref), canonical);
    assert.equal(familiarString(ref), familiar);
  });
}

const wrong: [written: string, message: RegExp][] = [
  ['', /^invalid reference format$/],
  ['Debian', /must be lowercase/],
  ['debian:', /^invalid reference format$/],
  ['debian:a b', /^invalid reference format$/],
  [`debian:${'a'.repeat(129)}`, /^invalid reference format$/],
  ['debian@sha256:abc', /^invalid reference format$/],
  ['-debian', /^invalid reference format$/],
  ['a//b', /^invalid reference format$/],
  ['a/../b', /^invalid reference format$/],
  ['example.com/', /^invalid reference format$/],
  [hex, /cannot specify 64-byte hexadecimal strings/],
  [`x/${'a'.repeat(300)}`, /must not be more than 255/],
];

for (const [written, message] of wrong) {
  test(`"${written.slice(0, 40)}" is refused`, () => {
    assert.throws(() => parseReference(written), { status: 400, message });
  });
}

test('latest is only added where nothing says which one', () => {
  assert.equal(familiarString(withDefaultTag(parseReference('debian'))), 'debian:latest');
  assert.equal(familiarString(withDefaultTag(parseReference('debian:12'))), 'debian:12');
  assert.equal(familiarString(withDefaultTag(parseReference(`debian@${digest}`))), `debian@${digest}`);
});

test('the canonical and the familiar form parse back to the same reference', () => {
  const part = fc.stringMatching(/^[a-z0-9]{1,8}$/);
  const path = fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
  const domain = fc.constantFrom('', 'docker.io/', 'localhost/', 'reg.example.com/', '127.0.0.1:5000/');
  const tag = fc.constantFrom('', ':latest', ':1.2_x', `@${digest}`, `:v1@${digest}`);
  fc.assert(
    fc.property(domain, path, tag, (host, name, suffix) => {
      const ref = parseReference(`${host}${name}${suffix}`);
      assert.deepEqual(parseReference(canonicalString(ref)), ref);
      assert.deepEqual(parseReference(familiarString(ref)), ref);
    }),
  );
});

test('no text makes the parser fail otherwise than by a Failure', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 60 }), (text) => {
      try {
        parseReference(text);
      } catch (cause) {
        assert.equal((cause as { code?: string }).code, 'INVALID_REFERENCE');
      }
    }),
  );
});
