import * as z from 'zod/mini';
import { Failure, fail } from '../errors.ts';
import { isArtifactTag } from '../lib/delta-artifact.ts';
import { familiarString } from '../lib/reference.ts';
import { openImage, type SourceContext, type SourceImage } from './source-image.ts';

/** So many tags are looked at, the highest in the order of version numbers. */
const MOST_CANDIDATES = 100;

const dated = z.object({ created: z.optional(z.nullable(z.string())) });

interface Candidate {
  readonly image: SourceImage;
  readonly tag: string;
  readonly createdMs: number;
}

/**
 * The newest images of the target's repository that are older than it, by the time at which they were made and, where
 * that is the same, by their tags in the order of version numbers. Each image once, however many tags it has.
 */
export async function earlierImages(
  target: SourceImage,
  count: number,
  context: SourceContext,
): Promise<SourceImage[]> {
  const { ref } = target;
  if (ref === undefined) throw fail.config('--from-tags needs a target that is in a registry');
  const { domain, path } = ref;
  const asking = await context.access.asking(ref, context.signal);
  const tags = (await context.access.registry.tags({ domain, path }, asking))
    .filter((tag) => !isArtifactTag(tag) && tag !== ref.tag)
    .sort((a, b) => -byVersion(a, b))
    .slice(0, MOST_CANDIDATES);
  const own = { image: target, tag: ref.tag ?? '', createdMs: createdMs(target) };
  const found = new Map<string, Candidate>();
  for (const tag of tags) {
    const image = await openIfFitting(familiarString({ domain, path, tag }), context);
    if (image === undefined || image.id === target.id || found.has(image.id)) continue;
    const candidate = { image, tag, createdMs: createdMs(image) };
    if (isOlder(candidate, own)) found.set(image.id, candidate);
  }
  return [...found.values()]
    .sort((a, b) => (isOlder(a, b) ? 1 : -1))
    .slice(0, count)
    .map(({ image }) => image);
}

/** A tag may stand for what is no image, or for one of another platform. */
async function openIfFitting(name: string, context: SourceContext): Promise<SourceImage | undefined> {
  try {
    return await openImage(name, context);
  } catch (cause) {
    context.signal.throwIfAborted();
    const isForeign = cause instanceof Failure && cause.status >= 400 && cause.status < 500;
    if (isForeign) return undefined;
    throw cause;
  }
}

function isOlder(one: Candidate, other: Candidate): boolean {
  if (one.createdMs !== other.createdMs) return one.createdMs < other.createdMs;
  return byVersion(one.tag, other.tag) < 0;
}

function createdMs({ config }: SourceImage): number {
  const { success, data } = dated.safeParse(JSON.parse(config.toString()));
  const ms = success ? Date.parse(data.created ?? '') : Number.NaN;
  return Number.isNaN(ms) ? 0 : ms;
}

const collator = new Intl.Collator('en', { numeric: true });

/** `1.9` before `1.10`. */
function byVersion(one: string, other: string): number {
  return collator.compare(one, other);
}
