import { type Digest, digestOf, hexOf } from './digest.ts';
import type { Platform } from './platform.ts';
import { canonicalString, familiarName, familiarString, type Reference } from './reference.ts';

/**
 * The archive that `docker save` writes since Docker 25: what older ones read (`manifest.json`, `repositories`), and an
 * OCI layout in the same files (OCI image-spec v1.1, image-layout.md).
 */

/** An image as it goes into an archive. */
export interface SavedImage {
  readonly id: Digest;
  /** The exact JSON text. */
  readonly config: string;
  readonly platform: Platform;
  /** Only if that image goes into the archive as well. */
  readonly parent?: Digest;
  /** Lowest first. */
  readonly layers: readonly { readonly diffId: Digest; readonly tarBytes: number }[];
  /** References with a tag. */
  readonly tags: readonly Reference[];
}

/** A file of the archive that is written from memory. */
export interface ArchiveDocument {
  readonly path: string;
  readonly bytes: Buffer;
}

/** Where an archive keeps what has this digest. */
export function blobPath(digest: Digest): string {
  return `blobs/sha256/${hexOf(digest)}`;
}

/** The files that say what else the archive holds. The order is the images', so that the same ones make the same files. */
export function indexDocuments(images: readonly SavedImage[]): ArchiveDocument[] {
  const repositories: Record<string, Record<string, string>> = {};
  for (const { tags, layers, id } of images) {
    for (const ref of tags) {
      const name = familiarName(ref);
      repositories[name] = { ...repositories[name], [ref.tag ?? '']: hexOf(layers.at(-1)?.diffId ?? id) };
    }
  }
  const index = {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: images.flatMap(descriptorsOf),
  };
  return [
    document('oci-layout', { imageLayoutVersion: '1.0.0' }),
    document('index.json', index),
    document('manifest.json', images.map(manifestItem)),
    ...(Object.keys(repositories).length === 0 ? [] : [document('repositories', repositories)]),
  ];
}

/** The files of one image that are no layers: its manifest and its config. */
export function imageDocuments(image: SavedImage): ArchiveDocument[] {
  const manifest = manifestOf(image);
  return [
    { path: blobPath(digestOf(manifest)), bytes: manifest },
    { path: blobPath(image.id), bytes: Buffer.from(image.config) },
  ];
}

function manifestItem({ id, tags, layers, parent }: SavedImage): object {
  return {
    Config: blobPath(id),
    RepoTags: tags.length === 0 ? null : tags.map(familiarString),
    Layers: layers.map(({ diffId }) => blobPath(diffId)),
    ...(parent !== undefined && { Parent: parent }),
    LayerSources: Object.fromEntries(layers.map((layer) => [layer.diffId, layerDescriptor(layer)])),
  };
}

/** One for each name, or one without any. */
function descriptorsOf(image: SavedImage): object[] {
  const manifest = manifestOf(image);
  const plain = {
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    digest: digestOf(manifest),
    size: manifest.length,
    platform: image.platform,
  };
  if (image.tags.length === 0) return [plain];
  return image.tags.map((ref) => ({
    ...plain,
    annotations: {
      'io.containerd.image.name': canonicalString(ref),
      'org.opencontainers.image.ref.name': ref.tag,
    },
  }));
}

function manifestOf({ id, config, layers }: SavedImage): Buffer {
  return jsonOf({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: id,
      size: Buffer.byteLength(config),
    },
    layers: layers.map(layerDescriptor),
  });
}

function layerDescriptor({ diffId, tarBytes }: SavedImage['layers'][number]): object {
  return { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: diffId, size: tarBytes };
}

function document(path: string, value: object): ArchiveDocument {
  return { path, bytes: jsonOf(value) };
}

function jsonOf(value: object): Buffer {
  return Buffer.from(JSON.stringify(value));
}
