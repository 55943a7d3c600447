import {
  ARTIFACT_MANIFEST_TYPE,
  type ArtifactDescriptor,
  DELTA_TYPE,
  type DeltaReferrer,
  deltaTag,
  EMPTY_CONFIG,
  formatDeltaManifest,
} from '../../src/lib/delta-artifact.ts';
import { type Digest, digestOf } from '../../src/lib/digest.ts';
import { deltaBetween } from './delta-files.ts';
import { pushBlob, pushManifest, type TestImage } from './registry-images.ts';

/** A delta that lies in a registry. */
export interface PublishedDelta {
  readonly bytes: number;
  /** Of its blob. */
  readonly digest: Digest;
  /** As a list of deltas names it. */
  readonly entry: DeltaReferrer;
}

/**
 * Puts the delta between two images into a repository: beside the target, or under a tag of its own. It says of itself
 * that it leads to `goal`, `spoil` does its worst to it, and `lie` has its artifact tell something else of its blob.
 */
export async function publishDelta(
  host: string,
  repository: string,
  o: {
    base: TestImage;
    target: TestImage;
    tag?: string;
    goal?: TestImage;
    spoil?: (delta: Buffer) => Buffer;
    lie?: (blob: ArtifactDescriptor) => ArtifactDescriptor;
  },
): Promise<PublishedDelta> {
  const { base, target, goal = target, spoil = (delta) => delta, lie = (blob) => blob } = o;
  const delta = spoil(await deltaBetween(base, { ...goal, layers: target.layers }));
  const blob: ArtifactDescriptor = { mediaType: DELTA_TYPE, digest: digestOf(delta), size: delta.length };
  const facts = {
    baseId: base.configDigest,
    targetId: target.configDigest,
    targetManifest: target.digest,
    fullBytes: 1,
  };
  const subject = { mediaType: target.mediaType, digest: target.digest, size: target.bytes.length };
  const bytes = formatDeltaManifest({ facts, subject, blob: lie(blob) });
  await pushBlob(host, repository, blob.digest, new Blob([new Uint8Array(delta)]));
  await pushBlob(host, repository, digestOf(EMPTY_CONFIG), new Blob(['{}']));
  const tag = o.tag ?? deltaTag(target.digest, base.configDigest);
  const digest = digestOf(bytes);
  await pushManifest(host, repository, tag, { mediaType: ARTIFACT_MANIFEST_TYPE, bytes });
  const descriptor = { mediaType: ARTIFACT_MANIFEST_TYPE, digest, size: bytes.length };
  return { bytes: delta.length, digest: blob.digest, entry: { descriptor, facts } };
}
