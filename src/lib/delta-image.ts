import * as z from 'zod/mini';
import { type Failure, fail } from '../errors.ts';
import { type Digest, digestOf, isDigest } from './digest.ts';

/** The image whose layers a delta image patches, by its ID; and the whole config of the image that comes of it. */
export const BASE_LABEL = 'io.resin.delta.base';
export const TARGET_LABEL = 'io.resin.delta.config';

/** With the container's own, overlayfs takes 128 layers in one mount. */
const MOST_LAYERS = 127;

/** What a delta image of the balena kind is about. Its own layers are deltas, and nobody's file system. */
export interface DeltaImage {
  readonly baseId: Digest;
  /** The ID of the image that it leads to. */
  readonly targetId: Digest;
  /** That image's config, as its ID has it. */
  readonly config: string;
  /** Lowest first: what each delta must make. */
  readonly diffIds: readonly Digest[];
}

const labelled = z.object({
  config: z.optional(
    z.nullable(z.object({ Labels: z.optional(z.nullable(z.record(z.string(), z.unknown()))) })),
  ),
});
const target = z.object({
  os: z.optional(z.string()),
  config: labelled.shape.config,
  rootfs: z.object({
    type: z.optional(z.literal('layers')),
    diff_ids: z
      .array(z.string().check(z.refine(isDigest, 'not a sha256 digest')))
      .check(z.maxLength(MOST_LAYERS)),
  }),
});

/**
 * Reads the config of an image that may be a delta image of the balena kind; undefined if it is none. Throws for one that
 * contradicts itself: its layers must not be taken for those of an image.
 */
export function readDeltaImage(config: string): DeltaImage | undefined {
  const labels = labelsOf(config);
  const [baseId, text] = [labels[BASE_LABEL], labels[TARGET_LABEL]];
  if (baseId === undefined && text === undefined) return undefined;
  if (typeof baseId !== 'string' || !isDigest(baseId)) throw invalid(`${BASE_LABEL} is no image ID`);
  if (typeof text !== 'string') throw invalid(`${TARGET_LABEL} is no text`);
  const targetId = digestOf(text);
  if (targetId === baseId) throw invalid('its base is the image that it leads to');
  const checked = target.safeParse(parseJson(text));
  if (!checked.success) {
    const [issue] = checked.error.issues;
    throw invalid(`${TARGET_LABEL} is no config: ${issue?.path.map(String).join('.')}: ${issue?.message}`);
  }
  const { os, config: run, rootfs } = checked.data;
  if (os !== undefined && os !== '' && os !== 'linux') throw invalid(`it leads to an image for ${os}`);
  const nested = run?.Labels ?? {};
  if (nested[BASE_LABEL] !== undefined || nested[TARGET_LABEL] !== undefined)
    throw invalid('it leads to a delta image');
  return { baseId, targetId, config: text, diffIds: rootfs.diff_ids.filter(isDigest) };
}

/** Throws unless the delta image has a layer for each one of its target. */
export function checkLayerCount({ diffIds }: DeltaImage, count: number): void {
  if (count !== diffIds.length)
    throw invalid(`it has ${count} layers, and the image that it leads to has ${diffIds.length}`);
}

function labelsOf(config: string): Record<string, unknown> {
  const checked = labelled.safeParse(parseJson(config));
  return (checked.success && checked.data.config?.Labels) || {};
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function invalid(why: string): Failure {
  return fail.unsupportedImage(`invalid delta image: ${why}`);
}
