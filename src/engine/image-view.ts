import { type ImageConfig, parseImageConfig } from '../lib/image-config.ts';
import { familiarString, parseReference } from '../lib/reference.ts';
import type { ImageRecord } from '../store/records.ts';

/** An image with the names it goes by, in the short form that people read. */
export interface ImageView {
  record: ImageRecord;
  config: ImageConfig;
  /** `debian:12` */
  repoTags: string[];
  /** `debian@sha256:…` */
  repoDigests: string[];
  /** Where its layers are unpacked, topmost first; only where one image is looked at. */
  layerDirs?: string[];
}

/** The view of a record and the canonical names that stand for it. */
export function viewOf(record: ImageRecord, names: readonly string[]): ImageView {
  const tags = names.filter((key) => !key.includes('@'));
  // it can be found by the digest of a delta image, but nobody else would get it by that
  const isOwn = (key: string) => record.deltaDigests?.some((digest) => key.endsWith(`@${digest}`)) !== true;
  const digests = names.filter((key) => key.includes('@') && isOwn(key));
  const familiar = (key: string) => familiarString(parseReference(key));
  return {
    record,
    config: parseImageConfig(record.config),
    repoTags: tags.map(familiar).sort(),
    repoDigests: digests.map(familiar).sort(),
  };
}

/** When the image was built; when it came here, if it does not say. Milliseconds since 1970. */
export function createdMs({ config, record }: ImageView): number {
  return Date.parse(config.created ?? record.pulledAt) || 0;
}

/** What events tell of an image besides its name. */
export function imageLabels(record: ImageRecord): Record<string, string> {
  return parseImageConfig(record.config).config?.Labels ?? {};
}
