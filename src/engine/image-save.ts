import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Pack, pack } from 'tar-stream';
import { Failure, fail } from '../errors.ts';
import type { Layers } from '../layers/layers.ts';
import { type Digest, isDigest } from '../lib/digest.ts';
import { blobPath, imageDocuments, indexDocuments, type SavedImage } from '../lib/image-archive.ts';
import { parseImageConfig } from '../lib/image-config.ts';
import { familiarName, parseReference, type Reference } from '../lib/reference.ts';
import type { ImageRecord } from '../store/records.ts';
import type { Events } from './events.ts';
import type { Images } from './images.ts';
import type { LayerPin } from './layer-pins.ts';
import type { LayerShelf } from './layer-shelf.ts';

/** What saving needs of the rest of the engine. */
export interface SaveParts {
  images: Pick<Images, 'list' | 'using'>;
  shelf: Pick<LayerShelf, 'pin' | 'keep'>;
  layers: Pick<Layers, 'tar'>;
  events: Pick<Events, 'emit'>;
}

/** An image to be saved, and where its layers lie. */
interface Chosen extends SavedImage {
  readonly labels: Record<string, string>;
  readonly layers: readonly { readonly diffId: Digest; readonly tarBytes: number; readonly dirId: string }[];
  readonly createdAt: Date;
  readonly tags: Reference[];
}

/**
 * Streams images as an archive, layers as the very tars that they came as, each once. Until the stream ends their
 * layers stay, whatever is removed meanwhile. Throws 404 for an image that is not here before there is a stream; what
 * fails later, a layer that is damaged among it, destroys the stream.
 */
export async function saveImages(
  parts: SaveParts,
  names: readonly string[],
  { signal }: { signal: AbortSignal },
): Promise<Readable> {
  const pin = parts.shelf.pin();
  let images: Chosen[];
  try {
    images = await choose(parts, names, pin);
  } catch (cause) {
    await pin[Symbol.asyncDispose]();
    throw cause;
  }
  for (const { id, labels } of images) parts.events.emit('image', 'save', id, { name: id, ...labels });
  const archive = pack();
  write(archive, parts.layers, images, signal)
    .catch((cause: Error) => archive.destroy(cause))
    .finally(() => pin[Symbol.asyncDispose]());
  return Readable.from(archive, { objectMode: false });
}

/** The images meant, in the order in which they are named; a repository without a tag means all that go by it. */
async function choose(parts: SaveParts, names: readonly string[], pin: LayerPin): Promise<Chosen[]> {
  const chosen = new Map<Digest, Chosen>();
  for (const { name, tag } of await expand(parts.images, names)) {
    await parts.images.using(name, async ({ record, config }) => {
      const image = chosen.get(record.id) ?? (await read(parts.shelf, record, pin));
      chosen.set(record.id, { ...image, labels: config.config?.Labels ?? {} });
      const isNew = !image.tags.some((known) => sameTag(known, tag));
      if (tag !== undefined && isNew) image.tags.push(tag);
    });
  }
  const isSaved = ({ parent }: Chosen) => parent !== undefined && chosen.has(parent);
  return [...chosen.values()].map((image) => {
    if (isSaved(image)) return image;
    const { parent: _, ...orphan } = image;
    return orphan;
  });
}

/** One image by what it is to be found under, and the tag that is to be saved with it. */
interface Wanted {
  name: string;
  tag?: Reference;
}

/** What dockerd takes each name for. Throws in its words what it has no image for. */
async function expand(images: Pick<Images, 'list' | 'using'>, names: readonly string[]): Promise<Wanted[]> {
  const wanted: Wanted[] = [];
  for (const name of names) {
    if (isDigest(name) || /^(?:sha256:)?[0-9a-f]{64}$/.test(name)) {
      wanted.push(await existing(images, name, fail.noSuchImage(name)));
      continue;
    }
    const ref = parseReference(name);
    if (familiarName(ref) === 'sha256') {
      wanted.push(await existing(images, name, fail.noSuchImage(name)));
    } else if (ref.digest !== undefined) {
      wanted.push(await existing(images, name, fail.noSuchReference()));
    } else if (ref.tag !== undefined) {
      wanted.push({ ...(await existing(images, name, fail.noSuchReference())), tag: ref });
    } else {
      const all = await repository(images, familiarName(ref));
      wanted.push(...(all.length > 0 ? all : [await existing(images, name, fail.noSuchImage(name))]));
    }
  }
  return wanted;
}

