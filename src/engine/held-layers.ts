import type { Layers, StagedLayer } from '../layers/layers.ts';
import type { Digest } from '../lib/digest.ts';
import type { LayerShelf } from './layer-shelf.ts';

/** A layer that is unpacked, and nobody's yet. */
export interface HeldLayer {
  readonly staged: StagedLayer;
  /** The digest of the bytes that it came in, if they were seen to have it. */
  readonly blob: Digest | undefined;
}

/**
 * Layers of an archive that may be those of a delta image, which must never become layers here: one file `delta`, or
 * nothing at all. In an archive the config that tells comes after them, so until then they lie in staging.
 */
export class HeldLayers implements AsyncDisposable {
  readonly #held = new Map<Digest, HeldLayer>();
  readonly #shelf: Pick<LayerShelf, 'discard'>;
  readonly #layers: Pick<Layers, 'topOf'>;

  constructor(o: { shelf: Pick<LayerShelf, 'discard'>; layers: Pick<Layers, 'topOf'> }) {
    this.#shelf = o.shelf;
    this.#layers = o.layers;
  }

  /** Holds on to a layer if it may be a delta's; false if it is none. The same layer once more is let go. */
  async add(staged: StagedLayer, blob: Digest | undefined): Promise<boolean> {
    if (!looksLikeDelta(await this.#layers.topOf(staged))) return false;
    if (this.#held.has(staged.diffId)) await this.#shelf.discard(staged);
    else this.#held.set(staged.diffId, { staged, blob });
    return true;
  }

  get(diffId: Digest): HeldLayer | undefined {
    return this.#held.get(diffId);
  }

  /** It is the caller's from now on. */
  release(diffId: Digest): HeldLayer | undefined {
    const held = this.#held.get(diffId);
    this.#held.delete(diffId);
    return held;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const left = [...this.#held.values()];
    this.#held.clear();
    for (const { staged } of left) await this.#shelf.discard(staged);
  }
}

function looksLikeDelta(top: readonly { name: string; isFile: boolean }[]): boolean {
  const [first, ...others] = top;
  return first === undefined || (others.length === 0 && first.name === 'delta' && first.isFile);
}
