import { STATUS_CODES } from 'node:http';
import { fail } from '../errors.ts';
import type { Hosts, Reached } from './hosts.ts';
import { Setback } from './setback.ts';
import { basicOf, type RegistryAuth, type Tokens } from './tokens.ts';
import { type Answer, discard, type Transport } from './transport.ts';

const HUB_DOMAIN = 'docker.io';
const HUB_INDEX = 'index.docker.io';

/**
 * Tries a user's credentials at the registry that they are for, Docker Hub if that is not said, and at no mirror.
 * Resolves to the identity token that its token server gives for them, empty if it gives none. Throws a
 * {@link Setback}, with 401 if the token server refuses them.
 */
export async function login(
  { hosts, tokens, transport }: { hosts: Hosts; tokens: Tokens; transport: Transport },
  auth: RegistryAuth,
  { signal }: { signal: AbortSignal },
): Promise<string> {
  const reached = await hosts.reach(hosts.home(domainOf(auth.serverAddress ?? '')), { signal });
  const url = new URL('/v2/', reached.origin);
  if (reached.challenge?.scheme === 'basic' && basicOf(auth) === undefined) {
    throw new Setback(fail.registry('no basic auth credentials')).during(url);
  }
  const { authorization, identityToken } = await tokens
    .login(reached, auth, { signal })
    .catch((cause: unknown) => {
      throw cause instanceof Setback ? refused(cause, url) : cause;
    });
  const answer = await ask(transport, url, reached, authorization, signal);
  discard(answer.body);
  if (answer.status === 200) return identityToken;
  const status = `${answer.status} ${STATUS_CODES[answer.status] ?? ''}`.trimEnd();
  throw new Setback(fail.registry(`login attempt to ${url.href} failed with status: ${status}`));
}

function ask(
  transport: Transport,
  url: URL,
  { isVerified }: Reached,
  authorization: string | undefined,
  signal: AbortSignal,
): Promise<Answer> {
  const headers = authorization === undefined ? {} : { authorization };
  return transport.send(url, { headers, isVerified, signal });
}

/** moby, registry: of all that a token server may say, only that it does not know the user is told with 401. */
function refused(cause: Setback, url: URL): Setback {
  const { message, status } = cause.during(url).own;
  return new Setback(fail.registry(message, { status: status === 401 ? 401 : 500, cause: cause.failure }));
}

/** The registry that a server's address means, as people and configuration files write it. */
function domainOf(address: string): string {
  if (address === '') return HUB_DOMAIN;
  const url = /^https?:\/\//.test(address) ? address : `https://${address}`;
  const host = URL.canParse(url) ? /^https?:\/\/(?:[^/?#]*@)?([^/?#]+)/.exec(url)?.[1] : undefined;
  if (host === undefined) {
    const message = `unable to parse server address: parse ${JSON.stringify(url)}: invalid URL`;
    throw new Setback(fail.registry(message, { status: 400 }));
  }
  return host === HUB_INDEX ? HUB_DOMAIN : host;
}
