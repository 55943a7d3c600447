import type { ClientRequest } from 'node:http';
import type { Socket } from 'node:net';
import { SilenceError } from './socket-errors.ts';

const LONGEST_DIAL_MS = 15_000;

/**
 * Watches over one request, and destroys it with a {@link SilenceError} when the other side lets it wait for too long:
 * for a connection, for a piece of the body to be taken, for the head of the answer.
 */
export class SilenceWatch {
  readonly #outgoing: ClientRequest;
  readonly #stallMs: number;
  readonly #answerMs: number;
  #due: { ms: number; during: 'send' | 'head' } | undefined;
  #isConnected = false;
  #isOver = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(outgoing: ClientRequest, o: { stallMs: number; answerMs?: number | undefined }) {
    this.#outgoing = outgoing;
    this.#stallMs = o.stallMs;
    this.#answerMs = o.answerMs ?? o.stallMs;
    // the clock starts with the socket: waiting for a free one is not the server's silence
    outgoing.once('socket', (socket: Socket) => {
      if (!socket.connecting) return this.#connected();
      this.#wait(Math.min(this.#stallMs, LONGEST_DIAL_MS), 'connect');
      socket.once('connect', () => this.#connected());
    });
  }

  /** A piece of the body waits for the connection to take it. */
  pieceIsDue(): void {
    this.#expect({ ms: this.#stallMs, during: 'send' });
  }

  /** It is our turn: to make the next piece. */
  nothingIsDue(): void {
    this.#expect(undefined);
  }

  /** Everything has been sent. */
  answerIsDue(): void {
    this.#expect({ ms: this.#answerMs, during: 'head' });
  }

  /** The head of the answer is here, or never comes. */
  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  #connected(): void {
    this.#isConnected = true;
    this.#expect(this.#due);
  }

  #expect(due: { ms: number; during: 'send' | 'head' } | undefined): void {
    this.#due = due;
    if (!this.#isConnected) return; // until then the time is that of the connection
    clearTimeout(this.#timer);
    if (due !== undefined) this.#wait(due.ms, due.during);
  }

  #wait(ms: number, during: 'connect' | 'send' | 'head'): void {
    if (this.#isOver) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#outgoing.destroy(new SilenceError(during)), ms);
  }
}