async function existing(images: Pick<Images, 'using'>, name: string, missing: Failure): Promise<Wanted> {
  try {
    return await images.using(name, async () => ({ name }));
  } catch (cause) {
    throw cause instanceof Failure && cause.code === 'NO_SUCH_IMAGE' ? missing : cause;
  }
}

/** Everything that goes by a name of this repository. */
async function repository(images: Pick<Images, 'list'>, repository: string): Promise<Wanted[]> {
  const all = await images.list({ filters: new Map(), withSharedSize: false });
  return all.flatMap(({ repoTags, repoDigests }) =>
    [...repoTags, ...repoDigests]
      .map((name) => ({ name, tag: parseReference(name) }))
      .filter(({ tag }) => familiarName(tag) === repository)
      .map(({ name, tag }) => (tag.tag === undefined ? { name } : { name, tag })),
  );
}

function sameTag(one: Reference, other: Reference | undefined): boolean {
  return one.domain === other?.domain && one.path === other.path && one.tag === other.tag;
}

async function read(shelf: SaveParts['shelf'], record: ImageRecord, pin: LayerPin): Promise<Chosen> {
  const layers: Chosen['layers'][number][] = [];
  for (const diffId of record.diffIds) {
    const layer = await shelf.keep(diffId, pin);
    if (layer === undefined) throw fail.corrupt(`layer ${diffId} is missing: pull the image again`);
    layers.push({ diffId, tarBytes: layer.tarBytes, dirId: layer.dirId });
  }
  const createdMs = Math.max(0, Date.parse(parseImageConfig(record.config).created ?? ''));
  return {
    id: record.id,
    config: record.config,
    platform: record.platform,
    ...(record.parent !== undefined && { parent: record.parent }),
    layers,
    labels: {},
    createdAt: new Date(Number.isNaN(createdMs) ? 0 : createdMs),
    tags: [],
  };
}

/** Everything that tells of something comes before it: a reader need not go back. */
async function write(
  archive: Pack,
  layers: SaveParts['layers'],
  images: readonly Chosen[],
  signal: AbortSignal,
): Promise<void> {
  const epoch = new Date(0);
  for (const { path, bytes } of indexDocuments(images)) await putFile(archive, path, bytes, epoch);
  const directories = images.length === 0 ? [] : ['blobs/', 'blobs/sha256/'];
  for (const name of directories) await putDirectory(archive, name, epoch);
  const written = new Set<string>();
  for (const image of images) {
    for (const { path, bytes } of imageDocuments(image)) {
      if (!written.has(path)) await putFile(archive, path, bytes, image.createdAt);
      written.add(path);
    }
  }
  for (const image of images) {
    for (const layer of image.layers) {
      const path = blobPath(layer.diffId);
      if (written.has(path)) continue;
      written.add(path);
      const header = { name: path, size: layer.tarBytes, mtime: image.createdAt };
      await pipeline(proven(layers.tar(layer.dirId), layer), archive.entry(header), { signal });
    }
  }
  archive.finalize();
}

/** The bytes as they are; fails instead of ending if they are not the ones that the layer's name promises. */
async function* proven(
  tar: AsyncIterable<Buffer>,
  { diffId, tarBytes }: { diffId: Digest; tarBytes: number },
): AsyncGenerator<Buffer, void, undefined> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const piece of tar) {
    hash.update(piece);
    bytes += piece.length;
    if (bytes > tarBytes) break;
    yield piece;
  }
  if (bytes !== tarBytes || `sha256:${hash.digest('hex')}` !== diffId)
    throw fail.corrupt(`layer ${diffId} is damaged on disk: pull the image again`);
}

async function putFile(archive: Pack, name: string, bytes: Buffer, mtime: Date): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    archive.entry({ name, mtime }, bytes, (cause) => (cause ? reject(cause) : resolve()));
  });
}

async function putDirectory(archive: Pack, name: string, mtime: Date): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    archive.entry({ name, type: 'directory', mtime }, (cause) => (cause ? reject(cause) : resolve()));
  });
}
