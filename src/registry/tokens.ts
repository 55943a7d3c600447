import { createHash } from 'node:crypto';
import * as z from 'zod/mini';
import { fail, messageOf } from '../errors.ts';
import { abortable } from '../lib/locks.ts';
import type { Reference } from '../lib/reference.ts';
import type { Challenge } from './challenge.ts';
import type { Reached } from './hosts.ts';
import { MOST_ERROR_BYTES, refusalOf } from './refusal.ts';
import { Setback } from './setback.ts';
import { type Answer, readBounded, type Transport } from './transport.ts';

/** What a user proves themselves with, as the `X-Registry-Auth` header carries it. */
export interface RegistryAuth {
  username?: string;
  password?: string;
  /** A refresh token, given by a token server at login. */
  identityToken?: string;
  /** An access token, to be passed on as it is. */
  registryToken?: string;
  serverAddress?: string;
}

/** That something is for a push, which needs more rights and is refused in other words. */
export interface PushPurpose {
  /** The path of a repository from which a layer is to be mounted. */
  readonly from?: string | undefined;
}

/** What a token is asked for. */
interface Need {
  readonly reached: Reached;
  readonly challenge: Challenge;
  readonly ref: Reference;
  readonly auth: RegistryAuth | undefined;
  readonly push: PushPurpose | undefined;
}

/** What is asked for to log in: nothing of any repository, but a token that lasts. */
interface LoginNeed {
  readonly reached: Reached;
  readonly challenge: Challenge;
  readonly auth: RegistryAuth;
  readonly ref?: undefined;
  readonly push?: undefined;
}

/** What a token server is told. */
interface Wanted {
  readonly service: string;
  readonly scopes: readonly string[];
  /** An identity token, too. */
  readonly isOffline: boolean;
}

interface Token {
  readonly value: string;
  readonly untilMs: number;
}

/** How we call ourselves to token servers. */
const CLIENT_ID = 'skerry';
const MOST_TOKEN_BYTES = 1024 * 1024;
const MOST_TOKENS = 256;
/** Token servers that say less, or nothing, mean this (distribution-spec, token authentication). */
const LEAST_LIFE_SECONDS = 60;
/** A token is not used in the last tenth of its life: the clock of the server is not ours. */
const TRUSTED_LIFE = 0.9;

const tokenAnswer = z.object({
  token: z.optional(z.string()),
  access_token: z.optional(z.string()),
  refresh_token: z.optional(z.nullable(z.string())),
  expires_in: z.optional(z.number()),
});

/**
 * `Authorization` for requests: Basic as it is, Bearer by asking the token server that the challenge names. Tokens
 * are kept, at most 256 of them and in memory only, each for one host, repository and user, until they grow old.
 */
export class Tokens {
  readonly #transport: Pick<Transport, 'send'>;
  readonly #stallMs: number;
  readonly #now: () => number;
  readonly #tokens = new Map<string, Promise<Token>>();

  constructor(o: { transport: Pick<Transport, 'send'>; stallMs: number; now?: () => number }) {
    this.#transport = o.transport;
    this.#stallMs = o.stallMs;
    this.#now = o.now ?? (() => performance.now());
  }

  /**
   * The header for a pull from a repository or a push to it, or undefined where none is wanted. `refused` is a value
   * that the registry has just refused: it is not given again. Throws a {@link Setback}.
   */
  async authorization(
    reached: Reached,
    ref: Reference,
    auth: RegistryAuth | undefined,
    o: { refused?: string | undefined; push?: PushPurpose | undefined; signal: AbortSignal },
  ): Promise<string | undefined> {
    const { challenge } = reached;
    if (challenge === undefined) return undefined;
    if (challenge.scheme === 'basic') return basicOf(auth);
    if (auth?.registryToken !== undefined) return `Bearer ${clean(auth.registryToken)}`;
    const need: Need = { reached, challenge, ref, auth, push: o.push };
    const key = keyOf(need);
    const kept = this.#tokens.get(key);
    if (kept !== undefined) {
      const token = await abortable(kept, o.signal);
      const value = `Bearer ${token.value}`;
      if (token.untilMs > this.#now() && value !== o.refused) return value;
      // several requests may find one token used up: only the first of them throws it away
      if (this.#tokens.get(key) === kept) this.#tokens.delete(key);
    }
    const fresh = this.#tokens.get(key) ?? this.#begin(key, need);
    return `Bearer ${(await abortable(fresh, o.signal)).value}`;
  }

  /**
   * The header for a user who logs in, and the identity token that the token server gave for them, empty if it gave
   * none. Nothing is kept. Throws a {@link Setback}.
   */
  async login(
    reached: Reached,
    auth: RegistryAuth,
    o: { signal: AbortSignal },
  ): Promise<{ authorization: string | undefined; identityToken: string }> {
    const { challenge } = reached;
    if (challenge === undefined) return { authorization: undefined, identityToken: '' };
    if (challenge.scheme === 'basic') return { authorization: basicOf(auth), identityToken: '' };
    const { value, refresh } = await this.#ask({ reached, challenge, auth }, o.signal);
    return { authorization: `Bearer ${value}`, identityToken: refresh };
  }

  #begin(key: string, need: Need): Promise<Token> {
    // shared by all who need it, so no single one's signal ends it; the transport's limits do
    const pending = this.#ask(need, new AbortController().signal);
    this.#tokens.set(key, pending);
    pending.catch(() => {
      if (this.#tokens.get(key) === pending) this.#tokens.delete(key);
    });
    for (const oldest of this.#tokens.keys()) {
      if (this.#tokens.size <= MOST_TOKENS) break;
      this.#tokens.delete(oldest);
    }
    return pending;
  }

  /** distribution, docs/spec/auth/token.md and oauth2.md. Who wants nothing of a repository logs in. */
  async #ask(need: Need | LoginNeed, signal: AbortSignal): Promise<Token & { refresh: string }> {
    const { reached, challenge, ref, auth } = need;
    const { parameters } = challenge;
    const realm = realmOf(parameters.get('realm') ?? '', reached, auth);
    const scopes = need.ref === undefined ? [] : scopesOf(need);
    const wanted = { service: parameters.get('service') ?? '', scopes, isOffline: need.ref === undefined };
    const began = this.#now();
    const answer = auth?.identityToken
      ? await this.#refresh(realm, wanted, auth.identityToken, reached, signal)
      : await this.#request(realm, wanted, auth, reached, signal);
    const o = { stallMs: this.#stallMs, signal };
    if (answer.status !== 200) {
      const text = (await readBounded(answer, MOST_ERROR_BYTES, o))?.toString('utf8') ?? '';
      throw refusalOf({ ...answer, text }, ref);
    }
    const { value, lifeSeconds, refresh } = parseToken(
      (await readBounded(answer, MOST_TOKEN_BYTES, o)) ?? Buffer.alloc(0),
    );
    return { value, refresh, untilMs: began + lifeSeconds * 1000 * TRUSTED_LIFE };
  }

  #request(
    realm: URL,
    wanted: Wanted,
    auth: RegistryAuth | undefined,
    reached: Reached,
    signal: AbortSignal,
  ): Promise<Answer> {
    const url = new URL(realm);
    if (wanted.service !== '') url.searchParams.set('service', wanted.service);
    for (const scope of wanted.scopes) url.searchParams.append('scope', scope);
    if (wanted.isOffline) {
      url.searchParams.set('client_id', CLIENT_ID);
      url.searchParams.set('offline_token', 'true');
    }
    const authorization = basicOf(auth);
    if (authorization !== undefined) url.searchParams.set('account', auth?.username ?? '');
    return this.#transport.send(url, {
      ...securityOf(reached),
      signal,
      ...(authorization && { headers: { authorization } }),
    });
  }

