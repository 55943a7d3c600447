import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BASE_LABEL, TARGET_LABEL } from '../../src/lib/delta-image.ts';
import { layerOf, makeImage, type Packing, type TestImage, type TestLayer } from './registry-images.ts';
import { archive } from './tar-archive.ts';

/** What librsync's own program says is the delta between two runs of bytes. */
export function rdiff(base: Buffer, target: Buffer): Buffer {
  const directory = mkdtempSync(join(tmpdir(), 'rdiff-'));
  const path = (name: string) => join(directory, name);
  try {
    writeFileSync(path('base'), base);
    writeFileSync(path('target'), target);
    execFileSync('rdiff', ['signature', path('base'), path('signature')]);
    execFileSync('rdiff', ['delta', path('signature'), path('target'), path('delta')]);
    return readFileSync(path('delta'));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** A layer of a delta image: a tar with one file `delta`. */
export function deltaLayer(delta: Buffer, packing?: Packing): TestLayer {
  return layerOf(archive([{ name: 'delta', content: delta }]), packing);
}

/** What stands for a layer that the base has. */
export const emptyLayer = layerOf(archive([]));

/** The image that is given to devices instead of the target, as balenaEngine lays it out. */
export function rdiffImage(
  base: TestImage,
  target: TestImage,
  o: { layers?: readonly TestLayer[]; labels?: Record<string, unknown>; packing?: Packing } = {},
): TestImage {
  const baseTar = Buffer.concat(base.layers.map(({ tar }) => tar));
  const isShared = ({ diffId }: TestLayer) => base.layers.some((layer) => layer.diffId === diffId);
  const layers = target.layers.map((layer) =>
    isShared(layer) ? emptyLayer : deltaLayer(rdiff(baseTar, layer.tar), o.packing),
  );
  return makeImage({
    layers: o.layers ?? layers,
    config: {
      Labels: { [BASE_LABEL]: base.configDigest, [TARGET_LABEL]: target.config.toString(), ...o.labels },
    },
  });
}
