import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fail } from '../errors.ts';
import { type CgroupLayout, cgroupPids } from '../host/cgroup.ts';
import { hastenCgroupMoves } from '../host/cgroup-moves.ts';
import { type CgroupUsage, readCgroupUsage } from '../host/cgroup-usage.ts';
import { removeTree } from '../host/files.ts';
import type { Log } from '../lib/log.ts';
import { defaultProfile, ensureDefaultProfile } from './apparmor.ts';
import type { Attachment } from './attach.ts';
import { Attachments } from './attachments.ts';
import { Bundle, bundlesOf, monitorCgroupOf, processId, type RunFacts } from './bundle.ts';
import { makeCheckpoint } from './checkpoint.ts';
import { Monitor } from './conmon.ts';
import { resizeTerminal } from './control.ts';
import { devicesOf } from './devices.ts';
import { startDirectly } from './direct-exec.ts';
import { type ExecProcess, type ExecSpec, prepareExec, type RunningExec, startMonitored } from './exec.ts';
import { type ContainerExit, Exits, isRunning } from './exits.ts';
import { ociFailure } from './failure.ts';
import { RuntimeFeatures } from './features.ts';
import { inheritedSink } from './inherited-sink.ts';
import { readJournal } from './journal-reader.ts';
import { removeLeft } from './leftovers.ts';
import type { LogLine, LogQuery } from './logs.ts';
import { type ProbeLimits, type ProbeResult, runProbe } from './probe.ts';
import { type BundleResources, ociResources } from './resources.ts';
import { type MonitorLog, RunningLogs } from './running-logs.ts';
import { findProgram, type OciRuntime, type RuntimeChoice, Runtimes } from './runtimes.ts';
import { type BundleSpec, cgroupOf, ociSpec, type SpecHost } from './spec.ts';
import { specHost } from './spec-host.ts';

export type { ContainerExit } from './exits.ts';

/** A container as the kernel and its OCI runtime have it. */
export interface FoundContainer {
  readonly status: 'created' | 'running' | 'paused' | 'stopped';
  /** As the host numbers it; 0 for one that has stopped. */
  readonly pid: number;
}

/**
 * Runs containers, by conmon and an OCI runtime. Both outlive the daemon, as does everything about a run: it is in the
 * exec root, in the kernel, or gone. What this object remembers can be thrown away at any instant.
 */
export class Runtime implements AsyncDisposable {
  readonly #execRoot: string;
  readonly #runtimes: Runtimes;
  readonly #features = new RuntimeFeatures();
  readonly #conmonPath: string;
  readonly #cgroups: CgroupLayout;
  readonly #host: SpecHost;
  readonly #exits: Exits;
  readonly #logs: RunningLogs;
  readonly #attachments: Attachments;
  readonly #log: Log;

  private constructor(o: {
    execRoot: string;
    runtimes: Runtimes;
    conmonPath: string;
    cgroups: CgroupLayout;
    host: SpecHost;
    exits: Exits;
    log: Log;
  }) {
    this.#execRoot = o.execRoot;
    this.#runtimes = o.runtimes;
    this.#conmonPath = o.conmonPath;
    this.#cgroups = o.cgroups;
    this.#host = o.host;
    this.#exits = o.exits;
    this.#logs = new RunningLogs(o.log);
    this.#attachments = new Attachments((id) => o.exits.look(id));
    this.#log = o.log;
  }

  /** Finds the programs, and watches whatever containers already run. Throws 500 if a program is missing. */
  static async open(o: {
    execRoot: string;
    runtimes: Readonly<Record<string, RuntimeChoice>>;
    defaultRuntime: string;
    cgroups: CgroupLayout;
    log: Log;
  }): Promise<Runtime> {
    const conmonPath = findProgram('conmon');
    if (conmonPath === undefined) throw fail.host('conmon not found: install conmon');
    mkdirSync(bundlesOf(o.execRoot), { recursive: true, mode: 0o700 });
    const runtimes = await Runtimes.open(o);
    const exits = Exits.open(o.execRoot, o.log);
    const runtime = new Runtime({ ...o, runtimes, conmonPath, host: specHost(o.cgroups), exits });
    runtime.#watchLeft();
    return runtime;
  }

  /** The OCI runtime that an empty name means here. */
  get defaultName(): string {
    return this.#runtimes.defaultName;
  }

