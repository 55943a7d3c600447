import * as z from 'zod/mini';
import { fail } from '../errors.ts';
import { type Digest, digestOf, isDigest } from '../lib/digest.ts';
import { normalize, type Platform } from '../lib/platform.ts';
import { parseReference, type Reference } from '../lib/reference.ts';
import type { ImageRecord } from '../store/records.ts';

/** With the container's own, overlayfs takes 128 layers in one mount. */
export const MOST_LAYERS = 127;

/** An image that an archive holds, checked but for its layers. */
export interface ArchivedImage {
  readonly id: Digest;
  /** The exact JSON text. */
  readonly config: string;
  readonly platform: Platform;
  /** Lowest first: what each must unpack to, where the archive has it, and its bytes there where that was said. */
  readonly layers: readonly { readonly diffId: Digest; readonly path: string; readonly sizeBytes?: number }[];
  /** Each with a tag. */
  readonly names: readonly Reference[];
  readonly parent?: string;
  /** As the archive has it. */
  readonly manifest?: { readonly digest: Digest; readonly mediaType: string; readonly text: string };
}

/** An image that is ready to be adopted, and the names that it is to have. */
export interface LoadedImage {
  readonly record: ImageRecord;
  readonly names: readonly Reference[];
}

const config = z.object({
  os: z.optional(z.string()),
  architecture: z.optional(z.string()),
  variant: z.optional(z.string()),
  rootfs: z.object({
    type: z.optional(z.literal('layers')),
    diff_ids: z.optional(
      z.nullable(
        z.array(z.string().check(z.refine(isDigest, 'not a sha256 digest'))).check(z.maxLength(MOST_LAYERS)),
      ),
    ),
  }),
});

/** The part of an image's config that its loading depends on. Throws if the image cannot be one for this host. */
export function readConfig(
  bytes: Buffer,
  host: Platform,
): { id: Digest; platform: Platform; diffIds: Digest[] } {
  const { os, architecture, variant, rootfs } = readJson(bytes, config, 'the config of an image');
  const platform = normalize({
    os: os || 'linux',
    architecture: architecture || host.architecture,
    ...(variant && { variant }),
  });
  if (platform.os !== host.os) throw fail.invalidArchive(`cannot load ${platform.os} image on ${host.os}`);
  return { id: digestOf(bytes), platform, diffIds: (rootfs.diff_ids ?? []).filter(isDigest) };
}

/** Parses JSON of an archive; throws with the first thing that is wrong with it. */
export function readJson<T extends z.ZodMiniType>(bytes: Buffer, shape: T, what: string): z.output<T> {
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw fail.invalidArchive(`${what} is no JSON`, cause);
  }
  const checked = shape.safeParse(json);
  if (checked.success) return checked.data;
  const issue = checked.error.issues[0];
  const where = issue?.path.map(String).join('.');
  throw fail.invalidArchive(`${what} is not valid: ${where ? `${where}: ` : ''}${issue?.message ?? ''}`);
}

/** A name with a tag; throws for any other. */
export function readTag(text: string): Reference {
  const ref = parseReference(text);
  if (ref.tag === undefined || ref.digest !== undefined)
    throw fail.invalidArchive(`invalid tag ${JSON.stringify(text)}`);
  return ref;
}
