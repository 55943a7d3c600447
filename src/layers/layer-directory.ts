import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { isAbsence, readIfThere } from '../host/files.ts';
import { type PublishedLayer, parseLayer } from './layer-records.ts';

/** A directory in `layers/`: a layer, or what is left of one. */
export type LayerOnDisk = (PublishedLayer & { readonly isJunk: false }) | JunkLayer;

/** A directory that is not a whole layer. */
export interface JunkLayer {
  readonly dirId: string;
  readonly isJunk: true;
  /** What is left of it: a tree that can still be mounted, the rest of its tar. */
  readonly hasTree: boolean;
  readonly hasTar: boolean;
}

/** What lies there, whatever it is. Looks at no file of the layer's own. */
export async function readLayerDirectory(dirId: string, directory: string): Promise<LayerOnDisk> {
  const isMountable = await hasTree(directory);
  const hasTar = await isThere(join(directory, 'tar-split'), (facts) => facts.isFile() && facts.size > 0);
  const layer = await readRecord(dirId, join(directory, 'layer.json'));
  if (layer !== undefined && isMountable && hasTar) return { ...layer, isJunk: false };
  return { dirId, isJunk: true, hasTree: isMountable, hasTar };
}

/** True if the layer's tree is there. */
export async function hasTree(directory: string): Promise<boolean> {
  return isThere(join(directory, 'diff'), (facts) => facts.isDirectory());
}

/** A record that cannot be read can be written again. */
async function readRecord(dirId: string, path: string): Promise<PublishedLayer | undefined> {
  const bytes = await readIfThere(path).catch(() => undefined);
  return bytes === undefined ? undefined : parseLayer(dirId, bytes.toString());
}

/** What is there and cannot be looked at counts as what it should be: it must not be taken for junk. */
async function isThere(path: string, isRight: (facts: Stats) => boolean): Promise<boolean> {
  try {
    return isRight(await lstat(path));
  } catch (cause) {
    return !isAbsence(cause);
  }
}

/** A name for a new one. Short, so that 128 of them fit a mount's options: 13 characters of 5 bits. */
export function newDirId(): string {
  const bits = randomBytes(8).readBigUInt64BE() | (1n << 64n);
  return bits.toString(32).slice(-13);
}
