import { codeOf, fail, messageOf } from '../errors.ts';
import { type Digest, shortDigest } from '../lib/digest.ts';
import { Locks } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import { formatBytes } from '../lib/progress-bar.ts';
import { familiarString, type Reference } from '../lib/reference.ts';
import type { LayerDescriptor, Registry, RegistryAuth, RemoteImage } from '../registry/registry.ts';
import type { ImageRecord, LayerRecord, LeaseRecord } from '../store/records.ts';
import type { Table } from '../store/tables.ts';
import { BadDeltas, type DeltaUse } from './bad-deltas.ts';
import { noteDamage } from './base-damage.ts';
import { type Bases, ownLayers } from './bases.ts';
import { type DeltaCandidate, DeltaChoice, type DeltaMode, type DeltaWishes } from './delta-choice.ts';
import type { Images } from './images.ts';
import type { LayerShelf } from './layer-shelf.ts';
import type { Progress } from './progress.ts';
import type { PullReport } from './pull-report.ts';
import type { Space } from './space.ts';
import type { KeptPart } from './spools.ts';

/** So many deltas of one pull are tried, and their bytes spent, before layers are fetched whole. */
const MOST_TRIES = 3;

/** How deltas are used where a pull does not say. */
export interface DeltaSettings {
  readonly mode: DeltaMode;
  /** A delta that saves less than this part of what a full pull fetches, in percent, is left alone. */
  readonly minSaving: number;
}

/** A pull, as far as deltas are concerned. */
export interface DeltaPull {
  readonly ref: Reference;
  readonly auth: RegistryAuth | undefined;
  readonly lease: LeaseRecord;
  readonly progress: Progress;
  readonly report: Pick<PullReport, 'delta'>;
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

type DeltaShelf = Pick<LayerShelf, 'deltas' | 'get' | 'isSound' | 'keep' | 'noteVerdict' | 'pin'>;

/** What is tried of a delta. */
interface Trial extends DeltaCandidate {
  readonly missing: readonly LayerDescriptor[];
  /** What an earlier try has left of it. */
  readonly keptBytes: number;
}

/** Makes missing layers of a pull out of layers that are here and a delta between the two images. */
export class DeltaPulls {
  readonly #registry: Pick<Registry, 'blob'>;
  readonly #choice: DeltaChoice;
  readonly #bases: Pick<Bases, 'copy' | 'places'>;
  readonly #shelf: DeltaShelf;
  readonly #space: Pick<Space, 'limitFor'>;
  readonly #settings: DeltaSettings;
  readonly #log: Log;
  /** By layer: who wants one at the same time waits, and finds it here. */
  readonly #turns = new Locks();
  readonly #bad = new BadDeltas();

  constructor(o: {
    registry: Pick<Registry, 'deltas' | 'blob'>;
    images: Pick<Images, 'find' | 'refOf'>;
    records: Table<ImageRecord>;
    bases: Pick<Bases, 'copy' | 'places' | 'stored'>;
    shelf: DeltaShelf;
    space: Pick<Space, 'limitFor'>;
    settings: DeltaSettings;
    log: Log;
  }) {
    this.#registry = o.registry;
    this.#choice = new DeltaChoice(o);
    this.#bases = o.bases;
    this.#shelf = o.shelf;
    this.#space = o.space;
    this.#settings = o.settings;
    this.#log = o.log;
  }

  /**
   * Makes what it can of the missing layers. What it cannot is left for the caller to fetch whole, as is a layer that it
   * found damaged on the way, unless a delta was required: then this throws.
   */
  async make(
    pull: DeltaPull,
    remote: RemoteImage,
    missing: readonly LayerDescriptor[],
  ): Promise<DeltaOutcome> {
    const mode = pull.wishes.mode ?? this.#settings.mode;
    if (missing.length === 0) return { made: new Set(), fetchedBytes: 0 };
    if (mode === 'off') return { made: new Set(), fetchedBytes: 0, whyNot: 'deltas are off' };
    const layers = missing.map(({ diffId }) => diffId);
    await using _turn = await this.#turns.holdAll(layers, { signal: pull.signal });
    const outcome = await this.#tryAll(pull, remote, missing);
    if (mode === 'require' && outcome.whyNot !== undefined)
      throw fail.registry(`a delta is required for ${familiarString(pull.ref)}: ${outcome.whyNot}`);
    return outcome;
  }

