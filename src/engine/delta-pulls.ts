import { Failure, fail, messageOf } from '../errors.ts';
import type { DeltaArtifact } from '../lib/delta-artifact.ts';
import { type Digest, shortDigest } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import { formatBytes, progressBar } from '../lib/progress-bar.ts';
import { familiarString, type Reference } from '../lib/reference.ts';
import type { LayerDescriptor, Registry, RegistryAuth, RemoteImage } from '../registry/registry.ts';
import type { ImageRecord, LeaseRecord } from '../store/records.ts';
import { recordsOf, type Table } from '../store/tables.ts';
import type { Images } from './images.ts';
import type { LayerShelf } from './layer-shelf.ts';
import type { Progress } from './progress.ts';
import type { Space } from './space.ts';

/** Whether layers may come of a delta: if there is one; or must, so that none is fetched whole; or must not. */
export type DeltaMode = 'auto' | 'require' | 'off';

/** How deltas are used where a pull does not say. */
export interface DeltaSettings {
  readonly mode: DeltaMode;
  /** A delta that saves less than this part of what a full pull fetches, in percent, is left alone. */
  readonly minSaving: number;
}

/** What a pull says of deltas. */
export interface DeltaWishes {
  readonly mode?: DeltaMode;
  /** Images that may serve as base, the best first; every one that is here, if left out. */
  readonly bases?: readonly string[];
}

/** A pull, as far as deltas are concerned. */
export interface DeltaPull {
  readonly ref: Reference;
  readonly auth: RegistryAuth | undefined;
  readonly lease: LeaseRecord;
  readonly progress: Progress;
  readonly signal: AbortSignal;
  readonly wishes: DeltaWishes;
}

/** What came of it. */
export interface DeltaOutcome {
  /** The layers that are here now. */
  readonly made: ReadonlySet<Digest>;
  readonly fetchedBytes: number;
  /** The ID of the image that the delta built on, if one was used. */
  readonly baseId?: Digest;
  /** Why layers are left, in words. */
  readonly whyNot?: string;
}

/** Makes missing layers of a pull out of layers that are here and a delta between the two images. */
export class DeltaPulls {
  readonly #registry: Pick<Registry, 'deltas' | 'blob'>;
  readonly #images: Pick<Images, 'find' | 'refOf'>;
  readonly #records: Table<ImageRecord>;
  readonly #shelf: Pick<LayerShelf, 'applyDelta' | 'isSound' | 'isWhole' | 'keep' | 'pin'>;
  readonly #space: Pick<Space, 'limitFor'>;
  readonly #settings: DeltaSettings;
  readonly #log: Log;

  constructor(o: {
    registry: Pick<Registry, 'deltas' | 'blob'>;
    images: Pick<Images, 'find' | 'refOf'>;
    records: Table<ImageRecord>;
    shelf: Pick<LayerShelf, 'applyDelta' | 'isSound' | 'isWhole' | 'keep' | 'pin'>;
    space: Pick<Space, 'limitFor'>;
    settings: DeltaSettings;
    log: Log;
  }) {
    this.#registry = o.registry;
    this.#images = o.images;
    this.#records = o.records;
    this.#shelf = o.shelf;
    this.#space = o.space;
    this.#settings = o.settings;
    this.#log = o.log;
  }

