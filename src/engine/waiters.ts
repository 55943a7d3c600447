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
    this.#tell(id, ending, isFinal ? ['next-exit', 'not-running'] : ['next-exit']);
  }

  /** A start failed: nothing runs, though nothing has ended. */
  idle(id: string, ending: Ending): void {
    this.#tell(id, ending, ['not-running']);
  }

  /** The container is gone: every wait is over. */
  removed(id: string, ending: Ending): void {
    this.#tell(id, ending, ['next-exit', 'not-running', 'removed']);
  }

  /** The container cannot be removed: whoever waits for that is told why. */
  stuck(id: string, ending: Ending): void {
    this.#tell(id, ending, ['removed']);
  }

  #tell(id: string, ending: Ending, met: readonly WaitCondition[]): void {
    for (const { condition, resolve } of this.#byId.get(id) ?? []) {
      if (met.includes(condition)) resolve(ending);
    }
  }
}
