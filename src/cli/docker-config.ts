import { join } from 'node:path';
import { fail } from '../errors.ts';
import { readIfThere } from '../host/files.ts';
import type { RegistryAuth } from '../registry/registry.ts';
import type { Terminal } from './terminal.ts';

const HUB_SERVER = 'https://index.docker.io/v1/';
const HELPER_PATIENCE_MS = 30_000;

/**
 * The credentials that `docker login` wrote into its own file, by server; none if there is no such file. What it gave to
 * a program of its own to keep (`credsStore`) stays there.
 */
export async function readCredentials(env: Terminal['env']): Promise<Record<string, object>> {
  const known = entriesOf((await readConfig(env)).get('auths')).filter(
    (entry): entry is [string, object] => typeof entry[1] === 'object' && entry[1] !== null,
  );
  return Object.fromEntries(known.filter(([, auth]) => Object.keys(auth).length > 0));
}

/** Empty if it cannot be read: docker itself complains of it, and knows better what to say. */
async function readConfig(env: Terminal['env']): Promise<Map<string, unknown>> {
  const directory = env['DOCKER_CONFIG'] || join(env['HOME'] || '/root', '.docker');
  const bytes = await readIfThere(join(directory, 'config.json'));
  try {
    return new Map(entriesOf(JSON.parse(bytes?.toString() ?? '{}')));
  } catch {
    return new Map();
  }
}

function entriesOf(json: unknown): [string, unknown][] {
  return typeof json === 'object' && json !== null ? Object.entries(json) : [];
}

/**
 * What a user logged in to a registry with, if they did; `domain` is that of a reference. As docker does, it asks the
 * program that keeps credentials (`credHelpers`, `credsStore`) before it looks into the file.
 */
export async function credentialsFor(
  domain: string,
  env: Terminal['env'],
  o: { signal: AbortSignal },
): Promise<RegistryAuth | undefined> {
  const isHub = domain === 'docker.io';
  const config = await readConfig(env);
  const helpers = new Map(entriesOf(config.get('credHelpers')));
  const helper = helpers.get(isHub ? HUB_SERVER : domain) ?? config.get('credsStore');
  if (typeof helper === 'string' && /^[\w.-]+$/.test(helper)) {
    const kept = await askHelper(helper, isHub ? HUB_SERVER : domain, env, o);
    if (kept !== undefined) return kept;
  }
  const hosts = isHub ? ['index.docker.io', 'docker.io', 'registry-1.docker.io'] : [domain];
  const [, found] = entriesOf(config.get('auths')).find(([server]) => hosts.includes(hostOf(server))) ?? [];
  const given = new Map(entriesOf(found));
  const [name, ...rest] = Buffer.from(textIn(given, 'auth') ?? '', 'base64')
    .toString()
    .split(':');
  return authOf({
    username: textIn(given, 'username') ?? name,
    password: textIn(given, 'password') ?? rest.join(':'),
    identityToken: textIn(given, 'identitytoken'),
    registryToken: textIn(given, 'registrytoken'),
  });
}

/** docker-credential-helpers, README: a user of that name means that the secret is a refresh token. */
async function askHelper(
  name: string,
  server: string,
  env: Terminal['env'],
  { signal }: { signal: AbortSignal },
): Promise<RegistryAuth | undefined> {
  const { run } = await import('../host/exec.ts');
  const o = { input: server, env, timeoutMs: HELPER_PATIENCE_MS, signal };
  const { code, stdout } = await run(`docker-credential-${name}`, ['get'], o);
  if (code !== 0) return undefined; // it has none for this server
  let json: unknown;
  try {
    json = JSON.parse(stdout);
  } catch (cause) {
    throw fail.host(`docker-credential-${name} gave no JSON`, cause);
  }
  const given = new Map(entriesOf(json));
  const [username, secret] = [textIn(given, 'Username'), textIn(given, 'Secret')];
  return authOf(username === '<token>' ? { identityToken: secret } : { username, password: secret });
}

function textIn(given: ReadonlyMap<string, unknown>, name: string): string | undefined {
  const value = given.get(name);
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** Only what there is; undefined if that is nothing. */
function authOf(
  given: { [Key in keyof RegistryAuth]: RegistryAuth[Key] | undefined },
): RegistryAuth | undefined {
  const known = Object.entries(given).filter(([, value]) => value !== undefined && value !== '');
  return known.length === 0 ? undefined : Object.fromEntries(known);
}

/** `https://index.docker.io/v1/` → `index.docker.io`. */
function hostOf(server: string): string {
  return server.replace(/^https?:\/\//i, '').replace(/\/.*$/, '');
}
