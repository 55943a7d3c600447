import { type Digest, digestOf, isDigest } from '../lib/digest.ts';

/** A layer in `layers/`: synced, whole, never changed again. */
export interface PublishedLayer {
  readonly dirId: string;
  readonly diffId: Digest;
  /** Bytes of all regular files. */
  readonly sizeBytes: number;
  readonly tarBytes: number;
}

/**
 * The text of `layer.json`, which says what a layer's directory holds, so that the layers can be found again without
 * the database. The checksum covers the directory's name as well: a copy under another name is no layer.
 */
export function formatLayer(layer: PublishedLayer): string {
  const { diffId, sizeBytes, tarBytes } = layer;
  return `${JSON.stringify({ version: 1, diffId, sizeBytes, tarBytes, checksum: checksumOf(layer) })}\n`;
}

/** Reads `layer.json` of this directory; undefined if it is not one that {@link formatLayer} wrote. */
export function parseLayer(dirId: string, text: string): PublishedLayer | undefined {
  let record: Record<string, unknown>;
  try {
    record = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
  if (typeof record !== 'object' || record === null || record['version'] !== 1) return undefined;
  const { diffId, sizeBytes, tarBytes, checksum } = record;
  if (typeof diffId !== 'string' || !isDigest(diffId)) return undefined;
  if (typeof sizeBytes !== 'number' || typeof tarBytes !== 'number') return undefined;
  const layer = { dirId, diffId, sizeBytes, tarBytes };
  return checksum === checksumOf(layer) ? layer : undefined;
}

function checksumOf({ dirId, diffId, sizeBytes, tarBytes }: PublishedLayer): string {
  return digestOf(JSON.stringify([dirId, diffId, sizeBytes, tarBytes]));
}
