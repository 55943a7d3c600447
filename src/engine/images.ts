import { fail } from '../errors.ts';
import { type Digest, isDigest } from '../lib/digest.ts';
import { parseImageConfig } from '../lib/image-config.ts';
import { Locks } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import {
  canonicalString,
  familiarString,
  isTag,
  parseReference,
  type Reference,
  repositoryOf,
  withDefaultTag,
} from '../lib/reference.ts';
import { nowText } from '../lib/time.ts';
import type { ImageRecord, LayerRecord, RefRecord } from '../store/records.ts';
import type { ImageSidecar, Sidecars } from '../store/sidecars.ts';
import type { Store } from '../store/store.ts';
import type { Change, Table } from '../store/tables.ts';
import type { Events } from './events.ts';
import type { Filters } from './filters.ts';
import { selectImages } from './image-filters.ts';
import {
  checkRemovalById,
  checkRemovalByName,
  deletedChains,
  type ImageUser,
  isSingle,
  namesGoingWith,
  type Removal,
} from './image-removal.ts';
import { createdMs, type ImageView, viewOf } from './image-view.ts';
import type { LayerShelf } from './layer-shelf.ts';

/** A step of an image's making. */
export interface HistoryEntry {
  /** The image's own, for the last step; the others are no images here. */
  id?: string;
  created?: string;
  createdBy: string;
  tags: readonly string[];
  sizeBytes: number;
  comment: string;
}

/** An image as a list shows it. */
export interface ImageSummary extends ImageView {
  /** Containers made from it, running or not. */
  containers: number;
  /** Bytes in layers that other images use too; -1 if not asked for. */
  sharedBytes: number;
}

/** A name, the change that lets it stand for another image, and the image it stood for. */
interface PointedName {
  key: string;
  put: Change;
  from?: Digest;
}

/** What the images need to know of the containers: who stands on an image. */
export interface ImageUsers {
  usersOf(imageId: string): ImageUser[];
}

