import { Readable } from 'node:stream';
import { Failure, fail } from '../errors.ts';
import type { BaseLayer } from '../layers/delta-job.ts';
import { TarSplit } from '../layers/tar-split.ts';
import { type Digest, isDigest } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import { canonicalString, parseReference, withDefaultTag } from '../lib/reference.ts';
import type { ImageRecord, LeaseRecord } from '../store/records.ts';
import type { ImageSidecar } from '../store/sidecars.ts';
import type { BaseStore } from './base-store.ts';
import type { Images } from './images.ts';
import type { LayerPin } from './layer-pins.ts';
import type { LayerShelf } from './layer-shelf.ts';

/** An image that a delta may build on. */
export interface BaseImage {
  readonly record: ImageRecord;
  /** Lowest first, as often as each stands in the image. They stay while the pin lives that they were asked for with. */
  readonly layers: readonly BaseLayer[];
}

/** The images that deltas can build on: our own first, then those of a second store, which is only read. */
export class Bases {
  readonly #images: Pick<Images, 'byId'>;
  readonly #shelf: Pick<LayerShelf, 'fetch' | 'isSound' | 'keep'>;
  readonly #second: Pick<BaseStore, 'images' | 'layers'> | undefined;
  readonly #log: Log;

  constructor(o: {
    images: Pick<Images, 'byId'>;
    shelf: Pick<LayerShelf, 'fetch' | 'isSound' | 'keep'>;
    second: Pick<BaseStore, 'images' | 'layers'> | undefined;
    log: Log;
  }) {
    this.#images = o.images;
    this.#shelf = o.shelf;
    this.#second = o.second;
    this.#log = o.log;
  }

  /** The image under this ID with all of its layers; throws, naming it, if it is nowhere, or known to be damaged. */
  async get(id: Digest, pin: LayerPin): Promise<BaseImage> {
    const stored = async () => (await this.#second?.images())?.find(({ record }) => record.id === id)?.record;
    const record = (await this.#images.byId(id)) ?? (await stored());
    if (record === undefined) throw fail.noDeltaBase(`the delta's base image ${id} is not here`);
    const layers = await this.places(record.diffIds, pin);
    if (layers.length === record.diffIds.length) return { record, layers };
    throw new Failure('BASE_DAMAGED', 500, `the delta's base image ${id} is damaged: verify it with repair`);
  }

  /** Where these layers lie, in their order: here and sound, else in the second store. What is nowhere is left out. */
  async places(diffIds: readonly Digest[], pin: LayerPin): Promise<BaseLayer[]> {
    const places: BaseLayer[] = [];
    let stored: ReadonlyMap<Digest, string> | undefined;
    for (const diffId of diffIds) {
      const own = await this.#shelf.keep(diffId, pin);
      if (own !== undefined && this.#shelf.isSound([diffId])) places.push({ diffId, dirId: own.dirId });
      else {
        stored ??= (await this.#second?.layers()) ?? new Map();
        const directory = stored.get(diffId);
        if (directory !== undefined) places.push({ diffId, directory });
      }
    }
    return places;
  }

  /** The images of the second store that are whole there: all, or those that a name or an ID stands for. */
  async stored(name?: string): Promise<ImageRecord[]> {
    const images = (await this.#second?.images()) ?? [];
    if (images.length === 0) return [];
    const layers = (await this.#second?.layers()) ?? new Map();
    const isMeant = meaning(name);
    return images
      .filter((image) => isMeant(image) && image.record.diffIds.every((diffId) => layers.has(diffId)))
      .map(({ record }) => record);
  }

  /** Takes over the layers that the second store has; those that turn out to be damaged are left out. */
  async copy(diffIds: readonly Digest[], lease: LeaseRecord, signal: AbortSignal): Promise<Set<Digest>> {
    const copied = new Set<Digest>();
    const stored = (diffIds.length > 0 && (await this.#second?.layers())) || new Map<Digest, string>();
    for (const diffId of diffIds) {
      const directory = stored.get(diffId);
      if (directory === undefined) continue;
      const source = { diffId, compression: 'none', open: () => tarIn(directory) } as const;
      try {
        await this.#shelf.fetch(source, lease, { onProgress: () => {}, signal });
        copied.add(diffId);
      } catch (err) {
        signal.throwIfAborted();
        if (!(err instanceof Failure) || err.code !== 'CORRUPT') throw err;
        this.#log.warn({ layer: diffId, directory, err }, 'a layer of delta-data-root is damaged');
      }
    }
    return copied;
  }
}

function meaning(name: string | undefined): (image: ImageSidecar) => boolean {
  if (name === undefined) return () => true;
  if (isDigest(name)) return ({ record }) => record.id === name;
  const key = canonicalString(withDefaultTag(parseReference(name)));
  return ({ names }) => names.includes(key);
}

/** Those that are ours. */
export function ownLayers(layers: readonly BaseLayer[]): { diffId: Digest; dirId: string }[] {
  return layers.flatMap((layer) => ('dirId' in layer ? [layer] : []));
}

/** The exact tar of a layer that lies in this directory. */
export function tarIn(directory: string): Readable {
  const pieces = async function* () {
    using split = TarSplit.open(directory);
    yield* split.stream();
  };
  return Readable.from(pieces(), { objectMode: false });
}
