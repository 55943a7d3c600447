import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { run } from '../../src/host/exec.ts';
import { unmount } from '../../src/host/kernel.ts';
import { mountsUnder } from '../../src/host/mounts.ts';

const root = resolve(import.meta.dirname, '../..');

/** What a command of the docker CLI did. */
export interface CliResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** What a test reads out of an answer without a type for it. */
// biome-ignore lint/suspicious/noExplicitAny: the shape is what the test is about to find out
type Json = any;

/**
 * The real daemon, built, with roots of its own, and the real docker CLI talking to it. Call `enterOwnNetwork()`
 * first: it makes a bridge and firewall rules. Disposal kills what is left and says what leaked.
 */
export class TestEngine implements AsyncDisposable {
  readonly directory: string;
  readonly socket: string;
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly logPath: string;
  readonly cgroupParent: string;
  readonly #flags: readonly string[];
  #process: ChildProcess | undefined;

  private constructor(directory: string, dataRoot: string, flags: readonly string[]) {
    this.directory = directory;
    this.socket = join(directory, 's.sock');
    this.dataRoot = dataRoot;
    this.execRoot = join(directory, 'exec');
    this.logPath = join(directory, 'skerryd.log');
    this.cgroupParent = `/skt-${directory.split('-').at(-1)}`;
    this.#flags = flags;
  }

