import * as z from 'zod/mini';
import { fail, messageOf } from '../errors.ts';
import type { InsecureHosts } from './insecure-hosts.ts';
import { Setback } from './setback.ts';
import { basicOf, type RegistryAuth } from './tokens.ts';
import { type Answer, discard, readBounded, type Transport } from './transport.ts';

/** A repository that a search found, as the index tells of it. */
export interface SearchResult {
  readonly name: string;
  readonly description: string;
  readonly stars: number;
  readonly isOfficial: boolean;
  readonly isAutomated: boolean;
}

/** What to look for: `term` may name another index than Docker Hub's in front, as `host/term`. */
export interface Search {
  readonly term: string;
  /** 1 to 100. */
  readonly limit: number;
  readonly auth?: RegistryAuth | undefined;
}

const MOST_RESULT_BYTES = 4 * 1024 * 1024;

const text = z._default(z.nullable(z.string()), '');
const results = z.object({
  results: z._default(
    z.nullable(
      z.array(
        z.object({
          name: text,
          description: text,
          star_count: z._default(z.int(), 0),
          is_official: z._default(z.boolean(), false),
          is_automated: z._default(z.boolean(), false),
        }),
      ),
    ),
    [],
  ),
});

/** Searches the index of Docker Hub, or the one that the term names, by the protocol of version 1 registries. */
export class Searches {
  readonly #index: string;
  readonly #insecure: Pick<InsecureHosts, 'has'>;
  readonly #transport: Pick<Transport, 'send'>;
  readonly #stallMs: number;

  /** `index` is the origin of Docker Hub's index. */
  constructor(o: {
    index: string;
    insecure: Pick<InsecureHosts, 'has'>;
    transport: Pick<Transport, 'send'>;
    stallMs: number;
  }) {
    this.#index = o.index;
    this.#insecure = o.insecure;
    this.#transport = o.transport;
    this.#stallMs = o.stallMs;
  }

  /** Throws a {@link Setback} in dockerd's words. */
  async run({ term, limit, auth }: Search, { signal }: { signal: AbortSignal }): Promise<SearchResult[]> {
    if (/^https?:\/\//.test(term)) {
      const message = `invalid repository name: repository name (${term}) should not have a scheme`;
      throw new Setback(fail.registry(message, { status: 400 }));
    }
    const { host, rest } = splitTerm(term);
    const at = await this.#indexAt(host, signal);
    const url = new URL('/v1/search', at.origin);
    url.searchParams.set('q', host === undefined ? rest.replace(/^library\//, '') : rest);
    url.searchParams.set('n', String(limit));
    const authorization = basicOf(auth);
    const headers = { 'x-docker-token': 'true', ...(authorization !== undefined && { authorization }) };
    const answer = await this.#transport.send(url, { headers, isVerified: at.isVerified, signal });
    return this.#read(answer, signal);
  }

  async #read(answer: Answer, signal: AbortSignal): Promise<SearchResult[]> {
    if (answer.status !== 200) {
      discard(answer.body);
      throw new Setback(fail.registry(`Unexpected status code ${answer.status}`));
    }
    const bytes = await readBounded(answer, MOST_RESULT_BYTES, { stallMs: this.#stallMs, signal });
    const wrong = (why: string) =>
      new Setback(fail.registry(`error decoding registry search results: ${why}`));
    if (bytes === undefined) throw wrong(`they are larger than ${MOST_RESULT_BYTES} bytes`);
    let json: unknown;
    try {
      json = JSON.parse(bytes.toString('utf8'));
    } catch (cause) {
      throw wrong(messageOf(cause));
    }
    const read = results.safeParse(json);
    if (!read.success) throw wrong('they do not have the form of results');
    return (read.data.results ?? []).map((found) => ({
      name: found.name ?? '',
      description: found.description ?? '',
      stars: found.star_count,
      isOfficial: found.is_official,
      isAutomated: found.is_automated,
    }));
  }

  /** An index that is not Docker Hub's must answer a ping: by https, and only where it is insecure by http. */
  async #indexAt(
    host: string | undefined,
    signal: AbortSignal,
  ): Promise<{ origin: string; isVerified: boolean }> {
    if (host === undefined) return { origin: this.#index, isVerified: true };
    const isVerified = !(await this.#insecure.has(host));
    const troubles: string[] = [];
    for (const origin of isVerified ? [`https://${host}`] : [`https://${host}`, `http://${host}`]) {
      try {
        const url = new URL('/v1/_ping', origin);
        discard((await this.#transport.send(url, { isVerified, signal })).body);
        return { origin, isVerified };
      } catch (cause) {
        signal.throwIfAborted();
        troubles.push(messageOf(cause));
      }
    }
    const message = isVerified
      ? `invalid registry endpoint https://${host}/v1/: ${troubles[0]}. If this private registry supports only HTTP or HTTPS with an unknown CA certificate, please add \`--insecure-registry ${host}\` to the daemon's arguments. In the case of HTTPS, if you have access to the registry's CA certificate, no need for the flag; simply place the CA certificate at /etc/docker/certs.d/${host}/ca.crt`
      : `invalid registry endpoint "http://${host}/v1/". HTTPS attempt: ${troubles[0]}. HTTP attempt: ${troubles[1]}`;
    throw new Setback(fail.registry(message, { status: 400 }));
  }
}

/** The index that a term names before its first slash, if that looks like a host. */
function splitTerm(term: string): { host: string | undefined; rest: string } {
  const slash = term.indexOf('/');
  const head = slash < 0 ? '' : term.slice(0, slash);
  const isHost = /[.:]/.test(head) || head === 'localhost';
  return isHost ? { host: head, rest: term.slice(slash + 1) } : { host: undefined, rest: term };
}
