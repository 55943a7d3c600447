import type { Digest } from '../lib/digest.ts';

/** Layers that are in use here and now, and stay while this lives. Disposal lets them go. */
export interface LayerPin extends AsyncDisposable {
  readonly diffIds: Set<Digest>;
}

/** Holds on layers that need not outlive the process, and so leave no trace on the disk. */
export class LayerPins {
  readonly #held = new Set<ReadonlySet<Digest>>();

  /** A new pin, of no layer yet. `onEnd` removes what it alone kept. */
  pin(onEnd: () => Promise<unknown>): LayerPin {
    const diffIds = new Set<Digest>();
    this.#held.add(diffIds);
    const end = async () => {
      if (this.#held.delete(diffIds)) await onEnd();
    };
    return { diffIds, [Symbol.asyncDispose]: end };
  }

  /** The layers of every pin. */
  held(): Iterable<ReadonlySet<Digest>> {
    return this.#held;
  }
}
