import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../errors.ts';
import { connectSocket, type Protocol, sendNow } from '../host/foreign-sockets.ts';
import { isAnswerTo, type Query, RCODE, rcodeOf, withId } from '../lib/dns-message.ts';
import type { Log } from '../lib/log.ts';
import { withResolvers } from '../lib/promises.ts';
import { framed, messagesIn } from './dns-stream.ts';

/** A name server that questions are passed on to. */
export interface UpstreamServer {
  /** 4 or 16 bytes. */
  ip: Buffer;
  /** The interface that a link-local address is behind; empty without one. */
  zone: string;
  /** Where it is asked from; missing: from the host. */
  namespacePath?: string;
}

/** What dockerd and resolv.conf(5) have, too. */
export const MOST_SERVERS = 3;

const DNS_PORT = 53;
const ANSWER_MS = 4000;
/**
 * A server that is silent this long is no longer waited for alone. dockerd gives each its four seconds, and a client
 * has given up before the third is asked.
 */
const HEAD_START_MS = 1200;
/** Questions under way; each has up to three sockets. */
const MOST_AT_ONCE = 512;

/** Passes questions on to other name servers, and looks hard at what comes back. */
export class Upstream {
  readonly #log: Log;
  #underWay = 0;

  constructor({ log }: { log: Log }) {
    this.#log = log;
  }

  /**
   * The answer of the first server that has one, with the ID that the client chose. Undefined if none has, or too much
   * is under way. `raw` is the whole query.
   */
  async ask(
    servers: readonly UpstreamServer[],
    { raw, query, protocol }: { raw: Buffer; query: Query; protocol: Protocol },
  ): Promise<Buffer | undefined> {
    if (this.#underWay >= MOST_AT_ONCE) return undefined;
    this.#underWay++;
    const stop = new AbortController();
    try {
      const answer = await firstOf(servers.slice(0, MOST_SERVERS), stop.signal, (server) =>
        this.#askOne(server, { raw, query, protocol }, stop.signal),
      );
      return answer && withId(answer, query.id);
    } finally {
      stop.abort();
      this.#underWay--;
    }
  }

  /** Never throws: a server that cannot be reached has no answer. */
  async #askOne(
    server: UpstreamServer,
    { raw, query, protocol }: { raw: Buffer; query: Query; protocol: Protocol },
    signal: AbortSignal,
  ): Promise<Buffer | undefined> {
    const id = randomInt(0x10000);
    const isRight = (answer: Buffer) => isAnswerTo(answer, query, id);
    const exchange = protocol === 'udp' ? byUdp : byTcp;
    try {
      const fd = connectSocket(protocol, { ...server, port: DNS_PORT }, server.namespacePath);
      const answer = await exchange(fd, { message: withId(raw, id), ip: server.ip, isRight, signal });
      if (answer === undefined) return undefined;
      const rcode = rcodeOf(answer);
      return rcode === RCODE.SERVER_FAILURE || rcode === RCODE.REFUSED ? undefined : answer;
    } catch (err) {
      this.#log.debug({ reason: messageOf(err) }, 'cannot ask a name server');
      return undefined;
    }
  }
}

/** Asks one after the other, the next once all before it have failed or the head start is over. */
async function firstOf(
  servers: readonly UpstreamServer[],
  signal: AbortSignal,
  ask: (server: UpstreamServer) => Promise<Buffer | undefined>,
): Promise<Buffer | undefined> {
  const asked = new Set<Promise<void>>();
  let found: Buffer | undefined;
  for (const server of servers) {
    const asking: Promise<void> = ask(server).then((answer) => {
      found ??= answer;
      asked.delete(asking);
    });
    asked.add(asking);
    const patience = sleep(HEAD_START_MS, undefined, { signal }).catch(() => {});
    await Promise.race([...asked, patience]);
    if (found !== undefined) return found;
  }
  while (found === undefined && asked.size > 0) await Promise.race(asked);
  return found;
}

interface Exchange {
  message: Buffer;
  ip: Buffer;
  isRight: (answer: Buffer) => boolean;
  signal: AbortSignal;
}

/** The socket hears nobody but that server; of what it hears, it takes the first message that answers the question. */
async function byUdp(fd: number, { message, ip, isRight, signal }: Exchange): Promise<Buffer | undefined> {
  const { promise, resolve, reject } = withResolvers<Buffer | undefined>();
  const socket = createSocket(ip.length === 4 ? 'udp4' : 'udp6');
  const giveUp = () => resolve(undefined);
  const deadline = setTimeout(giveUp, ANSWER_MS);
  signal.addEventListener('abort', giveUp, { once: true });
  socket.on('message', (answer) => {
    if (isRight(answer)) resolve(answer);
  });
  socket.on('error', reject);
  try {
    socket.bind({ fd, exclusive: true });
    sendNow(fd, message);
    return await promise;
  } finally {
    clearTimeout(deadline);
    signal.removeEventListener('abort', giveUp);
    socket.close();
  }
}

async function byTcp(fd: number, { message, isRight, signal }: Exchange): Promise<Buffer | undefined> {
  const socket = new Socket({ fd, readable: true, writable: true });
  const giveUp = () => socket.destroy();
  const deadline = setTimeout(giveUp, ANSWER_MS);
  signal.addEventListener('abort', giveUp, { once: true });
  socket.on('error', () => {}); // the loop below throws it
  try {
    socket.write(framed(message));
    for await (const answer of messagesIn(socket)) if (isRight(answer)) return answer;
    return undefined;
  } finally {
    clearTimeout(deadline);
    signal.removeEventListener('abort', giveUp);
    socket.destroy();
  }
}
