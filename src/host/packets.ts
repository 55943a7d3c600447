import { closeSync, constants as fsConstants, openSync } from 'node:fs';
import { constants } from 'node:os';
import { basename, dirname } from 'node:path';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { libc, type PollHandle, type Readiness, succeed, systemError } from './libc.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_SEQPACKET = 5;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const SHUT_WR = 1;

/** `sun_path` holds 108 bytes with its closing NUL. */
const MAX_PATH_BYTES = 107;

/** The largest packet that conmon reads whole. */
const MAX_PACKET_BYTES = 32768;

/** After this many, other work of this thread has its turn: a chatty container must not stop the daemon. */
const PACKETS_PER_TURN = 16;

/**
 * Where packets land before they are copied out; shared, because a read is done before anything else can run.
 */
let landing: Buffer | undefined;

/**
 * One end of a SOCK_SEQPACKET connection: packets stay whole, and nothing the peer sent before it closed is
 * lost.
 */
export interface PacketSocket extends AsyncDisposable {
  /** Every packet, in order, until the peer's end. For one consumer; one that is slow makes the peer wait. */
  packets(): AsyncIterable<Buffer>;
  /** Resolves when the kernel has taken all bytes, cut into packets of at most 32 KiB. */
  write(bytes: Uint8Array): Promise<void>;
  /** Our side's end of data, after what was written before; reading goes on. */
  end(): void;
  /** Lets go of the connection at once. Safe twice. */
  close(): void;
}

/**
 * Connects to the SOCK_SEQPACKET socket at `path`, however long that is. Throws system errors: ENOENT and
 * ECONNREFUSED where nobody listens.
 *
 * Not a `net.Socket`: Node refuses descriptors of this type, and libuv takes a hang-up for the end while
 * packets are still queued. Here the socket is read by recv(2) until it says end itself, when libuv's poll
 * reports it ready.
 */
export async function connectPackets(path: string): Promise<PacketSocket> {
  const fd = openSocket(SOCK_SEQPACKET);
  try {
    await connectTo(fd, path);
    return new Connection(fd);
  } catch (cause) {
    closeSync(fd);
    throw cause;
  }
}

/** Sends one datagram to a unix socket; a leading `@` is the abstract namespace. */
export function sendDatagram(path: string, bytes: Uint8Array): void {
  const fd = openSocket(SOCK_DGRAM);
  try {
    connectOnce(fd, path);
    succeed('send', path, (c) => c.send(fd, bytes, bytes.byteLength, MSG_DONTWAIT | MSG_NOSIGNAL));
  } finally {
    closeSync(fd);
  }
}

/** A socket of our own that sends datagrams to one address, whose peer can make it wait. */
export class DatagramSocket {
  #fd: number;
  #poll: PollHandle | undefined;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Throws system errors: ENOENT and ECONNREFUSED where nobody listens. */
  static connect(path: string): DatagramSocket {
    const fd = openSocket(SOCK_DGRAM);
    try {
      connectOnce(fd, path);
      return new DatagramSocket(fd);
    } catch (cause) {
      closeSync(fd);
      throw cause;
    }
  }

