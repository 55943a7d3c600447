import type { Digest } from '../lib/digest.ts';
import type { Platform } from '../lib/platform.ts';

/** An image that is here, whole: every layer that it names has a record. Key: `id`. */
export interface ImageRecord {
  /** The digest of the config: what Docker calls the image's ID. */
  id: Digest;
  /** These three are there if it came with a manifest, from a registry or an OCI layout. */
  manifestDigest?: Digest;
  manifestMediaType?: string;
  /** The exact JSON text, so that its digest can be proven and it can be pushed as it came. */
  manifest?: string;
  /** The exact JSON text. */
  config: string;
  /** The image that this one was committed or built on here. */
  parent?: Digest;
  /** Lowest layer first. */
  diffIds: Digest[];
  /** Sum of the layers' file sizes. */
  sizeBytes: number;
  pulledAt: string;
  lastTagTime?: string;
  platform: Platform;
  /** What registries call delta images that led to this one: it may have been asked for by them, but they are not its own. */
  deltaDigests?: Digest[];
}

/**
 * What a name stands for. Key: the canonical reference, `docker.io/library/debian:12` for a tag,
 * `docker.io/library/debian@sha256:…` for the digest by which the registry gave it.
 */
export interface RefRecord {
  imageId: Digest;
  /** What the registry called it: the digest of an index or a manifest. */
  digest?: Digest;
  updatedAt: string;
  /** The generations before, newest first: what a rollback returns to. */
  previous: Generation[];
}

/** An image that a name stood for, until the given time. */
export interface Generation {
  imageId: Digest;
  digest?: Digest;
  until: string;
}

/** A layer that is unpacked on disk. Key: `diffId`. */
export interface LayerRecord {
  diffId: Digest;
  /** Its directory under `layers/`. */
  dirId: string;
  /** Sum of its regular files. */
  sizeBytes: number;
  tarBytes: number;
  /** Digests of the compressed blobs that are known to hold it; none for a layer that was made here. */
  blobs: Digest[];
  /** The blob that a push made of it last: gzip, and the same bytes each time. */
  pushed?: { digest: Digest; size: number };
  createdAt: string;
  /** In what it is not what it was, for people: whoever brings this layer brings it anew. */
  damage?: string;
}

/** A promise not to collect these layers before the given time: what is in flight has no image yet. Key: `id`. */
export interface LeaseRecord {
  id: string;
  /** RFC 3339. */
  expiresAt: string;
  diffIds: Digest[];
  /** For people: what it is held for. */
  why: string;
  /** Nobody will take this work up again: what it made goes at the next boot. */
  endsWithDaemon?: true;
}
