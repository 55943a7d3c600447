import type { ChildProcess } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { codeOf, fail, messageOf } from '../errors.ts';
import type { CgroupLayout } from '../host/cgroup.ts';
import { spawnSealed } from '../host/spawn.ts';
import type { Log } from '../lib/log.ts';
import { withResolvers } from '../lib/promises.ts';
import { readText } from './bundle.ts';
import { type OciStep, ociFailure } from './failure.ts';
import type { MonitorLog } from './running-logs.ts';
import type { OciRuntime } from './runtimes.ts';

/** What is to be monitored; paths are absolute. */
export interface MonitorWish {
  readonly containerId: string;
  readonly runtime: OciRuntime;
  /** Sockets, fifos and pid files go here; conmon's working directory too. */
  readonly directory: string;
  /** The cgroup that conmon itself is put into. */
  readonly cgroup: string;
  readonly terminal: boolean;
  readonly hasStdin: boolean;
  /** The process's stdin does not end when we do. */
  readonly keepsStdinOpen: boolean;
  /** A container of its own, or one more process in one. */
  readonly task:
    | {
        readonly kind: 'container';
        /** Undefined: its output is not kept. */
        readonly log: MonitorLog | undefined;
        readonly exitDirectory: string;
        /** A directory of CRIU's images to go on from. */
        readonly checkpointPath?: string;
      }
    | { readonly kind: 'exec'; readonly processPath: string; readonly isAttached: boolean };
}

/** A line that conmon writes to us: a pid, an exit code, or a negative number and why. */
export interface MonitorMessage {
  readonly data: number;
  readonly message?: string;
}

/** Descriptors in conmon; it is told their numbers by environment. */
const SYNC = 3;
const START = 4;
const ATTACH = 5;

/** conmon's stderr is only needed when it fails at once. */
const MAX_STDERR_BYTES = 8192;

/**
 * Starts conmon, which starts the OCI runtime, forks away from us and outlives us. It waits for {@link begin} twice:
 * before it forks (so that it, and all it starts, can be put into a cgroup) and, in an attached exec, before the
 * process runs (so that an attacher sees its first byte).
 */
export class Monitor {
  readonly #child: ChildProcess;
  readonly #sync: MessageReader;
  readonly #attach: MessageReader | undefined;
  readonly #start: Writable;
  readonly #stderr: Promise<string>;
  readonly #failed: Promise<never>;
  readonly #logPath: string;
  /** It is where it is to be, and what it starts will be there too. */
  readonly #moved: Promise<void>;

  private constructor(child: ChildProcess, logPath: string, moved: Promise<void>) {
    this.#child = child;
    this.#moved = moved;
    this.#logPath = logPath;
    const [, , stderr, sync, start, attach]: readonly (unknown | undefined)[] = child.stdio;
    this.#sync = new MessageReader(sync as Readable); // a pipe each, as launch() asks for
    this.#start = (start as Writable).on('error', () => {}); // a conmon that is gone shows at the other pipe
    this.#attach = attach ? new MessageReader(attach as Readable) : undefined;
    this.#stderr = textOf(stderr as Readable);
    const { promise, reject } = withResolvers<never>();
    child.once('error', (cause) => reject(cannotRun(cause)));
    promise.catch(() => {});
    this.#failed = promise;
  }

  static launch(path: string, wish: MonitorWish, cgroups: CgroupLayout, log: Log): Monitor {
    const isAttached = wish.task.kind === 'exec' && wish.task.isAttached;
    const child = spawnSealed(path, conmonArguments(wish), {
      cwd: wish.directory, // the `oom` mark and the console socket go here
      env: { ...environment(isAttached), ...wish.runtime.environment },
      stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe', ...(isAttached ? (['pipe'] as const) : [])],
      detached: true,
    });
    const { pid } = child;
    const moved = pid === undefined ? Promise.resolve() : enterCgroup(cgroups, wish.cgroup, pid, log);
    return new Monitor(child, ociLogIn(wish.directory), moved);
  }

  /** Lets conmon go on from where it waits. */
  async begin(): Promise<void> {
    await this.#moved;
    this.#start.write('\0');
  }

