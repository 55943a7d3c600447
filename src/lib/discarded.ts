/**
 * Counts bytes of buffers that are done with. V8 sees late how much memory those hold: asked for its small collection
 * every so many bytes, the process stays low. Does nothing in one that was not started with `--expose-gc`.
 */
export class Discarded {
  readonly #everyBytes: number;
  #bytes = 0;

  constructor({ everyBytes }: { everyBytes: number }) {
    this.#everyBytes = everyBytes;
  }

  add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < this.#everyBytes) return;
    this.#bytes = 0;
    globalThis.gc?.({ type: 'minor' });
  }
}
