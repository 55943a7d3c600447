import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseChallenges, pickChallenge } from '../../../src/registry/challenge.ts';

function read(header: string): [string, Record<string, string>][] {
  return parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);
}

test('challenges of real registries', () => {
  assert.deepEqual(
    read(
      'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
    ),
    [
      [
        'bearer',
        {
          realm: 'https://auth.docker.io/token',
          service: 'registry.docker.io',
          scope: 'repository:a/b:pull,push',
        },
      ],
    ],
  );
  assert.deepEqual(read('Basic realm="Registry Realm"'), [['basic', { realm: 'Registry Realm' }]]);
});

test('several in one header, odd spacing, quotes inside quotes, values without quotes', () => {
  assert.deepEqual(read('Basic  realm = "a, \\"b\\"" ,BEARER Realm=x , error="invalid_token"'), [
    ['basic', { realm: 'a, "b"' }],
    ['bearer', { realm: 'x', error: 'invalid_token' }],
  ]);
  assert.deepEqual(read('Negotiate'), [['negotiate', {}]]);
});

test('Bearer before Basic, nothing else', () => {
  assert.equal(pickChallenge('Basic realm="a", Bearer realm="b"')?.scheme, 'bearer');
  assert.equal(pickChallenge('Bearer scope="no realm", Basic realm="a"')?.scheme, 'basic');
  assert.equal(pickChallenge('Digest realm="a"'), undefined);
  assert.equal(pickChallenge(undefined), undefined);
});

test('whatever a server sends is read in reasonable time and without a throw', () => {
  fc.assert(fc.property(fc.string(), (header) => void parseChallenges(header)));
  const began = performance.now();
  for (const header of ['a'.repeat(8000), 'a="'.repeat(2500), ', '.repeat(4000), 'a=\\"'.repeat(2000)]) {
    parseChallenges(header);
  }
  assert.ok(performance.now() - began < 500);
});
