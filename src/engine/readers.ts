import { fail } from '../errors.ts';
import { withResolvers } from '../lib/promises.ts';

/** Somebody who reads a container's files. Disposal says that it has let go of them. */
export interface Reader extends Disposable {
  /** Aborted with the one that was given, and when the container is removed. */
  readonly signal: AbortSignal;
}

interface Entry {
  readonly abort: AbortController;
  readonly left: Promise<void>;
}

/**
 * Who reads the files of containers without being a part of their life. A removal does not wait for what they want: it
 * sends them away. So none of them may wait, before it lets go, for a turn in the container's life.
 */
export class Readers {
  readonly #byId = new Map<string, Set<Entry>>();

  /** Whoever enters must look afterwards whether the container is still there. */
  enter(id: string, { signal }: { signal: AbortSignal }): Reader {
    const { promise: left, resolve: leave } = withResolvers<void>();
    const entry: Entry = { abort: new AbortController(), left };
    const entries = this.#byId.get(id) ?? new Set();
    this.#byId.set(id, entries.add(entry));
    return {
      signal: AbortSignal.any([signal, entry.abort.signal]),
      [Symbol.dispose]: () => {
        entries.delete(entry);
        if (entries.size === 0) this.#byId.delete(id);
        leave();
      },
    };
  }

  has(id: string): boolean {
    return this.#byId.has(id);
  }

  /** Sends every reader away, and returns when they have let go of the files. */
  async dismiss(id: string): Promise<void> {
    const entries = [...(this.#byId.get(id) ?? [])];
    for (const { abort } of entries) abort.abort(fail.removedWhileRead(id));
    await Promise.all(entries.map(({ left }) => left));
  }
}