  /** What a user should know about this host's runtimes. */
  get warnings(): readonly string[] {
    return this.#runtimes.warnings;
  }

  names(): string[] {
    return this.#runtimes.names();
  }

  /** Why an OCI runtime cannot mount read-only what is mounted below; undefined if it can. */
  whyNotDeep(name: string): Promise<string | undefined> {
    return this.#features.whyNotDeep(this.#runtimes.get(name));
  }

  /** What each runtime calls its version. Runs them: not for every request. */
  async versions(): Promise<Record<string, string>> {
    const all = this.#runtimes.all();
    const versions = await Promise.all(all.map((runtime) => runtime.version()));
    return Object.fromEntries(all.map(({ name }, at) => [name, versions[at] ?? '']));
  }

  /**
   * Makes the container; its process waits for {@link start}. Whatever an earlier run left is removed. Throws a
   * {@link StartFailure} in dockerd's words; then nothing is left.
   */
  async create(spec: BundleSpec): Promise<{ pid: number; startTicks: number | undefined }> {
    hastenCgroupMoves();
    const runtime = this.#runtimes.get(spec.runtime);
    const config = ociSpec(spec, await devicesOf(spec), this.#host);
    if (this.#host.hasAppArmor && spec.process.apparmor === defaultProfile) await ensureDefaultProfile();
    await this.#clear(spec.id);
    const bundle = new Bundle(this.#execRoot, spec.id);
    const { terminal, hasStdin, isStdinOnce, args } = spec.process;
    const facts: RunFacts = {
      runtime: runtime.name,
      cgroup: cgroupOf(spec),
      command: args[0] ?? '',
      ...(spec.checkpointPath !== undefined && { isRestored: true }),
      hasStdin,
      keepsStdinOpen: terminal || !isStdinOnce,
      log: spec.log,
    };
    try {
      bundle.make(facts, config);
      const log = this.#logs.begin(spec.log, bundle.directory);
      const container = processId(await this.#monitor(bundle, facts, runtime, { ...spec, log }));
      const monitor = bundle.read()?.monitor;
      const known = { ...facts, container, ...(monitor && { monitor: processId(monitor.pid) }) };
      bundle.write(known);
      this.#keepLog(bundle, known);
      return { pid: container.pid, startTicks: container.startTicks };
    } catch (cause) {
      await this.delete(spec.id);
      throw cause;
    }
  }

  /** Lets the container's process run. Throws a {@link StartFailure}; 409 if it was not created. */
  async start(id: string): Promise<void> {
    const { bundle, facts, runtime } = this.#known(id);
    const hasBegun = facts.isRestored === true;
    const { code, stderr } = hasBegun ? { code: 0, stderr: '' } : await runtime.call('start', id);
    if (code !== 0) throw ociFailure('start', stderr, facts.command);
    bundle.mark('started');
  }

  /** Sends a signal to the container's first process. Throws 409 if it does not run. */
  async signal(id: string, signal: number): Promise<void> {
    await this.#order(id, ['kill', id, String(signal)]);
  }

  async pause(id: string): Promise<void> {
    this.#known(id).bundle.mark('paused'); // before it is: then a reader asks the runtime
    await this.#order(id, ['pause', id]);
  }

  async resume(id: string): Promise<void> {
    await this.#order(id, ['resume', id]);
    rmSync(this.#known(id).bundle.path('paused'), { force: true });
  }

  /** Changes limits of a running container; those that are left out stay. Throws 500 with the runtime's words. */
  async update(id: string, resources: BundleResources): Promise<void> {
    const path = this.#known(id).bundle.path('resources.json'); // crun opens its stdin anew, which Node's pipes refuse
    writeFileSync(path, JSON.stringify(ociResources(resources, this.#host.cgroupVersion)), { mode: 0o600 });
    await this.#order(id, ['update', '--resources', path, id]);
  }

  /** Freezes a container's processes into a directory, by CRIU; they end with it, or go on. Throws 500. */
  async checkpoint(id: string, o: { directory: string; exits: boolean }): Promise<void> {
    await makeCheckpoint(this.#known(id), o);
  }

  /** Sets the size of the container's terminal. */
  async resize(id: string, size: { rows: number; columns: number }): Promise<void> {
    resizeTerminal(new Bundle(this.#execRoot, id).path('ctl'), size);
  }

  /** What there is of a container, the kernel believed over any note. Cheap for one that simply runs. */
  async find(id: string): Promise<FoundContainer | undefined> {
    const bundle = new Bundle(this.#execRoot, id);
    const facts = bundle.read();
    if (facts === undefined) return undefined;
    const { container } = facts;
    if (container === undefined || !isRunning(container)) return { status: 'stopped', pid: 0 };
    const isPlain = existsSync(bundle.path('started')) && !existsSync(bundle.path('paused'));
    const status = isPlain ? 'running' : await this.#statusOf(id, facts);
    return { status, pid: status === 'stopped' ? 0 : container.pid };
  }

  /** What the container's processes have used so far; undefined where there is no such run. */
  usage(id: string): CgroupUsage | undefined {
    const facts = new Bundle(this.#execRoot, id).read();
    return facts && readCgroupUsage(this.#cgroups, facts.cgroup);
  }

  /** The container's processes, as the host numbers them. */
  async pids(id: string): Promise<number[]> {
    const facts = new Bundle(this.#execRoot, id).read();
    return facts === undefined ? [] : cgroupPids(this.#cgroups, facts.cgroup);
  }

  /** Every container that has left a trace here. */
  async list(): Promise<string[]> {
    const states = readdirSync(join(this.#execRoot, 'oci')).map((name) => join(this.#execRoot, 'oci', name));
    const places = [bundlesOf(this.#execRoot), this.#exits.directory, ...states];
    const names = places.flatMap((place) => readdirSync(place));
    return [...new Set(names.filter((name) => /^[0-9a-zA-Z][\w.-]*$/.test(name)))].sort();
  }

  /** How a container ended, if it has: also while no daemon ran. Undefined for one that runs or is not known. */
  async exitOf(id: string): Promise<ContainerExit | undefined> {
    const bundle = new Bundle(this.#execRoot, id);
    const facts = bundle.read();
    return facts === undefined ? undefined : this.#exits.of(bundle, facts);
  }

  /** Tells of every end from now on, once per run; what ended before this daemon began is for {@link exitOf}. */
  onExit(listener: (exit: ContainerExit) => void): () => void {
    return this.#exits.onExit((exit) => {
      void this.#logs.end(exit.id);
      listener(exit);
    });
  }

  /** Tells, once per run, of a container in which the kernel has killed a process for want of memory. */
  onOom(listener: (id: string) => void): () => void {
    return this.#exits.onOom(listener);
  }

  /** Removes a run, killing what is alive: process, cgroups, monitor, files. Absent is fine. */
  async delete(id: string): Promise<void> {
    const bundle = new Bundle(this.#execRoot, id);
    const facts = bundle.read();
    this.#exits.forget(bundle);
    if (facts?.container !== undefined && existsSync(bundle.path('paused')))
      await this.#runtimes.get(facts.runtime).call('resume', id); // a frozen process cannot die
    for (const runtime of this.#makersOf(id, facts)) await runtime.call('delete', '--force', id);
    if (facts !== undefined) await removeLeft(this.#cgroups, facts);
    await this.#attachments.drain(id);
    await this.#logs.end(id);
    this.#exits.forget(bundle); // the monitor of one that was killed just now has written once more
    await removeTree(bundle.directory);
  }

  /**
   * The one connection to the container's streams, made when it is first wanted and shared. Before the start it will
   * give the first byte. Throws 409 where there is no such run.
   */
  async attach(id: string): Promise<Attachment> {
    return this.#attachments.to(id, () => this.#known(id));
  }

  /** A log that is in systemd's journal, of all the container's runs. */
  readJournal(id: string, query: LogQuery): AsyncIterable<LogLine> {
    return readJournal({ containerId: id, mark: () => this.#logs.markOf(id) }, query);
  }

  /** Runs one more process in a container. Throws a {@link StartFailure} in dockerd's words. */
  async exec(spec: ExecSpec): Promise<RunningExec> {
    hastenCgroupMoves();
    const container = this.#known(spec.containerId);
    const place = prepareExec(container, spec);
    if (!spec.terminal) return startDirectly(container.runtime, spec, place);
    const parts = { conmonPath: this.#conmonPath, cgroups: this.#cgroups, log: this.#log };
    return startMonitored(parts, container, spec, place);
  }

  /** Runs a short process in a container that nobody attaches to, one at a time in each. Throws as {@link exec} does. */
  async probe(id: string, spec: ExecProcess, limits: ProbeLimits): Promise<ProbeResult> {
    return runProbe({ ...this.#known(id), pids: () => this.pids(id) }, spec, limits);
  }

  /** Lets go of all connections; containers run on. Safe twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#exits[Symbol.dispose]();
    await this.#logs[Symbol.asyncDispose]();
    await this.#attachments[Symbol.asyncDispose]();
  }

  /** Containers of an earlier daemon. What had ended by now is told by exitOf alone. */
  #watchLeft(): void {
    for (const id of readdirSync(bundlesOf(this.#execRoot))) {
      const bundle = new Bundle(this.#execRoot, id);
      const facts = bundle.read();
      if (facts === undefined) continue;
      if (isRunning(facts.container)) this.#keepLog(bundle, facts);
      else if (facts.log?.kind === 'journal') this.#logs.keep(id, facts.log, bundle.directory); // the end of it
    }
  }

  #keepLog(bundle: Bundle, facts: RunFacts): void {
    const sink = facts.log ?? inheritedSink(facts.monitor?.pid);
    this.#logs.keep(bundle.id, sink, bundle.directory);
    this.#exits.watch(bundle, facts);
  }

  /** A run that is over and was not deleted must not stand in the way of the next. */
  async #clear(id: string): Promise<void> {
    const found = await this.find(id);
    if (found !== undefined && found.status !== 'stopped')
      throw fail.runtime(`container ${id} is ${found.status} already`);
    if (found !== undefined || (await this.list()).includes(id)) await this.delete(id);
  }

  /** Has conmon make the container; answers the pid of its waiting process. */
  async #monitor(
    bundle: Bundle,
    facts: RunFacts,
    runtime: OciRuntime,
    spec: Pick<BundleSpec, 'id' | 'process' | 'checkpointPath'> & { log: MonitorLog | undefined },
  ): Promise<number> {
    const { terminal, hasStdin } = spec.process;
    const monitor = Monitor.launch(
      this.#conmonPath,
      {
        containerId: spec.id,
        runtime,
        directory: bundle.directory,
        cgroup: monitorCgroupOf(facts.cgroup),
        terminal,
        hasStdin,
        keepsStdinOpen: facts.keepsStdinOpen,
        task: {
          kind: 'container',
          log: spec.log,
          exitDirectory: this.#exits.directory,
          ...(spec.checkpointPath !== undefined && { checkpointPath: spec.checkpointPath }),
        },
      },
      this.#cgroups,
      this.#log,
    );
    try {
      await monitor.begin();
      return await monitor.started('create', facts.command);
    } finally {
      monitor.close();
    }
  }

  #known(id: string): { bundle: Bundle; facts: RunFacts; runtime: OciRuntime } {
    const bundle = new Bundle(this.#execRoot, id);
    const facts = bundle.read();
    if (facts === undefined) throw fail.notRunning(id);
    return { bundle, facts, runtime: this.#runtimes.get(facts.runtime) };
  }

  /** A command to a running container. */
  async #order(id: string, words: readonly string[]): Promise<void> {
    const { facts, runtime } = this.#known(id);
    const { code, stderr } = await runtime.call(...words);
    if (code === 0) return;
    if (!isRunning(facts.container)) throw fail.notRunning(id);
    throw fail.runtime(`OCI runtime ${words[0]} failed: ${stderr.trim()}: unknown`);
  }

  async #statusOf(id: string, facts: RunFacts): Promise<FoundContainer['status']> {
    const { code, stdout } = await this.#runtimes.get(facts.runtime).call('state', id);
    const { status }: { status?: unknown } = code === 0 ? JSON.parse(stdout) : {};
    const known = (['created', 'running', 'paused', 'stopped'] as const).find((name) => name === status);
    return known ?? 'stopped';
  }

  /** The runtimes that know of a container: the one that made it, or any that keeps a state of it. */
  #makersOf(id: string, facts: RunFacts | undefined): OciRuntime[] {
    return this.#runtimes
      .all()
      .filter(({ name }) => name === facts?.runtime || existsSync(join(this.#execRoot, 'oci', name, id)));
  }
}
