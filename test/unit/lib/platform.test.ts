import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatPlatform, matchPlatform, normalize, parsePlatform } from '../../../src/lib/platform.ts';

const amd64 = { os: 'linux', architecture: 'amd64' };
const arm = (variant?: string) => ({ os: 'linux', architecture: 'arm', ...(variant && { variant }) });
const arm64 = { os: 'linux', architecture: 'arm64' };

for (const [text, shown] of [
  ['linux/amd64', 'linux/amd64'],
  ['linux/x86_64', 'linux/amd64'],
  ['aarch64', 'linux/arm64'],
  ['linux/arm64/v8', 'linux/arm64'],
  ['linux/arm', 'linux/arm/v7'],
  ['linux/arm/6', 'linux/arm/v6'],
  ['armhf', 'linux/arm/v7'],
  ['linux', 'linux/amd64'],
] as const) {
  test(`${text} means ${shown}`, () => assert.equal(formatPlatform(parsePlatform(text, amd64)), shown));
}

for (const text of ['a/b/c/d', '', 'linux//', 'linux/am d64']) {
  test(`"${text}" is no platform`, () => assert.throws(() => parsePlatform(text, amd64), { status: 400 }));
}

test('an image for the same platform is exact', () => {
  assert.equal(matchPlatform(amd64, amd64), 0);
  assert.equal(matchPlatform(arm('v7'), arm()), 0);
  assert.equal(matchPlatform(arm64, { ...arm64, variant: 'v8' }), 0);
});

test('a newer ARM runs what was built for an older one, the nearest first, and never the other way', () => {
  const offers = ['v7', 'v6', 'v5'].map((variant) => matchPlatform(arm('v7'), arm(variant)) ?? Number.NaN);
  assert.deepEqual(offers, [0, 1, 2]);
  assert.equal(matchPlatform(arm('v6'), arm('v7')), undefined);
  const old = ['v8', 'v7', 'v6', 'v5'].map((variant) => matchPlatform(arm('v8'), arm(variant)) ?? Number.NaN);
  assert.deepEqual(old, [0, 1, 2, 3]);
});

test('levels of AMD64 fall back likewise; what says nothing is of the first', () => {
  const level = (variant: string) => ({ ...amd64, variant });
  assert.equal(matchPlatform(amd64, level('v1')), 0);
  assert.equal(matchPlatform(amd64, level('v2')), undefined);
  const offers = [level('v3'), level('v2'), level('v1'), amd64];
  assert.deepEqual(
    offers.map((offer) => matchPlatform(level('v3'), offer)),
    [0, 1, 2, 2],
  );
  assert.deepEqual(normalize(level('v1')), amd64);
});

test('arm64 takes a 32-bit image only after its own', () => {
  const own = matchPlatform(arm64, arm64) ?? Number.NaN;
  const v7 = matchPlatform(arm64, arm('v7')) ?? Number.NaN;
  const v6 = matchPlatform(arm64, arm('v6')) ?? Number.NaN;
  assert.ok(own < v7 && v7 < v6);
  assert.equal(matchPlatform(arm('v7'), arm64), undefined);
});

test('other architectures and systems do not match', () => {
  assert.equal(matchPlatform(amd64, arm64), undefined);
  assert.equal(matchPlatform(amd64, { ...amd64, os: 'windows' }), undefined);
  assert.deepEqual(normalize({ os: 'linux', architecture: 'arm64', variant: 'v8' }), arm64);
});

test('an architecture that is named like a part of every object is just an unknown one', () => {
  for (const architecture of ['__proto__', 'constructor', 'toString'])
    assert.deepEqual(normalize({ os: 'linux', architecture }), { os: 'linux', architecture });
});
