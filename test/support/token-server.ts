/**
 * A token server for tests (distribution, docs/spec/auth): it signs real tokens, which a real `docker-registry`
 * checks. Anybody may pull where `isAnonymousAllowed`; otherwise the users that it was given, by password at the
 * realm (GET) or by identity token (POST).
 *
 *     await using tokens = await startTokenServer({ users: { bob: 'secret' } });
 *     await using guarded = await startRegistry({ tokenServer: tokens, storage: open.storage });
 */
import { createPrivateKey, sign, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { makeCertificate } from './certificate.ts';

export interface TokenServer extends AsyncDisposable {
  readonly realm: string;
  readonly service: string;
  readonly issuer: string;
  /** PEM: what a registry checks the tokens with. */
  readonly certificate: string;
  /** What was asked for, oldest first: who (empty for anybody), how, and for which scope. */
  readonly requests: readonly { method: string; user: string; scope: string; client: string }[];
  /** The identity token of a user, as a login would give it. */
  identityToken(user: string): string;
}

interface Settings {
  users?: Record<string, string>;
  isAnonymousAllowed?: boolean;
  /** To those who log in with a password. */
  givesIdentityTokens?: boolean;
}

const SERVICE = 'test registry';
const ISSUER = 'test issuer';

export async function startTokenServer(settings: Settings = {}): Promise<TokenServer> {
  const { certificate, key } = await makeCertificate();
  const requests: { method: string; user: string; scope: string; client: string }[] = [];
  const mint = minter(certificate, key);
  const server = createServer((request, response) => {
    void answer(request, response);
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { searchParams } = new URL(request.url ?? '/', 'http://token');
    const form = request.method === 'POST' ? new URLSearchParams(await text(request)) : searchParams;
    const user = request.method === 'POST' ? userOfIdentity(form, settings) : userOf(request, settings);
    const scope = form.getAll('scope').join(' ');
    requests.push({
      method: request.method ?? '',
      user: user ?? '',
      scope,
      client: form.get('client_id') ?? '',
    });
    const reply = (status: number, body: object) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    if (user === undefined || (user === '' && !settings.isAnonymousAllowed)) {
      reply(401, { errors: [{ code: 'UNAUTHORIZED', message: 'incorrect username or password' }] });
    } else if (request.method === 'POST') reply(200, { access_token: mint(user, scope), expires_in: 300 });
    else {
      const isLogin = form.get('offline_token') === 'true' && user !== '' && settings.givesIdentityTokens;
      const identity = isLogin ? { refresh_token: `identity-of-${user}` } : {};
      reply(200, { token: mint(user, scope), expires_in: 300, ...identity });
    }
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    realm: `http://127.0.0.1:${port}/token`,
    service: SERVICE,
    issuer: ISSUER,
    certificate,
    requests,
    identityToken: (user) => `identity-of-${user}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** Who asks: '' for nobody in particular, undefined for somebody with a wrong password. */
function userOf(request: IncomingMessage, { users = {} }: Settings): string | undefined {
  const basic = /^Basic (.+)$/.exec(request.headers.authorization ?? '')?.[1];
  if (basic === undefined) return '';
  const [user = '', password] = Buffer.from(basic, 'base64').toString('utf8').split(':');
  return users[user] === password ? user : undefined;
}

function userOfIdentity(form: URLSearchParams, { users = {} }: Settings): string | undefined {
  if (form.get('grant_type') !== 'refresh_token') return undefined;
  return Object.keys(users).find((user) => form.get('refresh_token') === `identity-of-${user}`);
}

/** Signs tokens as docker-registry wants them: ES256, its certificate in the header, the allowed actions inside. */
function minter(certificate: string, key: string): (user: string, scope: string) => string {
  const privateKey = createPrivateKey(key);
  const chain = [new X509Certificate(certificate).raw.toString('base64')];
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return (user, scope) => {
    const now = Math.floor(Date.now() / 1000);
    const access = scope.split(' ').flatMap((wanted) => {
      const [type, name, actions] = wanted.split(':');
      return type === 'repository' ? [{ type, name, actions: actions?.split(',') ?? [] }] : [];
    });
    const times = { iat: now, nbf: now - 10, exp: now + 300 };
    const claims = { iss: ISSUER, sub: user, aud: SERVICE, ...times, jti: `${now}-${Math.random()}`, access };
    const signed = `${encode({ typ: 'JWT', alg: 'ES256', x5c: chain })}.${encode(claims)}`;
    const signature = sign('sha256', Buffer.from(signed), { key: privateKey, dsaEncoding: 'ieee-p1363' });
    return `${signed}.${signature.toString('base64url')}`;
  };
}
