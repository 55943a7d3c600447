import { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { fail } from '../errors.ts';

/** Requests whose connection may become a byte stream: attach, exec start, and attach by websocket. */
const takeoverPaths: Readonly<Record<string, RegExp>> = {
  POST: /^\/(?:v[0-9.]+\/)?(?:containers\/.+\/attach|exec\/.+\/start)(?:\?|$)/,
  GET: /^\/(?:v[0-9.]+\/)?containers\/.+\/attach\/ws(?:\?|$)/,
};
/** A chunk's size line, with extensions, is never longer than this. */
const MAX_LINE_BYTES = 4096;
/** How long a client may take to see the end of its stream before its connection is cut. */
const GOODBYE_MS = 5000;

/**
 * A request of which Node lets go of the connection as soon as its headers are read, if its path is one of those that
 * hijack. Node does so by itself only where the client asks for an upgrade, and attach and exec start work without:
 * there, bytes that follow the request at once are stdin, and Node's parser would take them for the next request.
 */
export class EngineRequest extends IncomingMessage {
  /** The connection, where it was let go of. */
  takeover: Takeover | undefined;

  // Node asks for this once method and url are known; what it found in the headers does not matter
  get upgrade(): boolean {
    return takeoverPaths[this.method ?? '']?.test(this.url ?? '') ?? false;
  }

  set upgrade(_value: boolean) {}
}

/** The connection of a request that Node has let go of, if it is one. */
export function takeoverOf(req: IncomingMessage): Takeover | undefined {
  return req instanceof EngineRequest ? req.takeover : undefined;
}

/** A connection that no HTTP parser reads any more: the rest of its request, then whatever the handler makes of it. */
export class Takeover {
  readonly #request: IncomingMessage;
  readonly #socket: Socket;
  #buffered: Buffer;
  #isBodyRead = false;

  constructor(request: IncomingMessage, socket: Socket, head: Buffer) {
    this.#request = request;
    this.#socket = socket;
    this.#buffered = head;
    // Node has taken its listener away, and an error without one would end the process
    socket.on('error', () => socket.destroy());
  }

  /** An ordinary response on this connection, which ends with it. */
  response(): ServerResponse {
    const response = new ServerResponse(this.#request);
    response.shouldKeepAlive = false;
    response.assignSocket(this.#socket);
    response.once('finish', () => {
      response.detachSocket(this.#socket);
      sayGoodbye(this.#socket);
    });
    return response;
  }

  /** The request's body by its framing; what follows it stays for {@link release}. */
  async *body(): AsyncGenerator<Buffer, void, void> {
    const { headers } = this.#request;
    if (this.#isBodyRead) return;
    this.#isBodyRead = true;
    if (headers['transfer-encoding'] === undefined) {
      yield* this.#exactly(Number(headers['content-length'] ?? 0));
      return;
    }
    // RFC 9112, 7.1: chunks until one of size 0, then trailer lines until an empty one
    for (;;) {
      const size = Number.parseInt(await this.#line(), 16);
      if (!(size >= 0)) throw fail.badRequest('invalid chunk in request body');
      if (size === 0) break;
      yield* this.#exactly(size);
      await this.#line();
    }
    while ((await this.#line()) !== '') {}
  }

  /** The bare connection. Bytes that were read beyond the request come first. */
  release(response: ServerResponse): Socket {
    if (response.socket !== null) response.detachSocket(this.#socket);
    if (this.#buffered.length > 0) this.#socket.unshift(this.#buffered);
    this.#buffered = Buffer.alloc(0);
    return this.#socket;
  }

  async *#exactly(bytes: number): AsyncGenerator<Buffer, void, void> {
    for (let missing = bytes; missing > 0; ) {
      if (this.#buffered.length === 0) await this.#more();
      const part = this.#buffered.subarray(0, missing);
      this.#buffered = this.#buffered.subarray(part.length);
      missing -= part.length;
      yield part;
    }
  }

  async #line(): Promise<string> {
    for (;;) {
      const end = this.#buffered.indexOf('\n');
      if (end >= 0) {
        const line = this.#buffered.toString('latin1', 0, end).replace(/\r$/, '');
        this.#buffered = this.#buffered.subarray(end + 1);
        return line;
      }
      if (this.#buffered.length > MAX_LINE_BYTES) throw fail.badRequest('invalid chunk in request body');
      await this.#more();
    }
  }

  /** At least one more byte; throws 400 where the connection ends instead. */
  async #more(): Promise<void> {
    for (;;) {
      const chunk = this.#socket.read() as Buffer | null;
      if (chunk !== null) {
        this.#buffered = this.#buffered.length === 0 ? chunk : Buffer.concat([this.#buffered, chunk]);
        return;
      }
      if (this.#socket.readableEnded || this.#socket.destroyed) throw fail.badRequest('unexpected EOF');
      await new Promise<void>((resolve) => {
        const events = ['readable', 'end', 'close'] as const;
        const onAny = () => {
          for (const event of events) this.#socket.removeListener(event, onAny);
          resolve();
        };
        for (const event of events) this.#socket.once(event, onAny);
      });
    }
  }
}

/** Ends our side after the last byte, and reads on for a moment: unread bytes would turn the end into a reset. */
export function sayGoodbye(socket: Socket): void {
  if (socket.destroyed) return;
  socket.end();
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), GOODBYE_MS);
  socket.once('close', () => clearTimeout(timer));
}
