/** The longest wait that a timer takes. */
const MAX_WAIT_MS = 2 ** 31 - 1;

/** Calls back shortly after a point in time, or earlier if that is far away. Does not keep the process running. */
export class Alarm implements Disposable {
  readonly #ring: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(ring: () => void) {
    this.#ring = ring;
  }

  /** Milliseconds since 1970; infinity for never. What was set before does not count any more. */
  set(atMs: number): void {
    clearTimeout(this.#timer);
    if (!Number.isFinite(atMs)) return;
    const waitMs = Math.min(Math.max(atMs - Date.now(), 0) + 50, MAX_WAIT_MS);
    this.#timer = setTimeout(this.#ring, waitMs).unref();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
