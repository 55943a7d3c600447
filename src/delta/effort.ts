import { fail } from '../errors.ts';

/**
 * What one frame may have read of its base and unpacked of it, in bytes. The costliest frame that an encoder has made of
 * real images takes a tenth of it; a program written to keep a device busy reads its base over and over, a byte at a time.
 */
const MOST_BYTES = 8 * 2 ** 30;
/** What a window costs besides, and a compressor, which has tables to fill. */
export const STEP_BYTES = 64 << 10;
export const COMPRESSOR_BYTES = 256 << 10;

/** The bound on the work of a frame, beyond what it makes. */
export class Effort {
  #left = MOST_BYTES;

  /** Throws `CORRUPT` once it is too much. */
  spend(bytes: number): void {
    this.#left -= bytes;
    if (this.#left < 0) throw fail.corrupt('delta: a frame reads too much of its base');
  }
}
