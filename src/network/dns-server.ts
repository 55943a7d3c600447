import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import type { Protocol } from '../host/foreign-sockets.ts';
import type { Log } from '../lib/log.ts';
import { framed, messagesIn, written } from './dns-stream.ts';

/** At once, of one container. */
const MOST_CONNECTIONS = 32;
const IDLE_MS = 10_000;

export type Answer = (raw: Buffer, protocol: Protocol) => Promise<Buffer | undefined>;

/** Takes questions at a UDP and a TCP socket that others have bound, and gives them to whoever answers. */
export class DnsServer implements AsyncDisposable {
  readonly #udp: DatagramSocket;
  readonly #tcp: Server;
  readonly #connections = new Set<Socket>();
  readonly #answer: Answer;
  readonly #log: Log;
  #isClosed = false;

  private constructor({ answer, log }: { answer: Answer; log: Log }) {
    this.#answer = answer;
    this.#log = log;
    this.#udp = createSocket('udp4');
    this.#udp.on('message', (raw, { address, port }) => void this.#onDatagram(raw, address, port));
    this.#tcp = createServer({ allowHalfOpen: true }, (socket) => void this.#onConnection(socket));
    this.#tcp.maxConnections = MOST_CONNECTIONS;
  }

  /** Owns the descriptors from now on. */
  static async open(door: { udp: number; tcp: number }, o: { answer: Answer; log: Log }): Promise<DnsServer> {
    const server = new DnsServer(o);
    const listening = Promise.all([once(server.#udp, 'listening'), once(server.#tcp, 'listening')]);
    server.#udp.bind({ fd: door.udp, exclusive: true });
    server.#tcp.listen({ fd: door.tcp });
    await listening;
    for (const part of [server.#udp, server.#tcp])
      part.on('error', (err) => server.#log.warn({ err }, 'a socket for name service failed'));
    return server;
  }

  /** Safe twice. Who is being answered is cut off. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#udp.close();
    this.#tcp.close();
    for (const socket of this.#connections) socket.destroy();
  }

  async #onDatagram(raw: Buffer, address: string, port: number): Promise<void> {
    const answer = await this.#answered(raw, 'udp');
    // one that cannot be sent is asked for again
    if (answer !== undefined && !this.#isClosed) this.#udp.send(answer, port, address, () => {});
  }

  /** Questions on one connection are answered one after the other: meanwhile nothing more is read from it. */
  async #onConnection(socket: Socket): Promise<void> {
    this.#connections.add(socket);
    socket.on('error', () => {}); // the client's affair
    socket.setTimeout(IDLE_MS, () => socket.destroy());
    try {
      for await (const raw of messagesIn(socket)) {
        const answer = await this.#answered(raw, 'tcp');
        if (answer === undefined) break;
        await written(socket, framed(answer));
      }
    } catch {
      // cut off
    } finally {
      this.#connections.delete(socket);
      socket.end();
      socket.destroySoon();
    }
  }

  async #answered(raw: Buffer, protocol: Protocol): Promise<Buffer | undefined> {
    try {
      return await this.#answer(raw, protocol);
    } catch (err) {
      this.#log.error({ err }, 'cannot answer a question about a name');
      return undefined;
    }
  }
}
