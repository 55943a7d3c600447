import { join } from 'node:path';
import { fail } from '../errors.ts';
import type { Digest } from '../lib/digest.ts';
import { Locks } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import {
  canonicalString,
  familiarString,
  isTag,
  parseReference,
  type Reference,
  withDefaultTag,
} from '../lib/reference.ts';
import { nowText } from '../lib/time.ts';
import type { ImageRecord, LayerRecord, RefRecord } from '../store/records.ts';
import type { ImageSidecar, Sidecars } from '../store/sidecars.ts';
import type { Store } from '../store/store.ts';
import type { Change, Table } from '../store/tables.ts';
import type { Events } from './events.ts';
import type { Filters } from './filters.ts';
import { ImageCopies } from './image-copies.ts';
import { selectImages } from './image-filters.ts';
import { chooseGeneration, type Generations, type RolledBack, tagOnly } from './image-generations.ts';
import { type HistoryEntry, historyOf } from './image-history.ts';
import { ImageNames, missingName, type PointedName } from './image-names.ts';
import { ImageRemoval, type ImageUsers, type Pruned, type Removal } from './image-removal.ts';
import { sharedBytes } from './image-usage.ts';
import { createdMs, type ImageView, imageLabels, viewOf } from './image-view.ts';
import type { LayerShelf } from './layer-shelf.ts';

/** An image as a list shows it. */
export interface ImageSummary extends ImageView {
  /** Containers made from it, running or not. */
  containers: number;
  /** Bytes in layers that other images use too; -1 if not asked for. */
  sharedBytes: number;
}

/** An image that came here, with the names that it is to have. */
export interface Arrival {
  record: ImageRecord;
  refs: readonly {
    ref: Reference;
    /** What the registry calls it, if it came from one. */
    digest?: Digest;
  }[];
}

/** A name that went from one image to another. */
export interface MovedName {
  /** `debian:12` */
  name: string;
  from: Digest;
  to: Digest;
}

/** The images on this host and the names they go by. Pulling them is {@link Pulls}' work. */
export class Images {
  readonly #store: Pick<Store, 'commit'>;
  readonly #images: Table<ImageRecord>;
  readonly #layers: Table<LayerRecord>;
  readonly #names: ImageNames;
  readonly #copies: ImageCopies;
  readonly #removal: ImageRemoval;
  readonly #dataRoot: string;
  readonly #shelf: LayerShelf;
  readonly #events: Events;
  readonly #users: ImageUsers;
  readonly #log: Log;
  /** Held by whoever changes images or refs: both are few and such changes rare, so one lock for all will do. */
  readonly #locks = new Locks();

  constructor(o: {
    store: Store;
    sidecars: Pick<Sidecars, 'writeImage' | 'removeImage'>;
    shelf: LayerShelf;
    events: Events;
    users: ImageUsers;
    dataRoot: string;
    /** How many images a tag remembers besides the one that it stands for. */
    keepGenerations: number;
    log: Log;
  }) {
    this.#store = o.store;
    this.#images = o.store.table('images');
    this.#layers = o.store.table('layers');
    this.#names = new ImageNames(o);
    this.#copies = new ImageCopies({ ...o, names: this.#names });
    this.#removal = new ImageRemoval({ ...o, names: this.#names, copies: this.#copies, locks: this.#locks });
    this.#dataRoot = o.dataRoot;
    this.#shelf = o.shelf;
    this.#events = o.events;
    this.#users = o.users;
    this.#log = o.log;
  }

