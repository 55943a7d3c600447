import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** A connection that was hijacked: what was sent on it, by stream, until it ends. */
export class Hijacked {
  readonly socket: Socket;
  /** All that came behind the headers. */
  readonly ended: Promise<Buffer>;
  /** The headers are there. */
  readonly open: Promise<void>;
  #bytes = Buffer.alloc(0);

  /** Asks on a socket of its own; with a body it is JSON. */
  constructor(socketPath: string, path: string, body = '') {
    this.socket = connect({ path: socketPath, allowHalfOpen: true });
    const type = body === '' ? '' : `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n`;
    this.socket.write(
      `POST ${path} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n${type}\r\n${body}`,
    );
    this.socket.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.socket.emit('more');
    });
    this.open = this.#until(() => this.#bytes.includes('\r\n\r\n'));
    this.open.catch(() => {}); // whoever waits for the end may never ask
    this.ended = once(this.socket, 'end').then(() => {
      this.socket.end();
      return this.bytes();
    });
    this.ended.catch(() => {});
  }

  /** Resolves when a text has come on stdout; rejects if the connection is cut first. */
  heard(text: string): Promise<void> {
    return this.#until(() => this.text().includes(text));
  }

  /** The status line and what followed it. */
  raw(): string {
    return this.#bytes.toString('latin1');
  }

  status(): string {
    return this.raw().split('\r\n', 1)[0] ?? '';
  }

  /** What came behind the headers. */
  bytes(): Buffer {
    return this.#bytes.subarray(this.#bytes.indexOf('\r\n\r\n') + 4);
  }

  /** The same without Docker's frames. */
  text(stream = 1): string {
    let text = '';
    for (let rest = this.bytes(); rest.length >= 8; ) {
      const size = rest.readUInt32BE(4);
      if (rest[0] === stream) text += rest.toString('latin1', 8, 8 + size);
      rest = rest.subarray(8 + size);
    }
    return text;
  }

  async #until(isSo: () => boolean): Promise<void> {
    const over = once(this.socket, 'close').then(() => 'over' as const);
    while (!isSo()) {
      if ((await Promise.race([once(this.socket, 'more'), over])) === 'over' && !isSo())
        throw new Error(`the connection ended after ${JSON.stringify(this.raw())}`);
    }
  }
}
