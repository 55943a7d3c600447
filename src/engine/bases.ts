import { Readable } from 'node:stream';
import { Failure, fail } from '../errors.ts';
import type { BaseLayer } from '../layers/delta-job.ts';
import { TarSplit } from '../layers/tar-split.ts';
import { type Digest, isDigest } from '../lib/digest.ts';
import { canonicalString, parseReference, withDefaultTag } from '../lib/reference.ts';
import type { ImageRecord } from '../store/records.ts';
import type { BaseStore, StoredBase } from './base-store.ts';
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
  readonly #shelf: Pick<LayerShelf, 'isSound' | 'keep'>;
  readonly #second: Pick<BaseStore, 'images'> | undefined;

  constructor(o: {
    images: Pick<Images, 'byId'>;
    shelf: Pick<LayerShelf, 'isSound' | 'keep'>;
    second: Pick<BaseStore, 'images'> | undefined;
  }) {
    this.#images = o.images;
    this.#shelf = o.shelf;
    this.#second = o.second;
  }

  /** The image under this ID with all of its layers; throws, naming it, if it is nowhere, or known to be damaged. */
  async get(id: Digest, pin: LayerPin): Promise<BaseImage> {
    const own = await this.#images.byId(id);
    const layers = own && (await this.#ownLayers(own, pin));
    if (own !== undefined && layers !== undefined) return { record: own, layers };
    const stored = (await this.stored()).find(({ record }) => record.id === id);
    if (stored !== undefined) return { record: stored.record, layers: storedLayers(stored) };
    if (own === undefined) throw fail.noDeltaBase(`the delta's base image ${id} is not here`);
    throw new Failure('BASE_DAMAGED', 500, `the delta's base image ${id} is damaged: verify it with repair`);
  }

  /** The images of the second store. */
  async stored(): Promise<readonly StoredBase[]> {
    return (await this.#second?.images()) ?? [];
  }

  /** The one of them that a name stands for there, or that has this ID. */
  async findStored(name: string): Promise<StoredBase | undefined> {
    const images = await this.stored();
    if (images.length === 0) return undefined;
    if (isDigest(name)) return images.find(({ record }) => record.id === name);
    const key = canonicalString(withDefaultTag(parseReference(name)));
    return images.find(({ names }) => names.includes(key));
  }

  async #ownLayers({ diffIds }: ImageRecord, pin: LayerPin): Promise<BaseLayer[] | undefined> {
    const layers: BaseLayer[] = [];
    for (const diffId of diffIds) {
      const record = await this.#shelf.keep(diffId, pin);
      if (record === undefined || !this.#shelf.isSound([diffId])) return undefined;
      layers.push({ diffId, dirId: record.dirId });
    }
    return layers;
  }
}

/** The layers of an image of the second store, lowest first. */
export function storedLayers({ record, directories }: StoredBase): BaseLayer[] {
  return record.diffIds.flatMap((diffId) => {
    const directory = directories.get(diffId);
    return directory === undefined ? [] : [{ diffId, directory }];
  });
}

/** The exact tar of a layer that lies in this directory. */
export function tarIn(directory: string): Readable {
  const pieces = async function* () {
    using split = TarSplit.open(directory);
    yield* split.stream();
  };
  return Readable.from(pieces(), { objectMode: false });
}
