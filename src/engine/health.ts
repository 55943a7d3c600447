import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../errors.ts';
import { formatGoDuration } from '../lib/go-duration.ts';
import { newId } from '../lib/ids.ts';
import { Semaphore } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import { nowText, parseNanos } from '../lib/time.ts';
import { readText } from '../runtime/bundle.ts';
import { containerCapabilities } from '../runtime/capabilities.ts';
import type { Runtime } from '../runtime/runtime.ts';
import { resolveUser } from '../runtime/users.ts';
import { environmentOf } from './bundle-spec.ts';
import { tellContainer } from './container-events.ts';
import type { ContainerRecords } from './container-records.ts';
import type { Events } from './events.ts';
import {
  afterProbe,
  commandOfCheck,
  type Health,
  type HealthResult,
  nextProbeMs,
  probeTimeoutMs,
} from './health-rules.ts';
import type { Launcher } from './launcher.ts';
import type { ContainerRecord } from './model.ts';
import { type SecurityDefaults, securityOf } from './security.ts';

const MAX_OUTPUT_BYTES = 4096;
/** Probes that begin at the same time; a hundred containers that booted together are to be asked one after the other. */
const WIDTH = 4;
/** A probe that takes longer than this does not hold up the others. */
const SLOT_MS = 2000;

/** What watches one container while it runs. */
interface Watch {
  stop: AbortController;
  done: Promise<void>;
}

/**
 * Asks containers how they are, by the command that they or their images name. What is known is in memory and in the
 * exec root, which is memory too: it outlives the daemon and not a boot, and none of it wears the flash.
 */
export class HealthChecks implements AsyncDisposable {
  readonly #parts: HealthParts;
  readonly #directory: string;
  readonly #states = new Map<string, Health>();
  readonly #watches = new Map<string, Watch>();
  readonly #slots = new Semaphore(WIDTH);

  private constructor(parts: HealthParts) {
    this.#parts = parts;
    this.#directory = join(parts.execRoot, 'health');
  }