  /** The image that a tag, digest, ID or ID prefix names; throws `NO_SUCH_IMAGE` (404), 400 for no reference at all. */
  async find(name: string): Promise<ImageRecord> {
    const found = await this.findAny(name);
    if (!this.#shelf.isIntact(found.diffIds)) throw fail.noSuchImage(missingName(name));
    return found;
  }

  /** As {@link find}, but one that has lost a layer is found too: what can be removed, verified and repaired. */
  async findAny(name: string): Promise<ImageRecord> {
    const found = await this.#names.lookUp(name);
    if (found === undefined) throw fail.noSuchImage(missingName(name));
    return found;
  }

  /** The image under exactly this ID, if it is here. */
  async byId(id: Digest): Promise<ImageRecord | undefined> {
    return this.#images.get(id);
  }

  /** IDs of these images, and of all that were made on them here. */
  async familyOf(images: readonly ImageRecord[]): Promise<Set<string>> {
    const children = new Map<string, string[]>();
    for await (const [id, { parent }] of this.#images.entries())
      if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), id]);
    const family = new Set<string>(images.map(({ id }) => id));
    for (const id of family) for (const child of children.get(id) ?? []) family.add(child); // what is added comes too
    return family;
  }

  /** Runs work on an image that cannot be removed meanwhile; how a new container gets hold of its image. */
  async using<T>(name: string, work: (image: ImageView) => Promise<T>): Promise<T> {
    await using _lock = await this.#locks.hold('refs');
    return await work(viewOf(await this.find(name), [])); // or the lock would be gone before the work is done
  }

  /** Runs work while no container gets hold of an image: none is half made meanwhile. */
  async whileNoneIsTaken<T>(work: () => Promise<T>): Promise<T> {
    await using _lock = await this.#locks.hold('refs');
    return await work();
  }

  /** {@link ImageCopies.rebuild} */
  async rebuild(copies: AsyncIterable<ImageSidecar>): Promise<void> {
    await this.#copies.rebuild(copies);
  }

  /** {@link ImageCopies.mend} */
  async mendCopies(copies: AsyncIterable<ImageSidecar>): Promise<void> {
    await this.#copies.mend(copies);
  }

  /** What a full reference stands for at present, if anything. */
  async refOf(ref: Reference): Promise<RefRecord | undefined> {
    return this.#names.get(ref);
  }

  async inspect(name: string): Promise<ImageView> {
    const record = await this.find(name);
    const view = viewOf(record, (await this.#names.byImage()).get(record.id) ?? []);
    const directories = await this.#shelf.directories(record.diffIds);
    return {
      ...view,
      layerDirs: directories.map((dirId) => join(this.#dataRoot, 'layers', dirId, 'diff')).reverse(),
    };
  }

  /** {@link historyOf} */
  async history(name: string): Promise<HistoryEntry[]> {
    const { record } = await this.inspect(name);
    return historyOf(record, {
      image: (id) => this.#images.get(id),
      layer: (diffId) => this.#shelf.get(diffId),
      names: await this.#names.byImage(),
    });
  }

  /** All images, newest first; throws 400 for a filter that is unknown. */
  async list(o: { isAll?: boolean; filters: Filters; withSharedSize: boolean }): Promise<ImageSummary[]> {
    const names = await this.#names.byImage();
    const all: ImageView[] = [];
    for await (const [, record] of this.#images.entries()) {
      // an image with a hole is as good as absent, and a pull makes it whole
      if (this.#shelf.isIntact(record.diffIds)) all.push(viewOf(record, names.get(record.id) ?? []));
    }
    const shown = await selectImages(all, o, (name) => this.inspect(name));
    const shared = o.withSharedSize ? await sharedBytes(all, this.#layers) : undefined;
    return shown
      .map((view) => ({
        ...view,
        containers: this.#users.usersOf(view.record.id).length,
        sharedBytes: shared?.get(view.record.id) ?? -1,
      }))
      .sort((a, b) => createdMs(b) - createdMs(a));
  }

  /** Gives an image one more name; a name that stood for another image moves. */
  async tag(name: string, target: { repo: string; tag: string }): Promise<void> {
    const ref = targetReference(target);
    await using _lock = await this.#locks.hold('refs');
    const now = nowText();
    const record: ImageRecord = { ...(await this.find(name)), lastTagTime: now };
    const pointed = await this.#names.point(ref, { imageId: record.id }, now);
    await this.#commitNames([record], [pointed]);
    this.#events.emit('image', 'tag', record.id, { name: familiarString(ref), ...imageLabels(record) });
  }

  /**
   * The last step of a pull, a load or a commit: one synced batch makes the images and their names visible, whole, and
   * makes the changes `also`, such as the end of the lease. Every layer is on disk and recorded by then. What is known
   * of an image that is here already, such as its manifest, stays. Of several images that want one name the last gets
   * it. Returns the names that stood for other images until now, and tells nobody else.
   */
  async adopt(arrivals: readonly Arrival[], also: readonly Change[]): Promise<MovedName[]> {
    await using _lock = await this.#locks.hold('refs');
    const now = nowText();
    const wanted = new Map(
      arrivals.flatMap(({ record: { id: imageId }, refs }) =>
        refs.map(({ ref, digest }) => [
          canonicalString(ref),
          { ref, to: { imageId, ...(digest && { digest }) } },
        ]),
      ),
    );
    const names: PointedName[] = [];
    for (const { ref, to } of wanted.values()) names.push(await this.#names.point(ref, to, now));
    const records: ImageRecord[] = [];
    for (const record of new Map(arrivals.map(({ record }) => [record.id, record])).values())
      records.push(await this.#withWhatIsKnown(record));
    await this.#commitNames(records, names, also);
    return names.flatMap(({ key, from, to }) =>
      from === undefined ? [] : [{ name: familiarString(parseReference(key)), from, to }],
    );
  }

  /** After a push: the image goes by this digest too, and its tag is known by it. One that is gone stays gone. */
  async notePushed(id: Digest, ref: Reference, digest: Digest): Promise<void> {
    await using _lock = await this.#locks.hold('refs');
    const record = await this.#images.get(id);
    if (record === undefined) return;
    const names: PointedName[] = [];
    for (const name of [ref, { domain: ref.domain, path: ref.path, digest }]) {
      const known = await this.refOf(name);
      // a tag that went elsewhere meanwhile stays there, and so does a digest that stands for another image
      const isNews = known === undefined ? name !== ref : known.imageId === id && known.digest !== digest;
      if (isNews) names.push(await this.#names.point(name, { imageId: id, digest }, nowText()));
    }
    if (names.length > 0) await this.#commitNames([record], names);
  }

  /** {@link ImageRemoval.remove} */
  async remove(name: string, o: { force: boolean; isPruning?: boolean }): Promise<Removal[]> {
    return this.#removal.remove(name, o);
  }

  /** {@link ImageRemoval.prune} */
  async prune(o: { filters: Filters; signal?: AbortSignal }): Promise<Pruned> {
    return this.#removal.prune(o);
  }

  /**
   * Lets a tag stand again for the image that it stood for before, or for the generation of it that `to` names; the
   * one that is replaced becomes the newest generation, so that another rollback goes forward again. One batch.
   * Throws 400 for what is no tag, 404 for an unknown one, 409 if there is nothing to go back to.
   */
  async rollBack(name: string, { to }: { to?: string }): Promise<RolledBack> {
    const ref = tagOnly(name);
    await using _lock = await this.#locks.hold('refs');
    const history = await this.#names.history(ref);
    if (history === undefined) throw fail.noSuchImage(familiarString(ref));
    const target = chooseGeneration(history, to);
    const known = await this.#images.get(target.imageId);
    if (known === undefined || !this.#shelf.isIntact(known.diffIds)) {
      throw fail.noGeneration(
        `cannot roll ${familiarString(ref)} back: its earlier image ${target.imageId} is damaged; pull it again by its digest, or verify it with repair`,
      );
    }
    const now = nowText();
    const record: ImageRecord = { ...known, lastTagTime: now };
    await this.#commitNames([record], [await this.#names.point(ref, target, now)]);
    const [moved, from] = [familiarString(ref), history.ref.imageId];
    this.#events.emit('image', 'rollback', record.id, { name: moved, from, ...imageLabels(record) });
    this.#events.emit('image', 'tag', record.id, { name: moved, ...imageLabels(record) });
    this.#log.info({ name: moved, from, to: record.id }, 'tag rolled back');
    return { name: moved, from, to: record.id, replacedAt: target.until };
  }

  /** Every tag that can be rolled back. */
  async generations(): Promise<Generations[]> {
    const found: Generations[] = [];
    for (const { key, ref, generations } of await this.#names.histories()) {
      const shown: Generations['generations'] = [];
      for (const generation of generations) {
        const record = await this.#images.get(generation.imageId);
        const isWhole = record !== undefined && this.#shelf.isIntact(record.diffIds);
        shown.push({ ...generation, sizeBytes: record?.sizeBytes ?? 0, isWhole });
      }
      const name = familiarString(parseReference(key));
      found.push({ name, imageId: ref.imageId, since: ref.updatedAt, generations: shown });
    }
    return found;
  }

  /**
   * Gives images names, in one batch with `also`. Their copies come first: a database that is lost afterwards can be
   * rebuilt with them. The copies of the images that had these names come last: until then two of them claim a name,
   * but none is without.
   */
  async #commitNames(
    records: readonly ImageRecord[],
    names: readonly PointedName[],
    also: readonly Change[] = [],
  ): Promise<void> {
    for (const record of records) {
      const coming = names.filter(({ to }) => to === record.id);
      await this.#copies.write(
        record,
        coming.map(({ key }) => key),
      );
    }
    const puts = records.map((record) => this.#images.put(record.id, record));
    await this.#store.commit([...puts, ...also, ...names.map(({ put }) => put)]);
    await this.#copies.writeAll(names.flatMap(({ touched }) => touched));
  }

  /** A record that comes anew may lack what the one that is here has, and may know better what both have. */
  async #withWhatIsKnown(record: ImageRecord): Promise<ImageRecord> {
    const known = await this.#images.get(record.id);
    return known === undefined ? record : { ...known, ...record, pulledAt: known.pulledAt };
  }
}

function targetReference({ repo, tag }: { repo: string; tag: string }): Reference {
  const ref = parseReference(repo);
  if (ref.digest !== undefined) throw fail.badRequest('refusing to create a tag with a digest reference');
  if (ref.path === 'library/sha256') {
    throw fail.badRequest('refusing to create an ambiguous tag using digest algorithm as name');
  }
  if (tag === '') return withDefaultTag(ref);
  if (!isTag(tag)) throw fail.badRequest('invalid tag format');
  return { ...ref, tag };
}
