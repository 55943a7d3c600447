import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { costsOf, type LayerCosts } from '../../../src/delta/costs.ts';
import { DeltaReader, type LayerTar } from '../../../src/delta/delta-reader.ts';
import { encodeDelta } from '../../../src/delta/encoder.ts';
import { digestOf } from '../../../src/lib/digest.ts';
import { layerOf, text } from '../../support/delta-tars.ts';

async function costsOfDelta(base: LayerTar, target: LayerTar, tars: LayerTar[] | undefined) {
  const frames: Buffer[] = [];
  const header = await encodeDelta({
    base: [base],
    target: {
      manifestDigest: digestOf('m'),
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      manifest: 'm',
      config: 'c',
      layers: [target],
    },
    quality: 5,
    jobs: 1,
    keep: (frame) => void frames.push(frame),
    signal: new AbortController().signal,
  });
  const stream = async function* () {
    yield Buffer.concat([header, ...frames]);
  };
  const reader = await DeltaReader.open(stream());
  const [layer] = reader.header.layers;
  assert.ok(layer);
  const costs = await costsOf(reader, layer, tars);
  await reader.end();
  const frameBytes = frames.reduce((sum, { length }) => sum + length, 0);
  return { costs, frameBytes };
}

const sum = (numbers: readonly number[]) => numbers.reduce((all, each) => all + each, 0);
const columnsOf = ({ columns }: LayerCosts) => sum(Object.values(columns));

const gzip = (input: Buffer) => execFileSync('gzip', ['-n', '-9', '-c'], { input });
const same = { name: 'same', content: randomBytes(50_000) };
const document = text(40_000, 3000);
const base = layerOf([same, { name: 'page.gz', content: gzip(document) }]);
const target = layerOf([
  same,
  { name: 'new', content: randomBytes(10_000) },
  { name: 'page.gz', content: gzip(Buffer.concat([document, Buffer.from('more\n')])) },
]);

test('every byte of a delta is accounted for, by column, by operation and by file', async () => {
  const { costs, frameBytes } = await costsOfDelta(base, target, [base]);
  assert.equal(columnsOf(costs) + costs.headBytes, frameBytes);
  const { operations = [], files = [] } = costs.details ?? {};
  for (const each of [operations, files])
    assert.ok(Math.abs(sum(each.map(({ bytes }) => bytes)) - columnsOf(costs)) < 0.01);
  assert.equal(sum(operations.map(({ outputBytes }) => outputBytes)), target.tarBytes);
  assert.ok(operations.every(({ bytes, outputBytes }) => bytes >= 0 && outputBytes > 0));
  assert.equal(operations.find(({ name }) => name === 'gzip')?.count, 1);
});

test('what is new costs what it weighs, and what the base has next to nothing', async () => {
  const { costs } = await costsOfDelta(base, target, [base]);
  const bytesOf = (name: string) => costs.details?.files.find((file) => file.name === name)?.bytes ?? 0;
  assert.ok(bytesOf('new') > 10_000 && bytesOf('new') < 10_200, String(bytesOf('new')));
  assert.ok(bytesOf('same') < 50, String(bytesOf('same')));
  assert.ok(bytesOf('page.gz') < 2000, String(bytesOf('page.gz')));
});

test('without the base, columns are known all the same', async () => {
  const [withBase, without] = [
    await costsOfDelta(base, target, [base]),
    await costsOfDelta(base, target, undefined),
  ];
  assert.deepEqual(without.costs.columns, withBase.costs.columns);
  assert.equal(without.costs.details, undefined);
});
