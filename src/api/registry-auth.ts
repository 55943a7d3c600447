import type { IncomingMessage } from 'node:http';
import { fail } from '../errors.ts';
import { JsonSyntaxError, parseJson } from '../lib/json.ts';
import { readBody } from './body.ts';
import type { ApiContext } from './context.ts';
import { struct, text, WireError } from './wire.ts';

/** What a client gave to log in with at a registry. */
export interface RegistryAuth {
  username?: string;
  password?: string;
  identityToken?: string;
  registryToken?: string;
  serverAddress?: string;
}

const authConfig = struct<RegistryAuth & { auth?: string }>('AuthConfig', 'registry.AuthConfig', {
  username: ['username', text, 'optional'],
  password: ['password', text, 'optional'],
  auth: ['auth', text, 'optional'],
  serverAddress: ['serveraddress', text, 'optional'],
  identityToken: ['identitytoken', text, 'optional'],
  registryToken: ['registrytoken', text, 'optional'],
});

/** Credentials as JSON has them. Throws a WireError for values of a wrong type. */
export function readRegistryAuth(json: unknown): RegistryAuth {
  const { auth, ...given } = authConfig.decode(json);
  return { ...(auth !== undefined && pairOf(auth)), ...given };
}

/** The `X-Registry-Auth` header: base64 of JSON, in either alphabet. One that cannot be read counts as none, as it does for dockerd. */
export function registryAuthOf({ headers }: IncomingMessage): RegistryAuth | undefined {
  const header = headers['x-registry-auth'];
  if (typeof header !== 'string' || header === '') return undefined;
  try {
    return authOf(JSON.parse(Buffer.from(header, 'base64').toString('utf8')));
  } catch {
    return undefined;
  }
}

/** As {@link registryAuthOf}, for a push: without the header it is the body, and must be there (400). */
export async function pushAuthOf(ctx: ApiContext): Promise<RegistryAuth | undefined> {
  if (ctx.req.headers['x-registry-auth']) return registryAuthOf(ctx.req);
  try {
    return authOf(parseJson((await readBody(ctx)).toString('utf8')).value);
  } catch (cause) {
    if (!(cause instanceof WireError || cause instanceof JsonSyntaxError)) throw cause;
    const words = ctx.state.axes.has('G086')
      ? 'bad parameters and missing X-Registry-Auth: invalid X-Registry-Auth header'
      : 'Bad parameters and missing X-Registry-Auth';
    throw fail.badRequest(`${words}: ${cause.message}`);
  }
}

/** What was given, or nothing if it is all empty. */
function authOf(json: unknown): RegistryAuth | undefined {
  const all = readRegistryAuth(json);
  return Object.values(all).some((value) => value !== '') ? all : undefined;
}

/** The `X-Registry-Config` header: such credentials by server. What cannot be read is left out. */
export function registryAuthsOf({ headers }: IncomingMessage): Map<string, RegistryAuth> {
  const header = headers['x-registry-config'];
  const auths = new Map<string, RegistryAuth>();
  if (typeof header !== 'string') return auths;
  try {
    const json: unknown = JSON.parse(Buffer.from(header, 'base64').toString('utf8'));
    if (typeof json !== 'object' || json === null) return auths;
    for (const [server, given] of Object.entries(json)) auths.set(server, readRegistryAuth(given));
  } catch {} // as far as it could be read
  return auths;
}

/** Name and password from the one field that holds both: base64 of `name:password`. */
function pairOf(auth: string): RegistryAuth {
  const [username = '', ...password] = Buffer.from(auth, 'base64').toString('utf8').split(':');
  return { username, password: password.join(':') };
}
