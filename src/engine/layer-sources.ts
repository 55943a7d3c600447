import type { Digest } from '../lib/digest.ts';
import { parseReference, type Reference, repositoryOf } from '../lib/reference.ts';
import { type LayerDescriptor, parseManifest } from '../registry/manifest.ts';
import type { ImageRecord, RefRecord } from '../store/records.ts';

/** A blob that holds a layer, and a repository that may have it. */
export interface LayerPlace {
  /** The repository; without tag or digest. */
  readonly ref: Reference;
  readonly layer: LayerDescriptor;
}

/** Who has seen that many repositories refuse has seen enough. */
const MAX_PLACES = 32;

/**
 * Where a layer can be fetched: the blobs that manifests name for it, each first in the repositories that its images came
 * from, then in all others that any name of this host stands for. None where it was loaded, imported or built here.
 */
export function layerPlaces(
  diffId: Digest,
  images: readonly ImageRecord[],
  refs: readonly (readonly [string, RefRecord])[],
): LayerPlace[] {
  const places = new Map<string, LayerPlace>();
  const add = (repositories: Iterable<string>, layers: readonly LayerDescriptor[]) => {
    for (const repository of repositories)
      for (const layer of layers)
        places.set(`${repository} ${layer.digest}`, { ref: parseReference(repository), layer });
  };
  const holders = images.filter(({ diffIds }) => diffIds.includes(diffId));
  const found = holders.map((image) => ({ image, layers: descriptorsOf(image, diffId) }));
  for (const { image, layers } of found) add(repositoriesOf(image.id, refs), layers);
  const all = new Set(refs.map(([key]) => repositoryOf(parseReference(key))));
  for (const { layers } of found) add(all, layers);
  return [...places.values()].slice(0, MAX_PLACES);
}

/** Repositories whose names stand for this image, or did before. */
function repositoriesOf(imageId: Digest, refs: readonly (readonly [string, RefRecord])[]): Set<string> {
  const own = refs.filter(
    ([, ref]) => ref.imageId === imageId || ref.previous.some((before) => before.imageId === imageId),
  );
  return new Set(own.map(([key]) => repositoryOf(parseReference(key))));
}

function descriptorsOf(image: ImageRecord, diffId: Digest): LayerDescriptor[] {
  const { manifest, manifestMediaType, diffIds } = image;
  if (manifest === undefined) return [];
  try {
    const parsed = parseManifest(
      Buffer.from(manifest),
      manifestMediaType,
      parseReference(image.id.slice(7, 19)),
    );
    if (parsed.kind !== 'image' || parsed.layers.length !== diffIds.length) return [];
    return parsed.layers.flatMap((layer, at) => (diffIds[at] === diffId ? [{ ...layer, diffId }] : []));
  } catch {
    return []; // one that came by another way than a pull, and could not have been pulled
  }
}
