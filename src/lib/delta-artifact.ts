import * as z from 'zod/mini';
import { fail } from '../errors.ts';
import { type Digest, digestOf, hexOf, isDigest } from './digest.ts';

/**
 * A delta as an artifact of a registry (OCI image-spec v1.1, manifest.md, Guidelines for Artifact Usage): a manifest with
 * one blob, which has the target image's manifest as its subject and tells in annotations what it leads from and to.
 */
export const DELTA_TYPE = 'application/vnd.skerry.delta.v1';
export const ARTIFACT_MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
export const REFERRERS_TYPE = 'application/vnd.oci.image.index.v1+json';

/** The config of what needs none (OCI image-spec v1.1, manifest.md, Guidance for an Empty Descriptor). */
export const EMPTY_CONFIG = Buffer.from('{}');
const EMPTY_TYPE = 'application/vnd.oci.empty.v1+json';

/** So many entries of a list of referrers are looked at; a list that is written keeps as many. */
const MOST_REFERRERS = 1024;
const TAG_DIGITS = 32;

const names = {
  baseId: 'io.skerry.delta.base.id',
  baseManifest: 'io.skerry.delta.base.manifest',
  targetId: 'io.skerry.delta.target.id',
  targetManifest: 'io.skerry.delta.target.manifest',
  fullBytes: 'io.skerry.delta.full.bytes',
  createdAt: 'org.opencontainers.image.created',
} as const;

/** Something in a registry by its digest. */
export interface ArtifactDescriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
}

/** What a delta's annotations tell, so that one can be chosen without being fetched. */
export interface DeltaFacts {
  /** The image that it builds on: its ID, which is its config's digest. */
  readonly baseId: Digest;
  readonly baseManifest?: Digest;
  readonly targetId: Digest;
  readonly targetManifest: Digest;
  /** Packed bytes of the target's layers that the base lacks: what a pull without the delta fetches. */
  readonly fullBytes: number;
  /** As RFC 3339 has it. Without one, the same delta makes the same artifact. */
  readonly createdAt?: string;
}

/** A delta in a registry. */
export interface DeltaArtifact {
  readonly facts: DeltaFacts;
  /** The manifest of the image that it leads to. */
  readonly subject: ArtifactDescriptor;
  /** The delta itself. */
  readonly blob: ArtifactDescriptor;
}

/** An entry of a list of referrers that is a delta. */
export interface DeltaReferrer {
  /** Of the artifact's manifest. */
  readonly descriptor: ArtifactDescriptor;
  readonly facts: DeltaFacts;
}

const descriptor = z.object({
  mediaType: z.string().check(z.maxLength(255)),
  digest: z.string().check(z.refine(isDigest)),
  size: z.int().check(z.nonnegative()),
});
const annotations = z.record(z.string(), z.string());
const manifest = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.optional(z.literal(ARTIFACT_MANIFEST_TYPE)),
  artifactType: z.literal(DELTA_TYPE),
  layers: z.tuple([z.object({ ...descriptor.shape, mediaType: z.literal(DELTA_TYPE) })]),
  subject: descriptor,
  annotations,
});
const index = z.object({ schemaVersion: z.literal(2), manifests: z.array(z.unknown()) });
const entry = z.object({
  ...descriptor.shape,
  mediaType: z.literal(ARTIFACT_MANIFEST_TYPE),
  artifactType: z.literal(DELTA_TYPE),
  annotations,
});

/** The tag in the target's repository under which the delta between two images is to be found, if there is one. */
export function deltaTag(targetManifest: Digest, baseId: Digest): string {
  return `delta-${hexOf(targetManifest).slice(0, TAG_DIGITS)}-${hexOf(baseId).slice(0, TAG_DIGITS)}`;
}

/** The tag that stands for a list of referrers where the registry keeps none (OCI distribution-spec v1.1, Referrers Tag Schema). */
export function referrersTag(subject: Digest): string {
  return `sha256-${hexOf(subject)}`;
}

/** True for a tag that this project or the referrers' scheme makes: no image of a user's. */
export function isArtifactTag(tag: string): boolean {
  return /^(?:delta-[0-9a-f]{32}-[0-9a-f]{32}|sha256-[0-9a-f]{64}(?:\..*)?)$/.test(tag);
}

