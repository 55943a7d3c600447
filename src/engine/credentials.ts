import type { RegistryAuth } from '../registry/registry.ts';

/** What a client gave with a request. */
export interface Credentials {
  /** For the registry that it names, or else the one that the request is about. */
  readonly auth?: RegistryAuth | undefined;
  /** For several, by server. */
  readonly auths?: ReadonlyMap<string, RegistryAuth> | undefined;
}

/** A credential goes to the registry that it was given for, and to no other. `first` is the one that the request is about. */
export function credentialFor(
  { auth, auths = new Map() }: Credentials,
  domain: string,
  first: string,
): RegistryAuth | undefined {
  for (const [server, given] of auths) if (domainOf(server) === domain) return given;
  const meant = auth?.serverAddress ? domainOf(auth.serverAddress) : first;
  return meant === domain ? auth : undefined;
}

/** The registry that a server's address means, as clients write it. */
function domainOf(server: string): string {
  const host = server.replace(/^[a-z]+:\/\//, '').replace(/\/.*$/, '');
  return host === 'index.docker.io' || host === 'registry-1.docker.io' ? 'docker.io' : host;
}