/** The images on this host and the names they go by. Pulling them is {@link Pulls}' work. */
export class Images {
  readonly #store: Pick<Store, 'commit'>;
  readonly #images: Table<ImageRecord>;
  readonly #refs: Table<RefRecord>;
  readonly #layers: Table<LayerRecord>;
  readonly #sidecars: Pick<Sidecars, 'writeImage' | 'removeImage'>;
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
    log: Log;
  }) {
    this.#store = o.store;
    this.#images = o.store.table('images');
    this.#refs = o.store.table('refs');
    this.#layers = o.store.table('layers');
    this.#sidecars = o.sidecars;
    this.#shelf = o.shelf;
    this.#events = o.events;
    this.#users = o.users;
    this.#log = o.log;
  }

  /** The image that a tag, digest, ID or ID prefix names; throws `NO_SUCH_IMAGE` (404), 400 for no reference at all. */
  async find(name: string): Promise<ImageRecord> {
    const found = await this.#lookUp(name);
    if (found === undefined || !this.#shelf.isIntact(found.diffIds))
      throw fail.noSuchImage(missingName(name));
    return found;
  }

  /** The image under exactly this ID, if it is here. */
  async byId(id: Digest): Promise<ImageRecord | undefined> {
    return this.#images.get(id);
  }

  /** Runs work on an image that cannot be removed meanwhile; how a new container gets hold of its image. */
  async using<T>(name: string, work: (image: ImageView) => Promise<T>): Promise<T> {
    await using _lock = await this.#locks.hold('refs');
    return await work(viewOf(await this.find(name), [])); // or the lock would be gone before the work is done
  }

  /** After records were lost: what the copies on disk still know, images with their names, comes back. */
  async rebuild(copies: AsyncIterable<ImageSidecar>): Promise<void> {
    for await (const { record, names } of copies) {
      if ((await this.#images.get(record.id)) !== undefined) continue;
      if (!(await this.#shelf.isWhole(record.diffIds))) continue; // a pull that was never finished, or lost layers
      const changes: Change[] = [this.#images.put(record.id, record)];
      for (const name of names) {
        if ((await this.#refs.get(name)) !== undefined) continue;
        const { digest } = parseReference(name);
        const ref: RefRecord = {
          imageId: record.id,
          updatedAt: nowText(),
          previous: [],
          ...(digest && { digest }),
        };
        changes.push(this.#refs.put(name, ref));
      }
      await this.#store.commit(changes);
      this.#log.warn({ image: record.id, names }, 'image record rebuilt from its copy on disk');
    }
  }

  /**
   * With all records at hand: makes the copies say the same. What a power cut left between a copy and its record goes
   * or loses the names that did not come to be.
   */
  async mendCopies(copies: AsyncIterable<ImageSidecar>): Promise<void> {
    const namesById = await this.#namesById();
    for await (const { record, names } of copies) {
      const present = await this.#images.get(record.id);
      const known = new Set(namesById.get(record.id));
      if (present === undefined) await this.#sidecars.removeImage(record.id);
      else if (names.length !== known.size || names.some((name) => !known.has(name)))
        await this.#writeSidecar(present);
    }
  }

  /** What a full reference stands for at present, if anything. */
  async refOf(ref: Reference): Promise<RefRecord | undefined> {
    return this.#refs.get(canonicalString(ref));
  }

  async inspect(name: string): Promise<ImageView> {
    const record = await this.find(name);
    return viewOf(record, (await this.#namesById()).get(record.id) ?? []);
  }

  /** How an image was made, the last step first. Layers are counted for the steps that made any. */
  async history(name: string): Promise<HistoryEntry[]> {
    const { record, config, repoTags } = await this.inspect(name);
    const diffIds = [...record.diffIds];
    const steps: HistoryEntry[] = [];
    for (const step of config.history ?? []) {
      const diffId = step.empty_layer ? undefined : diffIds.shift();
      const layer = diffId === undefined ? undefined : await this.#shelf.get(diffId);
      steps.unshift({
        ...(step.created && { created: step.created }),
        createdBy: step.created_by ?? '',
        tags: [],
        sizeBytes: layer?.sizeBytes ?? 0,
        comment: step.comment ?? '',
      });
    }
    const [last, ...earlier] = steps;
    return last === undefined ? [] : [{ ...last, id: record.id, tags: repoTags }, ...earlier];
  }

  /** All images, newest first; throws 400 for a filter that is unknown. */
  async list(o: { filters: Filters; withSharedSize: boolean }): Promise<ImageSummary[]> {
    const names = await this.#namesById();
    const all: ImageView[] = [];
    for await (const [, record] of this.#images.entries()) {
      // an image with a hole is as good as absent, and a pull makes it whole
      if (this.#shelf.isIntact(record.diffIds)) all.push(viewOf(record, names.get(record.id) ?? []));
    }
    const shown = await selectImages(all, o.filters, (name) => this.inspect(name));
    const shared = o.withSharedSize ? await this.#sharedBytes(all) : undefined;
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
    const pointed = await this.#point(ref, { imageId: record.id }, now);
    await this.#commitNames(record, [pointed], [this.#images.put(record.id, record)]);
    this.#events.emit('image', 'tag', record.id, { name: familiarString(ref), ...labels(record) });
  }

  /**
   * The last step of a pull: one synced batch makes the image and its names visible, whole, and ends the lease.
   * Every layer is on disk and recorded by then. True if the names stand for it already.
   */
  async adopt(
    record: ImageRecord,
    refs: readonly { ref: Reference; digest: Digest }[],
    also: Change[],
  ): Promise<void> {
    await using _lock = await this.#locks.hold('refs');
    const now = nowText();
    const pointed: PointedName[] = [];
    for (const { ref, digest } of refs)
      pointed.push(await this.#point(ref, { imageId: record.id, digest }, now));
    await this.#commitNames(record, pointed, [this.#images.put(record.id, record), ...also]);
  }

  /**
   * Takes a name away, and the image with its last name. By ID, the image with all its names.
   * Throws 409 in dockerd's words while containers or other repositories stand on it.
   */
  async remove(name: string, o: { force: boolean }): Promise<Removal[]> {
    await using _lock = await this.#locks.hold('refs');
    const record = await this.#lookUp(name); // one with a hole, too, can be removed
    if (record === undefined) throw fail.noSuchImage(missingName(name));
    const names = (await this.#namesById()).get(record.id) ?? [];
    const ref = await this.#refMeant(name);
    const done: Removal[] = [];
    const going = ref === undefined ? names : namesGoingWith(ref, names);
    if (ref === undefined) checkRemovalById(record, names, this.#users.usersOf(record.id), o.force);
    else if (isSingle(names) && !o.force) checkRemovalByName(name, record, this.#users.usersOf(record.id));

    const changes = going.map((key) => this.#refs.remove(key));
    // under a container that runs it stays, without a name, whatever the force
    const isLast = going.length === names.length && !this.#isRunning(record);
    if (!isLast) await this.#store.commit(changes);
    const freed = isLast ? await this.#shelf.dropImage(record.id, changes) : [];
    for (const key of going) {
      const untagged = familiarString(parseReference(key));
      done.push({ untagged });
      this.#events.emit('image', 'untag', record.id, { name: untagged, ...labels(record) });
    }
    if (!isLast) {
      await this.#writeSidecar(record);
      return done;
    }
    await this.#sidecars.removeImage(record.id);
    done.push({ deleted: record.id }, ...deletedChains(record, freed));
    this.#events.emit('image', 'delete', record.id, { name: record.id, ...labels(record) });
    this.#log.info({ image: record.id, layers: freed.length }, 'image removed');
    return done;
  }

  async #lookUp(name: string): Promise<ImageRecord | undefined> {
    if (isDigest(name)) return (await this.#images.get(name)) ?? this.#byReference(name);
    const isHex = /^[0-9a-f]{1,64}$/.test(name);
    if (isHex && name.length === 64) return this.#images.get(`sha256:${name}`);
    const tagged = await this.#byReference(name);
    if (tagged !== undefined) return tagged;
    const prefix = /^(?:sha256:)?([0-9a-f]{1,63})$/.exec(name)?.[1];
    return prefix === undefined ? undefined : this.#byPrefix(prefix);
  }

  async #byReference(name: string): Promise<ImageRecord | undefined> {
    const ref = withDefaultTag(parseReference(name));
    // a digest says more than a tag beside it: `debian:12@sha256:…` is the digest
    const key = ref.digest === undefined ? canonicalString(ref) : `${repositoryOf(ref)}@${ref.digest}`;
    const found = await this.#refs.get(key);
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

  /** The key of the ref that a name means, or undefined where it means the image itself. */
  async #refMeant(name: string): Promise<string | undefined> {
    if (isDigest(name) || /^[0-9a-f]{64}$/.test(name)) return undefined;
    const ref = withDefaultTag(parseReference(name));
    const key = ref.digest === undefined ? canonicalString(ref) : `${repositoryOf(ref)}@${ref.digest}`;
    return (await this.#refs.get(key)) === undefined ? undefined : key;
  }

  /** Canonical names of every image that has one. */
  async #namesById(): Promise<Map<string, string[]>> {
    const names = new Map<string, string[]>();
    for await (const [key, { imageId }] of this.#refs.entries()) {
      const known = names.get(imageId);
      if (known === undefined) names.set(imageId, [key]);
      else known.push(key);
    }
    return names;
  }

  /** Lets a name stand for an image, the one before kept as its previous generation. */
  async #point(ref: Reference, to: { imageId: Digest; digest?: Digest }, now: string): Promise<PointedName> {
    const key = canonicalString(ref);
    const before = await this.#refs.get(key);
    const isMove = before !== undefined && before.imageId !== to.imageId;
    const previous = isMove
      ? [{ imageId: before.imageId, ...(before.digest && { digest: before.digest }), until: now }]
      : (before?.previous ?? []);
    const digest = to.digest ?? (isMove ? undefined : before?.digest);
    const put = this.#refs.put(key, {
      imageId: to.imageId,
      ...(digest && { digest }),
      updatedAt: now,
      previous,
    });
    return { key, put, ...(isMove && { from: before.imageId }) };
  }

  /**
   * Gives an image names. Its copy comes first: a database that is lost afterwards can be rebuilt with it. The copies
   * of the images that had these names come last: until then two of them claim a name, but none is without.
   */
  async #commitNames(record: ImageRecord, names: readonly PointedName[], also: Change[]): Promise<void> {
    await this.#writeSidecar(
      record,
      names.map(({ key }) => key),
    );
    await this.#store.commit([...also, ...names.map(({ put }) => put)]);
    for (const id of new Set(names.flatMap(({ from }) => from ?? []))) {
      const before = await this.#images.get(id);
      if (before !== undefined) await this.#writeSidecar(before);
    }
  }

  async #writeSidecar(record: ImageRecord, added: readonly string[] = []): Promise<void> {
    const names = new Set([...((await this.#namesById()).get(record.id) ?? []), ...added]);
    await this.#sidecars.writeImage(record, [...names]);
  }

  #isRunning({ id }: ImageRecord): boolean {
    return this.#users.usersOf(id).some(({ isRunning }) => isRunning);
  }

  async #sharedBytes(all: readonly ImageView[]): Promise<Map<string, number>> {
    const users = new Map<string, number>();
    for (const { record } of all) {
      for (const diffId of new Set(record.diffIds)) users.set(diffId, (users.get(diffId) ?? 0) + 1);
    }
    const sizes = new Map<string, number>();
    for await (const [diffId, { sizeBytes }] of this.#layers.entries()) sizes.set(diffId, sizeBytes);
    return new Map(
      all.map(({ record }) => [
        record.id,
        record.diffIds
          .filter((diffId) => (users.get(diffId) ?? 0) > 1)
          .reduce((sum, diffId) => sum + (sizes.get(diffId) ?? 0), 0),
      ]),
    );
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

function missingName(name: string): string {
  if (isDigest(name)) return name;
  if (/^[0-9a-f]{64}$/.test(name)) return `sha256:${name}`;
  return familiarString(withDefaultTag(parseReference(name)));
}

function labels(record: ImageRecord): Record<string, string> {
  return parseImageConfig(record.config).config?.Labels ?? {};
}
