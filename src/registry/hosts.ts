import { fail, messageOf } from '../errors.ts';
import { abortable } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import type { Reference } from '../lib/reference.ts';
import { type Challenge, pickChallenge } from './challenge.ts';
import type { InsecureHosts } from './insecure-hosts.ts';
import { Setback } from './setback.ts';
import { discard, type Transport } from './transport.ts';

/** A place that may have an image: the registry that its name says, or a mirror of it. */
export interface Source {
  /** `host[:port]`. */
  readonly host: string;
  /** Set where the configuration says how to speak to it; otherwise it is found out. */
  readonly protocol?: 'http:' | 'https:';
  /** Mirrors are asked first, are given no credentials, and are passed over when they fail. */
  readonly isMirror: boolean;
}

/** How a source is spoken to. */
export interface Reached {
  readonly origin: string;
  readonly isVerified: boolean;
  /** What it wants before it answers; a later 401 may change it. */
  challenge: Challenge | undefined;
}

interface Entry {
  readonly reached: Promise<Reached>;
  /** When to find out anew; a mirror that failed is left alone until then. */
  readonly untilMs: number;
}

const HUB_DOMAIN = 'docker.io';
const KNOWN_MS = 10 * 60_000;
const RESTING_MS = 60_000;
const MOST_HOSTS = 64;

/** Where images come from, and how each place is spoken to: found out with one `GET /v2/`, then remembered. */
export class Hosts {
  readonly #mirrors: readonly Source[];
  readonly #hub: Source;
  readonly #insecure: InsecureHosts;
  readonly #transport: Transport;
  readonly #log: Log;
  readonly #entries = new Map<string, Entry>();
  readonly #closing = new AbortController();

  /** `mirrors` are of Docker Hub, as URLs; `hub` is where Docker Hub itself is. Throws `CONFIG` for a bad URL. */
  constructor(o: {
    mirrors: readonly string[];
    hub: string;
    insecure: InsecureHosts;
    transport: Transport;
    log: Log;
  }) {
    this.#mirrors = o.mirrors.map((url) => parseSource(url, true));
    this.#hub = parseSource(o.hub, false);
    this.#insecure = o.insecure;
    this.#transport = o.transport;
    this.#log = o.log;
  }

  /** The places to ask for a repository, in order; the last is the one that its name says. */
  sources({ domain }: Pick<Reference, 'domain'>): readonly [Source, ...Source[]] {
    const home = this.home(domain);
    const [first = home, ...rest] = domain === HUB_DOMAIN ? [...this.#mirrors, home] : [home];
    return [first, ...rest];
  }

  /** The registry itself that a domain stands for, without its mirrors. */
  home(domain: string): Source {
    return domain === HUB_DOMAIN ? this.#hub : { host: domain, isMirror: false };
  }

  /** How to speak to a source. Throws a {@link Setback} if it cannot be reached. */
  async reach(source: Source, { signal }: { signal: AbortSignal }): Promise<Reached> {
    const key = keyOf(source);
    const known = this.#entries.get(key);
    if (known !== undefined && known.untilMs > performance.now()) return abortable(known.reached, signal);
    const reached = this.#findOut(source);
    this.#remember(key, { reached, untilMs: performance.now() + KNOWN_MS });
    reached.catch((cause: unknown) => {
      if (this.#entries.get(key)?.reached !== reached) return;
      if (source.isMirror) this.#remember(key, { reached, untilMs: performance.now() + RESTING_MS });
      else this.#entries.delete(key);
      this.#log.debug({ host: source.host, reason: messageOf(cause) }, 'registry not reached');
    });
    return abortable(reached, signal);
  }

  /** To be called when a connection failed: the next {@link reach} finds out anew. */
  forget(source: Source): void {
    this.#entries.delete(keyOf(source));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(fail.registry('the registry client is closed'));
    this.#entries.clear();
  }

  /** As dockerd does: https, and for an insecure registry plain http where that fails. */
  async #findOut(source: Source): Promise<Reached> {
    const isVerified = !(await this.#insecure.has(source.host));
    const protocols = source.protocol ? [source.protocol] : isVerified ? ['https:'] : ['https:', 'http:'];
    let setback: unknown;
    for (const protocol of protocols) {
      const origin = `${protocol}//${source.host}`;
      try {
        const signal = this.#closing.signal;
        const answer = await this.#transport.send(new URL('/v2/', origin), { isVerified, signal });
        discard(answer.body);
        return { origin, isVerified, challenge: pickChallenge(answer.headers['www-authenticate']) };
      } catch (cause) {
        if (!(cause instanceof Setback)) throw cause;
        setback = cause;
      }
    }
    throw setback;
  }

  #remember(key: string, entry: Entry): void {
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= MOST_HOSTS) break;
      this.#entries.delete(oldest);
    }
  }
}

function keyOf({ protocol, host }: Source): string {
  return `${protocol ?? ''}//${host}`;
}

function parseSource(text: string, isMirror: boolean): Source {
  const refuse = (why: string) => fail.config(`invalid mirror: ${JSON.stringify(text)}: ${why}`);
  if (!URL.canParse(text)) throw refuse('not a URL');
  const { protocol, host, username, password, pathname, search, hash } = new URL(text);
  if (protocol !== 'http:' && protocol !== 'https:') throw refuse('unsupported scheme');
  if (username !== '' || password !== '') throw refuse('it must not hold a user name or a password');
  if (pathname !== '/' || search !== '' || hash !== '')
    throw refuse('it must not have a path, query, or fragment');
  return { protocol, host, isMirror };
}
