import { Failure } from '../errors.ts';
import type { Digest } from '../lib/digest.ts';

/** A device sees a few of them in its life; each is some hundred bytes. */
const MOST = 64;

/** One delta as it is used: the same bytes may serve another target. */
export interface DeltaUse {
  readonly blob: Digest;
  readonly targetManifest: Digest;
  readonly baseId: Digest;
}

/**
 * Deltas that were fetched and found to be bad themselves, whatever they are tried on: devices ask for an update again and
 * again, and need not fetch such a one each time. Forgotten with the daemon, so that a restart gives everything a new chance.
 */
export class BadDeltas {
  /** Why, by use; the one that was noted first is forgotten first. */
  readonly #reasons = new Map<string, string>();

  /** Remembers it if the failure is the delta's own: neither the base's, nor the network's, nor the host's. */
  note(use: DeltaUse, failure: unknown): void {
    if (!(failure instanceof Failure) || failure.code !== 'CORRUPT') return;
    const [oldest] = this.#reasons.keys();
    if (this.#reasons.size >= MOST && oldest !== undefined) this.#reasons.delete(oldest);
    this.#reasons.set(keyOf(use), failure.message);
  }

  /** What was wrong with it, in words; undefined for one that nothing is known of. */
  reason(use: DeltaUse): string | undefined {
    return this.#reasons.get(keyOf(use));
  }
}

function keyOf({ blob, targetManifest, baseId }: DeltaUse): string {
  return `${blob} ${targetManifest} ${baseId}`;
}
