import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Registries, type SearchRequest } from '../../../src/engine/registries.ts';

const { signal } = new AbortController();
const asked: { term: string; limit: number }[] = [];
const found = [
  { name: 'a', description: '', stars: 10, isOfficial: true, isAutomated: false },
  { name: 'b', description: '', stars: 3, isOfficial: false, isAutomated: true },
  { name: 'c', description: '', stars: 0, isOfficial: false, isAutomated: false },
];
const never = (): never => assert.fail('not to be called');
const registries = new Registries({
  registry: {
    inspect: never,
    login: never,
    search: async ({ term, limit }) => {
      asked.push({ term, limit });
      return found;
    },
  },
});

async function search(filters: Record<string, string[]>, o: Partial<SearchRequest> = {}): Promise<string> {
  const request = { term: 'x', knowsAutomated: false, ...o, filters: new Map(Object.entries(filters)) };
  const results = await registries.search(request, { signal });
  assert.ok(request.knowsAutomated || results.every(({ isAutomated }) => !isAutomated));
  return results.map(({ name }) => name).join('');
}

test('search narrows by filters: truths have one value, the largest number of stars counts', async () => {
  assert.equal(await search({}), 'abc');
  assert.equal(await search({ 'is-official': ['true'] }), 'a');
  assert.equal(await search({ 'is-official': ['0'] }), 'bc');
  assert.equal(await search({ stars: ['1', '4'] }), 'a');
  assert.equal(await search({ stars: ['3'], 'is-official': ['false'] }), 'b');
  for (const [filters, message] of [
    [{ color: ['red'] }, "invalid filter 'color'"],
    [{ 'is-official': ['maybe'] }, "invalid filter 'is-official=[maybe]'"],
    [{ 'is-official': ['true', 'false'] }, "invalid filter 'is-official=[true false]'"],
    [{ stars: ['x'] }, `invalid filter 'stars=x': strconv.Atoi: parsing "x": invalid syntax`],
  ] as const) {
    await assert.rejects(search(filters as unknown as Record<string, string[]>), { status: 400, message });
  }
});

test('search: nothing is automated, unless the daemon is of a time that took the hub at its word', async () => {
  asked.length = 0;
  assert.equal(await search({ 'is-automated': ['true'] }), '');
  assert.deepEqual(asked, []);
  assert.equal(await search({ 'is-automated': ['false'] }), 'abc');
  assert.equal(await search({ 'is-automated': ['true'] }, { knowsAutomated: true }), 'b');
  assert.equal(await search({ 'is-automated': ['false'] }, { knowsAutomated: true }), 'ac');
});

test('search: 25 results unless said otherwise, from 1 to 100', async () => {
  asked.length = 0;
  for (const limit of [undefined, 0, 1, 100]) await search({}, { limit });
  assert.deepEqual(
    asked.map(({ limit }) => limit),
    [25, 25, 1, 100],
  );
  for (const limit of [-1, 101]) {
    const message = `limit ${limit} is outside the range of [1, 100]`;
    await assert.rejects(search({}, { limit }), { status: 400, message });
  }
});

test('inspect: what is no name in a registry is refused before any is asked', async () => {
  const id = 'ab'.repeat(32);
  for (const [name, status, message] of [
    [id, 500, 'no manifest found for full image ID'],
    [`sha256:${id}`, 500, 'no manifest found for full image ID'],
    ['UPPER', 400, 'invalid reference format: repository name must be lowercase'],
    ['scratch', 400, "'scratch' is a reserved name"],
  ] as const) {
    await assert.rejects(registries.inspect(name, { signal }), { status, message });
  }
});