  #refresh(
    realm: URL,
    wanted: Wanted,
    identityToken: string,
    reached: Reached,
    signal: AbortSignal,
  ): Promise<Answer> {
    const form = new URLSearchParams({
      grant_type: 'refresh_token',
      client_id: CLIENT_ID,
      refresh_token: identityToken,
      service: wanted.service,
      ...(wanted.scopes.length > 0 && { scope: wanted.scopes.join(' ') }),
      ...(wanted.isOffline && { access_type: 'offline' }),
    });
    return this.#transport.send(realm, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      payload: form.toString(),
      ...securityOf(reached),
      signal,
    });
  }
}

/** A registry vouches for its token server: dockerd checks both against the registry's certificates. */
function securityOf({ origin, isVerified }: Reached): { isVerified: boolean; certificatesOf: string } {
  return { isVerified, certificatesOf: new URL(origin).host };
}

/** The token server's address. Credentials for a registry behind https do not travel in the clear. */
function realmOf(text: string, reached: Reached, auth: RegistryAuth | undefined): URL {
  const realm = URL.canParse(text) ? new URL(text) : undefined;
  if (realm === undefined || (realm.protocol !== 'http:' && realm.protocol !== 'https:')) {
    throw new Setback(
      fail.registry(`invalid token auth challenge realm: ${JSON.stringify(text.slice(0, 512))}`),
    );
  }
  const isSecret = basicOf(auth) !== undefined || Boolean(auth?.identityToken);
  if (isSecret && reached.isVerified && realm.protocol !== 'https:') {
    throw new Setback(
      fail.registry(`token server ${realm.origin} is not https: credentials are not sent to it`),
    );
  }
  realm.username = '';
  realm.password = '';
  return realm;
}

function parseToken(body: Buffer): { value: string; lifeSeconds: number; refresh: string } {
  let json: unknown;
  try {
    json = JSON.parse(body.toString('utf8'));
  } catch (cause) {
    throw new Setback(fail.registry(`unable to decode token response: ${messageOf(cause)}`, { cause }));
  }
  const { success, data } = tokenAnswer.safeParse(json);
  const value = success ? data.token || data.access_token : undefined;
  if (!success || value === undefined || value === '') {
    throw new Setback(fail.registry('authorization server did not include a token in the response'));
  }
  const lifeSeconds = Math.max(data.expires_in ?? 0, LEAST_LIFE_SECONDS);
  return { value: clean(value), lifeSeconds, refresh: data.refresh_token ?? '' };
}

/** A header's value must not bring its own line ends. */
function clean(token: string): string {
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new Setback(fail.registry('a token holds characters that no header can carry'));
}

/** The Basic credentials of a user; undefined for one who gave no name and password. */
export function basicOf(auth: RegistryAuth | undefined): string | undefined {
  if (!auth?.username || auth.password === undefined) return undefined;
  return `Basic ${Buffer.from(`${auth.username}:${auth.password}`, 'utf8').toString('base64')}`;
}

/** distribution, docs/spec/auth/scope.md. */
function scopesOf({ ref, push }: Need): string[] {
  if (push === undefined) return [`repository:${ref.path}:pull`];
  const own = `repository:${ref.path}:pull,push`;
  return push.from === undefined ? [own] : [own, `repository:${push.from}:pull`];
}

function keyOf(need: Need): string {
  const { reached, challenge, auth } = need;
  const { username, password, identityToken } = auth ?? {};
  const server = [challenge.parameters.get('realm'), challenge.parameters.get('service')];
  const facts = [reached.origin, server, scopesOf(need), username, password, identityToken];
  // a digest, so that no password lies about as a map's key
  return createHash('sha256').update(JSON.stringify(facts)).digest('base64');
}
