import {
  DELTA_TYPE,
  type DeltaArtifact,
  deltaTag,
  parseDeltaManifest,
  parseReferrers,
  referrersTag,
} from '../lib/delta-artifact.ts';
import type { Digest } from '../lib/digest.ts';
import type { Asking, Documents } from './documents.ts';
import type { Source } from './hosts.ts';

/** So many bases are asked for by the tag that a delta from them has, and so many deltas of a list are looked at. */
const MOST_LOOKED_AT = 8;
/** A delta that cannot be found sooner saves nobody's time. */
const LONGEST_WAIT_MS = 5000;

/** Which deltas are of use. */
export interface DeltaWish {
  /** The manifest that they must lead to. */
  readonly targetManifest: Digest;
  /** IDs of the images that they may build on, the best first. */
  readonly baseIds: readonly Digest[];
}

/**
 * The deltas that are to be had beside an image, the smallest first, of the first source that has any. Whatever a source
 * has not, or refuses, or gives wrong or late, counts as none: an image can be had without.
 */
export async function findDeltas(
  sources: readonly Source[],
  { signal, ...rest }: Asking,
  documents: Documents,
  wish: DeltaWish,
): Promise<DeltaArtifact[]> {
  const asking = { ...rest, signal: AbortSignal.any([signal, AbortSignal.timeout(LONGEST_WAIT_MS)]) };
  for (const source of sources) {
    try {
      const found = await deltasAt(source, asking, documents, wish);
      if (found.length > 0) return found;
    } catch {
      signal.throwIfAborted();
      return [];
    }
  }
  return [];
}

/** By their tags, else by the list of what refers to the image. Throws only once the time is over. */
async function deltasAt(
  source: Source,
  asking: Asking,
  documents: Documents,
  wish: DeltaWish,
): Promise<DeltaArtifact[]> {
  const attempt = async <T>(work: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await work();
    } catch {
      asking.signal.throwIfAborted();
      return undefined;
    }
  };
  const artifact = (target: string) =>
    attempt(async () => parseDeltaManifest((await documents.manifest(source, asking, target)).bytes));
  const { targetManifest } = wish;
  const tags = wish.baseIds.slice(0, MOST_LOOKED_AT).map((baseId) => deltaTag(targetManifest, baseId));
  const byTag = fitting(await Promise.all(tags.map(artifact)), wish);
  if (byTag.length > 0) return byTag;
  const list =
    (await attempt(() => documents.referrers(source, asking, targetManifest, DELTA_TYPE))) ??
    (await attempt(() => documents.manifest(source, asking, referrersTag(targetManifest))))?.bytes;
  if (list === undefined) return [];
  const listed = parseReferrers(list)
    .filter(({ facts }) => facts.targetManifest === targetManifest && wish.baseIds.includes(facts.baseId))
    .toSorted((a, b) => wish.baseIds.indexOf(a.facts.baseId) - wish.baseIds.indexOf(b.facts.baseId))
    .slice(0, MOST_LOOKED_AT);
  return fitting(await Promise.all(listed.map(({ descriptor }) => artifact(descriptor.digest))), wish);
}

function fitting(found: readonly (DeltaArtifact | undefined)[], wish: DeltaWish): DeltaArtifact[] {
  return found
    .filter((each) => each !== undefined)
    .filter(
      ({ facts }) => facts.targetManifest === wish.targetManifest && wish.baseIds.includes(facts.baseId),
    )
    .toSorted((a, b) => a.blob.size - b.blob.size);
}
