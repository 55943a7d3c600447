import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { codeOf, fail } from '../errors.ts';
import { abortable } from '../lib/locks.ts';
import type { Connections } from './connections.ts';
import { brokenOff, flowing } from './flow.ts';
import type { InsecureHosts } from './insecure-hosts.ts';
import { BodyError, pour } from './pour.ts';
import { Setback } from './setback.ts';
import { SilenceWatch } from './silence-watch.ts';
import { describeSocketError, type SocketTrouble } from './socket-errors.ts';
import { TunnelError } from './tunnel.ts';

/** The head of a response, and its body still to be read. Whoever gets it reads the body or discards it. */
export interface Answer {
  readonly status: number;
  readonly statusText: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: IncomingMessage;
  /** Where it came from, after redirects. */
  readonly url: URL;
}

export interface Outgoing {
  readonly method?: 'GET' | 'HEAD' | 'POST' | 'PATCH' | 'PUT' | 'DELETE';
  readonly headers?: Readonly<Record<string, string>>;
  readonly payload?: string | Buffer;
  /** A body of unknown length, made anew each time that it has to be sent; what it fails with is thrown as it is. */
  readonly body?: () => Readable;
  /** How long the server may take to answer once it has all of the request; what silence is otherwise, if left out. */
  readonly answerMs?: number;
  /** False: any certificate will do. */
  readonly isVerified: boolean;
  /** The registry, `host[:port]`, whose certificates count; the one that is asked, if left out. */
  readonly certificatesOf?: string;
  readonly signal: AbortSignal;
}

const MOST_REDIRECTS = 10;
const CHEAP_TO_READ_BYTES = 64 * 1024;

/**
 * HTTP towards registries: pooled connections, redirects, limits on silence. It knows nothing of what is fetched.
 * TLS is loaded with the first https address. Failures are {@link Setback}s in Go's words.
 */
export class Transport {
  readonly #userAgent: string;
  readonly #stallMs: number;
  readonly #insecure: Pick<InsecureHosts, 'has'>;
  readonly #connections: Connections;
  #isClosed = false;

  constructor(o: {
    userAgent: string;
    stallMs: number;
    insecure: Pick<InsecureHosts, 'has'>;
    connections: Connections;
  }) {
    this.#userAgent = o.userAgent;
    this.#stallMs = o.stallMs;
    this.#insecure = o.insecure;
    this.#connections = o.connections;
  }

  /**
   * Sends a request and follows up to ten redirects. Credentials stay with the host they were meant for; certificates
   * count on all of the way, as they do for dockerd.
   */
  async send(target: URL, o: Outgoing): Promise<Answer> {
    let url = target;
    let headers = { ...o.headers };
    for (let redirects = 0; ; redirects++) {
      const answer = await this.#exchange(url, { certificatesOf: target.host, ...o, headers });
      const location = isFollowed(answer.status, o) ? answer.headers.location : undefined;
      if (location === undefined) return answer;
      discard(answer.body);
      if (redirects === MOST_REDIRECTS) {
        const message = `${verbOf(o)} "${target.href}": stopped after ${MOST_REDIRECTS} redirects`;
        throw new Setback(fail.registry(message));
      }
      const next = await this.follow(url, location, o);
      if (next.origin !== url.origin) {
        const { authorization: _meantForAnother, ...rest } = headers;
        headers = rest;
      }
      url = next;
    }
  }

