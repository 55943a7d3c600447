import { readFileSync } from 'node:fs';
import * as z from 'zod/mini';
import { codeOf, type Failure, fail, messageOf } from '../errors.ts';
import type { Arguments } from '../lib/arguments.ts';
import { complaintsOf, withoutPassword } from './complaints.ts';
import { foreignKeys, judgeForeign } from './dockerd.ts';
import { defaultConfigFile, isKeyName, keysBySection, keyValueOf } from './options.ts';
import { type DaemonKeys, daemonSchema } from './schema.ts';

/** The environment, as `process.env` is. */
export type Environment = Readonly<Record<string, string | undefined>>;

const proxyKeys: ReadonlySet<string> = new Set(['http-proxy', 'https-proxy', 'no-proxy']);
const floorVariable = 'DOCKER_MIN_API_VERSION';

/**
 * Flags, configuration file and environment in one, checked key by key. Throws `CONFIG` with a message that names
 * the flag or key which is wrong. The warnings are about dockerd's keys that do nothing here.
 */
export function gatherKeys(flags: Arguments, env: Environment): { keys: DaemonKeys; warnings: string[] } {
  const file = readConfigFile(flags.values.get('config-file'));
  const given = new Map<string, unknown>();
  for (const key of keysBySection().flatMap(({ keys }) => keys)) {
    const value = flags.values.get(key.facts.flag);
    if (value !== undefined) given.set(key.name, keyValueOf(key, value));
  }
  const foreign = new Map<string, unknown>(
    foreignKeys.map(({ key, flag }) => [key, flags.values.get(flag ?? key)]),
  );
  refuseUnknown(file);
  refuseConflicts(file, new Map([...given, ...foreign]));
  const warnings: string[] = [];
  for (const key of foreignKeys) {
    const value = foreign.get(key.key) ?? file.keys[key.key];
    if (value === undefined) continue;
    const { message, isRefused } = judgeForeign(key, value);
    if (isRefused) throw fail.config(message);
    warnings.push(message);
  }
  return { keys: check(file, given, env), warnings };
}

interface ConfigFile {
  readonly path: string;
  readonly keys: Readonly<Record<string, unknown>>;
}

/** The configuration file's keys; none where the default one is absent. */
function readConfigFile(named: unknown): ConfigFile {
  const path = typeof named === 'string' ? named : defaultConfigFile;
  try {
    const text = readFileSync(path, 'utf8');
    const keys: unknown = text.trim() === '' ? {} : JSON.parse(text);
    if (typeof keys !== 'object' || keys === null || Array.isArray(keys)) {
      throw new TypeError('must hold one JSON object');
    }
    return { path, keys: withoutProxies(keys as Record<string, unknown>) };
  } catch (cause) {
    if (named === undefined && codeOf(cause) === 'ENOENT') return { path, keys: {} };
    throw inFile(path, messageOf(cause));
  }
}

/** dockerd has the proxies in an object of their own in the file, and apart as flags. */
function withoutProxies({ proxies, ...keys }: Record<string, unknown>): Record<string, unknown> {
  if (proxies === undefined || proxies === null) return keys;
  if (typeof proxies !== 'object' || Array.isArray(proxies))
    throw new TypeError('proxies: must be an object');
  for (const name of Object.keys(proxies)) {
    if (!proxyKeys.has(name)) throw new TypeError(`proxies.${name}: is not a known key`);
    if (Object.hasOwn(keys, name)) throw new TypeError(`${name}: is set within proxies and beside it`);
  }
  return { ...keys, ...proxies };
}

function inFile(path: string, message: string): Failure {
  return fail.config(`unable to configure the daemon with file ${path}: ${message}`);
}

function refuseUnknown({ path, keys }: ConfigFile): void {
  const foreign = new Set(foreignKeys.map(({ key }) => key));
  const unknown = Object.keys(keys).filter((name) => !isKeyName(name) && !foreign.has(name));
  if (unknown.length === 0) return;
  throw inFile(path, `the following directives don't match any configuration option: ${unknown.join(', ')}`);
}

/** dockerd's rule, in dockerd's words: a key is set in one place. Runtimes add up. */
function refuseConflicts({ path, keys }: ConfigFile, given: ReadonlyMap<string, unknown>): void {
  const conflicts = [...given]
    .filter(([name, value]) => value !== undefined && Object.hasOwn(keys, name) && name !== 'runtimes')
    .map(([name, value]) => `${name}: (from flag: ${goText(value)}, from file: ${goText(keys[name])})`);
  if (conflicts.length === 0) return;
  throw inFile(
    path,
    `the following directives are specified both as a flag and in the configuration file: ${conflicts.join(', ')}`,
  );
}

/** A value as Go prints it with %v: `[a b]`, `map[k:v]`. */
function goText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(goText).join(' ')}]`;
  if (typeof value !== 'object' || value === null) return withoutPassword(String(value ?? '<nil>'));
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `map[${entries.map(([name, each]) => `${name}:${goText(each)}`).join(' ')}]`;
}

/** Flags over file over environment; a message names the place that the value came from. */
function check(
  { path, keys }: ConfigFile,
  given: ReadonlyMap<string, unknown>,
  env: Environment,
): DaemonKeys {
  const inherited = env[floorVariable] ? { 'api-version-floor': env[floorVariable] } : {};
  const own = Object.fromEntries(Object.entries(keys).filter(([name]) => isKeyName(name)));
  const merged: Record<string, unknown> = { ...inherited, ...own, ...Object.fromEntries(given) };
  if (own['runtimes'] !== undefined && given.has('runtimes')) {
    merged['runtimes'] = { ...Object(own['runtimes']), ...Object(given.get('runtimes')) };
  }
  const parsed = z.safeParse(daemonSchema, merged);
  if (parsed.success) return parsed.data;
  const [complaint] = complaintsOf(parsed.error, merged);
  const { key = '', path: place = '', message = '' } = complaint ?? {};
  if (given.has(key)) {
    const part = place.slice(key.length + 1);
    const isItem = /^\d*$/.test(part); // known by its value, which the message quotes
    throw fail.config(`--${flagOf(key)}: ${isItem ? '' : `${part} `}${message}`);
  }
  if (Object.hasOwn(own, key)) throw inFile(path, `${place}: ${message}`);
  throw fail.config(`${floorVariable}: ${message}`);
}

function flagOf(name: string): string {
  const key = keysBySection()
    .flatMap(({ keys }) => keys)
    .find((each) => each.name === name);
  return key?.facts.flag ?? name;
}
