import { fail } from '../errors.ts';
import {
  DELTA_TYPE,
  type DeltaArtifact,
  type DeltaFacts,
  deltaTag,
  isIndex,
  parseDeltaManifest,
  parseReferrers,
  referrersTag,
} from '../lib/delta-artifact.ts';
import type { Digest } from '../lib/digest.ts';
import { familiarString } from '../lib/reference.ts';
import type { Asking, Documents } from './documents.ts';
import type { Source } from './hosts.ts';

/** So many bases are asked for by the tag that a delta from them has, and so many deltas of a list are looked at. */
const MOST_LOOKED_AT = 8;
/** A delta that cannot be found sooner saves nobody's time. */
const LONGEST_WAIT_MS = 5000;
/** One that somebody asks for by name is worth more patience. */
const LONGEST_WAIT_FOR_NAMED_MS = 15_000;

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

/**
 * The deltas that a name stands for, the smallest first: a delta's artifact, or an index that lists some. Throws where
 * there is none of either kind, where the registry refuses or does not answer, and for a delta to another image.
 */
export async function namedDeltas(
  { signal, ...rest }: Asking,
  documents: Documents,
  wish: DeltaWish,
): Promise<DeltaArtifact[]> {
  const asking = {
    ...rest,
    signal: AbortSignal.any([signal, AbortSignal.timeout(LONGEST_WAIT_FOR_NAMED_MS)]),
  };
  const { ref } = asking;
  const deltasOf = async (source: Source) => {
    const { bytes } = await documents.manifest(source, asking, ref.digest ?? ref.tag ?? 'latest');
    if (isIndex(bytes)) return await listedDeltas(bytes, source, asking, documents, wish);
    const artifact = parseDeltaManifest(bytes);
    const { targetManifest } = artifact.facts;
    if (targetManifest !== wish.targetManifest)
      throw fail.corrupt(`delta: it leads to ${targetManifest}, not to ${wish.targetManifest}`);
    return fitting([artifact], wish);
  };
  try {
    return await documents.fromSources(asking, deltasOf);
  } catch (cause) {
    signal.throwIfAborted();
    if (!asking.signal.aborted) throw cause;
    const seconds = LONGEST_WAIT_FOR_NAMED_MS / 1000;
    throw fail.registryUnreachable(
      `${familiarString(ref)} could not be had within ${seconds} seconds`,
      cause,
    );
  }
}

/** By their tags, else by the list of what refers to the image. Throws only once the time is over. */
async function deltasAt(
  source: Source,
  asking: Asking,
  documents: Documents,
  wish: DeltaWish,
): Promise<DeltaArtifact[]> {
  const { targetManifest } = wish;
  const tags = wish.baseIds.slice(0, MOST_LOOKED_AT).map((baseId) => deltaTag(targetManifest, baseId));
  const byTag = fitting(await artifactsOf(tags, source, asking, documents), wish);
  if (byTag.length > 0) return byTag;
  const list =
    (await attempt(asking, () => documents.referrers(source, asking, targetManifest, DELTA_TYPE))) ??
    (await attempt(asking, () => documents.manifest(source, asking, referrersTag(targetManifest))))?.bytes;
  return list === undefined ? [] : await listedDeltas(list, source, asking, documents, wish);
}

/** Those of a list, from the best bases. */
async function listedDeltas(
  list: Buffer,
  source: Source,
  asking: Asking,
  documents: Documents,
  wish: DeltaWish,
): Promise<DeltaArtifact[]> {
  const listed = parseReferrers(list)
    .filter(({ facts }) => isFitting(facts, wish))
    .toSorted((a, b) => wish.baseIds.indexOf(a.facts.baseId) - wish.baseIds.indexOf(b.facts.baseId))
    .slice(0, MOST_LOOKED_AT);
  const digests = listed.map(({ descriptor }) => descriptor.digest);
  return fitting(await artifactsOf(digests, source, asking, documents), wish);
}

async function artifactsOf(
  names: readonly string[],
  source: Source,
  asking: Asking,
  documents: Documents,
): Promise<(DeltaArtifact | undefined)[]> {
  const read = async (name: string) =>
    parseDeltaManifest((await documents.manifest(source, asking, name)).bytes);
  return Promise.all(names.map((name) => attempt(asking, () => read(name))));
}

/** What fails counts as not there, until the time is over. */
async function attempt<T>({ signal }: Asking, work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}

function isFitting({ targetManifest, baseId }: DeltaFacts, wish: DeltaWish): boolean {
  return targetManifest === wish.targetManifest && wish.baseIds.includes(baseId);
}

function fitting(found: readonly (DeltaArtifact | undefined)[], wish: DeltaWish): DeltaArtifact[] {
  return found
    .filter((each) => each !== undefined)
    .filter(({ facts }) => isFitting(facts, wish))
    .toSorted((a, b) => a.blob.size - b.blob.size);
}
