import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { before, test } from 'node:test';
import fc from 'fast-check';
import { Base } from '../../../src/delta/base.ts';
import { compress } from '../../../src/delta/brotli.ts';
import { DeltaReader, type LayerTar, runFrame } from '../../../src/delta/delta-reader.ts';
import { encodeDelta } from '../../../src/delta/encoder.ts';
import { packFrame } from '../../../src/delta/frame.ts';
import { WindowCodec } from '../../../src/delta/vcdiff.ts';
import { digestOf } from '../../../src/lib/digest.ts';
import { VarintWriter } from '../../../src/lib/varints.ts';
import { mutated, mutation } from '../../support/delta-mutations.ts';
import { layerTar, realisticLayers } from '../../support/delta-tars.ts';

/**
 * A delta of the size that updates have, damaged and forged in every way: each is refused or makes what its header says,
 * soon, and in little memory.
 */
const rounds = process.env['SKERRY_SOAK'] ? 10_000 : 100;
/** An undamaged one takes some 50 ms. */
const MOST_MS = 4000;
const MOST_GROWTH_BYTES = 200 << 20;

const { base, target } = realisticLayers();
let delta: Buffer;

before(async () => {
  const frames: Buffer[] = [];
  const manifest = '{"schemaVersion":2}';
  const header = await encodeDelta({
    base,
    target: {
      layers: target,
      config: '{"os":"linux"}',
      manifest,
      manifestDigest: digestOf(Buffer.from(manifest)),
      mediaType: 'x/y',
    },
    quality: 1,
    jobs: 2,
    keep: (frame) => void frames.push(frame),
    signal: new AbortController().signal,
  });
  delta = Buffer.concat([header, ...frames]);
});

/** Decodes it, and sees itself whether each layer is what the header calls it. */
async function decode(bytes: Buffer, tars: readonly LayerTar[]): Promise<number> {
  const pieces = async function* () {
    for (let at = 0; at < bytes.length; at += 65_536) yield bytes.subarray(at, at + 65_536);
  };
  const reader = await DeltaReader.open(pieces());
  for (const layer of reader.header.layers) {
    const hash = createHash('sha256');
    await reader.layer(layer, tars, (made) => void hash.update(made));
    assert.equal(`sha256:${hash.digest('hex')}`, layer.diffId, 'wrong bytes were taken for a layer');
  }
  await reader.end();
  return reader.header.layers.length;
}

test('damaged or forged, a delta is refused or makes what it says, in time and in bounds', async (t) => {
  assert.ok(delta.length > 90_000 && delta.length < 400_000, `${delta.length} bytes`);
  assert.equal(await decode(delta, base), 2);
  const peakBytes = () => process.resourceUsage().maxRSS * 1024;
  const before = peakBytes();
  let [taken, slowest] = [0, 0];
  await fc.assert(
    fc.asyncProperty(mutation, async (change) => {
      const bytes = await mutated(delta, change);
      const began = performance.now();
      await decode(bytes, base).then(
        () => taken++,
        (cause: { code?: string }) => assert.equal(cause.code, 'CORRUPT', String(cause)),
      );
      const ms = performance.now() - began;
      slowest = Math.max(slowest, ms);
      assert.ok(ms < MOST_MS, `it took ${ms} ms`);
    }),
    { numRuns: rounds },
  );
  const growth = peakBytes() - before;
  t.diagnostic(
    `${rounds} mutations of ${delta.length} bytes: ${taken} without effect, the slowest ${Math.round(slowest)} ms, ${growth >> 20} MiB more`,
  );
  assert.ok(growth < MOST_GROWTH_BYTES, `${growth >> 20} MiB more`);
});

test('a program that reads its base over and over, a byte at a time, is refused', async () => {
  const source = layerTar(Buffer.alloc(8 << 20, 'base'));
  const copies = 70_000;
  const seeks = new VarintWriter();
  for (let at = 0, next = 0; at < copies; at++) {
    const position = (at * 37 * 65_536) % source.tarBytes;
    const distance = position - next;
    seeks.put(distance < 0 ? -2 * distance - 1 : 2 * distance);
    next = position + 1;
  }
  const ones = Buffer.alloc(copies, 1);
  const none = Buffer.alloc(0);
  const columns = [ones, ones, seeks.toBuffer(), none, none, none, none];
  const packed = await packFrame(columns, (plain) => compress(plain, 1));
  const mostEffortBytes = 1 << 30; // an eighth of the format's
  const o = {
    source: new Base([source]),
    windows: await WindowCodec.open(),
    sink: () => {},
    mostEffortBytes,
  };
  assert.throws(() => runFrame(packed, copies, o), {
    code: 'CORRUPT',
    message: /reads too much of its base/,
  });
  const again = [ones.subarray(0, 1), ones.subarray(0, 1), Buffer.from([0]), none, none, none, none];
  runFrame(await packFrame(again, (plain) => compress(plain, 1)), 1, o); // the next frame begins anew
});