  /** Closes every connection; requests under way fail. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    this.#connections.close();
  }

  /** Where a `Location` leads, relative or not. Throws a {@link Setback} for one that is no place to go to. */
  async follow(from: URL, location: string, o: Pick<Outgoing, 'method' | 'isVerified'>): Promise<URL> {
    const refuse = (why: string) =>
      new Setback(
        fail.registry(`${verbOf(o)} "${from.href}": ${why}: ${JSON.stringify(location.slice(0, 512))}`),
      );
    if (!URL.canParse(location, from.href)) throw refuse('failed to parse Location header');
    const next = new URL(location, from);
    if (next.protocol !== 'http:' && next.protocol !== 'https:') throw refuse('unsupported protocol scheme');
    const isDowngrade = from.protocol === 'https:' && next.protocol === 'http:';
    if (isDowngrade && o.isVerified && !(await this.#insecure.has(next.host))) {
      throw refuse('redirect from https to http');
    }
    next.username = '';
    next.password = '';
    return next;
  }

  async #exchange(url: URL, o: Outgoing, isSecondTry = false): Promise<Answer> {
    o.signal.throwIfAborted();
    if (this.#isClosed) throw new Setback(fail.registry('the registry client is closed'));
    // identity: a proxy that compresses in passing would change the bytes under the digest
    const headers = { 'user-agent': this.#userAgent, 'accept-encoding': 'identity', ...o.headers };
    const { isVerified, certificatesOf = url.host, signal } = o;
    const opening = { method: o.method ?? 'GET', headers, isVerified, certificatesOf, signal };
    const { outgoing, proxy } = await this.#connections.open(url, opening);
    const watch = new SilenceWatch(outgoing, { stallMs: this.#stallMs, answerMs: o.answerMs });
    try {
      // a request that still waits for its connection says nothing when it is destroyed
      const body = await abortable(sendOff(outgoing, o, watch), o.signal);
      body.on('error', () => {}); // whoever reads it hears of it there; a discarded one has no reader
      // answered before it had all of the request: the connection is good for nothing more
      if (!outgoing.writableEnded) body.once('close', () => outgoing.destroy());
      return {
        status: body.statusCode ?? 0,
        statusText: body.statusMessage ?? '',
        headers: body.headers,
        body,
        url,
      };
    } catch (cause) {
      o.signal.throwIfAborted();
      if (cause instanceof BodyError) throw cause.cause;
      // the server closed an idle connection in the instant in which it was taken up again: nobody's fault
      const isStale = outgoing.reusedSocket && codeOf(cause) === 'ECONNRESET' && isReading(o);
      if (isStale && !isSecondTry) return await this.#exchange(url, o, true);
      const trouble = troubleOf(cause, url, proxy);
      const message = `${verbOf(o)} "${url.href}": ${trouble.words}`;
      throw new Setback(fail.registryUnreachable(message, cause), {
        isPassing: !trouble.isLasting,
        isUnreachable: trouble.isUnreachable,
      });
    } finally {
      watch.stop();
    }
  }
}

/** Sends a request; the response's head, or an error: the connection's, the watch's, or a {@link BodyError}. */
function sendOff(outgoing: ClientRequest, o: Outgoing, watch: SilenceWatch): Promise<IncomingMessage> {
  const answer = new Promise<IncomingMessage>((resolve, reject) => {
    outgoing.once('response', resolve);
    outgoing.on('error', reject); // it may come once more, with the body
  });
  if (o.body !== undefined) {
    return Promise.race([answer, pour(o.body(), outgoing, watch).then(() => answer)]);
  }
  outgoing.end(o.payload);
  watch.answerIsDue();
  return answer;
}

/** Reads a body that must be small; undefined if it is longer than `limitBytes`. */
export async function readBounded(
  { body, headers }: Answer,
  limitBytes: number,
  o: { stallMs: number; signal: AbortSignal },
): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  if (Number(headers['content-length']) > limitBytes) bytes = Number.POSITIVE_INFINITY;
  try {
    for await (const chunk of flowing(body, o.stallMs)) {
      bytes += chunk.length;
      if (bytes > limitBytes) return undefined;
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  } catch (cause) {
    o.signal.throwIfAborted();
    throw brokenOff(cause);
  }
}

/** Lets go of a body: a short one is read so that its connection can be used again, a long one is cut. */
export function discard(body: IncomingMessage): void {
  const isCheap = Number(body.headers['content-length']) <= CHEAP_TO_READ_BYTES;
  if (isCheap) body.resume();
  else body.destroy();
}

/** What went wrong on the way to a host, or to the proxy before it, in Go's words. */
function troubleOf(cause: unknown, url: URL, proxy: URL | undefined): SocketTrouble {
  if (cause instanceof TunnelError && cause.refusal !== undefined) {
    const { words, status } = cause.refusal;
    return { words, isUnreachable: false, isLasting: status < 500 };
  }
  const isTunnel = cause instanceof TunnelError;
  // a plain request meets nobody but the proxy
  const { hostname, port, protocol } =
    proxy !== undefined && (isTunnel || url.protocol === 'http:') ? proxy : url;
  const at = { host: hostname, port: port || (protocol === 'https:' ? '443' : '80') };
  const trouble = describeSocketError(isTunnel ? cause.cause : cause, at);
  const isOfProxy = isTunnel || (proxy !== undefined && trouble.isUnreachable);
  return isOfProxy ? { ...trouble, words: `proxyconnect tcp: ${trouble.words}` } : trouble;
}

function isReading({ method = 'GET' }: Pick<Outgoing, 'method'>): boolean {
  return method === 'GET' || method === 'HEAD';
}

/** What changes something is sent on only as it is (RFC 9110, 15.4), and a form, which may hold a secret, never. */
function isFollowed(status: number, o: Outgoing): boolean {
  if (status === 307 || status === 308) return o.method !== 'POST' || o.payload === undefined;
  return isReading(o) && (status === 301 || status === 302 || status === 303);
}

/** As Go's errors begin: `Get`, `Patch`. */
function verbOf({ method = 'GET' }: Pick<Outgoing, 'method'>): string {
  return `${method.slice(0, 1)}${method.slice(1).toLowerCase()}`;
}
