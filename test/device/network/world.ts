import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { run } from '../../../src/host/exec.ts';
import type { Log } from '../../../src/lib/log.ts';
import { BridgeNetwork, type BridgeOptions } from '../../../src/network/bridge.ts';
import { readHostSubnets } from '../../../src/network/host-subnets.ts';
import { Ipam } from '../../../src/network/ipam.ts';
import type { Place, Protocol } from './talk.ts';

const MARK = 'SKERRY_TEST_NETWORK';

/** Which program `iptables` is: on kernels without nf_tables only the legacy one works. */
type Iptables = 'legacy' | 'nft';

/**
 * Runs the tests that `define` makes in a network namespace of their own: the test file runs itself once more in
 * there, as one test of the outer run for each variant of iptables. The namespace is removed afterwards.
 */
export function inOwnNetwork(
  file: string,
  define: () => void,
  { variants = ['legacy'] }: { variants?: Iptables[] } = {},
): void {
  if (process.env[MARK] !== undefined) {
    before(() => must('ip', 'link', 'set', 'lo', 'up'));
    define();
    return;
  }
  const skip = process.getuid?.() === 0 ? false : 'needs root';
  for (const iptables of variants) {
    const name = `skt-net-${process.pid}`;
    test(`in a network namespace of its own, iptables-${iptables}`, { skip }, async () => {
      const programs = await mkdtemp('/tmp/skt-net-');
      for (const program of ['iptables', 'iptables-save', 'iptables-restore'])
        await symlink(`/usr/sbin/xtables-${iptables}-multi`, join(programs, program));
      await must('ip', 'netns', 'add', name);
      try {
        console.log(await runInside(name, fileURLToPath(file), `${programs}:${process.env['PATH']}`));
      } finally {
        await must('ip', 'netns', 'del', name);
        await rm(programs, { recursive: true });
      }
    });
  }
}

async function runInside(name: string, file: string, path: string): Promise<string> {
  const env: NodeJS.ProcessEnv = { ...process.env, [MARK]: name, PATH: path };
  delete env['NODE_TEST_CONTEXT']; // else it would report to a parent that is not there
  const node = [process.execPath, '--test-reporter=spec', file];
  const child = spawn('nsenter', [`--net=/run/netns/${name}`, ...node], { env, stdio: 'pipe' });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`failed inside:\n${output}`);
  return output;
}

/** Runs a program that has to succeed; what it printed. */
export async function must(command: string, ...args: string[]): Promise<string> {
  return mustRead('', command, ...args);
}

/** Like {@link must}, with something to read. */
export async function mustRead(input: string, command: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(command, args, { input });
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
  return stdout;
}

/** Somebody in a network of his own: a container, or another machine. */
export class Peer implements AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: string) => void>();

  private constructor(name: string, child: ChildProcess) {
    this.name = name;
    this.#child = child;
    this.pid = child.pid ?? 0;
    child.on('message', ({ id, answer }: { id: number; answer: string }) => this.#waiting.get(id)?.(answer));
  }

  static async start(name: string): Promise<Peer> {
    const program = fileURLToPath(new URL('peer.ts', import.meta.url));
    const child = fork(program, { execPath: 'unshare', execArgv: ['--net', process.execPath] });
    await once(child, 'message');
    return new Peer(name, child);
  }

  async ask(place: Place, from?: number): Promise<string> {
    return this.#do('ask', place, from);
  }

  /** Listens until the end. */
  async serve(protocol: Protocol, port: number): Promise<void> {
    await this.#do('serve', this.name, { protocol, port });
  }

  async #do(task: string, ...args: unknown[]): Promise<string> {
    const id = this.#waiting.size;
    const answered = new Promise<string>((resolve) => this.#waiting.set(id, resolve));
    this.#child.send({ id, task, args });
    return answered;
  }

  /** What a program prints in this network. */
  inside(command: string, ...args: string[]): Promise<string> {
    return must('nsenter', `--net=/proc/${this.pid}/ns/net`, command, ...args);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }
}

/** A process in a network of its own that does nothing: the cheapest container. */
export async function startSleeper(): Promise<ChildProcess> {
  const sleeper = spawn('unshare', ['--net', 'sleep', '600'], { stdio: 'ignore' });
  const networkOf = (pid: number | string) => readlinkSync(`/proc/${pid}/ns/net`);
  while (sleeper.pid === undefined || networkOf(sleeper.pid) === networkOf('self')) await sleep(2);
  return sleeper;
}

/** Another machine: a peer behind a cable to this host, which is 192.0.2.1 to it; it is 192.0.2.2. */
export async function startOutside(): Promise<Peer> {
  const outside = await Peer.start('outside');
  await must(
    'ip',
    'link',
    'add',
    'uplink',
    'type',
    'veth',
    'peer',
    'name',
    'eth0',
    'netns',
    `${outside.pid}`,
  );
  await must('ip', 'address', 'add', '192.0.2.1/24', 'dev', 'uplink');
  await must('ip', 'link', 'set', 'uplink', 'up');
  await outside.inside('ip', 'address', 'add', '192.0.2.2/24', 'dev', 'eth0');
  await outside.inside('ip', 'link', 'set', 'eth0', 'up');
  return outside;
}

/** Whether the packet filter sees frames that only cross a bridge. */
export function filterBridges(isOn: boolean): void {
  writeFileSync('/proc/sys/net/bridge/bridge-nf-call-iptables', isOn ? '1' : '0');
}

/** Warnings and errors, for assertions; the rest is dropped. */
export class Complaints implements Log {
  readonly texts: string[] = [];
  debug(): void {}
  info(): void {}
  warn(_: object, message: string): void {
    this.texts.push(message);
  }
  error(facts: object, message: string): void {
    this.texts.push(`${message} ${JSON.stringify(facts)}`);
  }
}

export async function openBridge(o: Partial<BridgeOptions> = {}): Promise<BridgeNetwork> {
  return BridgeNetwork.open({
    name: 'skerry0',
    mtu: 1500,
    isIcc: true,
    isMasquerade: true,
    isForwarding: true,
    ipam: new Ipam({ readHost: readHostSubnets }),
    log: new Complaints(),
    ...o,
  });
}

let connected = 0;

/** Connects a peer as a container of that name. */
export async function connectPeer(
  bridge: BridgeNetwork,
  peer: Peer,
  o: Partial<Parameters<BridgeNetwork['connect']>[0]> = {},
): ReturnType<BridgeNetwork['connect']> {
  const containerId = `${peer.name}-${++connected}`;
  return bridge.connect({ containerId, containerName: peer.name, pid: peer.pid, ports: [], ...o });
}
