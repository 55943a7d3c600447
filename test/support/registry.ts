/**
 * A real registry for tests: Debian's `docker-registry` on a loopback port of its own, with its storage, settings and
 * log in a temporary directory that goes with it.
 *
 *     await using registry = await startRegistry();
 *     await push(registry.host, 'app/web', ['1', 'latest'], makeImage({ layers: [makeLayer({ 'etc/motd': 'hi' })] }));
 *     docker pull ${registry.host}/app/web:1
 *
 * See registry-images.ts for what to put into it, faulty-proxy.ts for trouble in front of it, token-server.ts for tokens.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Certificate } from './certificate.ts';
import type { TokenServer } from './token-server.ts';

/** The one user of a registry that was started with `isPasswordWanted`. */
export const registryUser = { username: 'alice', password: 'correct horse' };
/** bcrypt, cost 5, of that password. */
const HTPASSWD = 'alice:$2y$05$jjS4aTpcDUp7YeOfDP0vqOeiUIxDQ6yIf67Gk.IriO71rZqrC.tFm\n';

const PATIENCE_MS = 15_000;

export interface RegistryOptions {
  /** Basic authentication, for {@link registryUser} alone. */
  isPasswordWanted?: boolean;
  /** Bearer authentication, with the tokens of this server. */
  tokenServer?: Pick<TokenServer, 'realm' | 'service' | 'issuer' | 'certificate'>;
  /** Speaks https with this. */
  certificate?: Certificate;
  /** Where it listens; 127.0.0.1, if left out, where no registry's certificate is looked at. */
  address?: string;
  /** The storage of another one: put images in by an open door, and get them by a guarded one. */
  storage?: string;
}

/** A running registry; disposing it ends the process and removes its directory. */
export interface TestRegistry extends AsyncDisposable {
  /** `127.0.0.1:PORT`. */
  readonly host: string;
  /** The directory that holds what was pushed. */
  readonly storage: string;
  /** Stops the process and keeps everything else; {@link start} brings it back on the same port. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Everything it has logged, one JSON object a line. */
  log(): Promise<string>;
}

/** Starts a registry and waits until it listens. */
export async function startRegistry(options: RegistryOptions = {}): Promise<TestRegistry> {
  const directory = await mkdtemp(join(tmpdir(), 'skt-registry-'));
  const storage = options.storage ?? join(directory, 'storage');
  const logPath = join(directory, 'log');
  const address = options.address ?? '127.0.0.1';
  let port = '0';
  let running: Running | undefined;

  const start = async () => {
    const settings = JSON.stringify(
      await settingsOf(options, { directory, storage, listen: `${address}:${port}` }),
    );
    await writeFile(join(directory, 'config.yml'), settings); // JSON is YAML
    running = launch(join(directory, 'config.yml'), logPath);
    port = await listeningPort(running, logPath);
  };
  const stop = async () => {
    await running?.end();
    running = undefined;
  };
  try {
    await start();
  } catch (cause) {
    await stop();
    await rm(directory, { recursive: true, force: true });
    throw cause;
  }
  return {
    host: `${address}:${port}`,
    storage,
    start,
    stop,
    log: () => readFile(logPath, 'utf8'),
    [Symbol.asyncDispose]: async () => {
      await stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function settingsOf(
  options: RegistryOptions,
  { directory, storage, listen }: { directory: string; storage: string; listen: string },
): Promise<object> {
  const place = (name: string, text: string) =>
    writeFile(join(directory, name), text).then(() => join(directory, name));
  const auth: Record<string, object> = {};
  if (options.isPasswordWanted) {
    auth['htpasswd'] = { realm: 'skerry tests', path: await place('htpasswd', HTPASSWD) };
  }
  if (options.tokenServer) {
    const { realm, service, issuer, certificate } = options.tokenServer;
    auth['token'] = { realm, service, issuer, rootcertbundle: await place('issuer.pem', certificate) };
  }
  const tls = options.certificate && {
    certificate: await place('certificate.pem', options.certificate.certificate),
    key: await place('key.pem', options.certificate.key),
  };
  return {
    version: '0.1',
    log: { level: 'info', formatter: 'json', accesslog: { disabled: true } },
    storage: {
      filesystem: { rootdirectory: storage },
      delete: { enabled: true },
      maintenance: { uploadpurging: { enabled: false } },
    },
    http: { addr: listen, secret: 'for tests', ...(tls && { tls }) },
    ...(Object.keys(auth).length > 0 && { auth }),
  };
}

interface Running {
  isOver(): boolean;
  end(): Promise<void>;
}

function launch(configPath: string, logPath: string): Running {
  const log = openSync(logPath, 'w');
  const child = spawn('docker-registry', ['serve', configPath], {
    stdio: ['ignore', log, log],
    env: { PATH: process.env['PATH'] ?? '', OTEL_TRACES_EXPORTER: 'none' },
  });
  closeSync(log);
  const over = new Promise<void>((resolve) => {
    child.once('error', () => resolve());
    child.once('exit', () => resolve());
  });
  let isOver = false;
  void over.then(() => {
    isOver = true;
  });
  const killWithUs = () => child.kill('SIGKILL');
  process.once('exit', killWithUs);
  return {
    isOver: () => isOver,
    end: async () => {
      process.off('exit', killWithUs);
      child.kill('SIGKILL');
      await over;
    },
  };
}

/** The port that the log tells of; the registry itself picks a free one. */
async function listeningPort(registry: Running, logPath: string): Promise<string> {
  for (const until = Date.now() + PATIENCE_MS; Date.now() < until; await sleep(20)) {
    const log = await readFile(logPath, 'utf8');
    const port = /listening on [\d.]+:(\d+)/.exec(log)?.[1];
    if (port !== undefined) return port;
    if (registry.isOver()) throw new Error(`docker-registry ended at once (is it installed?): ${log}`);
  }
  throw new Error(`docker-registry did not listen within ${PATIENCE_MS} ms`);
}
