import { Agent, type ClientRequest, request } from 'node:http';
import type { Agent as SecureAgent, request as secureRequest } from 'node:https';
import { fail } from '../errors.ts';
import { ProxyAddressError, proxyAuthorization } from '../lib/proxy-address.ts';
import type { Certificates } from './certificates.ts';
import type { Proxies } from './proxies.ts';
import { Setback } from './setback.ts';
import { serverNameOf, tunnelling } from './tunnel.ts';

interface SecureModule {
  request: typeof secureRequest;
  Agent: typeof SecureAgent;
}

/** A request that can be written to, and the proxy that it goes to instead of its host. */
export interface Opened {
  readonly outgoing: ClientRequest;
  readonly proxy: URL | undefined;
}

export interface Opening {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  /** False: any certificate will do. */
  readonly isVerified: boolean;
  /** The registry, `host[:port]`, whose certificates count. */
  readonly certificatesOf: string;
  readonly signal: AbortSignal;
}

/** Connections of one kind are pooled together; more kinds than these begin anew. */
const MOST_POOLS = 32;

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

/** The ways to hosts: pooled, straight or through a proxy, TLS as the host's certificates say. */
export class Connections {
  readonly #proxies: Pick<Proxies, 'for'>;
  readonly #certificates: Pick<Certificates, 'of'>;
  readonly #stallMs: number;
  readonly #plain = new Agent(agentOptions);
  readonly #secure = new Map<string, SecureAgent>();

  constructor(o: {
    proxies: Pick<Proxies, 'for'>;
    certificates: Pick<Certificates, 'of'>;
    stallMs: number;
  }) {
    this.#proxies = o.proxies;
    this.#certificates = o.certificates;
    this.#stallMs = o.stallMs;
  }

  /** Begins a request; whoever gets it sends it off. Throws a {@link Setback} for certificates or proxies that are wrong. */
  async open(url: URL, o: Opening): Promise<Opened> {
    const proxy = this.#proxyFor(url);
    const { method, headers, signal } = o;
    if (url.protocol === 'https:') {
      const secure = await import('node:https');
      const agent = await this.#secureAgent(secure, o, proxy);
      signal.throwIfAborted();
      return { outgoing: secure.request(url, { method, headers, agent, signal }), proxy };
    }
    if (proxy === undefined) {
      return { outgoing: request(url, { method, headers, agent: this.#plain, signal }), proxy };
    }
    const authorization = proxyAuthorization(proxy);
    const asked = {
      method,
      path: url.href, // RFC 9112, 3.2.2: the absolute form
      headers: {
        ...headers,
        host: url.host,
        ...(authorization !== undefined && { 'proxy-authorization': authorization }),
      },
      signal,
    };
    if (proxy.protocol === 'http:') {
      return { outgoing: request(originOf(proxy), { ...asked, agent: this.#plain }), proxy };
    }
    const secure = await import('node:https');
    const own = { isVerified: true, certificatesOf: proxy.host };
    const agent = await this.#secureAgent(secure, own, undefined);
    signal.throwIfAborted();
    const servername = serverNameOf(proxy);
    return { outgoing: secure.request(originOf(proxy), { ...asked, agent, servername }), proxy };
  }

  /** Closes them all; requests under way fail. */
  close(): void {
    this.#plain.destroy();
    for (const agent of this.#secure.values()) agent.destroy();
  }

  #proxyFor(url: URL): URL | undefined {
    try {
      return this.#proxies.for(url);
    } catch (cause) {
      if (!(cause instanceof ProxyAddressError)) throw cause;
      throw new Setback(fail.registry(`proxyconnect tcp: ${cause.message}`, { cause }));
    }
  }

  async #secureAgent(
    secure: SecureModule,
    { isVerified, certificatesOf }: Pick<Opening, 'isVerified' | 'certificatesOf'>,
    proxy: URL | undefined,
  ): Promise<SecureAgent> {
    // like dockerd: where any certificate will do, none is looked for
    const trust = isVerified ? await this.#certificates.of(certificatesOf) : undefined;
    const kind = JSON.stringify([isVerified, proxy?.href, trust?.key]);
    const known = this.#secure.get(kind);
    if (known !== undefined) return known;
    const agent = new secure.Agent({
      ...agentOptions,
      rejectUnauthorized: isVerified,
      ...(trust && { secureContext: trust.context }),
    });
    if (proxy !== undefined) {
      const { context } = await this.#certificates.of(proxy.host);
      await tunnelling(agent, proxy, { context, stallMs: this.#stallMs });
    }
    this.#secure.set(kind, agent);
    // the oldest one's connections end when they have been idle for long enough
    for (const oldest of this.#secure.keys()) {
      if (this.#secure.size <= MOST_POOLS) break;
      this.#secure.delete(oldest);
    }
    return agent;
  }
}

/** The proxy's address without the user in it, which Node would put into a header meant for the host. */
function originOf(proxy: URL): URL {
  return new URL(proxy.origin);
}
