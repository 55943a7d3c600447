import { join } from 'node:path';
import { readIfThere } from '../host/files.ts';
import type { RegistryAuth } from '../registry/registry.ts';
import type { Terminal } from './terminal.ts';

/**
 * The credentials that `docker login` wrote into its own file, by server; none if there is no such file. What it gave to
 * a program of its own to keep (`credsStore`) stays there.
 */
export async function readCredentials(env: Terminal['env']): Promise<Record<string, object>> {
  const directory = env['DOCKER_CONFIG'] || join(env['HOME'] || '/root', '.docker');
  const bytes = await readIfThere(join(directory, 'config.json'));
  try {
    const { auths } = JSON.parse(bytes?.toString() ?? '{}');
    const given = typeof auths === 'object' && auths !== null ? Object.entries(auths) : [];
    const known = given.filter(
      (entry): entry is [string, object] => typeof entry[1] === 'object' && entry[1] !== null,
    );
    return Object.fromEntries(known.filter(([, auth]) => Object.keys(auth).length > 0));
  } catch {
    return {}; // docker itself complains of it, and knows better what to say
  }
}

/** What a user logged in to a registry with, if they did; `domain` is that of a reference. */
export async function credentialsFor(
  domain: string,
  env: Terminal['env'],
): Promise<RegistryAuth | undefined> {
  const hosts = domain === 'docker.io' ? ['index.docker.io', 'docker.io', 'registry-1.docker.io'] : [domain];
  const all = Object.entries(await readCredentials(env));
  const [, found] = all.find(([server]) => hosts.includes(hostOf(server))) ?? [];
  if (found === undefined) return undefined;
  const given = new Map<string, unknown>(Object.entries(found));
  const text = (name: string) => {
    const value = given.get(name);
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  const [name, ...rest] = Buffer.from(text('auth') ?? '', 'base64')
    .toString()
    .split(':');
  const username = text('username') ?? name;
  const password = text('password') ?? rest.join(':');
  const [identityToken, registryToken] = [text('identitytoken'), text('registrytoken')];
  return {
    ...(username && { username }),
    ...(password && { password }),
    ...(identityToken !== undefined && { identityToken }),
    ...(registryToken !== undefined && { registryToken }),
  };
}

/** `https://index.docker.io/v1/` → `index.docker.io`. */
function hostOf(server: string): string {
  return server.replace(/^https?:\/\//i, '').replace(/\/.*$/, '');
}
