import { closeSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type * as Koffi from 'koffi';

const AF_UNIX = 1;
const SOCK_NONBLOCK = 0o4000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

const koffi = createRequire(import.meta.url)('koffi') as typeof Koffi;
const c = koffi.load(null);
const socket = c.func('int socket(int, int, int)');
const bind = c.func('int bind(int, const void *, unsigned int)');
const listen = c.func('int listen(int, int)');
const accept4 = c.func('int accept4(int, void *, void *, int)');
const send = c.func('long send(int, const void *, size_t, int)');
const recv = c.func('long recv(int, void *, size_t, int)');
const setsockopt = c.func('int setsockopt(int, int, int, const void *, unsigned int)');

/** Makes one call until it no longer says EAGAIN. */
async function patiently(call: () => number): Promise<number> {
  for (;;) {
    const result = call();
    if (result !== -1) return result;
    if (koffi.errno() !== constants.errno.EAGAIN) throw new Error(`errno ${koffi.errno()}`);
    await sleep(1);
  }
}

/** The other end of one connection, or a datagram socket; for tests, so it polls. */
export class Peer implements Disposable {
  readonly #fd: number;
  #isClosed = false;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Sends one packet; waits while the receiver's queue is full. */
  async send(bytes: Uint8Array): Promise<void> {
    await patiently(() => send(this.#fd, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL));
  }

  /** How many such packets go before the receiver's queue is full. */
  fill(bytes: Uint8Array): number {
    for (let count = 0; ; count++)
      if (send(this.#fd, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL) === -1) return count;
  }

  /** The next packet; empty at the end. */
  async receive(): Promise<Buffer> {
    const buffer = Buffer.alloc(1 << 17);
    return buffer.subarray(0, await patiently(() => recv(this.#fd, buffer, buffer.length, MSG_DONTWAIT)));
  }

  /** Makes the socket's send buffer this small. */
  shrink(bytes: number): void {
    const SOL_SOCKET = 1;
    const SO_SNDBUF = 7;
    setsockopt(this.#fd, SOL_SOCKET, SO_SNDBUF, new Int32Array([bytes]), 4);
  }

  [Symbol.dispose](): void {
    if (!this.#isClosed) closeSync(this.#fd);
    this.#isClosed = true;
  }
}

/** A unix socket of a type that Node does not have: `seqpacket` listens, `datagram` receives. */
export class UnixSocket implements Disposable {
  readonly path: string;
  readonly #fd: number;

  constructor(kind: 'seqpacket' | 'datagram', path: string, { backlog = 16 } = {}) {
    this.path = path;
    const name = Buffer.from(path.replace(/^@/, '\0'));
    const address = Buffer.concat([
      Buffer.from(new Uint16Array([AF_UNIX]).buffer),
      name,
      Buffer.alloc(name[0] === 0 ? 0 : 1),
    ]);
    this.#fd = socket(AF_UNIX, (kind === 'seqpacket' ? 5 : 2) | SOCK_NONBLOCK, 0);
    if (bind(this.#fd, address, address.length) === -1)
      throw new Error(`bind ${path}: errno ${koffi.errno()}`);
    if (kind === 'seqpacket') listen(this.#fd, backlog);
  }

  async accept(): Promise<Peer> {
    return new Peer(await patiently(() => accept4(this.#fd, null, null, SOCK_NONBLOCK)));
  }

  /** The next datagram. */
  async receive(): Promise<Buffer> {
    return new Peer(this.#fd).receive();
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
    if (!this.path.startsWith('@')) rmSync(this.path, { force: true });
  }
}
