import { X509Certificate } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { SecureContext } from 'node:tls';
import { codeOf, fail, messageOf } from '../errors.ts';
import { Setback } from './setback.ts';

/** Whom a connection trusts, and as whom it shows itself. */
export interface Trust {
  /** The same for as long as the files behind it are the same. */
  readonly key: string;
  readonly context: SecureContext;
}

/** The files of one host's directories. */
interface Files {
  readonly authorities: string[];
  /** Of the first directory that has any. */
  readonly pairs: { certificate: string; key: string }[];
  /** Changes whenever one of them does. */
  readonly key: string;
}

/** Where systems keep what their administrators vouch for; the first that is there counts, as it does for Go. */
const systemBundles = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];
const PEM_CERTIFICATE =
  /-----BEGIN (?:TRUSTED )?CERTIFICATE-----[^-]*-----END (?:TRUSTED )?CERTIFICATE-----/g;
const MOST_FILES = 64;
const MOST_FILE_BYTES = 1024 * 1024;
const MOST_HOSTS = 64;

/**
 * What TLS connections to registries are checked against: the system's authorities, and for each registry what lies in
 * `HOST[:PORT]/` of its directories, as dockerd reads `/etc/docker/certs.d`: `*.crt` are authorities, `*.cert` with
 * `*.key` are what we show of ourselves. The files are looked at anew for each request, and read when they changed.
 */
export class Certificates {
  readonly #directories: readonly string[];
  readonly #bundles: readonly string[];
  readonly #known = new Map<string, Trust>();
  #system: Promise<{ trust: Trust; bundle: string | undefined }> | undefined;

  constructor(o: { directories: readonly string[]; bundles?: readonly string[] }) {
    this.#directories = o.directories;
    this.#bundles = o.bundles ?? systemBundles;
  }

  /** The trust for connections on behalf of `host[:port]`. Throws a {@link Setback} with 400 for files that are wrong. */
  async of(host: string): Promise<Trust> {
    const files = await this.#filesOf(host);
    if (files.key === '') return (await this.system()).trust;
    const known = this.#known.get(host);
    if (known?.key === files.key) return known;
    const trust = { key: files.key, context: await this.#contextOf(files) };
    this.#known.delete(host);
    this.#known.set(host, trust);
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= MOST_HOSTS) break;
      this.#known.delete(oldest);
    }
    return trust;
  }

  /** The trust for all hosts that have no files of their own; read once. */
  system(): Promise<{ trust: Trust; bundle: string | undefined }> {
    this.#system ??= this.#readSystem();
    return this.#system;
  }

  async #readSystem(): Promise<{ trust: Trust; bundle: string | undefined }> {
    const { createSecureContext } = await import('node:tls');
    for (const path of this.#bundles) {
      const bundle = await readFile(path, 'utf8').catch(() => undefined);
      if (bundle === undefined || !bundle.includes('-----BEGIN')) continue;
      return { bundle, trust: { key: '', context: createSecureContext({ ca: bundle }) } };
    }
    return { bundle: undefined, trust: { key: '', context: createSecureContext() } }; // Node's own
  }

  async #filesOf(host: string): Promise<Files> {
    const authorities: string[] = [];
    const pairs: { certificate: string; key: string }[] = [];
    const names = /:\d+$/.test(host) ? [host] : [host, `${host}:443`];
    for (const directory of this.#directories.flatMap((base) => names.map((name) => join(base, name)))) {
      const found = await namesIn(directory);
      const own = pairsOf(found).map(({ certificate, key }) => ({
        certificate: join(directory, certificate),
        key: join(directory, key),
      }));
      if (pairs.length === 0) pairs.push(...own);
      for (const name of found) if (name.endsWith('.crt')) authorities.push(join(directory, name));
    }
    const paths = [...authorities, ...pairs.flatMap(({ certificate, key }) => [certificate, key])];
    if (paths.length > MOST_FILES) throw refuse(`there are more than ${MOST_FILES} certificates for ${host}`);
    const facts = await Promise.all(paths.map(factsOf));
    return { authorities, pairs, key: facts.join('\n') };
  }

  async #contextOf({ authorities, pairs }: Files): Promise<SecureContext> {
    const { createSecureContext, rootCertificates } = await import('node:tls');
    const { bundle } = await this.system();
    const ca: string[] = bundle === undefined ? [...rootCertificates] : [bundle];
    for (const path of authorities) {
      const text = await readPem(path);
      const certificates = text.match(PEM_CERTIFICATE);
      if (certificates === null) throw refuse(`${path}: there is no certificate in PEM form in it`);
      // OpenSSL passes over authorities that it cannot read
      for (const one of certificates) attempt(path, () => new X509Certificate(one));
      ca.push(text);
    }
    const [certs, keys]: [string[], string[]] = [[], []];
    for (const { certificate, key } of pairs) {
      const pair = { cert: await readPem(certificate), key: await readPem(key) };
      attempt(certificate, () => createSecureContext(pair));
      certs.push(pair.cert);
      keys.push(pair.key);
    }
    return createSecureContext({ ca, ...(certs.length > 0 && { cert: certs, key: keys }) });
  }
}

/** In order, as Go lists them; none where there is no such directory. */
async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).filter((name) => /\.(?:crt|cert|key)$/.test(name)).toSorted();
  } catch (cause) {
    const code = codeOf(cause);
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw refuse(messageOf(cause), cause);
  }
}

/** moby, registry: ReadCertsDirectory, whose words these are. */
function pairsOf(names: readonly string[]): { certificate: string; key: string }[] {
  const pairs: { certificate: string; key: string }[] = [];
  for (const name of names) {
    const partner = name.endsWith('.cert') ? name.replace(/cert$/, 'key') : name.replace(/key$/, 'cert');
    if (name.endsWith('.crt')) continue;
    if (name.endsWith('.cert') && !names.includes(partner)) {
      throw refuse(
        `missing key ${partner} for client certificate ${name}. CA certificates must use the extension .crt`,
      );
    }
    if (name.endsWith('.key') && !names.includes(partner)) {
      throw refuse(`missing client certificate ${partner} for key ${name}`);
    }
    if (name.endsWith('.cert')) pairs.push({ certificate: name, key: partner });
  }
  return pairs;
}

async function factsOf(path: string): Promise<string> {
  try {
    const { ino, size, mtimeMs } = await stat(path);
    return `${path} ${ino} ${size} ${mtimeMs}`;
  } catch (cause) {
    throw refuse(messageOf(cause), cause);
  }
}

async function readPem(path: string): Promise<string> {
  const { size } = await stat(path);
  if (size > MOST_FILE_BYTES) throw refuse(`${path}: larger than ${MOST_FILE_BYTES} bytes`);
  return await readFile(path, 'utf8');
}

function attempt(path: string, read: () => unknown): void {
  try {
    read();
  } catch (cause) {
    throw refuse(`${path}: ${messageOf(cause)}`, cause);
  }
}

function refuse(message: string, cause?: unknown): Setback {
  return new Setback(fail.registry(message, { status: 400, cause }));
}
