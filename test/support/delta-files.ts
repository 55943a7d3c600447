import { encodeDelta } from '../../src/delta/encoder.ts';
import {
  ARTIFACT_MANIFEST_TYPE,
  DELTA_TYPE,
  deltaTag,
  EMPTY_CONFIG,
  formatDeltaManifest,
} from '../../src/lib/delta-artifact.ts';
import { digestOf } from '../../src/lib/digest.ts';
import { layerTar } from './delta-tars.ts';
import { pushBlob, pushManifest, type TestImage } from './registry-images.ts';

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

/** Puts a delta beside its target, as `skerry delta create --push` does, where a pull finds it by its tag. */
export async function pushDelta(
  host: string,
  repository: string,
  { base, target, delta }: { base: TestImage; target: TestImage; delta: Buffer },
): Promise<void> {
  const blob = { mediaType: DELTA_TYPE, digest: digestOf(delta), size: delta.length };
  const artifact = formatDeltaManifest({
    facts: {
      ...{ baseId: base.configDigest, targetId: target.configDigest, targetManifest: target.digest },
      fullBytes: target.layers.reduce((sum, layer) => sum + layer.blob.length, 0),
    },
    subject: { mediaType: target.mediaType, digest: target.digest, size: target.bytes.length },
    blob,
  });
  await pushBlob(host, repository, blob.digest, new Blob([new Uint8Array(delta)]));
  await pushBlob(host, repository, digestOf(EMPTY_CONFIG), new Blob([new Uint8Array(EMPTY_CONFIG)]));
  const tag = deltaTag(target.digest, base.configDigest);
  const bytes = Buffer.from(artifact);
  await pushManifest(host, repository, tag, { bytes, mediaType: ARTIFACT_MANIFEST_TYPE });
}
