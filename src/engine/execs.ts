import { fail, messageOf } from '../errors.ts';
import { hastenCgroupMoves } from '../host/cgroup-moves.ts';
import { parseDetachKeys } from '../lib/detach-keys.ts';
import { frame, STDOUT } from '../lib/frames.ts';
import { newId } from '../lib/ids.ts';
import { containerCapabilities } from '../runtime/capabilities.ts';
import type { RunningExec } from '../runtime/exec.ts';
import type { Runtime } from '../runtime/runtime.ts';
import { resolveUser } from '../runtime/users.ts';
import { environmentOf } from './bundle-spec.ts';
import { tellContainer } from './container-events.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import type { Events } from './events.ts';
import type { Launcher } from './launcher.ts';
import type { ContainerRecord } from './model.ts';
import { type SecurityDefaults, securityOf } from './security.ts';
import { type AttachSession, type ClientStreams, carry } from './streams.ts';

/** One more process in a container, as a client asks for it. */
export interface ExecRequest {
  attachStdin: boolean;
  attachStdout: boolean;
  attachStderr: boolean;
  tty: boolean;
  detachKeys: string;
  env: string[] | null;
  cmd: string[];
  privileged: boolean;
  user: string;
  workingDir: string;
  consoleSize?: [number, number];
}

/** An exec as inspect shows it. */
export interface ExecView {
  id: string;
  containerId: string;
  request: ExecRequest;
  isRunning: boolean;
  /** Absent until it has ended. */
  exitCode?: number;
  pid: number;
}

interface Exec extends ExecView {
  hasRun: boolean;
  process?: RunningExec;
}

/** What dockerd says of every exec that could not begin, a missing program's too. */
const NOT_STARTED = 126;

/** Ended execs that can still be inspected, the oldest forgotten first; dockerd forgets them after minutes too. */
const MAX_ENDED = 512;
/** dockerd's patience with a resize that comes before the start. */
const RESIZE_WAIT_MS = 10_000;

/** Further processes in running containers. They are known to this daemon only: none of it is kept over a restart. */
export class Execs {
  readonly #records: ContainerRecords;
  readonly #runtime: Pick<Runtime, 'exec'>;
  readonly #launcher: Pick<Launcher, 'directoryOf'>;
  readonly #events: Events;
  readonly #security: SecurityDefaults;
  readonly #execs = new Map<string, Exec>();

  constructor(o: {
    records: ContainerRecords;
    runtime: Pick<Runtime, 'exec'>;
    launcher: Pick<Launcher, 'directoryOf'>;
    events: Events;
    security: SecurityDefaults;
  }) {
    this.#records = o.records;
    this.#runtime = o.runtime;
    this.#launcher = o.launcher;
    this.#events = o.events;
    this.#security = o.security;
  }

