import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { fail } from '../errors.ts';
import {
  ARTIFACT_MANIFEST_TYPE,
  addReferrer,
  DELTA_TYPE,
  deltaTag,
  EMPTY_CONFIG,
  formatDeltaManifest,
  REFERRERS_TYPE,
  referrersTag,
} from '../lib/delta-artifact.ts';
import { type Digest, digestOf } from '../lib/digest.ts';
import type { Reference } from '../lib/reference.ts';
import type { DeltaPlan } from './delta-making.ts';
import type { SourceContext } from './source-image.ts';

/** Where a delta is to be found in its registry. */
export interface PushedDelta {
  readonly ref: Reference;
  /** Of the artifact's manifest. */
  readonly digest: Digest;
}

/**
 * Puts a delta beside its target: under its tag, and in the list of what refers to the target, which is kept up to date
 * here where the registry does not keep it.
 */
export async function pushDelta(
  { base, target, fullBytes }: DeltaPlan,
  delta: { path: string; bytes: number },
  { access, signal }: Pick<SourceContext, 'access' | 'signal'>,
  { createdAt }: { createdAt?: string | undefined } = {},
): Promise<PushedDelta> {
  const { ref } = target;
  if (ref === undefined) throw fail.config('--push needs a target that is in a registry');
  const repository = { domain: ref.domain, path: ref.path };
  const asking = await access.asking(ref, signal);
  const destination = await access.registry.destination(ref, asking);
  const blob = { mediaType: DELTA_TYPE, digest: await fileDigest(delta.path), size: delta.bytes };
  if (!(await destination.has(blob, { signal }))) {
    const sent = await destination.upload(() => createReadStream(delta.path), { signal });
    if (sent.digest !== blob.digest) throw fail.verification('filesystem layer', blob.digest);
  }
  await destination.put(EMPTY_CONFIG, { signal });
  const { digest, mediaType, bytes: manifest } = target.manifest;
  const facts = {
    baseId: base.id,
    baseManifest: base.manifest.digest,
    targetId: target.id,
    targetManifest: digest,
    fullBytes,
    ...(createdAt !== undefined && { createdAt }),
  };
  const bytes = formatDeltaManifest({ facts, blob, subject: { mediaType, digest, size: manifest.length } });
  const tag = deltaTag(digest, base.id);
  const artifact = { bytes, mediaType: ARTIFACT_MANIFEST_TYPE };
  const { isListed } = await destination.putManifest(tag, artifact, { signal });
  if (!isListed) {
    const list = { ...repository, tag: referrersTag(digest) };
    const before = await access.registry.manifest(list, asking);
    const descriptor = { mediaType: ARTIFACT_MANIFEST_TYPE, digest: digestOf(bytes), size: bytes.length };
    const after = addReferrer(before?.bytes, { descriptor, facts });
    await destination.putManifest(list.tag, { bytes: after, mediaType: REFERRERS_TYPE }, { signal });
  }
  return { ref: { ...repository, tag }, digest: digestOf(bytes) };
}

async function fileDigest(path: string): Promise<Digest> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return `sha256:${hash.digest('hex')}` as Digest;
}