/** The artifact's manifest. The same delta makes the same bytes. */
export function formatDeltaManifest({ facts, subject, blob }: DeltaArtifact): Buffer {
  return jsonOf({
    schemaVersion: 2,
    mediaType: ARTIFACT_MANIFEST_TYPE,
    artifactType: DELTA_TYPE,
    config: { mediaType: EMPTY_TYPE, digest: digestOf(EMPTY_CONFIG), size: EMPTY_CONFIG.length },
    layers: [bare(blob)],
    subject: bare(subject),
    annotations: annotationsOf(facts),
  });
}

/** Reads an artifact's manifest. Throws `CORRUPT` for one that is not a delta's, or contradicts itself. */
export function parseDeltaManifest(bytes: Buffer): DeltaArtifact {
  const parsed = manifest.safeParse(parseJson(bytes));
  const facts = parsed.success ? factsOf(parsed.data.annotations) : undefined;
  if (!parsed.success || facts === undefined) throw fail.corrupt('delta: its artifact is malformed');
  const [blob] = parsed.data.layers;
  const subject = described(parsed.data.subject);
  if (subject.digest !== facts.targetManifest)
    throw fail.corrupt('delta: its artifact belongs to another image than it says');
  return { facts, subject, blob: described(blob) };
}

/** True for a list of manifests, whatever it lists. */
export function isIndex(bytes: Buffer): boolean {
  return index.safeParse(parseJson(bytes)).success;
}

/** The deltas among what refers to an image; entries of other kinds are passed over. */
export function parseReferrers(bytes: Buffer): DeltaReferrer[] {
  return entriesOf(bytes).flatMap((each) => {
    const parsed = entry.safeParse(each);
    const facts = parsed.success ? factsOf(parsed.data.annotations) : undefined;
    return parsed.success && facts !== undefined ? [{ descriptor: described(parsed.data), facts }] : [];
  });
}

/**
 * The list of referrers with one more, the latest last: what the list has already stays as it is, and one delta from
 * the same base replaces another. `bytes` is the list as it is now, if there is one.
 */
export function addReferrer(bytes: Buffer | undefined, added: DeltaReferrer): Buffer {
  const others = (bytes === undefined ? [] : entriesOf(bytes)).filter((each) => {
    const parsed = entry.safeParse(each);
    return !parsed.success || parsed.data.annotations[names.baseId] !== added.facts.baseId;
  });
  const own = {
    ...bare(added.descriptor),
    artifactType: DELTA_TYPE,
    annotations: annotationsOf(added.facts),
  };
  const manifests = [...others.slice(1 - MOST_REFERRERS), own];
  return jsonOf({ schemaVersion: 2, mediaType: REFERRERS_TYPE, manifests });
}

function annotationsOf(facts: DeltaFacts): Record<string, string> {
  return {
    [names.baseId]: facts.baseId,
    ...(facts.baseManifest !== undefined && { [names.baseManifest]: facts.baseManifest }),
    [names.targetId]: facts.targetId,
    [names.targetManifest]: facts.targetManifest,
    [names.fullBytes]: String(facts.fullBytes),
    ...(facts.createdAt !== undefined && { [names.createdAt]: facts.createdAt }),
  };
}

function factsOf(given: Readonly<Record<string, string>>): DeltaFacts | undefined {
  const { [names.baseId]: baseId = '', [names.baseManifest]: baseManifest } = given;
  const { [names.targetId]: targetId = '', [names.targetManifest]: targetManifest = '' } = given;
  const { [names.fullBytes]: full = '', [names.createdAt]: createdAt } = given;
  if (!isDigest(baseId) || !isDigest(targetId) || !isDigest(targetManifest)) return undefined;
  if (!/^\d{1,15}$/.test(full)) return undefined;
  return {
    baseId,
    ...(baseManifest !== undefined && isDigest(baseManifest) && { baseManifest }),
    targetId,
    targetManifest,
    fullBytes: Number(full),
    ...(createdAt !== undefined && { createdAt }),
  };
}

/** Of a list; none of what is no list. */
function entriesOf(bytes: Buffer): unknown[] {
  const parsed = index.safeParse(parseJson(bytes));
  return parsed.success ? parsed.data.manifests.slice(-MOST_REFERRERS) : [];
}

function described({ mediaType, digest, size }: z.infer<typeof descriptor>): ArtifactDescriptor {
  return { mediaType, digest: digest as Digest, size }; // checked by the schema
}

function bare({ mediaType, digest, size }: ArtifactDescriptor): ArtifactDescriptor {
  return { mediaType, digest, size };
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    return undefined;
  }
}

function jsonOf(value: object): Buffer {
  return Buffer.from(JSON.stringify(value));
}
