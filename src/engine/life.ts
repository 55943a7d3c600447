import { Failure, fail, messageOf } from '../errors.ts';
import { Locks } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import { withResolvers } from '../lib/promises.ts';
import { parseSignal } from '../lib/signals.ts';
import { nowText } from '../lib/time.ts';
import { startExitCode } from '../runtime/failure.ts';
import type { ContainerExit, Runtime } from '../runtime/runtime.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import type { Events } from './events.ts';
import { disconnectedEndpoints, type Launcher } from './launcher.ts';
import type { ContainerRecord } from './model.ts';
import { nextDelayMs, wantsRestart } from './restart-policy.ts';
import type { Streams } from './streams.ts';
import type { Waiters } from './waiters.ts';

const SIGKILL = 9;
const DEFAULT_STOP_SECONDS = 10;
/** After SIGKILL a process that is not stuck in the kernel is gone long before this. */
const KILL_WAIT_MS = 10_000;

interface Pause {
  timer: NodeJS.Timeout;
  delayMs: number;
}

/**
 * The life of containers: start, stop, exit, restart, removal. Each step writes its intent durably, does the effect
 * and writes the outcome; whatever a crash leaves between is settled by {@link Recovery}.
 */
export class Life {
  readonly #records: ContainerRecords;
  readonly #launcher: Launcher;
  readonly #runtime: Runtime;
  readonly #streams: Streams;
  readonly #waiters: Waiters;
  readonly #events: Events;
  readonly #removeFiles: (record: ContainerRecord, o: { withVolumes: boolean }) => Promise<void>;
  readonly #log: Log;
  readonly #locks = new Locks();
  /** Containers between two runs, by ID. */
  readonly #restarts = new Map<string, Pause>();
  readonly #delays = new Map<string, number>();
  readonly #removing = new Set<string>();
  #isClosing = false;

  constructor(o: {
    records: ContainerRecords;
    launcher: Launcher;
    runtime: Runtime;
    streams: Streams;
    waiters: Waiters;
    events: Events;
    /** Removes the container's directory, and its anonymous volumes if asked. */
    removeFiles: (record: ContainerRecord, o: { withVolumes: boolean }) => Promise<void>;
    log: Log;
  }) {
    this.#records = o.records;
    this.#launcher = o.launcher;
    this.#runtime = o.runtime;
    this.#streams = o.streams;
    this.#waiters = o.waiters;
    this.#events = o.events;
    this.#removeFiles = o.removeFiles;
    this.#log = o.log;
  }

