import { type Digest, isDigest } from '../lib/digest.ts';
import {
  canonicalString,
  familiarString,
  parseReference,
  type Reference,
  repositoryOf,
  withDefaultTag,
} from '../lib/reference.ts';
import type { Generation, ImageRecord, RefRecord } from '../store/records.ts';
import type { FormerName } from '../store/sidecars.ts';
import type { Store } from '../store/store.ts';
import type { Change, Table } from '../store/tables.ts';

/** What a name is to stand for from now on. */
export interface Target {
  imageId: Digest;
  /** What the registry calls it; a name that stays keeps the one it has. */
  digest?: Digest;
}

/** A name, the change that lets it stand for another image, and the image it stood for. */
export interface PointedName {
  key: string;
  put: Change;
  to: Digest;
  from?: Digest;
  /** Images that this name concerns, or no longer does: their copies are to be written anew. */
  touched: readonly Digest[];
}

/** A tag with what it stands for and stood for. */
export interface TagHistory {
  /** The canonical name. */
  key: string;
  ref: RefRecord;
  /** Newest first, as many as are kept. */
  generations: readonly Generation[];
}

/**
 * The names that images go by, and how an image is found by any of them. It reads records and makes changes of them;
 * whoever holds the lock over names commits these.
 */
export class ImageNames {
  readonly #images: Table<ImageRecord>;
  readonly #refs: Table<RefRecord>;
  readonly #kept: number;

  /** `keepGenerations` is how many images a tag remembers besides the one that it stands for. */
  constructor(o: { store: Pick<Store, 'table'>; keepGenerations: number }) {
    this.#images = o.store.table('images');
    this.#refs = o.store.table('refs');
    this.#kept = o.keepGenerations;
  }

  /** The image that a tag, digest, ID or ID prefix names; throws 400 for what can be none of them. */
  async lookUp(name: string): Promise<ImageRecord | undefined> {
    if (isDigest(name)) return (await this.#images.get(name)) ?? this.#byReference(name);
    const isHex = /^[0-9a-f]{1,64}$/.test(name);
    if (isHex && name.length === 64) return this.#images.get(`sha256:${name}`);
    const tagged = await this.#byReference(name);
    if (tagged !== undefined) return tagged;
    const prefix = /^(?:sha256:)?([0-9a-f]{1,63})$/.exec(name)?.[1];
    return prefix === undefined ? undefined : this.#byPrefix(prefix);
  }

  /** What a full reference stands for at present, if anything. */
  async get(ref: Reference): Promise<RefRecord | undefined> {
    return this.#refs.get(canonicalString(ref));
  }

  /** The key of the ref that a name means, or undefined where it means the image itself. */
  async keyMeant(name: string): Promise<string | undefined> {
    if (isDigest(name) || /^[0-9a-f]{64}$/.test(name)) return undefined;
    const key = keyOf(name);
    return (await this.#refs.get(key)) === undefined ? undefined : key;
  }

  /** Canonical names of every image that has one, by its ID. */
  async byImage(): Promise<Map<string, string[]>> {
    const names = new Map<string, string[]>();
    for await (const [key, { imageId }] of this.#refs.entries()) {
      const known = names.get(imageId);
      if (known === undefined) names.set(imageId, [key]);
      else known.push(key);
    }
    return names;
  }

  /** Every tag that has generations. */
  async histories(): Promise<TagHistory[]> {
    const histories: TagHistory[] = [];
    for await (const [key, ref] of this.#refs.entries()) {
      const generations = key.includes('@') ? [] : this.#generationsOf(ref);
      if (generations.length > 0) histories.push({ key, ref, generations });
    }
    return histories;
  }

  /** A tag with its generations, if there is one. */
  async history(ref: Reference): Promise<TagHistory | undefined> {
    const found = await this.get(ref);
    return found && { key: canonicalString(ref), ref: found, generations: this.#generationsOf(found) };
  }

  /** The names that stood for each image and may do so again, by its ID. */
  async formerByImage(): Promise<Map<string, FormerName[]>> {
    const former = new Map<string, FormerName[]>();
    for (const { key: name, generations } of await this.histories()) {
      for (const { imageId, ...when } of generations)
        former.set(imageId, [...(former.get(imageId) ?? []), { name, ...when }]);
    }
    return former;
  }

  /** Lets a name stand for an image. The one that a tag stood for before becomes its newest generation. */
  async point(ref: Reference, to: Target, now: string): Promise<PointedName> {
    const key = canonicalString(ref);
    const before = await this.#refs.get(key);
    const isMove = before !== undefined && before.imageId !== to.imageId;
    const digest = to.digest ?? (isMove ? undefined : before?.digest);
    const previous = ref.tag === undefined || before === undefined ? [] : this.#previousOf(before, to, now);
    const put = this.#refs.put(key, {
      imageId: to.imageId,
      ...(digest && { digest }),
      updatedAt: now,
      previous,
    });
    const touched = [...(before?.previous ?? []), ...(isMove ? [before] : [])].map(({ imageId }) => imageId);
    return { key, put, to: to.imageId, touched, ...(isMove && { from: before.imageId }) };
  }

  /** The changes after which no tag remembers these images; tags that go anyway are left alone. */
  async forget(imageIds: readonly Digest[], going: readonly string[]): Promise<Change[]> {
    const changes: Change[] = [];
    for await (const [key, ref] of this.#refs.entries()) {
      const previous = ref.previous.filter(({ imageId }) => !imageIds.includes(imageId));
      if (previous.length === ref.previous.length || going.includes(key)) continue;
      changes.push(this.#refs.put(key, { ...ref, previous }));
    }
    return changes;
  }

  /** Takes a name away. */
  remove(key: string): Change {
    return this.#refs.remove(key);
  }

  #generationsOf({ imageId, previous }: RefRecord): Generation[] {
    return previous.filter((generation) => generation.imageId !== imageId).slice(0, this.#kept);
  }

  #previousOf(before: RefRecord, to: Target, now: string): Generation[] {
    const { imageId, digest, previous } = before;
    const replaced = { imageId, ...(digest && { digest }), until: now };
    const others = previous.filter((generation) => ![to.imageId, imageId].includes(generation.imageId));
    const isMove = imageId !== to.imageId;
    return [...(isMove ? [replaced] : []), ...others].slice(0, this.#kept);
  }

  async #byReference(name: string): Promise<ImageRecord | undefined> {
    const found = await this.#refs.get(keyOf(name));
    return found === undefined ? undefined : this.#images.get(found.imageId);
  }

  async #byPrefix(prefix: string): Promise<ImageRecord | undefined> {
    let found: ImageRecord | undefined;
    for await (const [, record] of this.#images.entries({ prefix: `sha256:${prefix}` })) {
      if (found !== undefined) return undefined;
      found = record;
    }
    return found;
  }
}

/** How a name that was not found is told: as it was understood. */
export function missingName(name: string): string {
  if (isDigest(name)) return name;
  if (/^[0-9a-f]{64}$/.test(name)) return `sha256:${name}`;
  return familiarString(withDefaultTag(parseReference(name)));
}

/** A digest says more than a tag beside it: `debian:12@sha256:…` is the digest. */
function keyOf(name: string): string {
  const ref = withDefaultTag(parseReference(name));
  return ref.digest === undefined ? canonicalString(ref) : `${repositoryOf(ref)}@${ref.digest}`;
}