  /** A `dataRoot` of the caller's own (a mount point, perhaps) stays when the engine goes. */
  static async start(o: { flags?: readonly string[]; dataRoot?: string } = {}): Promise<TestEngine> {
    const directory = await mkdtemp(join(tmpdir(), 'skt-'));
    const engine = new TestEngine(directory, o.dataRoot ?? join(directory, 'data'), o.flags ?? []);
    try {
      await engine.boot();
      return engine;
    } catch (cause) {
      await engine[Symbol.asyncDispose]();
      throw cause;
    }
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  /** Starts the daemon on the same roots, and waits until it answers. Milliseconds until then. */
  async boot(extraFlags: readonly string[] = []): Promise<number> {
    const log = openSync(this.logPath, 'a');
    const began = performance.now();
    this.#process = spawn(
      join(root, 'scripts/skerryd'),
      [
        ...['--host', `unix://${this.socket}`, '--data-root', this.dataRoot, '--exec-root', this.execRoot],
        ...['--cgroup-parent', this.cgroupParent, '--log-level', 'debug', '--board', 'generic-amd64'],
        ...this.#flags,
        ...extraFlags,
      ],
      { stdio: ['ignore', log, log] },
    );
    closeSync(log);
    while (performance.now() - began < 20_000) {
      if (!this.#isRunning()) throw new Error(`skerryd ended at once:\n${await this.log()}`);
      if (existsSync(this.socket) && (await this.ping())) return performance.now() - began;
      await sleep(5);
    }
    throw new Error(`skerryd does not answer:\n${await this.log()}`);
  }

  async ping(): Promise<boolean> {
    return (await this.get('/_ping').catch(() => undefined))?.status === 200;
  }

  /** A plain API request; the body as text. */
  async get(
    path: string,
    { method = 'GET', body }: { method?: string; body?: object } = {},
  ): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          socketPath: this.socket,
          path,
          method,
          agent: false,
          ...(body && { headers: { 'content-type': 'application/json' } }),
        },
        async (response) => {
          let text = '';
          response.setEncoding('utf8');
          try {
            for await (const chunk of response) text += chunk;
            resolve({ status: response.statusCode ?? 0, text });
          } catch (cause) {
            reject(cause);
          }
        },
      );
      sent.on('error', reject);
      sent.end(body && JSON.stringify(body));
    });
  }

  /** As {@link get}, the body parsed; throws unless the status is 2xx. */
  async json<T = Json>(path: string, o: { method?: string; body?: object } = {}): Promise<T> {
    const { status, text } = await this.get(path, o);
    if (status < 200 || status > 299) throw new Error(`${path}: ${status} ${text}`);
    return (text === '' ? {} : JSON.parse(text)) as T;
  }

  /** Runs the docker CLI against this engine. */
  async docker(args: readonly string[], { input = '', timeoutMs = 60_000 } = {}): Promise<CliResult> {
    const { exitCode, stdout, stderr } = await execa('docker', args, {
      input,
      timeout: timeoutMs,
      env: this.cliEnvironment(),
      reject: false,
      stripFinalNewline: false,
    });
    return { code: exitCode ?? -1, stdout, stderr };
  }

  /** As {@link docker}; throws with everything that was printed unless it exits with 0. */
  async ok(args: readonly string[], o: { input?: string; timeoutMs?: number } = {}): Promise<string> {
    const { code, stdout, stderr } = await this.docker(args, o);
    if (code !== 0)
      throw new Error(`docker ${args.join(' ')}: exit ${code}\n${stdout}${stderr}\n${await this.log()}`);
    return stdout.trimEnd();
  }

  cliEnvironment(): Record<string, string> {
    return {
      DOCKER_HOST: `unix://${this.socket}`,
      DOCKER_CONFIG: join(this.directory, 'cli'),
      DOCKER_CLI_HINTS: 'false',
    };
  }

  /** The daemon's end without a warning, as at an OOM kill. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** The daemon's orderly end; containers go on. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  async log(): Promise<string> {
    return readFile(this.logPath, 'utf8').catch(() => '');
  }

  /** What is left of this engine's containers: mounts, processes, cgroups, interfaces. */
  async leftovers(): Promise<string[]> {
    return [
      ...(await this.#mounts()).map((path) => `mount ${path}`),
      ...this.#processes().map((pid) => `process ${pid} ${commandLine(pid)}`),
      ...cgroupsNamed(this.cgroupParent).flatMap((path) => this.#groupsOf(path)),
      ...(await veths()).map((name) => `interface ${name}`),
    ];
  }

  /** {@link leftovers} after a moment: children of a daemon that was killed end when they notice. */
  async remains(): Promise<string[]> {
    for (const until = Date.now() + 3000; Date.now() < until; await sleep(50)) {
      if ((await this.leftovers()).length === 0) return [];
    }
    return this.leftovers();
  }

  /** Removes every container through the API, so that {@link leftovers} must be empty but for the daemon itself. */
  async clear(): Promise<void> {
    for (const { Id } of await this.json<{ Id: string }[]>('/containers/json?all=1')) {
      await this.get(`/containers/${Id}?force=1&v=1`, { method: 'DELETE' });
    }
  }

  /** The end of a test file: no container, no daemon, no directory; and what {@link remains} all the same. */
  async finish(): Promise<string[]> {
    await this.clear();
    await this.stop();
    const left = await this.remains();
    await this[Symbol.asyncDispose]();
    return left;
  }

  /**
   * The machine goes off: the daemon, its children and every container die at once, and what memory held is gone, the
   * exec-root with it. The data root stays as it is; nothing of it is mounted or open any more.
   */
  async powerOff(): Promise<void> {
    await this.kill();
    for (const until = Date.now() + 5000; Date.now() < until; await sleep(10)) {
      const pids = this.#processes();
      if (pids.length === 0) break;
      for (const pid of pids) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {} // gone already
      }
    }
    for (const path of await this.#mounts()) unmount(path, { isLazy: true });
    for (const path of cgroupsNamed(this.cgroupParent))
      await run('find', [path, '-depth', '-type', 'd', '-delete']);
    await rm(this.execRoot, { recursive: true, force: true });
    await rm(this.socket, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.powerOff();
    await rm(this.directory, { recursive: true, force: true });
  }

  /** Those that the engine made, newest first: not a file system that its data root was put on. */
  async #mounts(): Promise<string[]> {
    const inside = this.dataRoot.startsWith(`${this.directory}/`) ? [] : await mountsUnder(this.dataRoot);
    return [...inside.filter((path) => path !== this.dataRoot), ...(await mountsUnder(this.directory))];
  }

  /** While the daemon runs the parent of all is its own; what is in it is a container's. */
  #groupsOf(parent: string): string[] {
    const inside = readdirSync(parent, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return [
      ...(this.#isRunning() ? [] : [`cgroup ${parent}`]),
      ...inside.map(({ name }) => `cgroup ${parent}/${name}`),
    ];
  }

  #isRunning(): boolean {
    return this.#process?.exitCode === null && this.#process.signalCode === null;
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    if (child === undefined || !this.#isRunning()) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await ended;
  }

  /** Monitors and containers name this engine's roots, in their arguments or their cgroup. */
  #processes(): number[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid && Number(name) !== this.pid)
      .map(Number)
      .filter((pid) => {
        try {
          const cgroup = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
          const isZombie = /\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
          if (isZombie) return false; // its reaper's business
          const words = commandLine(pid);
          const isOurs = words.includes(this.directory) || words.includes(`${this.dataRoot}/`);
          return isOurs || cgroup.includes(`${this.cgroupParent}/`);
        } catch {
          return false;
        }
      });
  }
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
}

function cgroupsNamed(parent: string): string[] {
  const hierarchies = ['', ...readdirSync('/sys/fs/cgroup').map((name) => `/${name}`)];
  return hierarchies.map((name) => `/sys/fs/cgroup${name}${parent}`).filter((path) => existsSync(path));
}

async function veths(): Promise<string[]> {
  const { stdout } = await run('ip', ['-o', 'link', 'show', 'type', 'veth']);
  return stdout.split('\n').filter((line) => line !== '');
}
