import type { Readable } from 'node:stream';
import { Failure, fail, messageOf } from '../errors.ts';
import type { DeltaOrder } from '../layers/delta-job.ts';
import type { Layers, StagedLayer } from '../layers/layers.ts';
import type { Digest } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import type { LayerRecord, LeaseRecord } from '../store/records.ts';
import type { KeptPart, SpoolableBlob, Spools } from './spools.ts';

/** Where a delta comes from. What is `kept` of it is to be given first, and need not be fetched. */
export interface DeltaSource {
  readonly blob: Digest;
  readonly sizeBytes: number;
  open(kept?: KeptPart): Readable;
}

/** What came of a delta. */
export interface DeltaResult {
  /** The layers that are here now. */
  readonly layers: LayerRecord[];
  /** What stopped it on the way. */
  readonly failure?: Error;
  /** What had to be fetched of it. */
  readonly fetchedBytes: number;
}

/**
 * Makes layers of deltas by way of spools: a delta whose pull dies is not fetched anew. It stays spooled until the last
 * of its layers is here, is found to be bad, or its lease ends.
 */
export class DeltaLayers {
  readonly #layers: Pick<Layers, 'applyDelta' | 'discard'>;
  readonly #spools: Pick<Spools, 'through' | 'keptOf' | 'unpacked' | 'forget'>;
  readonly #isClosed: () => boolean;
  readonly #settle: (staged: StagedLayer) => Promise<LayerRecord>;
  readonly #log: Log;

  constructor(o: {
    layers: Pick<Layers, 'applyDelta' | 'discard'>;
    spools: Pick<Spools, 'through' | 'keptOf' | 'unpacked' | 'forget'>;
    /** Nothing is begun any more. */
    isClosed(): boolean;
    /** Puts an unpacked layer on the shelf. */
    settle(staged: StagedLayer): Promise<LayerRecord>;
    log: Log;
  }) {
    this.#layers = o.layers;
    this.#spools = o.spools;
    this.#isClosed = o.isClosed;
    this.#settle = o.settle;
    this.#log = o.log;
  }

  /** How much of a delta would not have to be fetched. */
  async keptOf({ blob, sizeBytes }: Omit<DeltaSource, 'open'>, diffIds: readonly Digest[]): Promise<number> {
    const diffId = diffIds.at(-1);
    return diffId === undefined ? 0 : this.#spools.keptOf({ diffId, blob, sizeBytes });
  }

  /** Makes the layers that `o` names, all of them in the lease, of a delta that just comes. */
  async make(
    input: Readable,
    { id: leaseId }: LeaseRecord,
    o: Omit<DeltaOrder, 'leaseId'>,
  ): Promise<Omit<DeltaResult, 'fetchedBytes'>> {
    this.#checkOpen();
    const { layers, failure } = await this.#layers.applyDelta(input, { ...o, leaseId });
    return { layers: await this.#settleAll(layers), ...(failure && { failure }) };
  }

  /**
   * As {@link make}, lowest layer first, of a delta that can be fetched. A spool that may be to blame for what is wrong
   * goes, and what is left to make is tried once more without it.
   */
  async fetch(
    source: DeltaSource,
    { id: leaseId }: LeaseRecord,
    o: Omit<DeltaOrder, 'leaseId'>,
  ): Promise<DeltaResult> {
    this.#checkOpen();
    const { blob, sizeBytes } = source;
    const wanted: SpoolableBlob = { diffId: o.diffIds.at(-1) ?? blob, blob, sizeBytes, kind: 'delta' };
    const layers: LayerRecord[] = [];
    for (let fetchedBytes = 0; ; ) {
      const { input, keptBytes } = await this.#spools.through(wanted, source.open);
      fetchedBytes += sizeBytes - keptBytes;
      const isHere = (diffId: Digest) => layers.some((layer) => layer.diffId === diffId);
      const diffIds = o.diffIds.filter((diffId) => !isHere(diffId));
      const made = await this.#unpack(input, { ...o, leaseId, diffIds }, wanted);
      layers.push(...(await this.#settleAll(made.staged)));
      const { failure } = made;
      if (failure === undefined) return { layers, fetchedBytes };
      const isCorrupt = failure instanceof Failure && failure.code === 'CORRUPT' && !o.signal.aborted;
      if (isCorrupt) await this.#spools.forget(wanted);
      if (isCorrupt && keptBytes > 0)
        this.#log.warn({ delta: blob, err: failure }, 'a spooled delta is damaged: fetching it once more');
      else if (made.isVain && layers.length === 0) throw failure;
      else return { layers, failure, fetchedBytes };
    }
  }

  /** The input is closed afterwards, and with it its spool. */
  async #unpack(
    input: Readable,
    order: DeltaOrder,
    wanted: SpoolableBlob,
  ): Promise<{ staged: StagedLayer[]; failure?: Error; isVain?: boolean }> {
    try {
      const { layers: staged, failure } = await this.#layers.applyDelta(input, order);
      if (failure !== undefined) return { staged, failure };
      await this.#spools.unpacked(wanted);
      return { staged };
    } catch (cause) {
      return {
        staged: [],
        failure: cause instanceof Error ? cause : new Error(messageOf(cause)),
        isVain: true,
      };
    } finally {
      if (!input.closed) await new Promise((resolve) => input.once('close', resolve));
    }
  }

  #checkOpen(): void {
    if (this.#isClosed()) throw fail.host('the engine is shutting down');
  }

  async #settleAll(staged: readonly StagedLayer[]): Promise<LayerRecord[]> {
    const records: LayerRecord[] = [];
    try {
      for (const one of staged) records.push(await this.#settle(one));
      return records;
    } finally {
      for (const one of staged.slice(records.length)) await this.#layers.discard(one);
    }
  }
}
