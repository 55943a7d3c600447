import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CgroupLayout, readCgroupLayout, removeCgroup } from '../../../src/host/cgroup.ts';
import { isRoot } from '../../../src/host/facts.ts';
import { mountsUnder } from '../../../src/host/mounts.ts';
import { silentLog } from '../../../src/lib/log.ts';
import { withResolvers } from '../../../src/lib/promises.ts';
import type { Attachment, OutputSink } from '../../../src/runtime/attach.ts';
import { containerCapabilities } from '../../../src/runtime/capabilities.ts';
import type { ExecSpec } from '../../../src/runtime/exec.ts';
import type { LogPlan } from '../../../src/runtime/log-generations.ts';
import { type LogQuery, readLog } from '../../../src/runtime/logs.ts';
import { type ContainerExit, Runtime } from '../../../src/runtime/runtime.ts';
import type { BundleSpec, ProcessSpec } from '../../../src/runtime/spec.ts';
import { programPath } from '../../support/programs.ts';

const missing = ['conmon', 'runc', 'busybox'].filter((name) => spawnSync('which', [name]).status !== 0);

/** Why these tests cannot run here; false if they can. */
export const skip: string | false = !isRoot()
  ? 'needs root'
  : missing.length > 0
    ? `needs ${missing.join(', ')}`
    : false;

/**
 * Under which OCI runtime to test: `unified.test.ts` runs the others again, in a mount namespace with unified cgroups.
 * There may be no controllers there, and crun may not manage cgroups at all without CAP_SYS_RESOURCE.
 */
export const runtimeName = process.env['SKERRY_TEST_RUNTIME'] ?? 'runc';
export const hasControllers = process.env['SKERRY_TEST_RUNTIME'] === undefined;

const runtimes = {
  runc: { path: 'runc' },
  crun: { path: 'crun', args: ['--cgroup-manager=disabled'] },
};

const applets = 'sh cat echo head id kill ls mkdir mount nc ping printf seq sleep stat stty true yes'.split(
  ' ',
);

type Changes = Partial<Omit<BundleSpec, 'process'>> & { process?: Partial<ProcessSpec> };

/** An exec root, a root file system with busybox, and a cgroup parent of its own. Disposal finds nothing left, or fails. */
export class World implements AsyncDisposable {
  readonly directory: string;
  readonly execRoot: string;
  readonly rootfs: string;
  readonly cgroupParent: string;
  readonly cgroups: CgroupLayout;
  readonly runtime: Runtime;
  readonly exits: ContainerExit[] = [];
  readonly #ownsDirectory: boolean;
  #lastId = 0;

  private constructor(
    directory: string,
    o: { runtime: Runtime; cgroups: CgroupLayout; ownsDirectory: boolean },
  ) {
    this.directory = directory;
    this.execRoot = join(directory, 'exec');
    this.rootfs = join(directory, 'rootfs');
    this.cgroupParent = `/${directory.split('/').at(-1)}`;
    this.cgroups = o.cgroups;
    this.runtime = o.runtime;
    this.#ownsDirectory = o.ownsDirectory;
    this.runtime.onExit((exit) => this.exits.push(exit));
  }

  /** A world of its own, or one more daemon in the world at `directory`. */
  static async open(at?: string): Promise<World> {
    const directory = at ?? mkdtempSync(join(tmpdir(), 'skt-runtime-'));
    const cgroups = await readCgroupLayout();
    const runtime = await Runtime.open({
      execRoot: join(directory, 'exec'),
      runtimes,
      defaultRuntime: runtimeName,
      cgroups,
      log: silentLog,
    });
    const world = new World(directory, { runtime, cgroups, ownsDirectory: at === undefined });
    if (at === undefined) world.#makeRootfs();
    return world;
  }

