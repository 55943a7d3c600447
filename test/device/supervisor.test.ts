import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { TestEngine } from '../support/engine.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeBigLayer, makeImage, push } from '../support/registry-images.ts';

/** What a balena-style supervisor looks for, once `supervisor-compat` is on; and that nobody else sees it. */
let registry: TestRegistry;
let sizes: number[];

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  const layers = await Promise.all(
    [3_000_000, 2_000_000].map((bytes, n) => makeBigLayer(bytes, { name: `f${n}` })),
  );
  sizes = layers.map(({ blob }) => blob.length);
  await push(registry.host, 'app', ['1'], makeImage({ layers }));
});

after(() => registry[Symbol.asyncDispose]());

interface Line {
  id?: string;
  status?: string;
  progressDetail?: { current?: number; total?: number };
}

async function pullLines(engine: TestEngine): Promise<Line[]> {
  const { text } = await engine.get(`/images/create?fromImage=${registry.host}/app&tag=1`, {
    method: 'POST',
  });
  return text
    .split('\r\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);
}

test('with supervisor-compat the engine has the name it looks for, and pulls tell their total', async () => {
  await using engine = await TestEngine.start({ flags: ['--supervisor-compat'] });
  assert.equal((await engine.json('/version')).Engine, 'balena-engine');
  const totals = (await pullLines(engine)).filter(({ id }) => id === 'Total');
  assert.ok(totals.length > 0);
  for (const { progressDetail } of totals) assert.equal(typeof progressDetail, 'object');
  const whole = sizes.reduce((sum, size) => sum + size, 0);
  assert.deepEqual(totals.at(-1)?.progressDetail, { current: whole, total: whole });
});

test('without it there is neither', async () => {
  await using engine = await TestEngine.start();
  assert.equal((await engine.json('/version')).Engine, undefined);
  assert.deepEqual(
    (await pullLines(engine)).filter(({ id }) => id === 'Total'),
    [],
  );
});