  /** Takes up what the last daemon knew; nothing is watched before {@link recover}. */
  static open(parts: HealthParts): HealthChecks {
    const checks = new HealthChecks(parts);
    mkdirSync(checks.#directory, { recursive: true, mode: 0o700 });
    for (const id of readdirSync(checks.#directory)) {
      const state = parseHealth(readText(join(checks.#directory, id)));
      if (state !== undefined && parts.records.get(id) !== undefined) checks.#states.set(id, state);
      else rmSync(join(checks.#directory, id), { force: true });
    }
    return checks;
  }

  /** How a container is; undefined for one without a check, or that has not been started since the boot. */
  of(id: string): Health | undefined {
    return this.#states.get(id);
  }

  /** Goes on where the last daemon was, once the records say what runs. */
  recover(): void {
    for (const record of this.#parts.records.all()) {
      const { id, state } = record;
      if (state.status === 'running') this.#states.has(id) ? this.resume(record) : this.begin(record);
      else this.#endWatch(id);
    }
  }

  /** A container has been started: what was known of it is of its last run, but for the log. */
  begin(record: ContainerRecord): void {
    if (commandOfCheck(record.config) === undefined) return;
    const log = this.#states.get(record.id)?.log ?? [];
    void this.halt(record.id);
    this.#keep(record.id, { status: 'starting', failingStreak: 0, log });
    this.resume(record);
  }

  /** A container runs on after a pause. */
  resume({ id, config, state }: ContainerRecord): void {
    if (commandOfCheck(config) === undefined || this.#watches.has(id)) return;
    const stop = new AbortController();
    // not by the wall clock, which may be set while a board starts
    const sinceStartMs = Math.max(0, Date.now() - Date.parse(state.startedAt));
    const done = this.#watch(id, performance.now() - sinceStartMs, stop.signal).catch((err) => {
      if (!stop.signal.aborted) this.#parts.log.error({ container: id, err }, 'health checks ended');
    });
    this.#watches.set(id, { stop, done });
  }

  /** No more questions; resolves when none is under way. A container that nobody watches is not healthy, as dockerd has it. */
  async halt(id: string): Promise<void> {
    const watch = this.#watches.get(id);
    this.#endWatch(id);
    await watch?.done;
  }

  /** The container is gone. */
  forget(id: string): void {
    this.#endWatch(id);
    if (this.#states.delete(id)) rmSync(join(this.#directory, id), { force: true });
  }

  /** The next daemon goes on. */
  async [Symbol.asyncDispose](): Promise<void> {
    const watches = [...this.#watches.values()];
    this.#watches.clear();
    for (const { stop } of watches) stop.abort();
    await Promise.all(watches.map(({ done }) => done));
  }

  #endWatch(id: string): void {
    this.#watches.get(id)?.stop.abort();
    this.#watches.delete(id);
    const state = this.#states.get(id);
    if (state !== undefined && state.status !== 'unhealthy')
      this.#keep(id, { ...state, status: 'unhealthy' });
  }

  async #watch(id: string, startedMs: number, signal: AbortSignal): Promise<void> {
    for (let isFirst = true; ; isFirst = false) {
      const record = this.#parts.records.get(id);
      const state = this.#states.get(id);
      const check = record?.config.healthcheck;
      if (record === undefined || state === undefined || check === undefined) return;
      const ageMs = performance.now() - startedMs;
      const waitMs = nextProbeMs(check, state.status, ageMs);
      const waitedMs = isFirst ? sinceLast(state, ageMs) : 0;
      await sleep(Math.max(0, waitMs - waitedMs), undefined, { ref: false, signal });
      const probedAtMs = performance.now();
      const result = await this.#probe(this.#parts.records.get(id) ?? record, signal);
      signal.throwIfAborted(); // what ended meanwhile says nothing about how it was
      this.#take(id, result, probedAtMs - startedMs);
    }
  }

  #take(id: string, result: HealthResult, ageMs: number): void {
    const [record, before] = [this.#parts.records.get(id), this.#states.get(id)];
    const check = record?.config.healthcheck;
    if (record === undefined || before === undefined || check === undefined) return;
    const after = afterProbe(before, result, check, ageMs);
    this.#keep(id, after);
    if (after.status !== before.status)
      tellContainer(this.#parts.events, record, `health_status: ${after.status}`);
  }

  async #probe(record: ContainerRecord, signal: AbortSignal): Promise<HealthResult> {
    const slot = await this.#slots.hold({ signal });
    const release = () => void slot[Symbol.asyncDispose]();
    const timer = setTimeout(release, SLOT_MS).unref();
    const start = nowText();
    try {
      return { start, ...(await this.#ask(record, signal)), end: nowText() };
    } catch (cause) {
      if (!signal.aborted)
        this.#parts.log.warn({ container: record.id, err: cause }, 'health check could not be run');
      return { start, exitCode: -1, output: messageOf(cause), end: nowText() };
    } finally {
      clearTimeout(timer);
      release();
    }
  }

  async #ask(
    record: ContainerRecord,
    signal: AbortSignal,
  ): Promise<Pick<HealthResult, 'exitCode' | 'output'>> {
    const { launcher, runtime, defaults } = this.#parts;
    const { id, config, hostConfig } = record;
    const args = commandOfCheck(config) ?? [];
    const execId = newId();
    this.#tell(record, `exec_create: ${args.join(' ')}`, execId);
    const user = await resolveUser(
      `${launcher.directoryOf(id)}/merged`,
      config.user,
      hostConfig.groupAdd ?? [],
    );
    this.#tell(record, `exec_start: ${args.join(' ')}`, execId);
    const timeoutMs = probeTimeoutMs(config.healthcheck);
    const { exitCode, isTimedOut, isTruncated, output } = await runtime.probe(
      id,
      {
        args,
        env: environmentOf(record, { home: user.home, tty: false }),
        cwd: config.workingDir || '/',
        user,
        terminal: false,
        hasStdin: false,
        capabilities: containerCapabilities(hostConfig),
        noNewPrivileges: securityOf(hostConfig, defaults).noNewPrivileges,
      },
      { timeoutMs, maxOutputBytes: MAX_OUTPUT_BYTES, signal },
    );
    this.#tell(record, 'exec_die', execId, { exitCode: String(exitCode) });
    const said = `${output}${isTruncated ? '...' : ''}`;
    if (!isTimedOut) return { exitCode, output: said };
    const overdue = `Health check exceeded timeout (${formatGoDuration(timeoutMs)})`;
    return { exitCode: -1, output: said === '' ? overdue : `${overdue}: ${said}` };
  }

  #keep(id: string, state: Health): void {
    this.#states.set(id, state);
    const path = join(this.#directory, id);
    writeFileSync(`${path}.new`, JSON.stringify(state), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  #tell(record: ContainerRecord, action: string, execId: string, more: Record<string, string> = {}): void {
    tellContainer(this.#parts.events, record, action, { execID: execId, ...more });
  }
}

/** How long it has waited already, under the last daemon perhaps: since its start or the last probe in this run. */
function sinceLast({ log }: Health, ageMs: number): number {
  const end = parseNanos(log.at(-1)?.end ?? '');
  if (end === undefined) return ageMs;
  return Math.min(ageMs, Math.max(0, Date.now() - Number(end / 1_000_000n)));
}

/** Undefined for what is no state of ours, cut short perhaps. */
function parseHealth(text: string | undefined): Health | undefined {
  try {
    const { status, failingStreak, log }: Partial<Health> = JSON.parse(text ?? '');
    if (status === undefined || failingStreak === undefined || !Array.isArray(log)) return undefined;
    return { status, failingStreak, log };
  } catch {
    return undefined;
  }
}

interface HealthParts {
  records: ContainerRecords;
  runtime: Pick<Runtime, 'probe'>;
  launcher: Pick<Launcher, 'directoryOf'>;
  events: Events;
  execRoot: string;
  defaults: SecurityDefaults;
  log: Log;
}
