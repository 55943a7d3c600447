import { fail } from '../errors.ts';

/**
 * What one frame may have read of its base and unpacked of it, in bytes. The costliest frame that an encoder has made of
 * real images takes a tenth of it; a program written to keep a device busy reads its base over and over, a byte at a time.
 * It is 3 s of a processor of today at most.
 */
export const MOST_EFFORT_BYTES = 8 * 2 ** 30;
/** What a window costs besides, and a compressor, which has tables to fill. */
const STEP_BYTES = 64 << 10;
const COMPRESSOR_BYTES = 384 << 10;
/** So many bytes are read in the time in which one is put into a window's source, or is unpacked. */
const WINDOW_FACTOR = 2;
const INFLATE_FACTOR = 5;

/** A VCDIFF window, beside the reading of its source. */
export function windowEffort(sourceBytes: number): number {
  return WINDOW_FACTOR * sourceBytes + STEP_BYTES;
}

/** A gzip member, made of one of the base that has `sourceBytes` and inflates to `innerBytes`. */
export function gzipEffort(sourceBytes: number, innerBytes: number): number {
  return INFLATE_FACTOR * (sourceBytes + innerBytes) + COMPRESSOR_BYTES;
}

/** The bound on the work of a frame, beyond what it makes. */
export class Effort {
  #left: number;

  constructor(mostBytes = MOST_EFFORT_BYTES) {
    this.#left = mostBytes;
  }

  /** Throws `CORRUPT` once it is too much. */
  spend(bytes: number): void {
    this.#left -= bytes;
    if (this.#left < 0) throw fail.corrupt('delta: a frame reads too much of its base');
  }
}
