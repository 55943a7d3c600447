import type { Readable } from 'node:stream';
import { fail } from '../errors.ts';
import type { Layers, StagedLayer } from '../layers/layers.ts';
import type { Digest } from '../lib/digest.ts';
import { Locks } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import { nowText } from '../lib/time.ts';
import { collect, type Garbage } from '../store/collection.ts';
import type { ImageRecord, LayerRecord, LeaseRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { type Change, recordsOf, type Table } from '../store/tables.ts';
import { Alarm } from './alarm.ts';
import { DeltaLayers } from './delta-layers.ts';
import { withPushed } from './known-blobs.ts';
import { LayerFetches, type LayerSource } from './layer-fetches.ts';
import { LayerLeases } from './layer-leases.ts';
import { type LayerPin, LayerPins } from './layer-pins.ts';
import { type LayerRecoveryParts, recoverLayers } from './layer-recovery.ts';
import { RetiredLayers } from './retired-layers.ts';
import { isNoSpace } from './space.ts';
import type { Spools } from './spools.ts';
import { recoverStaged, type StagedRecoveryParts } from './staged-recovery.ts';

/** Diff IDs that must stay although no image names them: those of every container. */
export interface LayerUsers {
  diffIdsInUse(): Iterable<string>;
}

/** What a batch is about to remove. */
interface Without {
  images?: readonly Digest[];
  lease?: string;
}

/** How the bytes of a layer are unpacked; see {@link Layers.extract}. */
type StageOptions = Omit<Parameters<Layers['extract']>[1], 'leaseId'>;

type ShelfLayers = Pick<Layers, 'applyDelta' | 'extract' | 'publish' | 'discard' | 'remove'> &
  LayerRecoveryParts['layers'] &
  StagedRecoveryParts['layers'];
type ShelfSpools = Pick<Spools, 'through' | 'keptOf' | 'unpacked' | 'forget' | 'has' | 'drop' | 'sweep'>;

/**
 * The layers on disk and those under way. A layer is here once its directory is synced and its record committed;
 * it goes once no image, container or live lease names it. Two fetches of one layer share the work.
 */
export class LayerShelf {
  /** Makes layers of deltas, and keeps what is fetched of these for the next try. */
  readonly deltas: DeltaLayers;
  readonly #store: Pick<Store, 'commit'>;
  readonly #records: Table<LayerRecord>;
  readonly #images: Table<ImageRecord>;
  readonly #leases: LayerLeases;
  readonly #layers: ShelfLayers;
  readonly #users: LayerUsers;
  readonly #spools: ShelfSpools;
  readonly #log: Log;
  readonly #fetches: LayerFetches;
  /** Between "is it there?" and "it is leased", nobody may collect. */
  readonly #locks = new Locks();
  readonly #pins = new LayerPins();
  /** Layers that images count on and the disk has lost; a pull brings them back. */
  readonly #lost = new Set<string>();
  /** Layers whose records tell of damage: they serve as well as they can, and whoever brings them brings them anew. */
  readonly #damaged = new Set<string>();
  readonly #retired: RetiredLayers;
  /** Goes off when a lease runs out. */
  readonly #expiry = new Alarm(() => {
    this.collect().catch((err) => this.#log.error({ err }, 'collection failed'));
  });
  #isClosed = false;

  constructor(o: {
    store: Store;
    layers: ShelfLayers;
    users: LayerUsers;
    spools: ShelfSpools;
    leaseMs: number;
    log: Log;
  }) {
    this.#store = o.store;
    this.#records = o.store.table('layers');
    this.#images = o.store.table('images');
    this.#leases = new LayerLeases({ ...o, locks: this.#locks });
    this.#layers = o.layers;
    this.#users = o.users;
    this.#spools = o.spools;
    this.#fetches = new LayerFetches({
      ...o,
      present: (diffId) => this.#soundRecord(diffId),
      settle: (staged, blob) => this.#settle(staged, blob),
    });
    this.deltas = new DeltaLayers({
      ...o,
      isClosed: () => this.#isClosed,
      settle: (staged) => this.#settle(staged),
    });
    this.#log = o.log;
    this.#retired = new RetiredLayers(o.layers, o.log);
  }

  /** The record of a layer that is here. */
  async get(diffId: Digest): Promise<LayerRecord | undefined> {
    return this.#records.get(diffId);
  }

  /** True if every one of these layers is here. */
  async isWhole(diffIds: readonly Digest[]): Promise<boolean> {
    const records = await Promise.all(diffIds.map((diffId) => this.#records.get(diffId)));
    return records.every((record) => record !== undefined);
  }

  /** False if the disk lost one of these layers since it was recorded. */
  isIntact(diffIds: readonly string[]): boolean {
    return this.#lost.size === 0 || diffIds.every((diffId) => !this.#lost.has(diffId));
  }

  /** False if one of these layers is lost, or known not to be what it was: a pull brings it anew. */
  isSound(diffIds: readonly string[]): boolean {
    return this.isIntact(diffIds) && !diffIds.some((diffId) => this.#damaged.has(diffId));
  }

  /** Directory IDs of a stack, lowest first; throws `CORRUPT` if one is not here. */
  async directories(diffIds: readonly string[]): Promise<string[]> {
    return Promise.all(
      diffIds.map(async (diffId) => {
        const record = await this.#records.get(diffId);
        if (record === undefined) throw fail.corrupt(`layer ${diffId} is missing: pull the image again`);
        return record.dirId;
      }),
    );
  }

  /** Hands the {@link directories} of a stack to `mount`; none of them goes before it is mounted. */
  async mounting<T>(diffIds: readonly string[], mount: (dirIds: string[]) => Promise<T>): Promise<T> {
    return this.#retired.whileMounting(async () => mount(await this.directories(diffIds)));
  }

  /** Something was unmounted: directories that were only kept for it go. Never throws. */
  async collectRetired(): Promise<void> {
    await this.#retired.collect();
  }

  /**
   * Remembers what a verification of this directory found, in words, or that it found nothing. True unless the layer
   * was brought anew meanwhile, so that this says nothing about it.
   */
  async noteVerdict(
    { diffId, dirId }: Pick<LayerRecord, 'diffId' | 'dirId'>,
    damage?: string,
  ): Promise<boolean> {
    await using _lock = await this.#locks.hold(diffId);
    const record = await this.#records.get(diffId);
    if (record?.dirId !== dirId) return false;
    if (record.damage === damage) return true;
    const { damage: _before, ...rest } = record;
    const noted = damage === undefined ? rest : { ...rest, damage };
    await this.#store.commit([this.#records.put(diffId, noted)]);
    this.#damaged[damage === undefined ? 'delete' : 'add'](diffId);
    return true;
  }

  /** Keeps layers from collection while something reads them or counts on them, without a trace on the disk. */
  pin(): LayerPin {
    const collect = () => this.collect().catch((err) => this.#log.error({ err }, 'collection failed'));
    return this.#pins.pin(async () => this.#isClosed || (await collect()));
  }

  /** The record of a layer that is here, and stays here while the pin lives. */
  async keep(diffId: Digest, pin: LayerPin): Promise<LayerRecord | undefined> {
    await using _lock = await this.#locks.hold('collect');
    pin.diffIds.add(diffId);
    return await this.#records.get(diffId);
  }

  /** The layers that images have, here or not. */
  async named(): Promise<Set<Digest>> {
    return new Set((await recordsOf(this.#images)).flatMap(({ diffIds }) => diffIds));
  }

  /** The diff ID of a layer that is here, by the digest of a blob that is known to hold it. */
  async diffIdOf(blob: Digest): Promise<Digest | undefined> {
    for await (const [, { diffId, blobs }] of this.#records.entries())
      if (blobs.includes(blob)) return diffId;
    return undefined;
  }

  /** Remembers the blob that a push made of a layer; the caller has pinned it. */
  async notePushed(diffId: Digest, pushed: { digest: Digest; size: number }): Promise<void> {
    await using _lock = await this.#locks.hold(diffId);
    const record = await this.#records.get(diffId);
    if (record !== undefined)
      await this.#store.commit([this.#records.put(diffId, withPushed(record, pushed))]);
  }

  /** Keeps these layers, present and future, from collection until {@link endLease} or until it expires. */
  async lease(
    diffIds: readonly Digest[],
    why: string,
    o: Pick<LeaseRecord, 'endsWithDaemon'> = {},
  ): Promise<LeaseRecord> {
    return this.#leases.grant(diffIds, why, o);
  }

  /**
   * The changes that end a lease, to be committed with the image that names its layers from now on. Leases of pulls
   * that died over the same layers end with it: what they waited for is done.
   */
  async leaseEnds(lease: LeaseRecord): Promise<Change[]> {
    return this.#leases.endsOf(lease);
  }

  /** The work under a lease is over, for good or ill: from here on only its term keeps it. */
  release(lease: LeaseRecord): void {
    this.#leases.release(lease);
  }

  /**
   * A pull gave up. Layers it finished, and spools of those it did not, stay under its lease for the next try, unless
   * the disk is full or there are none: then all of it goes at once.
   */
  async abandon(lease: LeaseRecord, cause: unknown): Promise<void> {
    const finished = await Promise.all(lease.diffIds.map((diffId) => this.#records.get(diffId)));
    const isEmpty = finished.every((record) => record === undefined) && !this.#spools.has(lease.diffIds);
    if (isEmpty || isNoSpace(cause)) return this.drop(lease);
    this.release(lease);
    await this.collect(); // sets the alarm for the lease's end
  }

  /** Work that nobody will take up again came to nothing: what its lease alone kept goes at once. */
  async drop(lease: LeaseRecord): Promise<void> {
    this.release(lease);
    await this.#sweep([this.#leases.table.remove(lease.id)], { lease: lease.id });
  }

  /** Brings a layer here, or waits for whoever is bringing it. Aborting stops the work once nobody else waits. */
  async fetch(
    source: LayerSource,
    lease: LeaseRecord,
    o: { onProgress(compressedBytes: number): void; signal: AbortSignal },
  ): Promise<LayerRecord> {
    return this.#fetches.fetch(source, lease, o);
  }

  /**
   * Unpacks a layer of which nothing but the bytes need be known: one that was made here, or comes out of an archive. It
   * is nobody's yet: the caller hands it to {@link take} or {@link discard}.
   */
  async stage(input: Readable, { id }: LeaseRecord, o: StageOptions): Promise<StagedLayer> {
    if (this.#isClosed) throw fail.host('the engine is shutting down');
    return this.#layers.extract(input, { ...o, leaseId: id });
  }

  /** Makes what is staged a layer that the lease keeps. `blob` is the digest of the bytes that it came in, if they had it. */
  async take(staged: StagedLayer, lease: LeaseRecord, blob?: Digest): Promise<LayerRecord> {
    await this.#leases.extend(lease, staged.diffId).catch(async (cause: unknown) => {
      await this.#layers.discard(staged);
      throw cause;
    });
    return await this.#settle(staged, blob);
  }

  /** {@link stage} and {@link take} in one. */
  async add(
    input: Readable,
    lease: LeaseRecord,
    { blob, ...o }: StageOptions & { blob?: Digest },
  ): Promise<LayerRecord> {
    return await this.take(await this.stage(input, lease, o), lease, blob);
  }

  /** Lets go of what is staged. Never throws. */
  async discard(staged: StagedLayer): Promise<void> {
    await this.#layers.discard(staged);
  }

  /** Removes images' records with `changes` in one batch, then the layers that nothing names any more. */
  async dropImages(imageIds: readonly Digest[], changes: readonly Change[]): Promise<LayerRecord[]> {
    const removals = imageIds.map((id) => this.#images.remove(id));
    return this.#sweep([...changes, ...removals], { images: imageIds });
  }

  /** Ends leases that have expired and removes layers that nothing names; at boot and when a lease runs out. */
  async collect(): Promise<LayerRecord[]> {
    return this.#sweep([]);
  }

  /** Boot: brings the records and the disk to agree; see {@link recoverLayers} and {@link recoverStaged}. */
  async recover(o: { adoptOrphans: boolean }): Promise<void> {
    const parts = { layers: this.#layers, records: this.#records, log: this.#log, ...o };
    const { changes, here, retired } = await recoverLayers(parts);
    changes.push(...(await this.#leases.endsWhere(({ endsWithDaemon }) => endsWithDaemon === true)));
    if (changes.length > 0) await this.#store.commit(changes);
    for (const dirId of retired) this.#retired.add(dirId);
    for (const { diffId, damage } of here) if (damage !== undefined) this.#damaged.add(diffId);
    const known = new Set<string>(here.map(({ diffId }) => diffId));
    for (const diffId of await this.named()) if (!known.has(diffId)) this.#lost.add(diffId);
    await recoverStaged({ ...parts, leases: this.#leases.table, settle: (staged) => this.#settle(staged) });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    this.#expiry[Symbol.dispose]();
    await this.#fetches[Symbol.asyncDispose]();
  }

  async #soundRecord(diffId: Digest): Promise<LayerRecord | undefined> {
    const record = await this.#records.get(diffId);
    return record?.damage === undefined ? record : undefined;
  }

  /** What is unpacked becomes a layer, unless the same one came by another way meanwhile. */
  async #settle(staged: StagedLayer, blob?: Digest): Promise<LayerRecord> {
    await using _lock = await this.#locks.hold(staged.diffId);
    const sound = await this.#soundRecord(staged.diffId);
    if (sound !== undefined) {
      await this.#layers.discard(staged);
      return sound;
    }
    const damaged = await this.#records.get(staged.diffId);
    const { dirId, diffId, sizeBytes, tarBytes } = await this.#layers.publish(staged);
    const blobs = [...new Set([...(damaged?.blobs ?? []), ...(blob === undefined ? [] : [blob])])];
    const record: LayerRecord = { dirId, diffId, sizeBytes, tarBytes, blobs, createdAt: nowText() };
    try {
      await this.#store.commit([this.#records.put(diffId, record)]);
    } catch (cause) {
      // a disk that is full for the record is not to keep the layer that nobody will find
      if ((await this.#records.get(diffId))?.dirId !== dirId) await this.#layers.remove(dirId);
      throw cause;
    }
    await this.#spools.drop(diffId);
    this.#lost.delete(diffId);
    this.#damaged.delete(diffId);
    if (damaged === undefined) return record;
    this.#log.info({ layer: diffId, dir: dirId, damage: damaged.damage }, 'a damaged layer was replaced');
    this.#retired.add(damaged.dirId);
    await this.#retired.collect();
    return record;
  }

  async #sweep(changes: readonly Change[], without: Without = {}): Promise<LayerRecord[]> {
    const { layers } = await this.#forget(changes, without);
    // reference before blob: what a crash leaves of these directories is swept at boot
    for (const { dirId } of layers) await this.#layers.remove(dirId);
    await this.#retired.collect();
    return layers;
  }

  /** Commits the changes together with the end of everything that nothing names after them. */
  async #forget(changes: readonly Change[], without: Without): Promise<Garbage> {
    await using _lock = await this.#locks.hold('collect');
    // in the order in which a hold is handed on: from leases to images to containers
    const [layers, leases, images] = [
      await recordsOf(this.#records),
      await this.#leases.all(),
      await recordsOf(this.#images),
    ];
    const garbage = collect({
      images: images.filter(({ id }) => without.images?.includes(id) !== true),
      refs: [],
      containers: [this.#users.diffIdsInUse(), ...this.#pins.held()].map((held) => ({ diffIds: [...held] })),
      layers,
      leases: leases.filter(({ id }) => id !== without.lease),
      heldLeases: this.#leases.held,
      nowMs: Date.now(),
    });
    for (const { diffId } of garbage.layers) this.#damaged.delete(diffId);
    const ended = garbage.leases.map(({ id }) => this.#leases.table.remove(id));
    const gone = garbage.layers.map(({ diffId }) => this.#records.remove(diffId));
    if (changes.length + ended.length + gone.length > 0)
      await this.#store.commit([...changes, ...ended, ...gone]);
    const left = leases.filter(
      ({ id }) => id !== without.lease && !garbage.leases.some((gone) => gone.id === id),
    );
    const here = new Set(layers.filter(({ damage }) => damage === undefined).map(({ diffId }) => diffId));
    const awaited = left.flatMap(({ diffIds }) => diffIds).filter((diffId) => !here.has(diffId));
    await this.#spools.sweep(new Set(awaited));
    if (!this.#isClosed) this.#expiry.set(garbage.nextExpiryMs);
    return garbage;
  }
}
