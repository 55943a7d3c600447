import type { Readable } from 'node:stream';
import { Failure, fail } from '../errors.ts';
import type { BaseLayer } from '../layers/delta-job.ts';
import type { Layers, StagedLayer } from '../layers/layers.ts';
import type { Digest } from '../lib/digest.ts';
import { abortable } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import type { LayerRecord, LeaseRecord } from '../store/records.ts';
import type { KeptPart, SpoolableBlob, SpooledBlob, Spools } from './spools.ts';

/** Where a missing layer comes from. The stream must fail by itself if it is not what was asked for. */
export interface LayerSource {
  diffId: Digest;
  /** Digest of the bytes of the stream, remembered so that the layer can be fetched again; if it is known. */
  blob?: Digest;
  compression: 'gzip' | 'zstd' | 'none';
  /** The stream is a patch for these layers; see {@link Layers.extract}. Its blob is not the layer's. */
  base?: readonly BaseLayer[];
  /** Of the blob; one whose size is not known is never spooled. */
  sizeBytes?: number;
  /** The most that it may unpack to, asked for when it is about to be. */
  maxBytes?: () => Promise<number>;
  /** `kept` is what an earlier try left of the blob; the stream begins with it. */
  open(signal: AbortSignal, kept?: KeptPart): Readable;
}

interface Fetch {
  done: Promise<LayerRecord>;
  abort: AbortController;
  waiters: Set<(compressedBytes: number) => void>;
}

/**
 * The layers that are being fetched: each once, however many wait for it. Knows how to get one unpacked; what becomes
 * of it then is for {@link LayerShelf} to say.
 */
export class LayerFetches implements AsyncDisposable {
  readonly #layers: Pick<Layers, 'extract'>;
  readonly #spools: Pick<Spools, 'through' | 'drop'>;
  readonly #present: (diffId: Digest) => Promise<LayerRecord | undefined>;
  readonly #settle: (staged: StagedLayer, blob?: Digest) => Promise<LayerRecord>;
  readonly #log: Log;
  /** By {@link keyOf}. */
  readonly #running = new Map<string, Fetch>();
  #isClosed = false;

  constructor(o: {
    layers: Pick<Layers, 'extract'>;
    spools: Pick<Spools, 'through' | 'drop'>;
    /** The layer, if it is here already. */
    present(diffId: Digest): Promise<LayerRecord | undefined>;
    /** Makes what is unpacked a layer. */
    settle(staged: StagedLayer, blob?: Digest): Promise<LayerRecord>;
    log: Log;
  }) {
    this.#layers = o.layers;
    this.#spools = o.spools;
    this.#present = o.present;
    this.#settle = o.settle;
    this.#log = o.log;
  }

  /** Brings a layer here, or waits for whoever is bringing it. Aborting stops the work once nobody else waits. */
  async fetch(
    source: LayerSource,
    lease: LeaseRecord,
    o: { onProgress(compressedBytes: number): void; signal: AbortSignal },
  ): Promise<LayerRecord> {
    for (;;) {
      o.signal.throwIfAborted();
      if (this.#isClosed) throw fail.host('the engine is shutting down');
      const running = this.#running.get(keyOf(source)) ?? this.#begin(source, lease);
      running.waiters.add(o.onProgress);
      try {
        return await abortable(running.done, o.signal);
      } catch (cause) {
        // the one who began it left in the instant in which this one joined: begin anew
        if (running.abort.signal.aborted && !o.signal.aborted) continue;
        throw cause;
      } finally {
        running.waiters.delete(o.onProgress);
        if (running.waiters.size === 0) {
          running.abort.abort(new Error('nobody waits for this layer any more'));
          // one that was just being published still comes to be, and must do so under the lease
          await running.done.catch(() => {});
        }
      }
    }
  }

  /** Stops them all, for good. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const fetches = [...this.#running.values()];
    for (const { abort } of fetches) abort.abort(new Error('the engine is shutting down'));
    await Promise.allSettled(fetches.map(({ done }) => done));
  }

  #begin(source: LayerSource, lease: LeaseRecord): Fetch {
    const abort = new AbortController();
    const waiters: Fetch['waiters'] = new Set();
    const onProgress = (bytes: number) => {
      for (const tell of waiters) tell(bytes);
    };
    const done = this.#bring(source, lease, onProgress, abort.signal).finally(() =>
      this.#running.delete(keyOf(source)),
    );
    done.catch(() => {}); // every waiter may have left by the time it fails
    const fetch: Fetch = { done, abort, waiters };
    this.#running.set(keyOf(source), fetch);
    return fetch;
  }

  async #bring(
    source: LayerSource,
    lease: LeaseRecord,
    onProgress: (bytes: number) => void,
    signal: AbortSignal,
  ): Promise<LayerRecord> {
    // another pull may have finished it since the caller looked; from here on nobody else brings it
    const present = await this.#present(source.diffId);
    if (present !== undefined) return present;
    const staged = await this.#unpack(source, lease, onProgress, signal);
    return await this.#settle(staged, source.base === undefined ? source.blob : undefined);
  }

  /** What comes in damaged is fetched once more. A spool that may be to blame goes, and that does not count. */
  async #unpack(
    source: LayerSource,
    lease: LeaseRecord,
    onProgress: (bytes: number) => void,
    signal: AbortSignal,
  ): Promise<StagedLayer> {
    const { diffId, base, compression, maxBytes } = source;
    const how = { compression, diffId, base, ...(maxBytes && { maxBytes }) };
    const o = { leaseId: lease.id, ...how, onProgress, signal };
    for (let triesLeft = 1; ; ) {
      const { input, keptBytes } = await this.#open(source, signal);
      const isResumed = keptBytes > 0;
      try {
        return await this.#layers.extract(input, o);
      } catch (err) {
        const isCorrupt = err instanceof Failure && err.code === 'CORRUPT';
        if (!isCorrupt || signal.aborted) throw err;
        await this.#spools.drop(diffId);
        if (!isResumed && triesLeft-- === 0) throw err;
        this.#log.warn({ layer: diffId, isResumed, err }, 'a layer came in damaged: fetching it once more');
      }
    }
  }

  async #open(source: LayerSource, signal: AbortSignal): Promise<SpooledBlob> {
    const { diffId, blob, sizeBytes } = source;
    if (blob === undefined || sizeBytes === undefined) return { input: source.open(signal), keptBytes: 0 };
    const wanted: SpoolableBlob = { diffId, blob, sizeBytes, kind: 'layer' };
    return this.#spools.through(wanted, (kept) => source.open(signal, kept));
  }
}

/** A layer that comes whole and one that a patch makes are not one fetch: either may fail where the other does not. */
function keyOf({ diffId, base, blob }: LayerSource): string {
  return base === undefined ? diffId : `${diffId} by ${blob}`;
}
