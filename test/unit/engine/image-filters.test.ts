import assert from 'node:assert/strict';
import { test } from 'node:test';
import { selectImages } from '../../../src/engine/image-filters.ts';
import type { ImageView } from '../../../src/engine/image-view.ts';
import { viewOf } from '../../../src/engine/image-view.ts';
import { fail } from '../../../src/errors.ts';
import { imageRecord } from '../../support/image-records.ts';

const digest = `sha256:${'d'.repeat(64)}`;
const image = (day: number, names: string[], config: object = {}) =>
  viewOf(imageRecord({ config: { created: `2026-01-0${day}T00:00:00Z`, config } }), names);
const all: ImageView[] = [
  image(1, ['docker.io/library/debian:11', `docker.io/library/debian@${digest}`]),
  image(2, ['docker.io/library/debian:12', 'registry.local:5000/team/app:12'], { Labels: { os: 'debian' } }),
  image(3, []),
  image(4, [`docker.io/library/alpine@${digest}`]),
];
const days = new Map(all.map((view, at) => [view, at + 1]));
const byTag = async (name: string) => all.find(({ repoTags }) => repoTags.includes(name)) ?? missing(name);
const missing = (name: string): never => {
  throw fail.noSuchImage(name);
};
const select = async (filters: Record<string, string[]>, from = all) =>
  (await selectImages(from, { filters: new Map(Object.entries(filters)), isAll: false }, byTag)).map(
    (view) => days.get(view) ?? view.repoTags.concat(view.repoDigests),
  );

test('each filter', async () => {
  const cases: [Record<string, string[]>, unknown[]][] = [
    [{}, [1, 2, 3, 4]],
    [{ dangling: ['true'] }, [3, 4]],
    [{ dangling: ['0'] }, [1, 2, 4]],
    [{ dangling: ['1', '0'] }, [1, 2, 3, 4]],
    [{ label: ['os=debian'] }, [2]],
    [{ before: ['debian:12'] }, [1]],
    [{ since: ['debian:12'] }, [3, 4]],
    [{ until: ['2026-01-02T00:00:00Z'] }, [1]],
    [{ until: [String(Date.UTC(2026, 0, 3) / 1000)] }, [1, 2]],
    [{ until: ['0s'] }, [1, 2, 3, 4]],
  ];
  for (const [filters, expected] of cases)
    assert.deepEqual(await select(filters), expected, JSON.stringify(filters));
});

test('a reference shows only the names that fit', async () => {
  const cases: [string, string[][]][] = [
    ['debian', [['debian:11', `debian@${digest}`], ['debian:12']]],
    ['debian:12', [['debian:12']]],
    ['*:12', [['debian:12']]],
    ['*/*/app', [['registry.local:5000/team/app:12']]],
    ['d?bian:1[13]', [['debian:11']]],
    ['deb', []],
    ['debian.12', []],
  ];
  for (const [pattern, expected] of cases)
    assert.deepEqual(await select({ reference: [pattern] }), expected, pattern);
  assert.deepEqual(await select({ reference: ['alpine', '*:11'] }), [['debian:11'], [`alpine@${digest}`]]);
});

test('filters that make no sense, even where there are no images', async () => {
  const cases: [Record<string, string[]>, { message: string; status: number }][] = [
    [{ bogus: ['x'] }, { message: "invalid filter 'bogus'", status: 400 }],
    [{ dangling: ['x'] }, { message: "invalid filter 'dangling=[x]'", status: 400 }],
    [{ reference: ['['] }, { message: 'syntax error in pattern', status: 500 }],
    [{ until: ['zz'] }, { message: 'failed to parse value as time or duration: "zz"', status: 500 }],
    [{ before: ['nope'] }, { message: 'No such image: nope', status: 404 }],
  ];
  for (const [filters, failure] of cases) await assert.rejects(select(filters, []), failure);
});
