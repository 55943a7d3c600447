import type { BaseLayer } from '../layers/delta-job.ts';
import { checkLayerCount, type DeltaImage, readDeltaImage } from '../lib/delta-image.ts';
import type { Digest } from '../lib/digest.ts';
import type { Semaphore } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import type { Platform } from '../lib/platform.ts';
import { familiarString, type Reference } from '../lib/reference.ts';
import type { LayerDescriptor, Registry, RegistryAuth, RemoteImage } from '../registry/registry.ts';
import type { ImageRecord, LeaseRecord } from '../store/records.ts';
import { noteDamage } from './base-damage.ts';
import { type Bases, ownLayers, tarIn } from './bases.ts';
import type { Images } from './images.ts';
import type { LayerSource } from './layer-fetches.ts';
import type { LayerPin } from './layer-pins.ts';
import type { LayerShelf } from './layer-shelf.ts';
import type { Progress } from './progress.ts';
import { leaseForPull } from './pull-lease.ts';
import { type LayerReport, PullReport } from './pull-report.ts';
import { blobSource, pulledImage } from './pulled-image.ts';
import type { Space } from './space.ts';

/** A pull that turned out to be of a delta image. */
export interface DeltaImagePull {
  readonly ref: Reference;
  readonly auth?: RegistryAuth;
  readonly downloads: Semaphore;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/** A layer of the target that is to be made, and the layer of the delta image that it is made of. */
interface Coming {
  readonly diffId: Digest;
  readonly delta: LayerDescriptor;
  readonly report: LayerReport;
}

/**
 * Pulls delta images of the balena kind (see {@link readDeltaImage}). What comes of one is the image that it leads to,
 * under the name that was asked for; of the delta image itself nothing is ever recorded: neither its layers nor, as if they
 * were the target's, its digests.
 */
export class DeltaImages {
  readonly #registry: Pick<Registry, 'blob'>;
  readonly #images: Pick<Images, 'adopt' | 'byId' | 'refOf'>;
  readonly #shelf: LayerShelf;
  readonly #bases: Bases;
  readonly #space: Space;
  readonly #host: Platform;
  readonly #tellsTotal: boolean;
  readonly #log: Log;

  constructor(o: {
    registry: Pick<Registry, 'blob'>;
    images: Pick<Images, 'adopt' | 'byId' | 'refOf'>;
    shelf: LayerShelf;
    bases: Bases;
    space: Space;
    host: Platform;
    tellsTotal: boolean;
    log: Log;
  }) {
    this.#registry = o.registry;
    this.#images = o.images;
    this.#shelf = o.shelf;
    this.#bases = o.bases;
    this.#space = o.space;
    this.#host = o.host;
    this.#tellsTotal = o.tellsTotal;
    this.#log = o.log;
  }