  /** What a container with this command is made from. */
  spec(args: readonly string[], { process: changed, ...changes }: Changes = {}): BundleSpec {
    const id = changes.id ?? `${`${++this.#lastId}`.padStart(4, '0')}${'ab'.repeat(30)}`;
    return {
      id,
      runtime: runtimeName,
      rootfs: this.rootfs,
      isRootfsReadonly: false,
      hostname: 'box',
      domainname: '',
      namespaces: { pid: 'private', ipc: 'private', uts: 'private', network: 'private', cgroup: 'private' },
      mounts: [],
      shmBytes: 64 << 20,
      resources: {},
      devices: [],
      isPrivileged: false,
      seccomp: 'default',
      maskedPaths: ['/proc/kcore', '/sys/firmware'],
      readonlyPaths: ['/proc/sys'],
      sysctls: {},
      annotations: {},
      cgroupParent: this.cgroupParent,
      log: this.logIn(join(this.directory, `log-${id}`)),
      ...changes,
      process: {
        args,
        env: ['PATH=/bin'],
        cwd: '/',
        user: { uid: 0, gid: 0, additionalGids: [0] },
        terminal: false,
        hasStdin: false,
        isStdinOnce: false,
        capabilities: containerCapabilities({ capAdd: null, capDrop: null, privileged: false }),
        noNewPrivileges: false,
        rlimits: [],
        ...changed,
      },
    };
  }

  /** A log without a limit, unless one is given. */
  logIn(path: string, limits: Partial<LogPlan> = {}): BundleSpec['log'] {
    return { kind: 'file', path, generationBytes: 0, limitBytes: 0, compresses: false, ...limits };
  }

  /** Makes and starts a container; answers its ID. */
  async up(args: readonly string[], changes: Changes = {}): Promise<string> {
    const spec = this.spec(args, changes);
    await this.runtime.create(spec);
    await this.runtime.start(spec.id);
    return spec.id;
  }

  /** One whole life: made, attached to, started, heard to its end, deleted. */
  async live(
    args: readonly string[],
    { input, ...changes }: Changes & { input?: string } = {},
  ): Promise<{ stdout: string; stderr: string; exit: ContainerExit; log: string }> {
    const hasStdin = input !== undefined;
    const process = { hasStdin, isStdinOnce: hasStdin, ...changes.process };
    const spec = this.spec(args, { ...changes, process });
    await this.runtime.create(spec);
    const attachment = await this.runtime.attach(spec.id);
    const heard = listen(attachment);
    await this.runtime.start(spec.id);
    if (input !== undefined) {
      await attachment.write(Buffer.from(input));
      attachment.endStdin();
    }
    await heard.ended;
    const exit = await this.exit(spec.id);
    const log = await this.log(spec.id);
    await this.runtime.delete(spec.id);
    return { stdout: heard.text(1), stderr: heard.text(2), exit, log };
  }

  /** A further process's words and exit code. */
  async exec(
    containerId: string,
    args: readonly string[],
    { input, ...changes }: Partial<ExecSpec> & { input?: string } = {},
  ): Promise<{ stdout: string; stderr: string; exitCode: number }> {
    const running = await this.runtime.exec(
      this.execSpec(containerId, args, { hasStdin: input !== undefined, ...changes }),
    );
    const heard = listen(running.attachment);
    if (input !== undefined) {
      await running.attachment.write(Buffer.from(input));
      running.attachment.endStdin();
    }
    await heard.ended;
    return { stdout: heard.text(1), stderr: heard.text(2), exitCode: await running.exit };
  }

  execSpec(containerId: string, args: readonly string[], changes: Partial<ExecSpec> = {}): ExecSpec {
    const { isStdinOnce: _, rlimits: __, ...process } = this.spec(args).process;
    return { ...process, containerId, execId: `e${++this.#lastId}`, isDetached: false, ...changes };
  }

  /** The exit that was told of a container, when it is. */
  async exit(id: string): Promise<ContainerExit> {
    for (let tries = 0; tries < 1000; tries++) {
      const exit = this.exits.find((known) => known.id === id);
      if (exit !== undefined) return exit;
      await sleep(10);
    }
    return assert.fail(`no exit of ${id}`);
  }

  async log(id: string, query: Partial<LogQuery> = {}): Promise<string> {
    const chunks: Buffer[] = [];
    const path = join(this.directory, `log-${id}`);
    for await (const { data } of readLog(path, { stdout: true, stderr: true, ...query })) chunks.push(data);
    return Buffer.concat(chunks).toString();
  }

  /** Deletes all containers and checks that neither they nor their monitors have left anything behind. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const id of await this.runtime.list()) await this.runtime.delete(id);
    await this.runtime[Symbol.asyncDispose]();
    if (!this.#ownsDirectory) return;
    const left = this.leftovers();
    await removeCgroup(this.cgroups, this.cgroupParent);
    rmSync(this.directory, { recursive: true });
    assert.deepEqual(left, []);
    assert.deepEqual(await mountsUnder(this.directory), []);
  }

  /** Files in the exec root, cgroups in any hierarchy, and processes that name this world. */
  leftovers(): string[] {
    const files = ['bundles', 'exits', 'oci/runc', 'oci/crun']
      .filter((place) => existsSync(join(this.execRoot, place)))
      .flatMap((place) => readdirSync(join(this.execRoot, place)).map((name) => `${place}/${name}`));
    const groups = [...new Set(this.cgroups.mounts.values())]
      .map((mount) => join(mount, this.cgroupParent))
      .filter((path) => existsSync(path))
      .flatMap((path) => readdirSync(path, { withFileTypes: true }).map((entry) => [path, entry] as const))
      .filter(([, entry]) => entry.isDirectory())
      .map(([path, entry]) => join(path, entry.name));
    const processes = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
      .map((pid) => commandOf(pid))
      .filter((command) => command.includes(this.execRoot));
    return [...files, ...groups, ...processes];
  }

  #makeRootfs(): void {
    for (const name of ['bin', 'dev', 'etc', 'proc', 'sys', 'tmp'])
      mkdirSync(join(this.rootfs, name), { recursive: true });
    copyFileSync(programPath('busybox'), join(this.rootfs, 'bin/busybox'));
    for (const name of applets) symlinkSync('busybox', join(this.rootfs, 'bin', name));
    writeFileSync(join(this.rootfs, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
    writeFileSync(join(this.rootfs, 'plain'), 'not a program\n', { mode: 0o644 });
  }
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

/** Collects what a process writes. */
export function listen(
  attachment: Attachment,
  sink: Partial<OutputSink> = {},
): { text: (stream: 1 | 2) => string; ended: Promise<void>; leave: () => void } {
  const chunks: Record<1 | 2, Buffer[]> = { 1: [], 2: [] };
  const { promise: ended, resolve } = withResolvers<void>();
  const leave = attachment.subscribe(
    {
      onOutput(stream, data) {
        chunks[stream].push(data);
        return sink.onOutput?.(stream, data);
      },
      onEnd: resolve,
      ...(sink.onDropped && { onDropped: sink.onDropped }),
    },
    { maxBufferedBytes: 1 << 20 },
  );
  return { text: (stream) => Buffer.concat(chunks[stream]).toString(), ended, leave };
}

/** Waits until something is so, for at most five seconds. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    if (await condition()) return;
    await sleep(10);
  }
  assert.fail('it never came to be');
}
