import { setTimeout as sleep } from 'node:timers/promises';
import { fail, messageOf } from '../errors.ts';
import { hastenCgroupMoves } from '../host/cgroup-moves.ts';
import { parseDetachKeys } from '../lib/detach-keys.ts';
import { frame, STDOUT } from '../lib/frames.ts';
import { containerCapabilities } from '../runtime/capabilities.ts';
import type { RunningExec } from '../runtime/exec.ts';
import type { Runtime } from '../runtime/runtime.ts';
import { resolveUser } from '../runtime/users.ts';
import { environmentOf } from './bundle-spec.ts';
import { tellContainer } from './container-events.ts';
import { linkedEnvironment } from './container-links.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import type { Events } from './events.ts';
import { type Exec, ExecRecords, type ExecRequest, type ExecView } from './exec-records.ts';
import type { Launcher } from './launcher.ts';
import type { ContainerRecord } from './model.ts';
import { type SecurityDefaults, securityOf } from './security.ts';
import { type AttachSession, type ClientStreams, carry } from './streams.ts';

/** What dockerd says of every exec that could not begin, a missing program's too. */
const NOT_STARTED = 126;

/** dockerd's patience with a resize that comes before the start. */
const RESIZE_WAIT_MS = 10_000;

/** Further processes in running containers. They are known to this daemon only: none of it is kept over a restart. */
export class Execs {
  readonly #records: ContainerRecords;
  readonly #runtime: Pick<Runtime, 'exec'>;
  readonly #launcher: Pick<Launcher, 'directoryOf'>;
  readonly #events: Events;
  readonly #security: SecurityDefaults;
  readonly #execs: ExecRecords;

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
    this.#execs = new ExecRecords(o.records);
  }

  /** IDs of the execs of a container that have not ended. */
  idsOf(containerId: string): string[] {
    return this.#execs.idsOf(containerId);
  }

  /** Notes what is to be run; nothing runs yet. Throws 400 without a command, 404, 409. */
  async create(containerRef: string, request: ExecRequest): Promise<string> {
    if (request.cmd.length === 0) throw fail.badRequest('No exec command specified');
    const record = this.#records.find(containerRef);
    checkReady(record, containerRef);
    checkKeys(request.detachKeys);
    hastenCgroupMoves(); // the start will follow
    const { id } = this.#execs.add(record, request);
    this.#tell(record, `exec_create: ${commandText(request)}`, id);
    return id;
  }

  /** The session to pump into the client's connection; the process starts with it. Throws 404 and 409 at once. */
  async start(id: string, o: { isTty: boolean; consoleSize?: [number, number] }): Promise<AttachSession> {
    const exec = this.#execs.find(id);
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
    const exec = this.#execs.find(id);
    const record = this.#records.find(exec.containerId);
    checkReady(record, record.id);
    await this.#launch(exec, record, undefined, true);
  }

  inspect(id: string): ExecView {
    return this.#execs.show(id);
  }

  /** Waits for one that is yet to begin, for a while. Throws 404, 409, and 500 if it does not begin. */
  async resize(
    id: string,
    size: { rows: number; columns: number },
    o: { signal?: AbortSignal } = {},
  ): Promise<void> {
    const exec = this.#execs.find(id);
    const record = this.#records.find(exec.containerId);
    checkReady(record, record.id);
    const late = new AbortController();
    const patience = sleep(RESIZE_WAIT_MS, 'late' as const, {
      signal: o.signal === undefined ? late.signal : AbortSignal.any([late.signal, o.signal]),
    });
    try {
      const process = await Promise.race([exec.begun, patience]);
      if (process === 'late') throw fail.host('timeout waiting for exec session ready');
      if (process === undefined || exec.exitCode !== undefined) throw fail.execOver();
      process.resize(size);
    } finally {
      late.abort();
      patience.catch(() => {}); // nobody waits any more
    }
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
    this.#tell(record, `exec_start: ${commandText(request)}`, exec.id); // dockerd tells that it tries
    const size = consoleSize ?? request.consoleSize;
    try {
      const rootfs = `${this.#launcher.directoryOf(record.id)}/merged`;
      const user = await resolveUser(rootfs, request.user, record.hostConfig.groupAdd ?? []);
      const running = await this.#runtime.exec({
        containerId: record.id,
        execId: exec.id,
        isDetached,
        args: request.cmd,
        env: environmentOf(record, {
          ...{ home: user.home, tty: request.tty, more: request.env ?? [] },
          linked: linkedEnvironment(record, this.#records),
        }),
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
      exec.begin(running);
      void running.exit.then((exitCode) => this.#ended(exec, record, exitCode));
      return running;
    } catch (cause) {
      exec.end(NOT_STARTED);
      throw cause;
    }
  }

  #ended(exec: Exec, record: ContainerRecord, exitCode: number): void {
    exec.end(exitCode);
    this.#tell(record, 'exec_die', exec.id, { exitCode: String(exitCode) });
  }

  #tell(record: ContainerRecord, action: string, execId: string, more: Record<string, string> = {}): void {
    tellContainer(this.#events, record, action, { execID: execId, ...more });
  }
}

/** dockerd puts a blank behind the program, whether arguments follow or not. */
function commandText({ cmd: [program, ...args] }: ExecRequest): string {
  return `${program} ${args.join(' ')}`;
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