  /** Undefined if it is an image like any other; else whether what it leads to is new here. */
  async pull(pull: DeltaImagePull, remote: RemoteImage): Promise<boolean | undefined> {
    const image = readDeltaImage(remote.config.toString('utf8'));
    if (image === undefined) return undefined;
    checkLayerCount(image, remote.layers.length);
    const began = performance.now();
    const name = nameFor(pull.ref);
    const isNew = !(await this.#isCurrent(image, name));
    const bytes = isNew ? await this.#bring(pull, remote, image, name) : 0;
    const ms = Math.round(performance.now() - began);
    const [asked, id, base] = [familiarString(pull.ref), image.targetId, image.baseId];
    this.#log.info({ image: asked, id, base, bytes, isNew, ms }, 'delta image pulled');
    return isNew;
  }

  async #isCurrent({ targetId, diffIds }: DeltaImage, name: Reference): Promise<boolean> {
    const known = await this.#images.byId(targetId);
    if (known === undefined || !this.#shelf.isSound(diffIds)) return false;
    return (await this.#images.refOf(name))?.imageId === targetId;
  }

  /** Layers, then the batch that makes them an image. Resolves to the compressed bytes that had to be fetched. */
  async #bring(
    pull: DeltaImagePull,
    remote: RemoteImage,
    image: DeltaImage,
    name: Reference,
  ): Promise<number> {
    await using pin = this.#shelf.pin();
    const coming = await this.#missing(pull, remote, image, pin);
    const why = `pull of ${familiarString(pull.ref)}`;
    const lease = await leaseForPull(this.#shelf, image.diffIds, { pin, why });
    try {
      const fetchedBytes =
        coming.length === 0 ? 0 : await this.#bringLayers(pull, image, coming, { pin, lease });
      const record = await this.#recordOf(image, remote);
      // earlier tries may have wanted more
      const ends = await this.#shelf.leaseEnds({ ...lease, diffIds: [...image.diffIds] });
      await this.#images.adopt([{ record, refs: [{ ref: name }] }], ends);
      this.#shelf.release(lease);
      return fetchedBytes;
    } catch (cause) {
      // what this cannot clean up now its term will
      await this.#shelf.abandon(lease, cause).catch((err) => this.#log.error({ err }, 'lease not ended'));
      throw cause;
    }
  }

  /** The layers that are not here, each once, told of as a pull tells of them; those that are stay while the pin lives. */
  async #missing(
    pull: DeltaImagePull,
    remote: RemoteImage,
    { diffIds }: DeltaImage,
    pin: LayerPin,
  ): Promise<Coming[]> {
    const reports = new PullReport(pull.progress, { tellsTotal: this.#tellsTotal });
    const coming = new Map<Digest, Coming>();
    for (const [at, diffId] of diffIds.entries()) {
      const delta = remote.layers[at];
      if (delta === undefined || coming.has(diffId)) continue;
      const report = reports.layer(delta.digest, delta.size);
      const record = await this.#shelf.keep(diffId, pin);
      if (record !== undefined && this.#shelf.isSound([diffId])) report.exists();
      else {
        report.waiting();
        coming.set(diffId, { diffId, delta, report });
      }
    }
    return [...coming.values()];
  }

  /** Makes what is missing, all layers at once within the limit; the first that fails stops the rest. */
  async #bringLayers(
    pull: DeltaImagePull,
    { baseId }: DeltaImage,
    coming: readonly Coming[],
    { pin, lease }: { pin: LayerPin; lease: LeaseRecord },
  ): Promise<number> {
    const { layers: base } = await this.#bases.get(baseId, pin);
    const sizes = coming.map(({ delta: { size } }) => ({
      sizeBytes: size,
      unpackedBytes: async () => size, // what comes of a delta, it alone knows
    }));
    await this.#space.check(familiarString(pull.ref), sizes);
    const failure = new AbortController();
    const signal = AbortSignal.any([pull.signal, failure.signal]);
    const layers = coming.map((layer) =>
      this.#bringLayer({ ...pull, signal }, layer, base, lease).catch((cause) => {
        failure.abort(cause);
        return 0;
      }),
    );
    const fetched = await Promise.all(layers);
    await noteDamage(failure.signal.reason, ownLayers(base), { shelf: this.#shelf, log: this.#log });
    signal.throwIfAborted();
    return fetched.reduce((sum, bytes) => sum + bytes, 0);
  }

  async #bringLayer(
    pull: DeltaImagePull,
    { diffId, delta, report }: Coming,
    base: readonly BaseLayer[],
    lease: LeaseRecord,
  ): Promise<number> {
    await using _place = await pull.downloads.hold({ signal: pull.signal });
    const parts = { registry: this.#registry, space: this.#space };
    const copied = base.find((layer) => layer.diffId === diffId);
    const source: LayerSource =
      copied !== undefined && 'directory' in copied
        ? { diffId, compression: 'none', open: () => tarIn(copied.directory) }
        : { diffId, base, ...blobSource(parts, pull, delta, report) };
    try {
      await this.#shelf.fetch(source, lease, { onProgress: report.downloading, signal: pull.signal });
    } catch (cause) {
      throw this.#space.failureOf(cause);
    }
    report.done();
    return source.base === undefined ? 0 : delta.size;
  }

  async #recordOf({ targetId, config, diffIds }: DeltaImage, remote: RemoteImage): Promise<ImageRecord> {
    const known = await this.#images.byId(targetId);
    const deltaDigests = [...new Set([...(known?.deltaDigests ?? []), remote.digest])];
    if (known !== undefined) return { ...known, deltaDigests };
    const made = await pulledImage(
      targetId,
      { config, diffIds: [...diffIds] },
      { shelf: this.#shelf, host: this.#host },
    );
    return { ...made, deltaDigests };
  }
}

/** The name that was asked for, and no other: what the registry calls the delta image is none of the target's names. */
function nameFor({ domain, path, tag, digest }: Reference): Reference {
  if (digest !== undefined) return { domain, path, digest };
  return tag === undefined ? { domain, path } : { domain, path, tag };
}
