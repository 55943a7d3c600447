import { fail } from '../errors.ts';
import type { Reference } from '../lib/reference.ts';
import { pickChallenge } from './challenge.ts';
import type { Hosts, Reached, Source } from './hosts.ts';
import { MOST_ERROR_BYTES, refusalOf } from './refusal.ts';
import { Setback } from './setback.ts';
import { basicOf, type PushPurpose, type RegistryAuth, type Tokens } from './tokens.ts';
import { type Answer, discard, type Outgoing, readBounded, type Transport } from './transport.ts';

/** Something to be had of a repository, or to be done to it. */
export interface Wish extends Omit<Outgoing, 'isVerified'> {
  readonly ref: Reference;
  /** The part of the URL after `/v2/NAME/`, such as `blobs/sha256:…`; or an address that the registry gave. */
  readonly path: string | URL;
  readonly auth?: RegistryAuth | undefined;
  readonly push?: PushPurpose;
}

/** One authorised request to one source. Anything but a 2xx is thrown as a {@link Setback} in dockerd's words. */
export class Client {
  readonly #hosts: Hosts;
  readonly #tokens: Tokens;
  readonly #transport: Transport;
  readonly #stallMs: number;

  constructor(o: { hosts: Hosts; tokens: Tokens; transport: Transport; stallMs: number }) {
    this.#hosts = o.hosts;
    this.#tokens = o.tokens;
    this.#transport = o.transport;
    this.#stallMs = o.stallMs;
  }

  /** Asks for something. The caller reads the body. */
  async get(source: Source, wish: Wish): Promise<Answer> {
    return this.send(source, wish);
  }

  /**
   * Sends any request; a token that the registry no longer takes is renewed once. Credentials go to the registry
   * alone, wherever an address that it gave may lead. The caller reads the body of the answer.
   */
  async send(source: Source, wish: Wish): Promise<Answer> {
    const reached = await this.#hosts.reach(source, wish);
    const { path } = wish;
    const url = path instanceof URL ? path : new URL(`/v2/${wish.ref.path}/${path}`, reached.origin);
    let answer: Answer;
    let refused: string | undefined;
    for (let isSecondTry = false; ; isSecondTry = true) {
      const authorization = await this.#authorize(source, reached, url, wish, refused);
      answer = await this.#send(source, url, reached, wish, authorization);
      const isOurs = answer.status === 401 && answer.url.origin === reached.origin;
      const challenge = isOurs ? pickChallenge(answer.headers['www-authenticate']) : undefined;
      if (challenge === undefined || isSecondTry) break;
      reached.challenge = challenge;
      if (challenge.scheme === 'basic') {
        if (authorization !== undefined) break; // it would be the same again
        if (basicOf(this.#given(source, wish)) === undefined) {
          discard(answer.body);
          throw during(new Setback(fail.registry('no basic auth credentials')), url, wish);
        }
      }
      refused = authorization;
      discard(answer.body);
    }
    if (answer.status >= 200 && answer.status < 300) return answer;
    const o = { stallMs: this.#stallMs, signal: wish.signal };
    const text = (await readBounded(answer, MOST_ERROR_BYTES, o))?.toString('utf8') ?? '';
    throw refusalOf({ ...answer, text }, wish.ref);
  }

  /** What a user gave for Docker Hub is not for whoever mirrors it. */
  #given(source: Source, { auth }: Wish): RegistryAuth | undefined {
    return source.isMirror ? undefined : auth;
  }

  async #authorize(
    source: Source,
    reached: Reached,
    url: URL,
    wish: Wish,
    refused: string | undefined,
  ): Promise<string | undefined> {
    if (url.origin !== reached.origin) return undefined;
    const { ref, push, signal } = wish;
    try {
      const o = { refused, push, signal };
      return await this.#tokens.authorization(reached, ref, this.#given(source, wish), o);
    } catch (cause) {
      // a denial names the repository; anything else needs the address to be understood
      throw cause instanceof Setback && cause.failure.status !== 404 ? during(cause, url, wish) : cause;
    }
  }

  async #send(
    source: Source,
    url: URL,
    { isVerified }: Reached,
    wish: Wish,
    authorization: string | undefined,
  ): Promise<Answer> {
    const headers = { ...wish.headers, ...(authorization !== undefined && { authorization }) };
    const { ref: _ref, path: _path, auth: _auth, push: _push, ...outgoing } = wish;
    try {
      return await this.#transport.send(url, { ...outgoing, headers, isVerified });
    } catch (cause) {
      if (cause instanceof Setback) this.#hosts.forget(source);
      throw cause;
    }
  }
}

/** With the request that met it in front; dockerd leaves it out in a push. */
function during(setback: Setback, url: URL, { push }: Wish): Setback {
  return push === undefined ? setback.during(url) : setback;
}