  /**
   * Makes what it can of the missing layers. What it cannot is left for the caller to fetch whole, unless a delta was
   * required: then this throws.
   */
  async make(
    pull: DeltaPull,
    remote: RemoteImage,
    missing: readonly LayerDescriptor[],
  ): Promise<DeltaOutcome> {
    const mode = pull.wishes.mode ?? this.#settings.mode;
    if (missing.length === 0) return { made: new Set(), fetchedBytes: 0 };
    if (mode === 'off') return none('deltas are off');
    const outcome = await this.#try(pull, remote, missing).catch((cause: unknown) => {
      pull.signal.throwIfAborted();
      this.#log.warn({ image: familiarString(pull.ref), err: cause }, 'no delta could be used');
      return none(messageOf(cause));
    });
    if (mode === 'require' && outcome.whyNot !== undefined)
      throw fail.registry(`a delta is required for ${familiarString(pull.ref)}: ${outcome.whyNot}`);
    return outcome;
  }

  /** Ends a pull's stream for a client that asked about deltas, or got one. */
  report(
    { progress, wishes }: Pick<DeltaPull, 'progress' | 'wishes'>,
    { baseId, whyNot }: DeltaOutcome,
    bytes: { fetchedBytes: number; fullBytes: number },
  ): void {
    if (baseId === undefined && wishes.mode === undefined && wishes.bases === undefined) return;
    progress({ aux: { delta: { ...(baseId && { base: baseId }), ...bytes, ...(whyNot && { whyNot }) } } });
  }

  async #try(
    pull: DeltaPull,
    remote: RemoteImage,
    missing: readonly LayerDescriptor[],
  ): Promise<DeltaOutcome> {
    const bases = await this.#bases(pull, remote);
    if (bases.length === 0) return none('no image is here that could be the base');
    const { ref, signal } = pull;
    const auth = pull.auth && { auth: pull.auth };
    const wish = { targetManifest: remote.manifestDigest, baseIds: bases.map(({ id }) => id) };
    const [delta] = await this.#registry.deltas(ref, wish, { ...auth, signal });
    const base = bases.find(({ id }) => id === delta?.facts.baseId);
    if (delta === undefined || base === undefined)
      return none('the registry has no delta from an image that is here');
    const fullBytes = missing.reduce((sum, { size }) => sum + size, 0);
    if (delta.blob.size > fullBytes * (1 - this.#settings.minSaving / 100))
      return none(`the delta has ${formatBytes(delta.blob.size)} of ${formatBytes(fullBytes)}`);
    return await this.#apply(pull, remote, { delta, base, missing, fullBytes });
  }

  async #apply(
    { ref, auth, lease, progress, signal }: DeltaPull,
    remote: RemoteImage,
    o: { delta: DeltaArtifact; base: ImageRecord; missing: readonly LayerDescriptor[]; fullBytes: number },
  ): Promise<DeltaOutcome> {
    const { blob } = o.delta;
    await using pin = this.#shelf.pin();
    const base: { diffId: Digest; dirId: string }[] = [];
    for (const diffId of new Set(o.base.diffIds)) {
      const record = await this.#shelf.keep(diffId, pin);
      if (record !== undefined) base.push({ diffId, dirId: record.dirId });
    }
    const id = shortDigest(blob.digest);
    const onProgress = (bytes: number) =>
      progress({
        status: 'Downloading',
        progressDetail: { current: bytes, total: blob.size },
        progress: progressBar(bytes, blob.size),
        id,
      });
    progress({ status: `Applying delta to ${shortDigest(o.base.id)}`, progressDetail: {}, id });
    const input = this.#registry.blob(ref, blob, { ...(auth && { auth }), signal });
    const { layers, failure } = await this.#shelf.applyDelta(input, lease, {
      goal: { manifestDigest: remote.manifestDigest, imageId: remote.configDigest },
      base,
      diffIds: o.missing.map(({ diffId }) => diffId),
      maxBytes: await this.#space.limitFor(o.fullBytes),
      onProgress,
      signal,
    });
    const made = new Set(layers.map(({ diffId }) => diffId));
    if (failure !== undefined)
      this.#log.warn({ image: familiarString(ref), base: o.base.id, err: failure }, 'a delta was of no use');
    const whyNot = failure?.message ?? (made.size < o.missing.length ? 'the delta lacks layers' : undefined);
    return { made, fetchedBytes: blob.size, baseId: o.base.id, ...(whyNot !== undefined && { whyNot }) };
  }

  /** Images whose layers are all here and sound: the tag's current one, then those that share most with the target. */
  async #bases({ ref, wishes }: DeltaPull, remote: RemoteImage): Promise<ImageRecord[]> {
    const isWhole = async ({ diffIds }: ImageRecord) =>
      diffIds.length > 0 && this.#shelf.isSound(diffIds) && (await this.#shelf.isWhole(diffIds));
    const candidates = await this.#candidates(ref, wishes, remote);
    const whole: ImageRecord[] = [];
    for (const image of candidates) if (await isWhole(image)) whole.push(image);
    if (whole.length === 0 && candidates.length > 0 && wishes.bases !== undefined)
      throw fail.corrupt(
        `the base ${shortDigest((candidates[0] as ImageRecord).id)} is damaged or not whole`,
      );
    return whole;
  }

  async #candidates(ref: Reference, { bases }: DeltaWishes, remote: RemoteImage): Promise<ImageRecord[]> {
    if (bases !== undefined) {
      const found = await Promise.all(bases.map((name) => this.#images.find(name).catch(missingAsNone)));
      return found.filter((image) => image !== undefined);
    }
    const current = (await this.#images.refOf(ref))?.imageId;
    const target = new Set(remote.layers.map(({ diffId }) => diffId));
    const shared = ({ diffIds }: ImageRecord) => diffIds.filter((diffId) => target.has(diffId)).length;
    const rank = (image: ImageRecord) => (image.id === current ? Number.POSITIVE_INFINITY : shared(image));
    const others = (await recordsOf(this.#records)).filter(({ id }) => id !== remote.configDigest);
    return others.toSorted((a, b) => (rank(a) === rank(b) ? 0 : rank(b) - rank(a)));
  }
}

function none(whyNot: string): DeltaOutcome {
  return { made: new Set(), fetchedBytes: 0, whyNot };
}

function missingAsNone(cause: unknown): undefined {
  if (!(cause instanceof Failure) || cause.status >= 500) throw cause;
}
