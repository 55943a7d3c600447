import { withResolvers } from '../lib/promises.ts';

/** How a container ended, for whoever waits. */
export interface Ending {
  exitCode: number;
  error?: string;
}

export type WaitCondition = 'not-running' | 'next-exit' | 'removed';

/** Clients that wait for a container to stop or to go. */
export class Waiters {
  readonly #byId = new Map<string, Set<{ condition: WaitCondition; resolve(ending: Ending): void }>>();

  /** The next ending that meets the condition. Rejects with the signal's reason. */
  async next(id: string, condition: WaitCondition, signal?: AbortSignal): Promise<Ending> {
    const { promise, resolve, reject } = withResolvers<Ending>();
    const waiter = { condition, resolve };
    const waiting = this.#byId.get(id) ?? new Set();
    this.#byId.set(id, waiting.add(waiter));
    const onAbort = () => reject(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    try {
      return await promise;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      waiting.delete(waiter);
      if (waiting.size === 0 && this.#byId.get(id) === waiting) this.#byId.delete(id);
    }
  }

  /** The process ended; with `isFinal` false the restart policy is about to run it again. */
  ended(id: string, ending: Ending, { isFinal }: { isFinal: boolean }): void {
    for (const { condition, resolve } of this.#byId.get(id) ?? []) {
      if (condition === 'next-exit' || (condition === 'not-running' && isFinal)) resolve(ending);
    }
  }

  /** The container is gone: every wait is over. */
  removed(id: string, ending: Ending): void {
    for (const { resolve } of this.#byId.get(id) ?? []) resolve(ending);
  }
}