  /** False where the peer has no room now. Throws system errors: EMSGSIZE, and ECONNREFUSED once the peer is gone. */
  send(bytes: Uint8Array): boolean {
    const c = libc();
    for (;;) {
      if (c.send(this.#fd, bytes, bytes.byteLength, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true;
      const errno = c.errno();
      if (errno === constants.errno.EINTR) continue;
      if (errno === constants.errno.EAGAIN || errno === constants.errno.ENOBUFS) return false;
      throw systemError(errno, 'send');
    }
  }

  /** Resolves when there may be room: the caller tries again and sees. For one at a time. */
  async room(): Promise<void> {
    await new Promise<void>((resolve) => {
      const onReady = () => {
        this.#poll?.stop();
        setImmediate(resolve);
      };
      if (this.#poll === undefined) this.#poll = libc().poll(this.#fd, { writable: true }, onReady);
      else this.#poll.start({ writable: true }, onReady);
    });
  }

  /** Whoever waits for room waits on. Safe twice. */
  close(): void {
    if (this.#fd < 0) return;
    this.#poll?.close();
    closeSync(this.#fd);
    this.#fd = -1;
  }
}

function openSocket(type: number): number {
  return succeed('socket', undefined, (c) => c.socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

/** A full backlog answers EAGAIN where a blocking connect would wait: wait likewise, up to two seconds. */
async function connectTo(fd: number, path: string): Promise<void> {
  for (let triesLeft = 100; ; triesLeft--) {
    try {
      return connectOnce(fd, path);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EAGAIN' || triesLeft === 0) throw cause;
    }
    await sleep(20);
  }
}

function connectOnce(fd: number, path: string): void {
  if (Buffer.byteLength(path) <= MAX_PATH_BYTES) {
    connectAddress(fd, path, path);
    return;
  }
  const directory = openSync(dirname(path), fsConstants.O_RDONLY | fsConstants.O_DIRECTORY);
  try {
    connectAddress(fd, `/proc/self/fd/${directory}/${basename(path)}`, path);
  } finally {
    closeSync(directory);
  }
}

function connectAddress(fd: number, address: string, path: string): void {
  const name = Buffer.from(address.replace(/^@/, '\0'));
  if (name.length > MAX_PATH_BYTES) throw systemError(constants.errno.ENAMETOOLONG, 'connect', path);
  const bytes = Buffer.alloc(2 + name.length + (name[0] === 0 ? 0 : 1));
  new Uint16Array(bytes.buffer, bytes.byteOffset, 1)[0] = AF_UNIX; // in the machine's own byte order
  name.copy(bytes, 2);
  succeed('connect', path, (c) => c.connect(fd, bytes, bytes.length));
}

class Connection implements PacketSocket {
  #fd: number;
  #poll: PollHandle | undefined;
  /** Who waits for the socket to become ready, by direction. */
  readonly #waiters: Record<'readable' | 'writable', (() => void)[]> = { readable: [], writable: [] };
  /** The tail of the writes, so that two callers' packets do not mix. */
  #writes: Promise<void> = Promise.resolve();

  constructor(fd: number) {
    this.#fd = fd;
  }

  get #isClosed(): boolean {
    return this.#fd < 0;
  }

  async *packets(): AsyncIterable<Buffer> {
    for (let count = 1; ; count++) {
      const packet = this.#receive();
      if (packet === 'end') return;
      if (packet === 'wait') await this.#ready('readable');
      else yield packet;
      if (count % PACKETS_PER_TURN === 0) await nextTurn();
    }
  }

  /**
   * One packet without waiting. The kernel's queue comes before the end: `end` means that everything was
   * read.
   */
  #receive(): Buffer | 'end' | 'wait' {
    if (this.#isClosed) return 'end';
    landing ??= Buffer.allocUnsafeSlow(65536);
    const c = libc();
    for (;;) {
      const size = c.recv(this.#fd, landing, landing.length, MSG_DONTWAIT);
      if (size > 0) return Buffer.from(landing.subarray(0, size));
      if (size === 0) return 'end';
      const errno = c.errno();
      if (errno === constants.errno.EAGAIN) return 'wait';
      // the peer closed with something of ours unread: reported once, ahead of what it sent
      if (errno === constants.errno.ECONNRESET || errno === constants.errno.EINTR) continue;
      throw systemError(errno, 'recv');
    }
  }

  write(bytes: Uint8Array): Promise<void> {
    const written = this.#writes.then(() => this.#send(bytes));
    this.#writes = written.catch(() => {}); // the caller has the error; those behind it get their own
    return written;
  }

  async #send(bytes: Uint8Array): Promise<void> {
    const c = libc();
    for (let at = 0; at < bytes.length; ) {
      if (this.#isClosed) throw systemError(constants.errno.EPIPE, 'send');
      const packet = bytes.subarray(at, at + MAX_PACKET_BYTES);
      if (c.send(this.#fd, packet, packet.length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
        at += packet.length;
        continue;
      }
      const errno = c.errno();
      if (errno === constants.errno.EINTR) continue;
      if (errno !== constants.errno.EAGAIN) throw systemError(errno, 'send');
      await this.#ready('writable');
    }
  }

  end(): void {
    this.#writes = this.#writes.then(() => {
      if (!this.#isClosed) libc().shutdown(this.#fd, SHUT_WR);
    });
  }

  close(): void {
    if (this.#isClosed) return;
    this.#poll?.close(); // leaves epoll at once, so the number may be used again
    this.#poll = undefined;
    closeSync(this.#fd);
    this.#fd = -1;
    this.#wake();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /**
   * Resolves when the socket may be ready in that direction, or is closed: the caller tries again and sees.
   */
  async #ready(direction: 'readable' | 'writable'): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#waiters[direction].push(resolve);
      const wish: Readiness = {
        readable: this.#waiters.readable.length > 0,
        writable: this.#waiters.writable.length > 0,
      };
      // poll calls back outside of Node's callback scopes: Node does not promise to look after promises there
      const onReady = () => {
        this.#poll?.stop();
        setImmediate(() => this.#wake());
      };
      if (this.#poll === undefined) this.#poll = libc().poll(this.#fd, wish, onReady);
      else this.#poll.start(wish, onReady);
    });
  }

  #wake(): void {
    for (const waiters of Object.values(this.#waiters)) for (const resolve of waiters.splice(0)) resolve();
  }
}
