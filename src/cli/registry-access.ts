import { release } from '../config/release.ts';
import { silentLog } from '../lib/log.ts';
import type { Reference } from '../lib/reference.ts';
import { Registry, type RegistryAuth } from '../registry/registry.ts';
import { credentialsFor } from './docker-config.ts';
import type { Terminal } from './terminal.ts';

const CERTIFICATES = ['/etc/skerry/certs.d', '/etc/docker/certs.d'];
const MOST_ATTEMPTS = 5;

/** Registries as this user sees them: with the credentials of `docker login` and the proxies of the environment. */
export class RegistryAccess implements AsyncDisposable {
  readonly registry: Registry;
  readonly #env: Terminal['env'];

  /** Throws `CONFIG` for a bad entry in `insecure`. */
  constructor(env: Terminal['env'], o: { insecure: readonly string[] }) {
    const read = (name: string) => env[name] || env[name.toLowerCase()] || '';
    this.#env = env;
    this.registry = new Registry({
      mirrors: [],
      insecure: o.insecure,
      proxies: { http: read('HTTP_PROXY'), https: read('HTTPS_PROXY'), no: read('NO_PROXY') },
      certificates: CERTIFICATES,
      maxAttempts: MOST_ATTEMPTS,
      userAgent: `skerry/${release.version} (linux)`,
      log: silentLog,
    });
  }

  /** What every question about a repository is asked with. */
  async asking(ref: Reference, signal: AbortSignal): Promise<{ auth?: RegistryAuth; signal: AbortSignal }> {
    const auth = await credentialsFor(ref.domain, this.#env, { signal });
    return { signal, ...(auth !== undefined && { auth }) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.registry[Symbol.asyncDispose]();
  }
}