  /** From here on exits are acted upon; called once, after the past has been settled. */
  watch(): void {
    this.#runtime.onExit((exit) => {
      this.#onExit(exit).catch((err) =>
        this.#log.error({ container: exit.id, err }, 'exit could not be recorded'),
      );
    });
  }

  /** Starts a container; false if it already runs. */
  async start(id: string, { signal }: { signal?: AbortSignal } = {}): Promise<boolean> {
    await using _lock = await this.#locks.hold(id, signal ? { signal } : {});
    const record = this.#current(id);
    if (record.state.status === 'paused') throw fail.startPaused();
    if (record.state.status === 'removing') throw fail.startRemoved();
    if (isRunning(record)) return false;
    this.#cancelRestart(id);
    this.#delays.delete(id);
    await this.#launch({ ...record, isStoppedByUser: false, restartCount: 0 });
    return true;
  }

  /** Asks it to stop, and makes it after the timeout (seconds; negative: never). False if it does not run. */
  async stop(id: string, o: { timeoutSeconds?: number; signalName?: string } = {}): Promise<boolean> {
    const record = this.#current(id);
    if (this.#cancelRestart(id)) {
      await this.#settle(record);
      return true;
    }
    if (!isRunning(record)) return false;
    const { stopSignal, stopTimeout } = record.config;
    const number = parseSignal(o.signalName || stopSignal || 'SIGTERM');
    const seconds = o.timeoutSeconds ?? stopTimeout ?? DEFAULT_STOP_SECONDS;
    await this.#markStopped(record);
    await this.#end(record, number, seconds < 0 ? undefined : seconds * 1000);
    this.#tell(record, 'stop');
    return true;
  }

  async restart(id: string, o: { timeoutSeconds?: number; signalName?: string }): Promise<void> {
    await this.stop(id, o);
    await this.start(id);
    this.#tell(this.#current(id), 'restart');
  }

  /** Sends a signal; SIGKILL also waits until the process is gone. Throws 409 if it does not run. */
  async kill(id: string, signalName: string): Promise<void> {
    const number = parseSignal(signalName || 'SIGKILL');
    const record = this.#current(id);
    if (this.#cancelRestart(id)) return this.#settle(record);
    if (!isRunning(record)) throw fail.notRunning(id);
    const stopNumber = parseSignal(record.config.stopSignal || 'SIGTERM');
    if (number === SIGKILL || number === stopNumber) await this.#markStopped(record);
    if (number === SIGKILL) await this.#end(record, SIGKILL, undefined);
    else await this.#signal(record, number);
  }

  async pause(id: string): Promise<void> {
    await using _lock = await this.#locks.hold(id);
    const record = this.#current(id);
    if (record.state.status === 'paused') throw fail.alreadyPaused(id);
    if (!isRunning(record)) throw fail.notRunning(id);
    await this.#runtime.pause(id);
    this.#tell(await this.#records.move(record, { status: 'paused' }), 'pause');
  }

  async unpause(id: string): Promise<void> {
    await using _lock = await this.#locks.hold(id);
    const record = this.#current(id);
    if (record.state.status !== 'paused') throw fail.notPaused(id);
    await this.#runtime.resume(id);
    this.#tell(await this.#records.move(record, { status: 'running' }), 'unpause');
  }

  /** Removes a container for good; with `force` it is killed first. Throws 409 while it runs otherwise. */
  async remove(ref: string, id: string, o: { force: boolean; withVolumes: boolean }): Promise<void> {
    if (this.#removing.has(id)) throw fail.beingRemoved(ref);
    this.#removing.add(id);
    try {
      const record = this.#current(id);
      if (record.state.status === 'paused' && !o.force) throw fail.removePaused(record.name);
      if (isRunning(record) && !o.force) throw fail.removeRunning(record.name);
      if (isRunning(record)) {
        await this.#markStopped(record);
        await this.#end(record, SIGKILL, undefined);
      }
      this.#cancelRestart(id);
      await using _lock = await this.#locks.hold(id);
      const last = this.#records.get(id);
      if (last !== undefined) await this.#erase(last, o); // gone already if it removed itself
    } finally {
      this.#removing.delete(id);
    }
  }

  /** Finishes what a crash interrupted: no process is left, so take down, record, and let the policies speak. */
  async settleExit(record: ContainerRecord, exit: ContainerExit): Promise<void> {
    await using _lock = await this.#locks.hold(record.id);
    await this.#recordExit(record, exit, { mayRestart: false });
  }

  /** Finishes a removal that was begun. */
  async settleRemoval(record: ContainerRecord): Promise<void> {
    await using _lock = await this.#locks.hold(record.id);
    await this.#erase(record, { withVolumes: record.hostConfig.autoRemove });
  }

  /** Containers go on; only what waits inside the daemon ends. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosing = true;
    for (const id of [...this.#restarts.keys()]) this.#cancelRestart(id);
  }

  async #launch(record: ContainerRecord): Promise<void> {
    const { id } = record;
    const before = record.state.status === 'created' ? 'created' : 'exited';
    const starting = await this.#records.update({
      ...record,
      state: { ...record.state, status: 'starting', error: '', oomKilled: false },
    });
    try {
      const { pid, endpoints, ports } = await this.#launcher.setUp(starting);
      if (this.#streams.isAwaited(id)) this.#streams.arrive(id, await this.#runtime.attach(id));
      await this.#runtime.start(id);
      const running = await this.#records.update({
        ...starting,
        endpoints,
        ports,
        state: { ...starting.state, status: 'running', pid, exitCode: 0, startedAt: nowText() },
      });
      this.#tellNetwork(running, 'connect');
      this.#tell(running, 'start');
    } catch (cause) {
      await this.#launcher.takeDown(id);
      const failed = await this.#records.move(starting, {
        status: before,
        pid: 0,
        exitCode: startExitCode(cause) ?? 128,
        error: messageOf(cause),
      });
      this.#streams.dismiss(id);
      if (failed.hostConfig.autoRemove) await this.#erase(failed, { withVolumes: true });
      throw cause;
    }
  }

  async #onExit(exit: ContainerExit): Promise<void> {
    await using _lock = await this.#locks.hold(exit.id);
    const record = this.#records.get(exit.id);
    if (record === undefined || !isRunning(record)) return;
    await this.#recordExit(record, exit, { mayRestart: true });
  }

  async #recordExit(
    record: ContainerRecord,
    exit: ContainerExit,
    { mayRestart }: { mayRestart: boolean },
  ): Promise<void> {
    const { id } = record;
    await this.#launcher.takeDown(id);
    const restarts =
      mayRestart &&
      !this.#isClosing &&
      wantsRestart({ ...record, state: { ...record.state, exitCode: exit.exitCode } });
    const ended = await this.#records.update({
      ...record,
      endpoints: disconnectedEndpoints(record.endpoints),
      ports: {},
      state: {
        ...record.state,
        status: restarts ? 'restarting' : 'exited',
        pid: 0,
        exitCode: exit.exitCode,
        oomKilled: exit.wasOomKilled,
        finishedAt: exit.at,
      },
    });
    if (exit.wasOomKilled) this.#tell(ended, 'oom');
    this.#tell(ended, 'die', { exitCode: String(exit.exitCode) });
    this.#tellNetwork(record, 'disconnect');
    this.#waiters.ended(id, { exitCode: exit.exitCode }, { isFinal: !restarts });
    if (restarts) this.#scheduleRestart(ended);
    else if (record.hostConfig.autoRemove) await this.#erase(ended, { withVolumes: true });
  }

  #scheduleRestart(record: ContainerRecord): void {
    const { id } = record;
    const ranMs = Date.parse(record.state.finishedAt) - Date.parse(record.state.startedAt);
    const delayMs = nextDelayMs(this.#delays.get(id) ?? 0, ranMs);
    this.#delays.set(id, delayMs);
    const again = async () => {
      await using _lock = await this.#locks.hold(id);
      this.#restarts.delete(id);
      const last = this.#records.get(id);
      if (last?.state.status !== 'restarting') return;
      await this.#launch({ ...last, restartCount: last.restartCount + 1 });
    };
    const timer = setTimeout(() => {
      again().catch((err) => this.#log.error({ container: id, err }, 'restart failed'));
    }, delayMs);
    this.#restarts.set(id, { timer: timer.unref(), delayMs });
  }

  #cancelRestart(id: string): boolean {
    const pending = this.#restarts.get(id);
    if (pending === undefined) return false;
    clearTimeout(pending.timer);
    return this.#restarts.delete(id);
  }

  /** A container that was waiting for its next run stays where it is. */
  async #settle(record: ContainerRecord): Promise<void> {
    const { id, state } = await this.#records.update({
      ...record,
      isStoppedByUser: true,
      state: { ...record.state, status: 'exited' },
    });
    this.#waiters.ended(id, { exitCode: state.exitCode }, { isFinal: true });
  }

  /** Durable before the signal, or the policy would bring back what a user stopped. */
  async #markStopped(record: ContainerRecord): Promise<void> {
    const { name } = record.hostConfig.restartPolicy;
    if (name === '' || name === 'no') return;
    await using _lock = await this.#locks.hold(record.id);
    const last = this.#records.get(record.id);
    if (last !== undefined) await this.#records.update({ ...last, isStoppedByUser: true });
  }

  /** Signals until it is gone: the given one, then SIGKILL after the timeout. */
  async #end(record: ContainerRecord, number: number, timeoutMs: number | undefined): Promise<void> {
    const giveUp = new AbortController();
    const gone = this.#waiters.next(record.id, 'next-exit', giveUp.signal).then(() => true);
    const within = (ms: number) => {
      const { promise, resolve } = withResolvers<false>();
      const timer = setTimeout(() => resolve(false), ms);
      return Promise.race([gone, promise]).finally(() => clearTimeout(timer));
    };
    gone.catch(() => {});
    try {
      await this.#signal(record, number);
      // a paused process takes no signal but SIGKILL, and acts on none before it is thawed
      if (record.state.status === 'paused') await this.#runtime.resume(record.id);
      if (number !== SIGKILL) {
        if (timeoutMs === undefined ? await gone : await within(timeoutMs)) return;
        await this.#signal(record, SIGKILL);
      }
      if (!(await within(KILL_WAIT_MS))) {
        throw fail.runtime(`container ${record.id} did not exit within ${KILL_WAIT_MS / 1000}s of the kill`);
      }
    } catch (cause) {
      // it may have ended by itself in between: then all is well
      if (!(cause instanceof Failure && cause.code === 'NOT_RUNNING')) throw cause;
      await within(KILL_WAIT_MS);
    } finally {
      giveUp.abort();
    }
  }

  async #signal(record: ContainerRecord, number: number): Promise<void> {
    await this.#runtime.signal(record.id, number);
    this.#tell(record, 'kill', { signal: String(number) });
  }

  async #erase(record: ContainerRecord, { withVolumes }: { withVolumes: boolean }): Promise<void> {
    const removing = await this.#records.move(record, { status: 'removing' });
    await this.#launcher.takeDown(record.id);
    await this.#removeFiles(removing, { withVolumes });
    await this.#records.remove(removing);
    this.#streams.dismiss(record.id);
    this.#delays.delete(record.id);
    this.#tell(removing, 'destroy');
    this.#waiters.removed(record.id, { exitCode: record.state.exitCode });
  }

  #current(id: string): ContainerRecord {
    const record = this.#records.get(id);
    if (record === undefined) throw fail.noSuchContainer(id);
    return record;
  }

  #tell(record: ContainerRecord, action: string, more: Record<string, string> = {}): void {
    const { name, config } = record;
    this.#events.emit('container', action, record.id, {
      ...config.labels,
      image: config.image,
      name,
      ...more,
    });
  }

  #tellNetwork(record: ContainerRecord, action: 'connect' | 'disconnect'): void {
    for (const [name, { networkId }] of Object.entries(record.endpoints)) {
      const type = name === 'bridge' ? 'bridge' : name === 'host' ? 'host' : 'null';
      this.#events.emit('network', action, networkId || name, { container: record.id, name, type });
    }
  }
}
