import type { Digest } from '../lib/digest.ts';
import { parseReference, type Reference } from '../lib/reference.ts';
import type { ImageRecord, LayerRecord, RefRecord } from '../store/records.ts';
import type { Table } from '../store/tables.ts';
import { ownManifest, type PackedLayer } from './pushed-manifest.ts';

/** A blob that is known to hold a layer. */
export interface KnownBlob extends PackedLayer {
  /** Paths of other repositories of the same registry that have it, as far as our own records tell. */
  readonly repositories: readonly string[];
}

/** Of one layer; the oldest is forgotten. */
const MOST_BLOBS = 8;

/** The record of a layer of which a push made this blob. */
export function withPushed(record: LayerRecord, pushed: { digest: Digest; size: number }): LayerRecord {
  const others = record.blobs.filter((digest) => digest !== pushed.digest);
  return { ...record, blobs: [...others, pushed.digest].slice(-MOST_BLOBS), pushed };
}

/** What is known of a layer that is to be pushed. */
export interface KnownLayer {
  /** Those of the manifest with which the image came first. */
  readonly blobs: KnownBlob[];
  /** Repositories of images that hold the layer, in whatever blob. */
  readonly repositories: Set<string>;
}

/** An image's layers, by diff ID. `ref` says which registry and repository they are wanted for. */
export async function knownLayers(
  tables: { images: Table<ImageRecord>; refs: Table<RefRecord> },
  image: ImageRecord,
  ref: Reference,
): Promise<Map<Digest, KnownLayer>> {
  const byImage = await repositoriesByImage(tables.refs, ref);
  const known = new Map<Digest, KnownLayer>();
  for (const diffId of image.diffIds) known.set(diffId, { blobs: [], repositories: new Set() });
  const learn = (other: ImageRecord) => {
    const repositories = [...(byImage.get(other.id) ?? [])];
    const layers = ownManifest(other, ref)?.layers ?? [];
    for (const [at, diffId] of other.diffIds.entries()) {
      const [ours, layer] = [known.get(diffId), layers[at]];
      for (const path of repositories) ours?.repositories.add(path);
      if (ours !== undefined && layer !== undefined) add(ours.blobs, { ...layer, repositories });
    }
  };
  learn(image);
  for await (const [, other] of tables.images.entries()) if (other.id !== image.id) learn(other);
  return known;
}

/** The blobs to look for, the likeliest first: those of manifests, then the one that an earlier push made. */
export function blobsOf(known: KnownLayer | undefined, record: LayerRecord | undefined): KnownBlob[] {
  const blobs = [...(known?.blobs ?? [])];
  if (record?.pushed !== undefined) {
    const repositories = [...(known?.repositories ?? [])];
    add(blobs, { ...record.pushed, compression: 'gzip', repositories });
  }
  return blobs;
}

/** Where images were pulled from or pushed to, at the same registry: the names that they have by digest tell. */
async function repositoriesByImage(
  refs: Table<RefRecord>,
  { domain, path }: Reference,
): Promise<Map<Digest, Set<string>>> {
  const found = new Map<Digest, Set<string>>();
  for await (const [key, { imageId }] of refs.entries({ prefix: `${domain}/` })) {
    const named = parseReference(key);
    if (named.digest !== undefined && named.path !== path) placesOf(found, imageId).add(named.path);
  }
  return found;
}

function placesOf(map: Map<Digest, Set<string>>, key: Digest): Set<string> {
  const known = map.get(key) ?? new Set();
  map.set(key, known);
  return known;
}

/** The same blob, known twice, is in the places of both. */
function add(blobs: KnownBlob[], blob: KnownBlob): void {
  const at = blobs.findIndex(({ digest }) => digest === blob.digest);
  const before = blobs[at];
  if (before === undefined) blobs.push(blob);
  else blobs[at] = { ...before, repositories: [...new Set([...before.repositories, ...blob.repositories])] };
}