  /** IDs of the execs of a container that have not ended. */
  idsOf(containerId: string): string[] {
    return [...this.#execs.values()]
      .filter((exec) => exec.containerId === containerId && exec.exitCode === undefined)
      .map(({ id }) => id);
  }

  /** Notes what is to be run; nothing runs yet. Throws 400 without a command, 404, 409. */
  async create(containerRef: string, request: ExecRequest): Promise<string> {
    if (request.cmd.length === 0) throw fail.badRequest('No exec command specified');
    const record = this.#records.find(containerRef);
    checkReady(record, containerRef);
    checkKeys(request.detachKeys);
    hastenCgroupMoves(); // the start will follow
    const id = newId();
    this.#forgetOld();
    this.#execs.set(id, { id, containerId: record.id, request, isRunning: false, hasRun: false, pid: 0 });
    this.#tell(record, `exec_create: ${request.cmd.join(' ')}`, id);
    return id;
  }

  /** The session to pump into the client's connection; the process starts with it. Throws 404 and 409 at once. */
  async start(id: string, o: { isTty: boolean; consoleSize?: [number, number] }): Promise<AttachSession> {
    const exec = this.#find(id);
    const record = this.#records.find(exec.containerId);
    checkReady(record, record.id);
    return {
      isTty: o.isTty,
      pump: async (io) => {
        try {
          return await this.#runAttached(exec, record, o.consoleSize, io);
        } catch (cause) {
          // the handshake is done: dockerd, too, tells such failures in the stream
          const text = Buffer.from(`${messageOf(cause)}\r\n`);
          io.output.write(io.isFramed ? frame(STDOUT, text) : text);
          return 'ended';
        }
      },
    };
  }

  /** Starts it without anyone attached; returns once it runs. Throws 400 if the program cannot be run, 409. */
  async startDetached(id: string): Promise<void> {
    const exec = this.#find(id);
    const record = this.#records.find(exec.containerId);
    checkReady(record, record.id);
    await this.#launch(exec, record, undefined, true);
  }

  inspect(id: string): ExecView {
    return this.#find(id);
  }

  async resize(id: string, size: { rows: number; columns: number }): Promise<void> {
    const exec = this.#find(id);
    const deadline = performance.now() + RESIZE_WAIT_MS;
    while (exec.process === undefined) {
      if (performance.now() > deadline) throw fail.host('timeout waiting for exec session ready');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    exec.process.resize(size);
  }

  async #runAttached(
    exec: Exec,
    record: ContainerRecord,
    consoleSize: [number, number] | undefined,
    io: ClientStreams,
  ): Promise<'ended' | 'detached'> {
    const running = await this.#launch(exec, record, consoleSize, false);
    const { attachStdin, attachStdout, attachStderr, tty, detachKeys } = exec.request;
    const end = await carry(
      running.attachment,
      {
        stdin: attachStdin,
        stdout: attachStdout,
        stderr: attachStderr,
        ...(tty && attachStdin && { detachKeys: parseDetachKeys(detachKeys) }),
      },
      io,
    );
    if (end === 'detached') this.#tell(record, 'exec_detach', exec.id);
    // clients inspect the exit code as soon as the stream ends: it must be known by then
    else if (!io.signal.aborted) await running.exit;
    return end;
  }

  async #launch(
    exec: Exec,
    record: ContainerRecord,
    consoleSize: [number, number] | undefined,
    isDetached: boolean,
  ): Promise<RunningExec> {
    if (exec.hasRun) throw fail.execHasRun(exec.id);
    exec.hasRun = true;
    const { request } = exec;
    const size = consoleSize ?? request.consoleSize;
    try {
      const rootfs = `${this.#launcher.directoryOf(record.id)}/merged`;
      const user = await resolveUser(
        rootfs,
        request.user || record.config.user,
        record.hostConfig.groupAdd ?? [],
      );
      const running = await this.#runtime.exec({
        containerId: record.id,
        execId: exec.id,
        isDetached,
        args: request.cmd,
        env: environmentOf(record, { home: user.home, tty: request.tty, more: request.env ?? [] }),
        cwd: request.workingDir || record.config.workingDir || '/',
        user,
        terminal: request.tty,
        ...(size && { consoleSize: size }),
        hasStdin: request.attachStdin,
        capabilities: containerCapabilities({
          ...record.hostConfig,
          privileged: record.hostConfig.privileged || request.privileged,
        }),
        noNewPrivileges: securityOf(record.hostConfig, this.#security).noNewPrivileges,
      });
      exec.process = running;
      exec.pid = running.pid;
      exec.isRunning = true;
      this.#tell(record, `exec_start: ${request.cmd.join(' ')}`, exec.id);
      void running.exit.then((exitCode) => this.#ended(exec, record, exitCode));
      return running;
    } catch (cause) {
      exec.exitCode = NOT_STARTED;
      throw cause;
    }
  }

  #ended(exec: Exec, record: ContainerRecord, exitCode: number): void {
    exec.isRunning = false;
    exec.exitCode = exitCode;
    this.#tell(record, 'exec_die', exec.id, { exitCode: String(exitCode) });
  }

  #find(id: string): Exec {
    const exec = this.#execs.get(id);
    if (exec === undefined) throw fail.noSuchExec(id);
    return exec;
  }

  #forgetOld(): void {
    for (const [id, { containerId }] of this.#execs) {
      if (this.#records.get(containerId) === undefined) this.#execs.delete(id);
    }
    const ended = [...this.#execs.values()].filter(({ exitCode }) => exitCode !== undefined);
    for (const { id } of ended.slice(0, Math.max(0, ended.length - MAX_ENDED))) this.#execs.delete(id);
  }

  #tell(record: ContainerRecord, action: string, execId: string, more: Record<string, string> = {}): void {
    tellContainer(this.#events, record, action, { execID: execId, ...more });
  }
}

function checkReady(record: ContainerRecord, ref: string): void {
  if (record.state.status === 'paused') throw fail.execPaused(ref);
  if (record.state.status === 'restarting') throw fail.execRestarting(record.id);
  if (!isRunning(record)) throw fail.notRunning(record.id);
}

function checkKeys(keys: string): void {
  try {
    parseDetachKeys(keys);
  } catch {
    throw fail.invalidExecKeys(keys);
  }
}