  /** Waits while a delta makes this layer for another pull: what comes of it need not be fetched. */
  async waitFor(diffId: Digest, o: { signal: AbortSignal }): Promise<void> {
    await using _turn = await this.#turns.hold(diffId, o);
  }

  /** Ends a pull's stream for a client that asked about deltas, or got one. */
  report(
    { progress, wishes }: Pick<DeltaPull, 'progress' | 'wishes'>,
    { baseId, whyNot }: DeltaOutcome,
    bytes: { fetchedBytes: number; fullBytes: number },
  ): void {
    if (baseId === undefined && Object.keys(wishes).length === 0) return;
    progress({ aux: { delta: { ...(baseId && { base: baseId }), ...bytes, ...(whyNot && { whyNot }) } } });
  }

  /** Tries one delta after the other, the smallest first, each for what those before it did not make. */
  async #tryAll(
    pull: DeltaPull,
    remote: RemoteImage,
    missing: readonly LayerDescriptor[],
  ): Promise<DeltaOutcome> {
    const made = new Set<Digest>();
    // whoever was first may have brought them
    for (const { diffId } of missing) if (await this.#isHere(diffId)) made.add(diffId);
    const absent = missing.filter(({ diffId }) => !made.has(diffId)).map(({ diffId }) => diffId);
    for (const diffId of await this.#bases.copy(absent, pull.lease, pull.signal)) made.add(diffId);
    const reasons = new Set<string>();
    let fetchedBytes = 0;
    let baseId: Digest | undefined;
    const left = () => missing.filter(({ diffId }) => !made.has(diffId));
    const candidates = left().length === 0 ? [] : await this.#candidates(pull, remote, reasons);
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const candidate = candidates.shift();
      if (candidate === undefined || left().length === 0) break;
      if (!this.#shelf.isSound(candidate.base.diffIds)) continue; // so one before it found
      const trial = { ...candidate, missing: left(), keptBytes: await this.#keptOf(candidate, left()) };
      const tooLarge = this.#savesTooLittle(trial);
      if (tooLarge !== undefined) {
        reasons.add(tooLarge);
        break; // as are those after it
      }
      const { layers, failure, bytes } = await this.#try(pull, remote, trial);
      fetchedBytes += bytes;
      for (const { diffId } of layers) made.add(diffId);
      if (layers.length > 0 || baseId === undefined) baseId = candidate.base.id;
      if (failure !== undefined) reasons.add(messageOf(failure));
      else if (left().length > 0) reasons.add('the delta lacks layers');
      if (codeOf(failure) === 'NO_SPACE') break;
    }
    const whyNot = this.#whyNot(remote, missing, { left: left(), reasons });
    return { made, fetchedBytes, ...(baseId && { baseId }), ...(whyNot !== undefined && { whyNot }) };
  }

  /** Smallest first, without those that are known to be bad; none, and a reason, where there are none. */
  async #candidates(pull: DeltaPull, remote: RemoteImage, reasons: Set<string>): Promise<DeltaCandidate[]> {
    try {
      const candidates = await this.#choice.candidates(pull, remote);
      return candidates.filter((candidate) => {
        const reason = this.#bad.reason(useOf(candidate, remote));
        if (reason !== undefined) reasons.add(reason);
        return reason === undefined;
      });
    } catch (cause) {
      pull.signal.throwIfAborted();
      if (codeOf(cause) !== 'NO_DELTA')
        this.#log.warn({ image: familiarString(pull.ref), err: cause }, 'no delta could be found');
      reasons.add(messageOf(cause));
      return [];
    }
  }

  #keptOf({ delta: { blob } }: DeltaCandidate, missing: readonly LayerDescriptor[]): Promise<number> {
    const diffIds = missing.map(({ diffId }) => diffId);
    return this.#shelf.deltas.keptOf({ blob: blob.digest, sizeBytes: blob.size }, diffIds);
  }

  #savesTooLittle({ delta, missing, keptBytes }: Trial): string | undefined {
    const fullBytes = sizeOf(missing);
    if (delta.blob.size - keptBytes <= fullBytes * (1 - this.#settings.minSaving / 100)) return undefined;
    return `the delta has ${formatBytes(delta.blob.size)} of ${formatBytes(fullBytes)}`;
  }

  async #isHere(diffId: Digest): Promise<boolean> {
    return this.#shelf.isSound([diffId]) && (await this.#shelf.get(diffId)) !== undefined;
  }

  /** Why layers are left, in words; also one that the image shares with a base, and that turned out to be damaged. */
  #whyNot(
    remote: RemoteImage,
    missing: readonly LayerDescriptor[],
    { left, reasons }: { left: readonly LayerDescriptor[]; reasons: ReadonlySet<string> },
  ): string | undefined {
    if (left.length > 0) return [...reasons].join('; ');
    const isMissing = ({ diffId }: LayerDescriptor) => missing.some((layer) => layer.diffId === diffId);
    const shared = remote.layers.filter((layer) => !isMissing(layer));
    const damaged = shared.find(({ diffId }) => !this.#shelf.isSound([diffId]));
    return damaged && `layer ${damaged.diffId}, which the image shares with its base, is damaged`;
  }

  /** One delta, from its first byte on. What fails is told, not thrown, but for an abort. */
  async #try(
    pull: DeltaPull,
    remote: RemoteImage,
    trial: Trial,
  ): Promise<{ layers: readonly LayerRecord[]; failure?: unknown; bytes: number }> {
    const { delta, base, missing } = trial;
    const image = familiarString(pull.ref);
    const report = pull.report.delta(delta.blob, missing);
    let come = 0;
    const onProgress = (bytes: number) => {
      come = bytes;
      report.downloading(bytes);
    };
    const status = `Applying delta to ${shortDigest(base.id)}`;
    pull.progress({ status, progressDetail: {}, id: shortDigest(delta.blob.digest) });
    const result = await this.#apply(pull, remote, { ...trial, onProgress }).catch((cause: unknown) => {
      pull.signal.throwIfAborted();
      return { layers: [], failure: cause, fetchedBytes: 0 };
    });
    const { layers, failure } = result;
    this.#bad.note(useOf(trial, remote), failure);
    const bytes = failure === undefined ? result.fetchedBytes : Math.max(0, come - trial.keptBytes);
    const readBytes = failure === undefined ? delta.blob.size : come;
    report.ended(readBytes, new Set(layers.map(({ diffId }) => diffId)));
    const facts = { image, base: base.id, delta: delta.blob.digest, bytes, layers: layers.length };
    if (failure !== undefined) this.#log.warn({ ...facts, err: failure }, 'a delta was of no use');
    else this.#log.info({ ...facts, savedBytes: sizeOf(missing) - bytes }, 'delta applied');
    return { layers, failure, bytes };
  }

  async #apply(
    { lease, signal }: DeltaPull,
    remote: RemoteImage,
    o: Trial & { onProgress(bytes: number): void },
  ): Promise<{ layers: readonly LayerRecord[]; failure?: unknown; fetchedBytes: number }> {
    await using pin = this.#shelf.pin();
    const base = await this.#bases.places([...new Set(o.base.diffIds)], pin);
    const order = {
      goal: { manifestDigest: remote.manifestDigest, imageId: remote.configDigest },
      base,
      diffIds: o.missing.map(({ diffId }) => diffId),
      maxBytes: await this.#space.limitFor(sizeOf(o.missing)),
      onProgress: o.onProgress,
      signal,
    };
    const { digest: blob, size: sizeBytes } = o.delta.blob;
    const auth = o.auth && { auth: o.auth };
    const open = (kept?: KeptPart) =>
      this.#registry.blob(o.ref, o.delta.blob, { ...auth, ...(kept && { kept }), signal });
    const applied = this.#shelf.deltas.fetch({ blob, sizeBytes, open }, lease, order);
    const result = await applied.catch((cause: unknown) => ({ layers: [], failure: cause, fetchedBytes: 0 }));
    await noteDamage(result.failure, ownLayers(base), { shelf: this.#shelf, log: this.#log });
    return result;
  }
}

function useOf({ delta, base }: DeltaCandidate, { manifestDigest }: RemoteImage): DeltaUse {
  return { blob: delta.blob.digest, targetManifest: manifestDigest, baseId: base.id };
}

function sizeOf(layers: readonly LayerDescriptor[]): number {
  return layers.reduce((sum, { size }) => sum + size, 0);
}
