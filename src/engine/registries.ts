import { fail } from '../errors.ts';
import { isDigest } from '../lib/digest.ts';
import { parseInteger } from '../lib/go-numbers.ts';
import { parseReference } from '../lib/reference.ts';
import type { Inspection, Registry, RegistryAuth, SearchResult } from '../registry/registry.ts';
import type { Filters } from './filters.ts';

const searchFilters: ReadonlySet<string> = new Set(['is-automated', 'is-official', 'stars']);
const DEFAULT_LIMIT = 25;
const LARGEST_LIMIT = 100;

/** What can be asked of registries without bringing an image here. */
export class Registries {
  readonly #registry: Pick<Registry, 'inspect' | 'login' | 'search'>;

  constructor({ registry }: { registry: Pick<Registry, 'inspect' | 'login' | 'search'> }) {
    this.#registry = registry;
  }

  /** Tries credentials at their registry; resolves to the identity token that they are worth, empty if there is none. */
  async login(auth: RegistryAuth, o: { signal: AbortSignal }): Promise<string> {
    return this.#registry.login(auth, o);
  }

  /** What a registry has under a name. Throws in the registry's own words. */
  async inspect(
    name: string,
    { auth, signal }: { auth?: RegistryAuth; signal: AbortSignal },
  ): Promise<Inspection> {
    if (/^[0-9a-f]{64}$/.test(name) || isDigest(name)) {
      throw fail.registry('no manifest found for full image ID');
    }
    const ref = parseReference(name);
    if (ref.domain === 'docker.io' && ref.path === 'library/scratch') {
      throw fail.badRequest("'scratch' is a reserved name");
    }
    return this.#registry.inspect(ref, { ...(auth && { auth }), signal });
  }

  /**
   * The repositories that an index finds, 25 unless a limit is given. Without `knowsAutomated` no repository counts as
   * built automatically: Docker Hub no longer says so truthfully. Throws 400 for filters and limits that make no sense.
   */
  async search(
    { term, limit, filters, auth, knowsAutomated }: SearchRequest,
    o: { signal: AbortSignal },
  ): Promise<SearchResult[]> {
    for (const key of filters.keys()) {
      if (!searchFilters.has(key)) throw fail.badRequest(`invalid filter '${key}'`);
    }
    const isAutomated = truthOf(filters, 'is-automated');
    const isOfficial = truthOf(filters, 'is-official');
    const leastStars = starsOf(filters);
    if (isAutomated === true && !knowsAutomated) return [];
    const most = limit === undefined || limit === 0 ? DEFAULT_LIMIT : limit;
    if (most < 1 || most > LARGEST_LIMIT) {
      throw fail.badRequest(`limit ${most} is outside the range of [1, ${LARGEST_LIMIT}]`);
    }
    const found = await this.#registry.search({ term, limit: most, auth }, o);
    return found
      .map((result) => ({ ...result, isAutomated: knowsAutomated && result.isAutomated }))
      .filter(
        (result) =>
          (!knowsAutomated || isAutomated === undefined || result.isAutomated === isAutomated) &&
          (isOfficial === undefined || result.isOfficial === isOfficial) &&
          result.stars >= leastStars,
      );
  }
}

/** What to search for, and how to narrow what is found. */
export interface SearchRequest {
  term: string;
  limit?: number | undefined;
  filters: Filters;
  auth?: RegistryAuth | undefined;
  knowsAutomated: boolean;
}

/** Undefined where the filter is not set; it may have one value. */
function truthOf(filters: Filters, key: string): boolean | undefined {
  const values = filters.get(key) ?? [];
  if (values.length === 0) return undefined;
  if (values.every((value) => value === 'true' || value === '1')) return true;
  if (values.every((value) => value === 'false' || value === '0')) return false;
  throw fail.badRequest(`invalid filter '${key}=[${values.join(' ')}]'`);
}

function starsOf(filters: Filters): number {
  const values = (filters.get('stars') ?? []).map((text) => {
    try {
      return parseInteger(text);
    } catch {
      throw fail.badRequest(
        `invalid filter 'stars=${text}': strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`,
      );
    }
  });
  return Math.max(0, ...values);
}
