import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { unpackDebianDocker } from '../bench/debian-docker.ts';

const START_MS = 30_000;

/**
 * Debian's dockerd, to be compared with: unpacked and not installed, in name spaces of its own, without containers.
 * Everything it starts ends with it.
 */
export class Dockerd implements AsyncDisposable {
  readonly directory: string;
  readonly socket: string;
  #process: ChildProcess | undefined;

  private constructor(directory: string) {
    this.directory = directory;
    this.socket = join(directory, 'd.sock');
  }

  /** Throws if this host has none and can get none, or cannot run it. */
  static async start(): Promise<Dockerd> {
    const programs = await unpackDebianDocker();
    const dockerd = new Dockerd(await mkdtemp(join(tmpdir(), 'skt-dockerd-')));
    try {
      await dockerd.#boot(programs);
      return dockerd;
    } catch (cause) {
      await dockerd[Symbol.asyncDispose]();
      throw cause;
    }
  }

  /** Runs the docker CLI against it; throws unless it exits with 0. */
  async ok(args: readonly string[]): Promise<string> {
    const env = { DOCKER_HOST: `unix://${this.socket}`, DOCKER_CONFIG: join(this.directory, 'cli') };
    return (await execa('docker', args, { env, timeout: 120_000 })).stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const child = this.#process;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'exit');
      child.kill('SIGKILL'); // unshare takes the init of its name space along, and that everything in it
      await ended;
    }
    for (let tries = 0; ; tries++) {
      try {
        await rm(this.directory, { recursive: true, force: true });
        return;
      } catch (cause) {
        if (tries === 20) throw cause; // the last of it is just ending
        await sleep(100);
      }
    }
  }

  async #boot(programs: readonly string[]): Promise<void> {
    const { directory, socket } = this;
    const at = (name: string) => join(directory, name);
    await writeFile(at('daemon.json'), JSON.stringify({ 'deprecated-key-path': at('key.json') }));
    const command = [
      'dockerd',
      ...['--host', `unix://${socket}`, '--data-root', at('data'), '--exec-root', at('exec')],
      ...['--config-file', at('daemon.json'), '--pidfile', at('pid'), '--storage-driver', 'overlay2'],
      ...['--bridge', 'none', '--iptables=false', '--ip-masq=false'],
    ];
    const log = openSync(at('log'), 'a');
    this.#process = spawn(
      'unshare',
      [
        ...[
          '--net',
          '--mount',
          '--propagation',
          'private',
          '--pid',
          '--mount-proc',
          '--fork',
          '--kill-child',
        ],
        ...['sh', '-c', 'mount -t tmpfs run /run && ip link set lo up && "$@"; exit $?', 'sh', ...command],
      ],
      {
        stdio: ['ignore', log, log],
        env: { ...process.env, PATH: [...programs, process.env['PATH'] ?? ''].join(':') },
      },
    );
    closeSync(log);
    for (const until = Date.now() + START_MS; Date.now() < until; await sleep(100)) {
      if (this.#process.exitCode !== null) break;
      if ((await this.ok(['version']).catch(() => undefined)) !== undefined) return;
    }
    throw new Error(`dockerd does not answer: ${(await readFile(at('log'), 'utf8')).slice(-1000)}`);
  }
}
