import type { Readable } from 'node:stream';
import type { LoadOptions, LoadParts } from './image-load.ts';
import type { SaveParts } from './image-save.ts';

/** Images in one file, out of the engine and into it. What does the work is loaded when it is first wanted. */
export class ImageArchives {
  readonly #parts: SaveParts & LoadParts;

  constructor(parts: SaveParts & LoadParts) {
    this.#parts = parts;
  }

  /** The archive of the images that go by these names; throws 404 in dockerd's words before there is a stream. */
  async save(names: readonly string[], o: { signal: AbortSignal }): Promise<Readable> {
    const { saveImages } = await import('./image-save.ts');
    return saveImages(this.#parts, names, o);
  }

  /** Loads the images of an archive, and tells of it; throws whatever is wrong with it, and then nothing of it is left. */
  async load(input: AsyncIterable<Buffer>, o: LoadOptions): Promise<void> {
    const { loadImages } = await import('./image-load.ts');
    await loadImages(this.#parts, input, o);
  }
}
