import * as z from 'zod/mini';
import { type Failure, fail } from '../errors.ts';
import { type Digest, isDigest } from '../lib/digest.ts';
import { formatPlatform, matchPlatform, normalize, type Platform } from '../lib/platform.ts';
import { familiarString, type Reference } from '../lib/reference.ts';

// Manifests are strangers' files: everything is bounded and checked here, once, and trusted afterwards.

/** A manifest or config that is larger than this is refused unread. */
export const MOST_DOCUMENT_BYTES = 4 * 1024 * 1024;
/** With the container's own, overlayfs takes 128 layers in one mount. */
const MOST_LAYERS = 127;
const MOST_ENTRIES = 1024;

const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';
const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
const known = [DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX];
const SCHEMA1 = /^application\/vnd\.docker\.distribution\.manifest\.v1\+/;

/** What is asked for: schema 1 is left out, so that a registry that has something newer does not convert. */
export const ACCEPTED = known.join(', ');

// moby, distribution: odd registries have labelled configs like this (docker/distribution issue 1621)
const CONFIG_TYPES = new Set([
  'application/vnd.docker.container.image.v1+json',
  'application/vnd.oci.image.config.v1+json',
  'application/octet-stream',
  'application/json',
  'text/html',
  '',
]);

/** OCI image-spec v1.1, layer.md, and Docker's image manifest v2s2: kind of layer, and how it is packed. */
const LAYER_TYPE =
  /^application\/vnd\.(?:docker\.image\.rootfs\.(foreign\.)?diff|oci\.image\.layer\.(nondistributable\.)?v1)\.tar(?:[.+](gzip|zstd))?$/;

const mediaType = z.string().check(z.maxLength(255));
const digest = z.string().check(z.refine(isDigest, 'not a sha256 digest'));
const descriptor = z.object({
  mediaType: z._default(mediaType, ''),
  digest,
  size: z.int().check(z.nonnegative()),
  urls: z.optional(z.nullable(z.array(z.string()))),
});
const platform = z.object({
  os: z._default(z.string(), ''),
  architecture: z._default(z.string(), ''),
  variant: z.optional(z.string()),
});
const imageManifest = z.object({
  schemaVersion: z.literal(2),
  config: descriptor,
  layers: z.nullable(z.array(descriptor).check(z.maxLength(MOST_LAYERS))),
});
const index = z.object({
  schemaVersion: z.literal(2),
  manifests: z
    .array(z.object({ ...descriptor.shape, platform: z.optional(z.nullable(platform)) }))
    .check(z.maxLength(MOST_ENTRIES)),
});
const imageConfig = z.object({
  os: z._default(z.string(), ''),
  architecture: z._default(z.string(), ''),
  variant: z.optional(z.string()),
  rootfs: z.object({
    type: z.literal('layers'),
    diff_ids: z.optional(z.nullable(z.array(digest).check(z.maxLength(MOST_LAYERS)))),
  }),
});

/** A blob that a manifest names. */
export interface Descriptor {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  readonly mediaType: string;
}

/** One layer of an image: the blob to fetch, how it is packed, and what it must unpack to. */
export interface LayerDescriptor extends Descriptor {
  readonly compression: 'gzip' | 'zstd' | 'none';
  readonly diffId: Digest;
}

/** A manifest that describes an image. */
export interface ImageManifest {
  readonly kind: 'image';
  readonly mediaType: string;
  readonly config: Descriptor;
  readonly layers: readonly Omit<LayerDescriptor, 'diffId'>[];
}

/** A manifest that lists one image for each of several platforms. */
export interface ImageIndex {
  readonly kind: 'index';
  readonly mediaType: string;
  readonly entries: readonly (Descriptor & { readonly platform?: Platform })[];
}

/** A manifest of whatever kind as JSON, and its media type. Throws for kinds that are no longer or not yet spoken. */
export function readManifest(
  bytes: Buffer,
  contentType: string | undefined,
  ref: Reference,
): { json: object; type: string; isIndex: boolean } {
  const json = parseJson(bytes, 'manifest', ref);
  const type = typeOf(json, contentType, ref);
  return { json, type, isIndex: type === DOCKER_LIST || type === OCI_INDEX };
}

/**
 * Reads a manifest. `contentType` is what the server called it. Throws a failure that says what is wrong with it:
 * not valid, of a kind that cannot be run, or of a kind that is no longer spoken.
 */
export function parseManifest(
  bytes: Buffer,
  contentType: string | undefined,
  ref: Reference,
): ImageManifest | ImageIndex {
  const { json, type, isIndex } = readManifest(bytes, contentType, ref);
  if (isIndex) {
    const { manifests } = check(index, json, 'manifest', ref);
    return {
      kind: 'index',
      mediaType: type,
      entries: manifests.map((entry) => ({ ...described(entry), ...platformOf(entry.platform) })),
    };
  }
  const { config, layers } = check(imageManifest, json, 'manifest', ref);
  if (!CONFIG_TYPES.has(config.mediaType)) {
    throw fail.unsupportedImage(
      `Encountered remote ${JSON.stringify(config.mediaType)}(unknown) when fetching`,
    );
  }
  return { kind: 'image', mediaType: type, config: described(config), layers: (layers ?? []).map(layerOf) };
}

/** The entry that serves a platform best; one without a platform serves any, but last. Throws 404 if there is none. */
export function chooseEntry({ entries }: ImageIndex, wanted: Platform): Descriptor {
  let best: { entry: Descriptor; score: number } | undefined;
  for (const entry of entries) {
    if (entry.mediaType !== DOCKER_MANIFEST && entry.mediaType !== OCI_MANIFEST) continue;
    const score = entry.platform === undefined ? Number.MAX_VALUE : matchPlatform(wanted, entry.platform);
    if (score !== undefined && (best === undefined || score < best.score)) best = { entry, score };
  }
  if (best === undefined) throw fail.noMatchingManifest(inFull(wanted));
  return best.entry;
}

