import { type Digest, digestOf } from '../lib/digest.ts';
import type { Reference } from '../lib/reference.ts';
import { type ImageManifest, parseManifest } from '../registry/manifest.ts';
import type { ImageRecord } from '../store/records.ts';

/** A blob that holds a layer. */
export interface PackedLayer {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  readonly compression: 'gzip' | 'zstd' | 'none';
}

/** The exact bytes of a manifest. */
export interface PushedManifest {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly mediaType: string;
}

/** Docker's image manifest v2, schema 2, and OCI image-spec v1.1, manifest.md and layer.md. */
const docker = {
  manifest: 'application/vnd.docker.distribution.manifest.v2+json',
  config: 'application/vnd.docker.container.image.v1+json',
  layers: {
    gzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
    zstd: undefined,
    none: 'application/vnd.docker.image.rootfs.diff.tar',
  },
};
const oci = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layers: {
    gzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
    zstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
    none: 'application/vnd.oci.image.layer.v1.tar',
  },
};

/** The manifest with which an image came, if it did and it can be read. */
export function ownManifest(image: ImageRecord, ref: Reference): ImageManifest | undefined {
  if (image.manifest === undefined) return undefined;
  try {
    const parsed = parseManifest(Buffer.from(image.manifest), image.manifestMediaType, ref);
    const isFit = parsed.kind === 'image' && parsed.layers.length === image.diffIds.length;
    return isFit ? parsed : undefined;
  } catch {
    return undefined; // an image is no worse for it: it gets a new one
  }
}

/**
 * The manifest for an image whose layers are in the repository as these blobs, lowest first: the one with which it came,
 * byte for byte, if it names exactly these, or a new one, in the form in which dockerd writes it.
 */
export function manifestOf(
  image: ImageRecord,
  layers: readonly PackedLayer[],
  ref: Reference,
): PushedManifest {
  const own = ownManifest(image, ref);
  if (own !== undefined && image.manifest !== undefined) {
    const isSame =
      own.config.digest === image.id && own.layers.every(({ digest }, at) => digest === layers[at]?.digest);
    if (isSame) return inBytes(image.manifest, own.mediaType);
  }
  const isOci = own?.mediaType === oci.manifest || layers.some(({ compression }) => compression === 'zstd');
  const types = isOci ? oci : docker;
  const manifest = {
    schemaVersion: 2,
    mediaType: types.manifest,
    config: { mediaType: types.config, size: Buffer.byteLength(image.config), digest: image.id },
    layers: layers.map(({ digest, size, compression }) => ({
      mediaType: types.layers[compression],
      size,
      digest,
    })),
  };
  return inBytes(JSON.stringify(manifest, null, 3), types.manifest);
}

function inBytes(text: string, mediaType: string): PushedManifest {
  const bytes = Buffer.from(text);
  return { bytes, digest: digestOf(bytes), mediaType };
}
