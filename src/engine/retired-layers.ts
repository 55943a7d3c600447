import type { Layers } from '../layers/layers.ts';
import type { Log } from '../lib/log.ts';

/**
 * Directories of layers that were brought anew while containers run on the old ones: what is mounted must not be
 * deleted. They go once nothing mounts them any more. Nothing is recorded: a directory that no record names and that is
 * mounted is one of these, as the next daemon finds.
 */
export class RetiredLayers {
  readonly #layers: Pick<Layers, 'mounted' | 'remove'>;
  readonly #log: Log;
  readonly #dirIds = new Set<string>();
  /** Mounts that are being put together, of directories that were read from records before. */
  #mounting = 0;

  constructor(layers: Pick<Layers, 'mounted' | 'remove'>, log: Log) {
    this.#layers = layers;
    this.#log = log;
  }

  /** No record names this directory any more. Whoever looks for one from now on finds another. */
  add(dirId: string): void {
    this.#dirIds.add(dirId);
  }

  /** Looks up directories and mounts them; none of them goes meanwhile. */
  async whileMounting<T>(work: () => Promise<T>): Promise<T> {
    this.#mounting++;
    try {
      return await work();
    } finally {
      this.#mounting--;
      await this.collect();
    }
  }

  /** Removes those that nothing mounts. Never throws: what resists is tried again at the next boot. */
  async collect(): Promise<void> {
    if (this.#dirIds.size === 0 || this.#mounting > 0) return;
    const mounted = await this.#layers.mounted();
    for (const dirId of this.#dirIds) {
      if (mounted.has(dirId) || !this.#dirIds.delete(dirId)) continue;
      await this.#layers
        .remove(dirId)
        .catch((err) => this.#log.error({ err, dir: dirId }, 'a layer that is no longer used stays'));
    }
  }
}
