import * as z from 'zod/mini';
import { fail, messageOf } from '../errors.ts';
import { type Digest, digestOf, isDigest } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import { familiarString, isTag, type Reference } from '../lib/reference.ts';
import { countDown, pauseMs } from './backoff.ts';
import type { Client } from './client.ts';
import type { Hosts, Source } from './hosts.ts';
import { ACCEPTED, MOST_DOCUMENT_BYTES } from './manifest.ts';
import { Setback } from './setback.ts';
import type { RegistryAuth } from './tokens.ts';
import { type Answer, readBounded } from './transport.ts';

/** What every question of one call has in common. */
export interface Asking {
  readonly ref: Reference;
  readonly auth: RegistryAuth | undefined;
  readonly signal: AbortSignal;
}

/** A manifest's exact bytes, and what they turned out to be. */
export interface Document {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly contentType: string | undefined;
}

/** Tries for a document: a person is waiting for the first word. */
const MOST_ATTEMPTS = 3;
const LONGEST_WAIT_MS = 20_000;
/** Of one repository. A list that goes on beyond is not one that anybody wants to pull as a whole. */
const MOST_TAGS = 10_000;
const MOST_TAG_PAGES = 1000;

const tagPage = z.object({ tags: z.optional(z.nullable(z.array(z.string()))) });

/** The small texts of a registry, each read whole and within bounds: manifests and lists of tags. */
export class Documents {
  readonly #hosts: Pick<Hosts, 'sources'>;
  readonly #client: Pick<Client, 'get'>;
  readonly #maxAttempts: number;
  readonly #backoffMs: number;
  readonly #stallMs: number;
  readonly #log: Log;

  constructor(o: {
    hosts: Pick<Hosts, 'sources'>;
    client: Pick<Client, 'get'>;
    maxAttempts: number;
    backoffMs: number;
    stallMs: number;
    log: Log;
  }) {
    this.#hosts = o.hosts;
    this.#client = o.client;
    this.#maxAttempts = o.maxAttempts;
    this.#backoffMs = o.backoffMs;
    this.#stallMs = o.stallMs;
    this.#log = o.log;
  }

  /** What the first source gives for which `ask` succeeds; if none does, what the last one threw. */
  async fromSources<T>(asking: Asking, ask: (source: Source) => Promise<T>): Promise<T> {
    const sources = this.#hosts.sources(asking.ref);
    for (const [at, source] of sources.entries()) {
      try {
        return await ask(source);
      } catch (cause) {
        asking.signal.throwIfAborted();
        if (at === sources.length - 1) throw cause;
        const facts = { image: familiarString(asking.ref), mirror: source.host, reason: messageOf(cause) };
        this.#log.warn(facts, 'mirror passed over');
      }
    }
    throw fail.registry(`${familiarString(asking.ref)} has no source`);
  }

  /** A manifest by tag or digest; its bytes fit the digest it was asked by, or the one that the registry states. */
  async manifest(source: Source, asking: Asking, target: string): Promise<Document> {
    return this.#persistently(source, asking, async () => {
      const answer = await this.#client.get(source, {
        ...asking,
        path: `manifests/${target}`,
        headers: { accept: ACCEPTED },
      });
      const bytes = await this.#read(answer, asking, 'manifest');
      const digest = digestOf(bytes);
      const stated = answer.headers['docker-content-digest'];
      const expected = isDigest(target)
        ? target
        : typeof stated === 'string' && isDigest(stated)
          ? stated
          : digest;
      if (digest !== expected)
        throw new Setback(fail.verification('manifest', expected), { isPassing: true });
      return { bytes, digest, contentType: answer.headers['content-type'] };
    });
  }

  /** The list of what refers to a manifest; throws where the registry keeps none (OCI distribution-spec v1.1, Listing Referrers). */
  async referrers(source: Source, asking: Asking, subject: Digest, artifactType: string): Promise<Buffer> {
    const path = `referrers/${subject}?${new URLSearchParams({ artifactType })}`;
    const answer = await this.#client.get(source, { ...asking, path });
    return await this.#read(answer, asking, 'list of referrers');
  }

  /** Every tag of a repository, in the registry's order, over as many pages as it takes. */
  async tags(source: Source, asking: Asking): Promise<string[]> {
    const tags: string[] = [];
    let path: string | undefined = 'tags/list';
    for (let pages = 0; path !== undefined; pages++) {
      const page: string = path;
      const { found, next } = await this.#persistently(source, asking, () =>
        this.#tagPage(source, asking, page),
      );
      for (const tag of found) tags.push(tag);
      if (tags.length > MOST_TAGS || pages === MOST_TAG_PAGES) {
        throw fail.registry(`${familiarString(asking.ref)} has more than ${MOST_TAGS} tags`);
      }
      path = next;
    }
    return tags;
  }

  /** OCI distribution-spec v1.1, Listing Tags. */
  async #tagPage(
    source: Source,
    asking: Asking,
    path: string,
  ): Promise<{ found: string[]; next: string | undefined }> {
    const answer = await this.#client.get(source, { ...asking, path });
    const page = tagPage.safeParse(jsonOf(await this.#read(answer, asking, 'list of tags')));
    const found = page.success ? (page.data.tags ?? []) : undefined;
    if (found?.every(isTag) !== true) {
      throw fail.registry(`invalid list of tags of ${familiarString(asking.ref)}`);
    }
    const query = nextQuery(answer.headers['link'], answer.url);
    return { found, next: query === undefined ? undefined : `tags/list${query}` };
  }

  async #read(answer: Answer, asking: Asking, what: string): Promise<Buffer> {
    const bytes = await readBounded(answer, MOST_DOCUMENT_BYTES, { stallMs: this.#stallMs, ...asking });
    if (bytes !== undefined) return bytes;
    throw fail.registry(
      `${what} of ${familiarString(asking.ref)} is larger than ${MOST_DOCUMENT_BYTES} bytes`,
    );
  }

  /** Asks again where that may help: a few times, and not of mirrors, after which there is another to ask. */
  async #persistently<T>(source: Source, asking: Asking, ask: () => Promise<T>): Promise<T> {
    const attempts = source.isMirror ? 1 : Math.min(MOST_ATTEMPTS, this.#maxAttempts);
    for (let failures = 1; ; failures++) {
      try {
        return await ask();
      } catch (cause) {
        asking.signal.throwIfAborted();
        if (!(cause instanceof Setback) || !cause.isPassing || cause.isUnreachable) throw cause;
        const waitMs = Math.max(pauseMs(failures, this.#backoffMs / 2), cause.waitMs ?? 0);
        if (failures >= attempts || waitMs > LONGEST_WAIT_MS) throw cause;
        this.#log.debug({ image: familiarString(asking.ref), waitMs, reason: cause.message }, 'asking again');
        await countDown(waitMs, asking);
      }
    }
  }
}

/**
 * The query of the next page, from a `Link` header (RFC 8288). Host and path stay what they are: proxies in front of
 * registries are known to let these links name the host behind them.
 */
function nextQuery(link: string | string[] | undefined, from: URL): string | undefined {
  const target = /<([^>]{1,4096})>\s*;[^,]*\brel="?next"?/i.exec([link ?? []].flat().join(','))?.[1];
  if (target === undefined || !URL.canParse(target, from.href)) return undefined;
  const { search } = new URL(target, from);
  // one that asks for the same page again would never end
  return search === '' || search === from.search ? undefined : search;
}

function jsonOf(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}
