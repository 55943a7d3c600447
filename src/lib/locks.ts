import { withResolvers } from './promises.ts';

/**
 * One lock per key, first come first served. `await using _lock = await locks.hold(id, { signal })`.
 * An aborted waiter leaves the queue and throws the signal's reason.
 */
export class Locks {
  readonly #tails = new Map<string, Promise<void>>();

  async hold(key: string, { signal }: { signal?: AbortSignal } = {}): Promise<AsyncDisposable> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const { promise: released, resolve: release } = withResolvers<void>();
    const tail = before.then(() => released);
    this.#tails.set(key, tail);
    const leave = () => {
      release();
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    };
    try {
      await abortable(before, signal);
    } catch (cause) {
      leave();
      throw cause;
    }
    return { [Symbol.asyncDispose]: async () => leave() };
  }

  /** Several keys at once, taken in the same order by everybody, so that no two wait for each other. */
  async holdAll(keys: Iterable<string>, o: { signal?: AbortSignal } = {}): Promise<AsyncDisposable> {
    const held: AsyncDisposable[] = [];
    const release = async () => {
      for (const one of held.splice(0)) await one[Symbol.asyncDispose]();
    };
    try {
      for (const key of [...new Set(keys)].sort()) held.push(await this.hold(key, o));
    } catch (cause) {
      await release();
      throw cause;
    }
    return { [Symbol.asyncDispose]: release };
  }
}

/** At most `width` holders at once; the rest queue up in order. */
export class Semaphore {
  readonly #width: number;
  readonly #waiters: (() => void)[] = [];
  #held = 0;

  constructor(width: number) {
    this.#width = Math.max(1, width);
  }

  /** True if the next one has to wait. */
  get isFull(): boolean {
    return this.#held >= this.#width;
  }

  async hold({ signal }: { signal?: AbortSignal } = {}): Promise<AsyncDisposable> {
    signal?.throwIfAborted();
    if (this.isFull) {
      const { promise, resolve } = withResolvers<void>();
      this.#waiters.push(resolve);
      try {
        await abortable(promise, signal);
      } catch (cause) {
        const at = this.#waiters.indexOf(resolve);
        if (at >= 0) this.#waiters.splice(at, 1);
        else this.#release(); // the place was handed over in the same tick
        throw cause;
      }
    } else this.#held++;
    let isReleased = false;
    return {
      [Symbol.asyncDispose]: async () => {
        if (!isReleased) this.#release();
        isReleased = true;
      },
    };
  }

  /** Hands the place to the next in line, or gives it back. */
  #release(): void {
    const next = this.#waiters.shift();
    if (next === undefined) this.#held--;
    else next();
  }
}

/** The promise, or the signal's reason if that comes first. */
export async function abortable<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (signal === undefined) return promise;
  if (signal.aborted) promise.catch(() => {}); // nobody else may be listening when it fails
  signal.throwIfAborted();
  const { promise: aborted, reject } = withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