/** The part of an image's config that a pull depends on. Throws if it does not fit the manifest or the platform. */
export function parsePulledConfig(
  bytes: Buffer,
  manifest: ImageManifest,
  o: { ref: Reference; platform: Platform; isPlatformStrict: boolean },
): { platform: Platform; layers: LayerDescriptor[] } {
  const { rootfs, ...made } = check(
    imageConfig,
    parseJson(bytes, 'image config', o.ref),
    'image config',
    o.ref,
  );
  const offered = normalize({
    os: made.os || o.platform.os,
    architecture: made.architecture || o.platform.architecture,
    ...(made.variant && { variant: made.variant }),
  });
  if (offered.os !== o.platform.os) {
    throw fail.unsupportedImage(
      `image operating system ${JSON.stringify(offered.os)} cannot be used on this platform`,
    );
  }
  if (o.isPlatformStrict && matchPlatform(o.platform, offered) === undefined) {
    throw fail.platformMismatch(familiarString(o.ref), formatPlatform(o.platform), formatPlatform(offered));
  }
  const diffIds = (rootfs.diff_ids ?? []).filter(isDigest);
  if (diffIds.length !== manifest.layers.length) {
    throw fail.unsupportedImage("layers from manifest don't match image configuration");
  }
  const layers = diffIds.flatMap((diffId, at) => {
    const layer = manifest.layers[at];
    return layer === undefined ? [] : [{ ...layer, diffId }];
  });
  return { platform: offered, layers };
}

/**
 * What a manifest is: what it says itself, else what the server says. A text that could be read as either kind is
 * refused (OCI image-spec v1.1, manifest.md: mediaType; CVE-2021-41190).
 */
function typeOf(json: object, contentType: string | undefined, ref: Reference): string {
  const said = new Set<string>();
  if ('mediaType' in json && typeof json.mediaType === 'string') said.add(json.mediaType);
  const served = contentType?.split(';')[0]?.trim().toLowerCase() ?? '';
  if (served.startsWith('application/vnd.')) said.add(served); // some servers call everything application/json
  for (const type of said) {
    if (SCHEMA1.test(type)) throw schema1(ref);
    if (!known.includes(type)) throw fail.unsupportedImage(`unsupported media type ${JSON.stringify(type)}`);
  }
  if (said.size === 0 && 'schemaVersion' in json && json.schemaVersion === 1) throw schema1(ref);

  const isIndex = 'manifests' in json;
  const [type = isIndex ? OCI_INDEX : OCI_MANIFEST, contradiction] = said;
  if (contradiction !== undefined)
    throw invalid('manifest', ref, `it is called ${type} and ${contradiction}`);
  const isCalledIndex = type === DOCKER_LIST || type === OCI_INDEX;
  if (isIndex !== isCalledIndex || (isIndex && ('layers' in json || 'config' in json))) {
    throw invalid('manifest', ref, 'it may be read as an image and as an index');
  }
  return type;
}

function schema1(ref: Reference): Failure {
  return fail.unsupportedImage(
    `Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. Suggest the author of ${familiarString(ref)} to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2.`,
  );
}

function layerOf(layer: z.infer<typeof descriptor>): Omit<LayerDescriptor, 'diffId'> {
  const match = LAYER_TYPE.exec(layer.mediaType);
  if (match === null)
    throw fail.unsupportedImage(`unsupported media type ${JSON.stringify(layer.mediaType)}`);
  const [, foreign, nondistributable, packed] = match;
  if ((foreign ?? nondistributable) !== undefined && (layer.urls?.length ?? 0) > 0) {
    throw fail.unsupportedImage(
      `layer ${layer.digest} is not in the registry (${layer.mediaType} with urls): such layers are not supported`,
    );
  }
  return { ...described(layer), compression: packed === 'gzip' || packed === 'zstd' ? packed : 'none' };
}

function described({ digest, size, mediaType }: z.infer<typeof descriptor>): Descriptor {
  return { digest: digest as Digest, size, mediaType }; // checked by the schema
}

function platformOf(given: z.infer<typeof platform> | null | undefined): { platform?: Platform } {
  if (!given || (given.os === '' && given.architecture === '')) return {};
  const { os, architecture, variant } = given;
  return { platform: { os, architecture, ...(variant && { variant }) } };
}

/** Docker writes arm64 with its variant. */
function inFull(wanted: Platform): string {
  const { os, architecture, variant } = normalize(wanted);
  return formatPlatform(
    architecture === 'arm64' ? { os, architecture, variant: variant ?? 'v8' } : normalize(wanted),
  );
}

function parseJson(bytes: Buffer, what: string, ref: Reference): object {
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw fail.registry(`invalid ${what} of ${familiarString(ref)}: not JSON`, { cause });
  }
  if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json;
  throw invalid(what, ref, 'not a JSON object');
}

function check<T extends z.ZodMiniType>(schema: T, json: object, what: string, ref: Reference): z.output<T> {
  const checked = schema.safeParse(json);
  if (checked.success) return checked.data;
  const issue = checked.error.issues[0];
  throw invalid(what, ref, `${issue?.path.map(String).join('.') || 'it'}: ${issue?.message ?? 'not valid'}`);
}

function invalid(what: string, ref: Reference, why: string): Failure {
  return fail.registry(`invalid ${what} of ${familiarString(ref)}: ${why}`);
}
