import { fail } from '../errors.ts';
import { type Digest, isDigest } from '../lib/digest.ts';
import { familiarString, parseReference, type Reference, withDefaultTag } from '../lib/reference.ts';
import type { Generation } from '../store/records.ts';
import type { TagHistory } from './image-names.ts';

/** What a rollback changed. */
export interface RolledBack {
  /** `debian:12` */
  name: string;
  from: Digest;
  to: Digest;
  /** When the image that is current again was replaced, in RFC 3339. */
  replacedAt: string;
}

/** A tag, and what it can be rolled back to, newest first. */
export interface Generations {
  /** `debian:12` */
  name: string;
  imageId: Digest;
  since: string;
  generations: { imageId: Digest; digest?: Digest; until: string; sizeBytes: number; isWhole: boolean }[];
}

/** The tag that a name means. Only tags have generations: a digest stands for one image for ever. Throws 400. */
export function tagOnly(name: string): Reference {
  const isId = isDigest(name) || /^[0-9a-f]{64}$/.test(name);
  const ref = isId ? undefined : withDefaultTag(parseReference(name));
  if (ref !== undefined && ref.digest === undefined) return ref;
  throw fail.badRequest(`cannot roll ${name} back: it is no tag`);
}

/** The generation to go back to: the newest, or the one whose ID begins as wanted. Throws 400 or 409. */
export function chooseGeneration({ key, generations }: TagHistory, wanted: string | undefined): Generation {
  const name = familiarString(parseReference(key));
  const isMeant = ({ imageId }: Generation) =>
    wanted === undefined || imageId.startsWith(wanted) || imageId.startsWith(`sha256:${wanted}`);
  const meant = generations.filter(isMeant);
  const [target] = meant;
  if (target === undefined) {
    throw fail.noGeneration(
      wanted === undefined
        ? `cannot roll ${name} back: no earlier image of it is kept`
        : `cannot roll ${name} back: ${wanted} is none of its earlier images`,
    );
  }
  if (wanted !== undefined && meant.length > 1)
    throw fail.badRequest(`cannot roll ${name} back: several of its earlier images begin with ${wanted}`);
  return target;
}