  /** Resolves when the attach socket is there. */
  async attachable(): Promise<void> {
    if (this.#attach === undefined) return;
    if ((await Promise.race([this.#attach.next(), this.#failed])) === undefined) throw await this.#silence();
    this.#attach.close();
  }

  /**
   * The pid of the process that was made. Throws a {@link StartFailure} with the OCI runtime's reason: from its stderr,
   * or from its log (crun has none but the terminal it was to make), or what conmon itself said.
   */
  async started(step: OciStep, command: string): Promise<number> {
    const message = await this.message();
    if (message !== undefined && message.data > 0) return message.data;
    const reason = message?.message || readText(this.#logPath);
    if (reason) throw ociFailure(step, reason, command);
    throw await this.#silence();
  }

  /** The next message; undefined if conmon ended without one. */
  async message(): Promise<MonitorMessage | undefined> {
    return Promise.race([this.#sync.next(), this.#failed]);
  }

  /** Stops listening; conmon goes on. */
  close(): void {
    this.#sync.close();
    this.#attach?.close();
    this.#start.destroy();
    this.#child.stderr?.destroy();
    this.#child.unref();
  }

  async #silence(): Promise<Error> {
    return fail.runtime(`conmon: ${(await this.#stderr).trim() || 'ended without a word'}`);
  }
}

/** A network is none of what a checkpoint keeps: it is made anew, as at any start. */
export const networkless = ['--empty-ns', 'network'];
const restoreOptions = networkless.flatMap((option) => ['--runtime-opt', option]);

/** Pure, so that the command line can be read in a test. */
export function conmonArguments({
  containerId,
  runtime,
  directory,
  task,
  ...wish
}: Omit<MonitorWish, 'cgroup'>): string[] {
  const args = ['--api-version', '--cid', containerId, '--cuuid', containerId];
  const { path, args: runtimeArgs } = runtime.maker(ociLogIn(directory));
  args.push('--runtime', path, ...runtimeArgs.flatMap((arg) => ['--runtime-arg', arg]));
  args.push('--bundle', directory, '--full-attach', '--persist-dir', directory);
  args.push('--container-pidfile', join(directory, 'pid'), '--conmon-pidfile', join(directory, 'conmon.pid'));
  if (wish.terminal) args.push('--terminal');
  if (wish.hasStdin) args.push('--stdin');
  if (wish.keepsStdinOpen) args.push('--leave-stdin-open');
  if (task.kind === 'exec') {
    args.push('--log-path', 'none', '--exec', '--exec-process-spec', task.processPath);
    if (task.isAttached) args.push('--exec-attach');
    return args;
  }
  // dockerd does not sync a log either, and a flash has better to do than that at every exit
  if (task.checkpointPath !== undefined) args.push('--restore', task.checkpointPath, ...restoreOptions);
  args.push('--exit-dir', task.exitDirectory);
  args.push('--log-path', task.log === undefined ? 'none' : `k8s-file:${task.log.path}`, '--no-sync-log');
  if (task.log !== undefined && task.log.maxBytes > 0) args.push('--log-size-max', `${task.log.maxBytes}`);
  return args;
}

function ociLogIn(directory: string): string {
  return join(directory, 'oci.log');
}

/** Little of ours: a NOTIFY_SOCKET or LISTEN_FDS would be taken for the container's. */
function environment(isAttached: boolean): Record<string, string> {
  return {
    PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin',
    TZ: 'UTC', // the log's times
    LC_ALL: 'C.UTF-8', // GLib refuses arguments that the locale cannot spell
    TMPDIR: '.', // the console socket, whose path has to be short
    _OCI_SYNCPIPE: String(SYNC),
    _OCI_STARTPIPE: String(START),
    ...(isAttached && { _OCI_ATTACHPIPE: String(ATTACH) }),
  };
}

/**
 * Moving a process takes the kernel 5 to 20 ms, so this thread does not wait for it. Only the hierarchies by which systemd ends a unit. Best effort: where it fails, the unit's `KillMode=process` is
 * what keeps containers alive.
 */
async function enterCgroup(cgroups: CgroupLayout, cgroup: string, pid: number, log: Log): Promise<void> {
  for (const hierarchy of ['unified', 'name=systemd']) {
    const mount = cgroups.mounts.get(hierarchy);
    if (mount === undefined) continue;
    try {
      await mkdir(join(mount, cgroup), { recursive: true });
      await writeFile(join(mount, cgroup, 'cgroup.procs'), String(pid));
    } catch (err) {
      log.warn({ cgroup, err }, 'could not put a monitor into its own cgroup');
    }
  }
}

/** Reads the JSON lines that conmon writes. */
class MessageReader {
  readonly #stream: Readable;
  readonly #lines: AsyncIterator<string>;

  constructor(stream: Readable) {
    this.#stream = stream.on('error', () => {});
    this.#lines = linesOf(stream);
  }

  /** Undefined at the end. */
  async next(): Promise<MonitorMessage | undefined> {
    const line = await this.#lines.next().catch(() => undefined); // closed by us, or broken: it says no more
    if (line === undefined || line.done) return undefined;
    const { data, message }: { data?: unknown; message?: unknown } = JSON.parse(line.value);
    return { data: Number(data), ...(typeof message === 'string' && { message }) };
  }

  close(): void {
    this.#stream.destroy();
  }
}

async function* linesOf(stream: Readable): AsyncGenerator<string> {
  let text = '';
  stream.setEncoding('utf8');
  for await (const chunk of stream as AsyncIterable<string>) {
    const lines = (text + chunk).split('\n');
    text = lines.pop() ?? '';
    yield* lines;
  }
}

async function textOf(stream: Readable): Promise<string> {
  let text = '';
  try {
    for await (const chunk of stream.setEncoding('utf8') as AsyncIterable<string>) {
      if (text.length < MAX_STDERR_BYTES) text += chunk;
    }
  } catch {
    // let go of by close()
  }
  return text;
}

function cannotRun(cause: Error): Error {
  return codeOf(cause) === 'ENOENT'
    ? fail.host('conmon not found: install conmon', cause)
    : fail.host(`cannot run conmon: ${messageOf(cause)}`, cause);
}
