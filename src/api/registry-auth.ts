import type { IncomingMessage } from 'node:http';
import { struct, text } from './wire.ts';

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
    const all = readRegistryAuth(JSON.parse(Buffer.from(header, 'base64').toString('utf8')));
    return Object.values(all).some((value) => value !== '') ? all : undefined;
  } catch {
    return undefined;
  }
}

/** Name and password from the one field that holds both: base64 of `name:password`. */
function pairOf(auth: string): RegistryAuth {
  const [username = '', ...password] = Buffer.from(auth, 'base64').toString('utf8').split(':');
  return { username, password: password.join(':') };
}
