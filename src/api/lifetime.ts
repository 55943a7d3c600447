import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { withResolvers } from '../lib/promises.ts';

/**
 * A client that closed its sending half may have said all it wants (`nc`, `socat`) or be dead: on a Unix socket both
 * look the same. Short answers are still owed to it; what takes longer than this is given up, as dockerd does at once.
 */
const HALF_CLOSED_GRACE_MS = 500;

/** Why a request's work is to stop. */
export class Departure extends Error {
  override name = 'AbortError';
}

/** How long one request matters to anyone. */
export class Lifetime {
  readonly #response: ServerResponse;
  readonly #socket: Socket;
  readonly #isTakeover: boolean;
  #controller: AbortController | undefined;

  constructor(req: IncomingMessage, res: ServerResponse, { isTakeover }: { isTakeover: boolean }) {
    this.#response = res;
    this.#socket = req.socket;
    this.#isTakeover = isTakeover;
  }

  /** Aborted when the client leaves before its answer is complete, or the daemon shuts down. Made on first use. */
  get signal(): AbortSignal {
    this.#controller ??= this.#watch();
    return this.#controller.signal;
  }

  /** True once nobody waits for an answer any more. */
  get isOver(): boolean {
    return this.#controller?.signal.aborted === true || this.#socket.destroyed;
  }

  end(reason: string): void {
    this.#controller?.abort(new Departure(reason));
  }

  #watch(): AbortController {
    const controller = new AbortController();
    let grace: NodeJS.Timeout | undefined;
    const onHalfClosed = () => {
      grace ??= setTimeout(() => this.end('the client closed its half'), HALF_CLOSED_GRACE_MS);
    };
    const source = this.#isTakeover ? this.#socket : this.#response;
    source.once('close', () => {
      clearTimeout(grace);
      this.#socket.removeListener('end', onHalfClosed);
      if (this.#isTakeover || !this.#response.writableFinished) this.end('the client left');
    });
    if (this.#isTakeover) return controller; // there, the client's end is only that of stdin
    if (this.#socket.readableEnded) onHalfClosed();
    else this.#socket.once('end', onHalfClosed);
    return controller;
  }
}

/** The requests that are under way, so that a shutdown can end them. */
export class Lifetimes {
  readonly #open = new Set<Lifetime>();
  #onIdle: (() => void) | undefined;

  /** Does a request's work; it counts as under way until that is done. */
  async during<T>(lifetime: Lifetime, work: () => Promise<T>): Promise<T> {
    this.#open.add(lifetime);
    try {
      return await work();
    } finally {
      this.#open.delete(lifetime);
      if (this.#open.size === 0) this.#onIdle?.();
    }
  }

  /** Ends what waits or streams, and returns when everything is done or the time is up. */
  async drain(timeoutMs: number): Promise<void> {
    for (const lifetime of this.#open) lifetime.end('the daemon shuts down');
    if (this.#open.size === 0) return;
    const { promise: idle, resolve } = withResolvers<void>();
    this.#onIdle = resolve;
    const timer = setTimeout(resolve, timeoutMs);
    await idle;
    clearTimeout(timer);
  }
}
