import { encodeDelta } from '../../src/delta/encoder.ts';
import { layerTar } from './delta-tars.ts';
import type { TestImage } from './registry-images.ts';

/** A delta as a file holds it; without names unless they are given, as a pushed one. */
export async function deltaBetween(
  base: TestImage,
  target: TestImage,
  o: { tags?: readonly string[]; baseTags?: readonly string[]; quality?: number } = {},
): Promise<Buffer> {
  const frames: Buffer[] = [];
  const header = await encodeDelta({
    ...(o.baseTags && { from: { id: base.configDigest, tags: o.baseTags } }),
    base: base.layers.map(({ tar }) => layerTar(tar)),
    target: {
      ...(o.tags && { tags: o.tags }),
      layers: target.layers.map(({ tar }) => layerTar(tar)),
      config: target.config.toString(),
      manifest: target.bytes.toString(),
      manifestDigest: target.digest,
      mediaType: target.mediaType,
    },
    quality: o.quality ?? 4,
    jobs: 1,
    keep: (frame) => void frames.push(frame),
    signal: new AbortController().signal,
  });
  return Buffer.concat([header, ...frames]);
}
