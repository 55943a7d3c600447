import type { Readable } from 'node:stream';
import type { SaveParts } from './image-save.ts';

/** Images in one file, out of the engine and into it. What does the work is loaded when it is first wanted. */
export class ImageArchives {
  readonly #parts: SaveParts;

  constructor(parts: SaveParts) {
    this.#parts = parts;
  }

  /** The archive of the images that go by these names; throws 404 in dockerd's words before there is a stream. */
  async save(names: readonly string[], o: { signal: AbortSignal }): Promise<Readable> {
    const { saveImages } = await import('./image-save.ts');
    return saveImages(this.#parts, names, o);
  }
}
