import type { ContainerRecord } from './model.ts';
import { nextDelayMs } from './restart-policy.ts';

/** Containers between two runs, by ID: each is run again after a delay that doubles from run to run. */
export class RestartTimers implements Disposable {
  readonly #timers = new Map<string, NodeJS.Timeout>();
  readonly #delays = new Map<string, number>();

  /** Has a container that has just ended run again in its time. */
  schedule({ id, state }: ContainerRecord, again: () => void): void {
    const ranMs = Date.parse(state.finishedAt) - Date.parse(state.startedAt);
    const delayMs = nextDelayMs(this.#delays.get(id) ?? 0, ranMs);
    this.#delays.set(id, delayMs);
    clearTimeout(this.#timers.get(id));
    this.#timers.set(id, setTimeout(again, delayMs).unref());
  }

  /** It will not run again by itself; one whose time has come already must look for itself. */
  cancel(id: string): void {
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
  }

  /** The next series of delays begins anew. */
  forget(id: string): void {
    this.cancel(id);
    this.#delays.delete(id);
  }

  [Symbol.dispose](): void {
    for (const id of [...this.#timers.keys()]) this.cancel(id);
  }
}
