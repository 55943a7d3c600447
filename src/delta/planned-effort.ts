import { BLOCK_BYTES, BLOCKS_PER_SET, LONG_BYTES, SETS } from './base.ts';
import { gzipEffort, MOST_EFFORT_BYTES, windowEffort } from './effort.ts';

/** So much of the budget is planned with: what is written when it is nearly spent may still be costly. */
const PLANNED_SHARE = 0.5;

/** What a frame's program will be charged (see {@link Effort}), told while it is written. */
export class PlannedEffort {
  readonly #plannedBytes: number;
  #spentBytes = 0;
  /** What the reader's {@link Base} has at hand, if it began with nothing; of each set the one that was used last is last. */
  readonly #sets = Array.from({ length: SETS }, () => new Set<number>());

  constructor(mostBytes = MOST_EFFORT_BYTES) {
    this.#plannedBytes = mostBytes * PLANNED_SHARE;
  }

  /** Nothing more that costs should be planned for this frame. */
  get isSpent(): boolean {
    return this.#spentBytes > this.#plannedBytes;
  }

  /** A range of the base is read. */
  read(position: number, bytes: number): void {
    const end = position + bytes;
    for (let at = position; at < end; ) {
      const start = at - (at % BLOCK_BYTES);
      const blocks = this.#sets[(start / BLOCK_BYTES) % SETS] as Set<number>;
      if (!blocks.delete(start)) {
        if (end - at >= LONG_BYTES) {
          this.#spentBytes += end - at;
          return;
        }
        this.#spentBytes += BLOCK_BYTES;
        const [oldest] = blocks;
        if (blocks.size === BLOCKS_PER_SET && oldest !== undefined) blocks.delete(oldest);
      }
      blocks.add(start);
      at = start + BLOCK_BYTES;
    }
  }

  window(sourceBytes: number): void {
    this.#spentBytes += windowEffort(sourceBytes);
  }

  gzip(sourceBytes: number, innerBytes: number): void {
    this.#spentBytes += gzipEffort(sourceBytes, innerBytes);
  }

  /** Another frame begins. */
  reset(): void {
    this.#spentBytes = 0;
    for (const blocks of this.#sets) blocks.clear();
  }
}
