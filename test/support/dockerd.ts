import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { readCgroupLayout, removeCgroup } from '../../src/host/cgroup.ts';
import { capabilities, capabilitiesIn } from '../../src/host/facts.ts';
import { unpackDebianDocker } from '../bench/debian-docker.ts';
import type { CliResult } from './engine.ts';
import { programPath } from './programs.ts';

const START_MS = 30_000;
/** Address of the bridge that containers are on by default, where there are any. */
export const BRIDGE = '172.30.0.1/24';
/** An empty /run hides other engines' sockets. A shell as init reaps what the daemon leaves behind. */
const PRELUDE = [
  'mount -t tmpfs run /run && ip link set lo up',
  'mkdir "$0" && mount -t tmpfs shared "$0" && mount --make-shared "$0"',
  '"$@"; exit $?',
].join(' && ');

/**
 * Debian's dockerd, to be compared with: unpacked and not installed, in name spaces of its own. Everything it starts
 * ends with it.
 */
export class Dockerd implements AsyncDisposable {
  readonly directory: string;
  readonly socket: string;
  /** Mounts on it go on to containers that ask for that, as do those on a real host's root. */
  readonly sharedDirectory: string;
  readonly cgroupParent: string;
  #process: ChildProcess | undefined;

  private constructor(directory: string) {
    this.directory = directory;
    this.socket = join(directory, 'd.sock');
    this.sharedDirectory = join(directory, 'shared');
    this.cgroupParent = `/skt-dockerd-${directory.split('-').at(-1)}`;
  }

  /** Throws if this host has none and can get none, or cannot run it. Without containers it has no network either. */
  static async start({ hasContainers = false } = {}): Promise<Dockerd> {
    const programs = await unpackDebianDocker();
    const dockerd = new Dockerd(await mkdtemp(join(tmpdir(), 'skt-dockerd-')));
    try {
      await dockerd.#boot(
        programs,
        hasContainers
          ? [
              ...['--bip', BRIDGE, '--cgroup-parent', dockerd.cgroupParent],
              ...['--init-path', programPath('tini-static')],
            ]
          : ['--bridge', 'none', '--iptables=false', '--ip-masq=false'],
      );
      return dockerd;
    } catch (cause) {
      await dockerd[Symbol.asyncDispose]();
      throw cause;
    }
  }

  /** A process in its name spaces. */
  async pid(): Promise<number> {
    const init = this.#process?.pid ?? 0;
    return Number((await readFile(`/proc/${init}/task/${init}/children`, 'utf8')).split(' ')[0]);
  }

  /** Runs the docker CLI against it; throws unless it exits with 0. */
  async ok(args: readonly string[]): Promise<string> {
    return (await execa('docker', args, { env: this.#cliEnvironment(), timeout: 120_000 })).stdout;
  }

  /** Runs the docker CLI against it. */
  async docker(args: readonly string[], { input = '' } = {}): Promise<CliResult> {
    const { exitCode, stdout, stderr } = await execa('docker', args, {
      ...{ input, timeout: 60_000, env: this.#cliEnvironment(), reject: false, stripFinalNewline: false },
    });
    return { code: exitCode ?? -1, stdout, stderr };
  }

  /** Removes every container: one that is paused could not even be killed. */
  async clear(): Promise<void> {
    const ids = (await this.ok(['ps', '-aq'])).split('\n').filter((id) => id !== '');
    if (ids.length > 0) await this.ok(['rm', '-f', '-v', ...ids]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const child = this.#process;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'exit');
      child.kill('SIGKILL'); // unshare takes the init of its name space along, and that everything in it
      await ended;
    }
    await removeCgroup(await readCgroupLayout(), this.cgroupParent);
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

  #cliEnvironment(): Record<string, string> {
    return {
      DOCKER_HOST: `unix://${this.socket}`,
      DOCKER_CONFIG: join(this.directory, 'cli'),
      DOCKER_CLI_HINTS: 'false',
    };
  }

  async #boot(programs: readonly string[], flags: readonly string[]): Promise<void> {
    const { directory, socket } = this;
    const at = (name: string) => join(directory, name);
    await writeRuntime(at('bin'));
    await writeFile(at('daemon.json'), JSON.stringify({ 'deprecated-key-path': at('key.json') }));
    const command = [
      'dockerd',
      ...['--host', `unix://${socket}`, '--data-root', at('data'), '--exec-root', at('exec')],
      ...['--config-file', at('daemon.json'), '--pidfile', at('pid'), '--storage-driver', 'overlay2'],
      ...flags,
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
        ...['sh', '-c', PRELUDE, this.sharedDirectory, ...command],
      ],
      {
        stdio: ['ignore', log, log],
        env: { ...process.env, PATH: [at('bin'), ...programs, process.env['PATH'] ?? ''].join(':') },
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

/**
 * dockerd gives privileged containers all capabilities that the kernel knows, and runc fails where the host itself has
 * fewer, as in some virtual machines: there, a runc stands before the real one that leaves those out.
 */
async function writeRuntime(directory: string): Promise<void> {
  await mkdir(directory);
  const available = new Set(capabilities());
  const missing = capabilitiesIn((1n << 64n) - 1n).filter((name) => !available.has(name));
  if (missing.length === 0) return;
  const script = `#!/bin/sh
file=
for word; do
  case $last in --bundle) file=$word/config.json ;; --process) file=$word ;; esac
  last=$word
done
[ ! -f "$file" ] || sed -i -E 's/"(${missing.join('|')})",?//g; s/,]/]/g' "$file"
exec ${programPath('runc')} "$@"
`;
  await writeFile(join(directory, 'runc'), script, { mode: 0o755 });
}
