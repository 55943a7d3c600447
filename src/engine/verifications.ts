import { Failure, fail, messageOf } from '../errors.ts';
import type { Layers, Verdict } from '../layers/layers.ts';
import { type Digest, shortDigest } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import { progressBar } from '../lib/progress-bar.ts';
import { familiarName, familiarString, parseReference } from '../lib/reference.ts';
import type { Registry, RegistryAuth } from '../registry/registry.ts';
import type { ImageRecord, RefRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { recordsOf, type Table } from '../store/tables.ts';
import { credentialFor } from './credentials.ts';
import type { Images } from './images.ts';
import type { LayerSource } from './layer-fetches.ts';
import type { LayerPin } from './layer-pins.ts';
import type { LayerShelf } from './layer-shelf.ts';
import { type LayerPlace, layerPlaces } from './layer-sources.ts';
import type { Progress } from './progress.ts';
import type { Space } from './space.ts';

/** What a client asks for: one image by any of its names, or all there are. */
export interface VerificationRequest {
  name?: string;
  /** Damaged and missing layers are fetched again. */
  isRepairing: boolean;
  /** For the registry that it names, or else the one that the image's names do. */
  auth?: RegistryAuth;
  /** For several, by server. */
  auths?: ReadonlyMap<string, RegistryAuth>;
}

/** What was found of one layer, and what came of it. */
interface LayerFinding {
  diffId: Digest;
  state: 'ok' | 'damaged' | 'missing' | 'repaired';
  /** Of its tar. */
  bytes: number;
  /** Damage in words. */
  differences: readonly string[];
  /** Why it could not be repaired. */
  error?: string;
}

/** One verification under way. */
interface Verification {
  request: VerificationRequest;
  /** Layers that stay while they are looked at. */
  pin: LayerPin;
  progress: Progress;
  signal: AbortSignal;
}

const PROGRESS_MS = 100;

/**
 * Proves images whole, and makes them so: each layer is hashed and compared from its files, and one that is damaged or
 * missing is brought from a registry again and put in the place of the old one while containers run on that.
 */
export class Verifications {
  readonly #images: Images;
  readonly #records: Table<ImageRecord>;
  readonly #refs: Table<RefRecord>;
  readonly #shelf: LayerShelf;
  readonly #layers: Pick<Layers, 'verify'>;
  readonly #registry: Pick<Registry, 'blob'>;
  readonly #space: Pick<Space, 'limitFor'>;
  readonly #log: Log;

  constructor(o: {
    store: Pick<Store, 'table'>;
    images: Images;
    shelf: LayerShelf;
    layers: Pick<Layers, 'verify'>;
    registry: Pick<Registry, 'blob'>;
    space: Pick<Space, 'limitFor'>;
    log: Log;
  }) {
    this.#images = o.images;
    this.#records = o.store.table('images');
    this.#refs = o.store.table('refs');
    this.#shelf = o.shelf;
    this.#layers = o.layers;
    this.#registry = o.registry;
    this.#space = o.space;
    this.#log = o.log;
  }

  /**
   * Verifies, and says for each image in an `aux` message what each of its layers is. Throws 404 for an image that is not
   * here, and at the end if something that was to be repaired could not be.
   */
  async verify(request: VerificationRequest, o: { signal: AbortSignal; progress: Progress }): Promise<void> {
    const images =
      request.name === undefined
        ? await recordsOf(this.#records)
        : [await this.#images.findAny(request.name)];
    await using pin = this.#shelf.pin();
    const verification: Verification = { request, pin, ...o };
    const findings = new Map<Digest, LayerFinding>();
    for (const image of images) {
      for (const diffId of image.diffIds)
        if (!findings.has(diffId)) findings.set(diffId, await this.#settle(diffId, verification));
      const layers = [...new Set(image.diffIds)].flatMap((diffId) => findings.get(diffId) ?? []);
      o.progress({ aux: await this.#reportOf(image, layers) });
    }
    const failed = [...findings.values()].find(({ error }) => error !== undefined);
    if (failed !== undefined) throw fail.notRepaired(`layer ${shortDigest(failed.diffId)}: ${failed.error}`);
  }

  /** Verifies a layer, and repairs it if that is needed and wanted. */
  async #settle(diffId: Digest, v: Verification): Promise<LayerFinding> {
    const { state, bytes, differences } = await this.#look(diffId, v);
    if (state === 'ok') return { diffId, state, bytes, differences };
    this.#log.error({ layer: diffId, differences }, `a layer is ${state}`);
    if (!v.request.isRepairing) return { diffId, state, bytes, differences };
    try {
      const repaired = await this.#repair(diffId, v);
      return { diffId, state: 'repaired', bytes: repaired, differences };
    } catch (cause) {
      v.signal.throwIfAborted();
      if (!(cause instanceof Failure)) throw cause;
      return { diffId, state, bytes, differences, error: cause.message };
    }
  }

  async #look(diffId: Digest, v: Verification): Promise<Verdict & { bytes: number }> {
    const id = shortDigest(diffId);
    for (;;) {
      const record = await this.#shelf.keep(diffId, v.pin);
      if (record === undefined) {
        v.progress({ id, status: 'Missing' });
        return { state: 'missing', bytes: 0, differences: [] };
      }
      const { dirId, tarBytes: bytes } = record;
      const onProgress = counting(v.progress, id, 'Verifying', bytes);
      onProgress(0);
      const verdict = await this.#layers.verify(dirId, diffId, { onProgress, signal: v.signal });
      const damage = verdict.state === 'ok' ? undefined : (verdict.differences[0] ?? 'it is missing');
      if (!(await this.#shelf.noteVerdict(record, damage))) continue; // it was brought anew, or is gone
      const words = { ok: 'Verified', damaged: `Damaged: ${damage}`, missing: 'Missing' };
      v.progress({ id, status: words[verdict.state] });
      return { ...verdict, bytes };
    }
  }

  /** Brings the layer from the first place that has it; resolves to the bytes of its tar. */
  async #repair(diffId: Digest, v: Verification): Promise<number> {
    const places = layerPlaces(diffId, await recordsOf(this.#records), await this.#namedRefs());
    const [first] = places;
    if (first === undefined) {
      throw fail.notRepaired(
        'no repository is known to have it: its image was loaded, imported or built here. Load the image again',
      );
    }
    const lease = await this.#shelf.lease([diffId], `repair of ${diffId}`);
    try {
      const refusals: string[] = [];
      for (const place of places) {
        try {
          const { tarBytes } = await this.#shelf.fetch(this.#sourceOf(place, first, v), lease, {
            onProgress: counting(v.progress, shortDigest(diffId), 'Downloading', place.layer.size),
            signal: v.signal,
          });
          v.progress({ id: shortDigest(diffId), status: 'Repaired' });
          return tarBytes;
        } catch (cause) {
          v.signal.throwIfAborted();
          if (!(cause instanceof Failure) || cause.code === 'NO_SPACE') throw cause;
          refusals.push(`${familiarName(place.ref)}: ${messageOf(cause)}`);
        }
      }
      throw fail.notRepaired(`it could not be fetched again: ${refusals.join('; ')}`);
    } finally {
      await this.#shelf.drop(lease);
    }
  }

  #sourceOf({ ref, layer }: LayerPlace, first: LayerPlace, v: Verification): LayerSource {
    const auth = credentialFor(v.request, ref.domain, first.ref.domain);
    return {
      diffId: layer.diffId,
      blob: layer.digest,
      compression: layer.compression,
      sizeBytes: layer.size,
      maxBytes: () => this.#space.limitFor(layer.size),
      open: (signal, kept) =>
        this.#registry.blob(ref, layer, { ...(auth && { auth }), ...(kept && { kept }), signal }),
    };
  }

  async #namedRefs(): Promise<[string, RefRecord][]> {
    const refs: [string, RefRecord][] = [];
    for await (const entry of this.#refs.entries()) refs.push(entry);
    return refs;
  }

  async #reportOf(image: ImageRecord, layers: readonly LayerFinding[]): Promise<object> {
    const names = (await this.#namedRefs()).filter(([, { imageId }]) => imageId === image.id);
    return {
      Id: image.id,
      RepoTags: names.flatMap(([key]) => (key.includes('@') ? [] : [familiarString(parseReference(key))])),
      Layers: layers.map(({ diffId, state, bytes, differences, error }) => ({
        DiffID: diffId,
        State: state,
        Bytes: bytes,
        ...(differences.length > 0 && { Differences: differences }),
        ...(error !== undefined && { Error: error }),
      })),
    };
  }
}

/** Tells how far something is, now and then. */
function counting(progress: Progress, id: string, status: string, total: number): (bytes: number) => void {
  let toldAtMs = Number.NEGATIVE_INFINITY;
  return (current) => {
    const nowMs = performance.now();
    if (nowMs - toldAtMs < PROGRESS_MS && current < total) return;
    toldAtMs = nowMs;
    progress({ id, status, progressDetail: { current, total }, progress: progressBar(current, total) });
  };
}
