import {
  Agent,
  type ClientRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request,
} from 'node:http';
import type { Agent as SecureAgent, request as secureRequest } from 'node:https';
import type { Socket } from 'node:net';
import { codeOf, fail } from '../errors.ts';
import { brokenOff, flowing } from './flow.ts';
import type { InsecureHosts } from './insecure-hosts.ts';
import { Setback } from './setback.ts';
import { describeSocketError, SilenceError } from './socket-errors.ts';

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
  readonly method?: 'GET' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  readonly payload?: string;
  /** False: any certificate will do. */
  readonly isVerified: boolean;
  readonly signal: AbortSignal;
}

interface SecureModule {
  request: typeof secureRequest;
  Agent: typeof SecureAgent;
}

const MOST_REDIRECTS = 10;
const LONGEST_DIAL_MS = 15_000;
const CHEAP_TO_READ_BYTES = 64 * 1024;

const agentOptions = {
  keepAlive: true,
  /** Per host; more requests wait for their turn. */
  maxSockets: 16,
  maxTotalSockets: 64,
  maxFreeSockets: 4,
  /** Idle connections are closed after this, so that a quiet engine holds none. */
  timeout: 15_000,
  // 250 ms, Node's own, is less than a handshake over a satellite or a bad mobile link takes
  autoSelectFamilyAttemptTimeout: 2500,
};

/**
 * HTTP towards registries: pooled connections, redirects, limits on silence. It knows nothing of what is fetched.
 * TLS is loaded with the first https address. Failures are {@link Setback}s in Go's words.
 */
export class Transport {
  readonly #userAgent: string;
  readonly #stallMs: number;
  readonly #insecure: Pick<InsecureHosts, 'has'>;
  readonly #plain = new Agent(agentOptions);
  readonly #secure = new Map<boolean, SecureAgent>();
  #isClosed = false;

  constructor(o: { userAgent: string; stallMs: number; insecure: Pick<InsecureHosts, 'has'> }) {
    this.#userAgent = o.userAgent;
    this.#stallMs = o.stallMs;
    this.#insecure = o.insecure;
  }

  /** Sends a request and follows up to ten redirects. Credentials stay with the host they were meant for. */
  async send(target: URL, o: Outgoing): Promise<Answer> {
    let url = target;
    let headers = { ...o.headers };
    for (let redirects = 0; ; redirects++) {
      const answer = await this.#exchange(url, { ...o, headers });
      const location = isRedirect(answer.status) ? answer.headers.location : undefined;
      if (location === undefined || o.method === 'POST') return answer;
      discard(answer.body);
      if (redirects === MOST_REDIRECTS) {
        throw new Setback(fail.registry(`Get "${target.href}": stopped after ${MOST_REDIRECTS} redirects`));
      }
      const next = await this.#redirected(url, location, o);
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
    this.#plain.destroy();
    for (const agent of this.#secure.values()) agent.destroy();
  }

  async #redirected(from: URL, location: string, o: Outgoing): Promise<URL> {
    const refuse = (why: string) =>
      new Setback(fail.registry(`Get "${from.href}": ${why}: ${JSON.stringify(location.slice(0, 512))}`));
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
    const outgoing = await this.#request(url, o);
    const { promise, stop } = this.#answerOf(outgoing);
    try {
      outgoing.end(o.payload);
      const body = await promise;
      body.on('error', () => {}); // whoever reads it hears of it there; a discarded one has no reader
      return {
        status: body.statusCode ?? 0,
        statusText: body.statusMessage ?? '',
        headers: body.headers,
        body,
        url,
      };
    } catch (cause) {
      o.signal.throwIfAborted();
      // the server closed an idle connection in the instant in which it was taken up again: nobody's fault
      const isStale = outgoing.reusedSocket && codeOf(cause) === 'ECONNRESET' && o.method !== 'POST';
      if (isStale && !isSecondTry) return await this.#exchange(url, o, true);
      const port = url.port || (url.protocol === 'https:' ? '443' : '80');
      const trouble = describeSocketError(cause, { host: url.hostname, port });
      const message = `${o.method === 'POST' ? 'Post' : 'Get'} "${url.href}": ${trouble.words}`;
      throw new Setback(fail.registryUnreachable(message, cause), {
        isPassing: !trouble.isUntrusted,
        isUnreachable: trouble.isUnreachable,
      });
    } finally {
      stop();
    }
  }

  async #request(url: URL, o: Outgoing): Promise<ClientRequest> {
    const { signal, method = 'GET' } = o;
    // identity: a proxy that compresses in passing would change the bytes under the digest
    const headers = { 'user-agent': this.#userAgent, 'accept-encoding': 'identity', ...o.headers };
    if (url.protocol === 'http:') return request(url, { method, headers, agent: this.#plain, signal });
    const secure = await import('node:https');
    signal.throwIfAborted();
    return secure.request(url, { method, headers, agent: this.#secureAgent(secure, o.isVerified), signal });
  }

  #secureAgent(secure: SecureModule, isVerified: boolean): SecureAgent {
    const known = this.#secure.get(isVerified);
    if (known !== undefined) return known;
    const agent = new secure.Agent({ ...agentOptions, rejectUnauthorized: isVerified });
    this.#secure.set(isVerified, agent);
    return agent;
  }

  /** The response's head, or an error: the connection's, or ours when nothing comes for too long. */
  #answerOf(outgoing: ClientRequest): { promise: Promise<IncomingMessage>; stop: () => void } {
    let timer: NodeJS.Timeout | undefined;
    const wait = (ms: number, during: 'connect' | 'head') => {
      clearTimeout(timer);
      timer = setTimeout(() => outgoing.destroy(new SilenceError(during)), ms);
    };
    // the clock starts with the socket: waiting for a free one is not the server's silence
    outgoing.once('socket', (socket: Socket) => {
      if (!socket.connecting) return wait(this.#stallMs, 'head');
      wait(Math.min(this.#stallMs, LONGEST_DIAL_MS), 'connect');
      socket.once('connect', () => wait(this.#stallMs, 'head'));
    });
    const promise = new Promise<IncomingMessage>((resolve, reject) => {
      outgoing.once('response', resolve);
      outgoing.on('error', reject); // it may come once more, with the body
    });
    return { promise, stop: () => clearTimeout(timer) };
  }
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

function isRedirect(status: number): boolean {
  return status === 301 || status === 302 || status === 303 || status === 307 || status === 308;
}
