import { constants } from 'node:fs';
import { access, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readLayerDirectory } from '../layers/layer-directory.ts';
import type { Digest } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import { type ImageSidecar, Sidecars } from '../store/sidecars.ts';

/**
 * The data root of another engine, that does not run, as a source of bases: nothing is ever written there. Its database is
 * left alone, which cannot be opened without writing to it; images are found by their copies beside it, layers by what
 * each says of itself. It is read anew whenever a base is looked for: it may be mounted late.
 */
export class BaseStore {
  readonly #dataRoot: string;
  readonly #sidecars: Sidecars;
  readonly #log: Log;

  private constructor(o: { dataRoot: string; log: Log }) {
    this.#dataRoot = o.dataRoot;
    this.#sidecars = new Sidecars(o);
    this.#log = o.log;
  }

  /** Warns where there is nothing to be read now: a device must start without its bases, too. */
  static async open(o: { dataRoot: string; log: Log }): Promise<BaseStore> {
    const store = new BaseStore(o);
    try {
      for (const name of ['images', 'layers'])
        await access(join(o.dataRoot, name), constants.R_OK | constants.X_OK);
      o.log.info({ dir: o.dataRoot, images: (await store.images()).length }, 'bases of deltas are here too');
    } catch (err) {
      o.log.warn({ dir: o.dataRoot, err }, 'delta-data-root has no images to read: no bases come from it');
    }
    return store;
  }

  /** Every image of which there is a whole copy. None where there is trouble, which is logged. */
  async images(): Promise<ImageSidecar[]> {
    const found: ImageSidecar[] = [];
    try {
      for await (const image of this.#sidecars.images()) found.push(image);
    } catch (err) {
      this.#log.warn({ dir: this.#dataRoot, err }, 'bases in delta-data-root cannot be read');
    }
    return found;
  }

  /** Every layer that is whole, and its directory. None where there is trouble. */
  async layers(): Promise<Map<Digest, string>> {
    const layers = new Map<Digest, string>();
    const parent = join(this.#dataRoot, 'layers');
    try {
      for (const dirId of await readdir(parent)) {
        const directory = join(parent, dirId);
        const layer = await readLayerDirectory(dirId, directory);
        if (!layer.isJunk) layers.set(layer.diffId, directory);
      }
    } catch (err) {
      this.#log.warn({ dir: parent, err }, 'bases in delta-data-root cannot be read');
    }
    return layers;
  }
}
