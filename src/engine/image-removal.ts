import { fail } from '../errors.ts';
import { chainIds } from '../lib/chain-id.ts';
import type { Digest } from '../lib/digest.ts';
import type { Locks } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import { familiarString, parseReference } from '../lib/reference.ts';
import type { ImageRecord, LayerRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { Table } from '../store/tables.ts';
import type { Events } from './events.ts';
import type { Filters } from './filters.ts';
import {
  checkRemovalById,
  checkRemovalByName,
  type ImageHolders,
  type ImageUser,
  namesGoingWith,
  staysNameless,
} from './image-conflicts.ts';
import type { ImageCopies } from './image-copies.ts';
import { type ImageNames, missingName } from './image-names.ts';
import { createdMs, imageLabels, viewOf } from './image-view.ts';
import type { LayerShelf } from './layer-shelf.ts';
import { PruneRule } from './prune-rule.ts';

/** One step of a removal, in the order in which it was done. */
export type Removal = { untagged: string } | { deleted: string };

/** What a prune did. */
export interface Pruned {
  removals: Removal[];
  /** Bytes of the layers that went. */
  freedBytes: number;
}

/** What the images need to know of the containers: who stands on an image. */
export interface ImageUsers {
  usersOf(imageId: string): ImageUser[];
}

/** Which images a prune is for. */
interface PruneWish {
  rule: PruneRule;
  isDanglingOnly: boolean;
}

/** All images and what holds them, as they were when the lock over names was taken. */
interface Survey {
  images: ReadonlyMap<string, ImageRecord>;
  names: ReadonlyMap<string, readonly string[]>;
}

/** Takes names and images away: those that a client names, and those that nobody needs. */
export class ImageRemoval {
  readonly #o: ImageRemovalParts;
  readonly #images: Table<ImageRecord>;
  #isPruning = false;

  constructor(parts: ImageRemovalParts) {
    this.#o = parts;
    this.#images = parts.store.table('images');
  }

  /**
   * Takes a name away, and the image with its last name; by ID, the image with all its names. Parents that nothing
   * else holds go with it, unless told not to. Throws 409 in dockerd's words while something stands on the image. Being
   * the earlier generation of a tag holds no image against this: whoever says so wants it gone.
   */
  async remove(name: string, o: { force: boolean; isPruning?: boolean }): Promise<Removal[]> {
    const { names, locks } = this.#o;
    await using _lock = await locks.hold('refs');
    const record = await names.lookUp(name); // one with a hole, too, can be removed
    if (record === undefined) throw fail.noSuchImage(missingName(name));
    const survey = await this.#survey();
    const holders = this.#holdersOf(record, survey);
    const key = await names.keyMeant(name);
    if (key === undefined) checkRemovalById(record, holders, o.force);
    else if (!o.force) checkRemovalByName(name, record, holders);
    const going = key === undefined ? holders.names : namesGoingWith(key, holders.names);
    const isLast = going.length === holders.names.length;
    const isGone = isLast && (key === undefined || !staysNameless(holders, o.force));
    const { removals } = await this.#take(record, going, { isGone, isPruning: o.isPruning ?? true, survey });
    return removals;
  }

  /**
   * Removes the images that have no tag; with the filter `dangling=false`, all that no container uses, with their tags.
   * Generations stay for as long as their tag does. Throws 409 while another prune runs, 400 for filters that make no
   * sense. Aborting ends it between two images.
   */
  async prune(o: { filters: Filters; signal?: AbortSignal }): Promise<Pruned> {
    const rule = new PruneRule(o.filters, ['dangling']);
    const wish = { rule, isDanglingOnly: rule.flag('dangling', true) };
    if (this.#isPruning) throw fail.pruneRunning();
    this.#isPruning = true;
    try {
      const done: Pruned = { removals: [], freedBytes: 0 };
      const seen = await this.#survey();
      let waiting = [...seen.images.values()].filter((record) => this.#isUnneeded(record, seen, wish));
      // what stays for another's sake gets its chance once that other is gone
      for (let before = Number.POSITIVE_INFINITY; waiting.length < before; ) {
        before = waiting.length;
        const held: ImageRecord[] = [];
        for (const record of waiting) {
          if (o.signal?.aborted) break;
          const taken = await this.#pruneOne(record.id, wish);
          if (taken === 'held') held.push(record);
          else if (taken !== undefined) add(done, taken);
        }
        waiting = held;
      }
      this.#o.events.emit('image', 'prune', '', { reclaimed: String(done.freedBytes) });
      this.#o.log.info({ bytes: done.freedBytes, steps: done.removals.length }, 'images pruned');
      return done;
    } finally {
      this.#isPruning = false;
    }
  }

  /** `held`: not now, but once a tag or a child is gone. Undefined if it is needed after all. */
  async #pruneOne(id: string, wish: PruneWish): Promise<Pruned | 'held' | undefined> {
    await using _lock = await this.#o.locks.hold('refs');
    const survey = await this.#survey();
    const record = survey.images.get(id);
    if (record === undefined || !this.#isUnneeded(record, survey, wish)) return undefined;
    if ((await this.#o.names.formerByImage()).has(id)) return 'held';
    const { names, hasChildren } = this.#holdersOf(record, survey);
    if (hasChildren && (wish.isDanglingOnly || names.length === 0)) return 'held';
    return await this.#take(record, names, { isGone: !hasChildren, isPruning: true, survey });
  }

  #isUnneeded(record: ImageRecord, survey: Survey, { rule, isDanglingOnly }: PruneWish): boolean {
    const { names, users } = this.#holdersOf(record, survey);
    const view = viewOf(record, names);
    if (users.length > 0 || (isDanglingOnly && view.repoTags.length > 0)) return false;
    return rule.passes(createdMs(view), imageLabels(record));
  }

  /** One batch: the names go, and the image with its forsaken parents if it is to be gone. */
  async #take(
    record: ImageRecord,
    going: readonly string[],
    o: { isGone: boolean; isPruning: boolean; survey: Survey },
  ): Promise<Pruned> {
    const { store, names, copies, shelf, events, log } = this.#o;
    const histories = (await names.histories()).filter(({ key }) => going.includes(key));
    const gone = o.isGone
      ? [record, ...(o.isPruning ? await this.#forsakenParents(record, o.survey) : [])]
      : [];
    const goneIds = gone.map(({ id }) => id);
    const changes = [...going.map((key) => names.remove(key)), ...(await names.forget(goneIds, going))];
    if (!o.isGone) await store.commit(changes);
    const freed = o.isGone ? await shelf.dropImages(goneIds, changes) : [];

    const untagged = going.map((key) => ({ untagged: familiarString(parseReference(key)) }));
    for (const _ of going)
      events.emit('image', 'untag', record.id, { name: record.id, ...imageLabels(record) });
    for (const image of gone) {
      events.emit('image', 'delete', image.id, { name: image.id, ...imageLabels(image) });
      await copies.remove(image);
    }
    const forgotten = histories.flatMap(({ generations }) => generations.map(({ imageId }) => imageId));
    await copies.writeAll([record.id, ...forgotten].filter((id) => !goneIds.includes(id)));
    if (o.isGone) log.info({ image: record.id, layers: freed.length }, 'image removed');
    const freedBytes = freed.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    return { removals: [...untagged, ...deletions(gone, freed)], freedBytes };
  }

  /** The images under one that goes which have no name, no container, no other child, and are no generation. */
  async #forsakenParents(record: ImageRecord, survey: Survey): Promise<ImageRecord[]> {
    const former = await this.#o.names.formerByImage();
    const forsaken: ImageRecord[] = [];
    let child = record;
    for (;;) {
      const parent = survey.images.get(child.parent ?? '');
      if (parent === undefined || forsaken.includes(parent) || former.has(parent.id)) return forsaken;
      const { names, users } = this.#holdersOf(parent, survey);
      const children = childrenOf(parent, survey);
      if (names.length > 0 || users.length > 0 || children.some(({ id }) => id !== child.id)) return forsaken;
      forsaken.push(parent);
      child = parent;
    }
  }

  #holdersOf(record: ImageRecord, survey: Survey): ImageHolders {
    return {
      names: survey.names.get(record.id) ?? [],
      users: this.#o.users.usersOf(record.id),
      hasChildren: childrenOf(record, survey).length > 0,
    };
  }

  async #survey(): Promise<Survey> {
    const images = new Map<string, ImageRecord>();
    for await (const [id, record] of this.#images.entries()) images.set(id, record);
    return { images, names: await this.#o.names.byImage() };
  }
}

/** What a removal works on. */
export interface ImageRemovalParts {
  store: Pick<Store, 'commit' | 'table'>;
  names: ImageNames;
  copies: Pick<ImageCopies, 'writeAll' | 'remove'>;
  shelf: Pick<LayerShelf, 'dropImages'>;
  events: Events;
  users: ImageUsers;
  /** Key `refs`: held by whoever changes images or names. */
  locks: Locks;
  log: Log;
}

function add(to: Pruned, { removals, freedBytes }: Pruned): void {
  to.removals.push(...removals);
  to.freedBytes += freedBytes;
}

function childrenOf({ id }: ImageRecord, { images }: Survey): ImageRecord[] {
  return [...images.values()].filter(({ parent }) => parent === id);
}

/**
 * The image itself, then its layers by chain ID, topmost first, as dockerd tells them; then the same of its parent. A
 * chain that several of them have goes with the last.
 */
function deletions(gone: readonly ImageRecord[], freed: readonly LayerRecord[]): Removal[] {
  const freedIds = new Set<Digest>(freed.map(({ diffId }) => diffId));
  const told = new Set<string>();
  const blocks = [...gone].reverse().map(({ id, diffIds }) => {
    const chains = chainIds(diffIds).filter((chain, at) => {
      const diffId = diffIds[at];
      return diffId !== undefined && freedIds.has(diffId) && !told.has(chain);
    });
    for (const chain of chains) told.add(chain);
    return [id, ...chains.reverse()].map((deleted) => ({ deleted }));
  });
  return blocks.reverse().flat();
}
