import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { cgroupPids, readCgroupLayout, removeCgroup } from '../../src/host/cgroup.ts';
import { type Finished, run } from '../../src/host/exec.ts';
import { unmount } from '../../src/host/kernel.ts';
import { mountsUnder } from '../../src/host/mounts.ts';
import type { Contender, Place } from './contenders.ts';
import { Disk } from './disk.ts';
import { ProcessGroup } from './process-group.ts';

const START_MS = 60_000;
const STOP_MS = 30_000;

/** An engine at work on an empty disk of its own, in a process group of its own, with the docker CLI to talk to it. */
export class Daemon implements AsyncDisposable {
  readonly contender: Contender;
  readonly group: ProcessGroup;
  readonly disk: Disk;
  readonly #place: Place;
  readonly #parts: AsyncDisposableStack;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 4 });
  #process: ChildProcess | undefined;

  private constructor(
    contender: Contender,
    o: { group: ProcessGroup; disk: Disk; place: Place; parts: AsyncDisposableStack },
  ) {
    this.contender = contender;
    this.group = o.group;
    this.disk = o.disk;
    this.#place = o.place;
    this.#parts = o.parts;
  }

  /** Makes its places; does not start it. `cgroup` is where all its cgroups are to be. */
  static async open(contender: Contender, { directory, cgroup }: { directory: string; cgroup: string }) {
    await using parts = new AsyncDisposableStack();
    const group = parts.use(await ProcessGroup.open(`${cgroup}/${contender.name}`));
    const disk = parts.use(await Disk.open(directory));
    const place = {
      directory,
      dataRoot: join(disk.path, 'root'),
      socket: join(directory, 'docker.sock'),
      cgroupParent: `${cgroup}/${contender.name}-containers`,
    };
    mkdirSync(place.dataRoot);
    writeFileSync(join(directory, 'daemon.json'), JSON.stringify(contender.configuration(place)));
    return new Daemon(contender, { group, disk, place, parts: parts.move() });
  }

  /** Milliseconds until it answers its first ping. */
  async start(): Promise<number> {
    const log = openSync(this.#logPath, 'a');
    const [command = '', ...args] = this.group.entering(this.contender.command(this.#place));
    const began = performance.now();
    const child = spawn(command, args, {
      stdio: ['ignore', log, log],
      env: { ...process.env, ...this.contender.env },
    });
    this.#process = child;
    closeSync(log);
    while (performance.now() - began < START_MS) {
      if (child.exitCode !== null) break;
      const isUp = await this.api('GET', '/_ping').then(
        () => true,
        () => false,
      );
      if (isUp) return performance.now() - began;
      await sleep(2);
    }
    throw new Error(`${this.contender.name} does not answer:\n${this.log()}`);
  }

  log(): string {
    return readFileSync(this.#logPath, 'utf8');
  }

  /** Runs the docker CLI to its end, and throws unless it exits with 0. */
  async docker(...args: string[]): Promise<Finished> {
    const done = await run('docker', ['--host', `unix://${this.#place.socket}`, ...args]);
    if (done.code !== 0)
      throw new Error(
        `docker ${args.join(' ')}: exit ${done.code}\n${done.stderr}\n${this.log().slice(-3000)}`,
      );
    return done;
  }

  /** One request on a connection that is kept; the body of the answer, which must be a success. */
  async api(method: string, path: string, body?: object): Promise<string> {
    return new Promise((done, reject) => {
      const sent = request(
        {
          ...{ socketPath: this.#place.socket, path, method, agent: this.#agent },
          ...(body && { headers: { 'content-type': 'application/json' } }),
        },
        (response) => {
          text(response).then((body) => {
            if ((response.statusCode ?? 500) < 300) done(body);
            else reject(new Error(`${method} ${path}: ${response.statusCode} ${body}`));
          }, reject);
        },
      );
      sent.once('error', reject);
      sent.end(body && JSON.stringify(body));
    });
  }

  /** Stops it and takes everything away that it has left. */
  async [Symbol.asyncDispose](): Promise<void> {
    await using _parts = this.#parts;
    this.#agent.destroy();
    await this.#stop();
    const layout = await readCgroupLayout();
    for (const pid of await cgroupPids(layout, this.#place.cgroupParent)) process.kill(pid, 'SIGKILL');
    for (const path of await mountsUnder(this.#place.directory))
      if (path !== this.disk.path) unmount(path, { isLazy: true });
    await removeCgroup(layout, this.#place.cgroupParent);
  }

  get #logPath(): string {
    return join(this.#place.directory, 'log');
  }

  async #stop(): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((done) => child.once('exit', done));
    child.kill('SIGTERM');
    const insist = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    await ended;
    clearTimeout(insist);
  }
}
