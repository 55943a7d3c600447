import { fail, messageOf } from '../errors.ts';
import { Locks } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import { parseSignal } from '../lib/signals.ts';
import { nowText } from '../lib/time.ts';
import { startExitCode } from '../runtime/failure.ts';
import type { ContainerExit, Runtime } from '../runtime/runtime.ts';
import { tellContainer } from './container-events.ts';
import { disconnectedEndpoints } from './container-networks.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import type { ContainerRemoval } from './container-removal.ts';
import { ranSeconds } from './container-status.ts';
import { endProcess, SIGKILL, stopSignalOf } from './ending.ts';
import type { Events } from './events.ts';
import { Freezer } from './freezer.ts';
import type { HealthChecks } from './health.ts';
import type { Launcher } from './launcher.ts';
import type { ContainerRecord } from './model.ts';
import { tellNetworks } from './network-events.ts';
import type { NetworkRecords } from './network-records.ts';
import { wantsRestart } from './restart-policy.ts';
import { RestartTimers } from './restart-timers.ts';
import type { Streams } from './streams.ts';
import type { Ending, Waiters } from './waiters.ts';

const DEFAULT_STOP_SECONDS = 10;

type LifeRuntime = Pick<Runtime, 'start' | 'signal' | 'pause' | 'resume' | 'attach' | 'onExit' | 'onOom'>;

/** A container that is about to be signalled, and its exit, waited for since before anyone could miss it. */
interface Target {
  record: ContainerRecord;
  /** Absent for one that was between two runs: it has been made to stay where it is. */
  exit?: Promise<Ending>;
  giveUp: AbortController;
}

/**
 * The life of containers: start, stop, exit, restart, removal. Each step writes its intent durably, does the effect
 * and writes the outcome; whatever a crash leaves between is settled by {@link Recovery}.
 */
export class Life {
  readonly #records: ContainerRecords;
  readonly #networks: Pick<NetworkRecords, 'get'>;
  readonly #launcher: Launcher;
  readonly #runtime: LifeRuntime;
  readonly #streams: Streams;
  readonly #waiters: Waiters;
  readonly #events: Events;
  readonly #health: Pick<HealthChecks, 'begin' | 'halt'>;
  readonly #removal: Pick<ContainerRemoval, 'erase'>;
  readonly #log: Log;
  readonly #locks = new Locks();
  readonly freezer: Freezer;
  readonly #restarts = new RestartTimers();
  readonly #removing = new Set<string>();
  /** Stopped only to be started again: one that removes itself at its end must not do so now. */
  readonly #returning = new Set<string>();
  #unwatch = () => {};
  #isClosing = false;

  constructor(o: {
    records: ContainerRecords;
    networks: Pick<NetworkRecords, 'get'>;
    launcher: Launcher;
    runtime: LifeRuntime;
    streams: Streams;
    waiters: Waiters;
    events: Events;
    health: Pick<HealthChecks, 'begin' | 'resume' | 'halt'>;
    removal: Pick<ContainerRemoval, 'erase'>;
    log: Log;
  }) {
    this.#records = o.records;
    this.#networks = o.networks;
    this.#launcher = o.launcher;
    this.#runtime = o.runtime;
    this.#streams = o.streams;
    this.#waiters = o.waiters;
    this.#events = o.events;
    this.#health = o.health;
    this.#removal = o.removal;
    this.#log = o.log;
    this.freezer = new Freezer({ ...o, locks: this.#locks });
  }

  /** From here on exits are acted upon; called once, after the past has been settled. */
  watch(): void {
    const lost = (id: string) => (err: unknown) =>
      this.#log.error({ container: id, err }, 'what happened to a container could not be recorded');
    const unwatch = [
      this.#runtime.onExit((exit) => void this.#onExit(exit).catch(lost(exit.id))),
      this.#runtime.onOom((id) => void this.#onOom(id).catch(lost(id))),
    ];
    this.#unwatch = () => {
      for (const stop of unwatch) stop();
    };
  }

  /** Starts a container, from where a checkpoint left it if one is given; false if it already runs. */
  async start(id: string, o: { signal?: AbortSignal; checkpointPath?: string } = {}): Promise<boolean> {
    await using _lock = await this.#locks.hold(id, o);
    const record = this.#current(id);
    const { status } = record.state;
    if (status === 'paused') throw fail.startPaused();
    if (status === 'removing' || status === 'dead' || this.#removing.has(id)) throw fail.startRemoved();
    // one between two runs counts as running, as under dockerd: its next run is on the way
    if (isRunning(record) || status === 'restarting') return false;
    this.#restarts.forget(id);
    await this.#launch({ ...record, isStoppedByUser: false, restartCount: 0 }, o.checkpointPath);
    return true;
  }

  /** Asks it to stop, and makes it after the timeout (seconds; negative: never). False if it does not run. */
  async stop(id: string, o: { timeoutSeconds?: number; signalName?: string } = {}): Promise<boolean> {
    const wanted = o.signalName ? parseSignal(o.signalName) : undefined;
    const target = await this.#aim(id, { isStop: true });
    if (target === undefined) return false;
    const { record } = target;
    const seconds = o.timeoutSeconds ?? record.config.stopTimeout ?? DEFAULT_STOP_SECONDS;
    await this.#end(target, wanted ?? stopSignalOf(record), seconds < 0 ? undefined : seconds * 1000);
    this.#tell(record, 'stop');
    return true;
  }

  async restart(id: string, o: { timeoutSeconds?: number; signalName?: string }): Promise<void> {
    this.#returning.add(id);
    try {
      await this.stop(id, o);
    } finally {
      this.#returning.delete(id);
    }
    await this.start(id);
    this.#tell(this.#current(id), 'restart');
  }

  /** Sends a signal; SIGKILL also waits until the process is gone. Throws 409 if it does not run. */
  async kill(id: string, signalName: string): Promise<void> {
    const number = parseSignal(signalName || 'SIGKILL');
    const isStop = number === SIGKILL || number === stopSignalOf(this.#current(id));
    const target = await this.#aim(id, { isStop });
    if (target === undefined) throw fail.notRunning(id);
    if (number === SIGKILL) return this.#end(target, SIGKILL);
    target.giveUp.abort();
    if (target.exit !== undefined) await this.#signal(target.record, number);
  }

  async pause(id: string): Promise<void> {
    await this.freezer.pause(id);
  }

  async unpause(id: string): Promise<void> {
    await this.freezer.unpause(id);
  }

  /** Removes a container for good; with `force` it is killed first. Throws 409 while it runs otherwise. */
  async remove(ref: string, id: string, o: { force: boolean; withVolumes: boolean }): Promise<void> {
    if (this.#removing.has(id)) throw fail.beingRemoved(ref);
    this.#removing.add(id); // nobody starts it from here on
    try {
      this.#current(id);
      while (!(await this.#eraseIfIdle(id, o))) {
        const target = await this.#aim(id, { isStop: true });
        if (target !== undefined) await this.#end(target, SIGKILL);
      }
    } finally {
      this.#removing.delete(id);
    }
  }

  /**
   * A change of a container's record from outside its life, such as its name. Nobody else changes it meanwhile: what
   * is not based on the present record would take a change of state back.
   */
  async change<T>(
    id: string,
    work: (record: ContainerRecord) => Promise<T>,
    o: { signal?: AbortSignal } = {},
  ): Promise<T> {
    await using _lock = await this.#locks.hold(id, o);
    return await work(this.#current(id)); // or the lock would be gone before the work is done
  }

  /** Finishes what a crash interrupted: no process is left, so take down, record, and let the policies speak. */
  async settleExit(record: ContainerRecord, exit: ContainerExit): Promise<void> {
    await using _lock = await this.#locks.hold(record.id);
    await this.#recordExit(record, exit, { mayRestart: false });
  }

  /** Finishes a removal that was begun. */
  async settleRemoval(record: ContainerRecord): Promise<void> {
    await using _lock = await this.#locks.hold(record.id);
    const { takesVolumes = record.hostConfig.autoRemove } = record.state;
    await this.#erase(record, { withVolumes: takesVolumes });
  }

  /** Containers go on; only what waits inside the daemon ends. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosing = true;
    this.#unwatch(); // an end that comes now is the next daemon's to settle
    this.#restarts[Symbol.dispose]();
  }

  async #launch(record: ContainerRecord, checkpointPath?: string): Promise<void> {
    const { id } = record;
    const before = record.state.status === 'created' ? 'created' : 'exited';
    const starting = await this.#records.update({
      ...record,
      state: { ...record.state, status: 'starting', error: '', oomKilled: false },
    });
    try {
      const { pid, ...launched } = await this.#launcher.setUp(starting, checkpointPath);
      await this.#admit(id);
      await this.#runtime.start(id);
      const running = await this.#records.update({
        ...starting,
        ...launched,
        state: { ...starting.state, status: 'running', pid, exitCode: 0, startedAt: nowText() },
      });
      this.#health.begin(running);
      tellNetworks(this.#events, this.#networks, running, 'connect');
      this.#tell(running, 'start');
    } catch (cause) {
      await this.#abandon(starting, before, cause);
      throw cause;
    }
    // who came while it was starting; what goes wrong with them is no failure of the start
    await this.#admit(id).catch(() => this.#streams.dismiss(id));
  }

  /** Joins the clients that wait for the container to its streams. */
  async #admit(id: string): Promise<void> {
    if (this.#streams.isAwaited(id)) this.#streams.arrive(id, await this.#runtime.attach(id));
  }

  /** Undoes a start that failed. */
  async #abandon(starting: ContainerRecord, before: 'created' | 'exited', cause: unknown): Promise<void> {
    const { id } = starting;
    await this.#launcher.takeDown(id);
    this.#streams.dismiss(id);
    const exitCode = startExitCode(cause) ?? 128;
    const failed = await this.#records.move(starting, {
      status: before,
      pid: 0,
      exitCode,
      error: messageOf(cause),
    });
    this.#waiters.idle(id, { exitCode });
    if (failed.hostConfig.autoRemove) await this.#erase(failed, { withVolumes: true });
  }

  async #onExit(exit: ContainerExit): Promise<void> {
    await using _lock = await this.#locks.hold(exit.id);
    const record = this.#records.get(exit.id);
    if (record === undefined || !isRunning(record)) return;
    await this.#recordExit(record, exit, { mayRestart: true });
  }

  /** The kernel has killed one of its processes for want of memory; the container may go on without it. */
  async #onOom(id: string): Promise<void> {
    await using _lock = await this.#locks.hold(id);
    const record = this.#records.get(id);
    if (record === undefined || !isRunning(record) || record.state.oomKilled) return;
    this.#tell(await this.#records.move(record, { oomKilled: true }), 'oom');
  }

  async #recordExit(
    record: ContainerRecord,
    exit: ContainerExit,
    { mayRestart }: { mayRestart: boolean },
  ): Promise<void> {
    const { id } = record;
    const restarts =
      mayRestart &&
      !this.#isClosing &&
      wantsRestart({ ...record, state: { ...record.state, exitCode: exit.exitCode } });
    const over: ContainerRecord = {
      ...record,
      endpoints: disconnectedEndpoints(record.endpoints),
      ports: {},
      restartCount: record.restartCount + (restarts ? 1 : 0),
      state: {
        ...record.state,
        status: restarts ? 'restarting' : 'exited',
        pid: 0,
        exitCode: exit.exitCode,
        oomKilled: record.state.oomKilled || exit.wasOomKilled,
        finishedAt: exit.at,
      },
    };
    // the record first, as with the run goes what tells its exit code; a boot takes down what is left of one that is over
    const ended = await this.#records.update(over, {
      beforeSeen: async () => {
        await this.#health.halt(id);
        await this.#launcher.takeDown(id);
      },
    });
    if (exit.wasOomKilled && !record.state.oomKilled) this.#tell(ended, 'oom');
    this.#tell(ended, 'die', { exitCode: String(exit.exitCode), execDuration: ranSeconds(ended) });
    tellNetworks(this.#events, this.#networks, record, 'disconnect');
    this.#waiters.ended(id, { exitCode: exit.exitCode }, { isFinal: !restarts });
    if (restarts) this.#scheduleRun(ended);
    else if (record.hostConfig.autoRemove && !this.#returning.has(id))
      await this.#erase(ended, { withVolumes: true });
  }

  #scheduleRun(record: ContainerRecord): void {
    this.#restarts.schedule(record, () => {
      this.#runAgain(record.id).catch((err) =>
        this.#log.error({ container: record.id, err }, 'restart failed'),
      );
    });
  }

  /** The next run that the policy wants, unless someone else was there first. */
  async #runAgain(id: string): Promise<void> {
    await using _lock = await this.#locks.hold(id);
    const record = this.#records.get(id);
    if (record?.state.status !== 'restarting' || this.#isClosing) return;
    await this.#launch(record);
  }

  /**
   * What is to be ended or signalled. Under the lock, where no exit slips in between the look at the record and the
   * wait for its end. With `isStop` it is durable before the signal, or the policy would bring back what a user
   * stopped. One that is between two runs stays where it is. Undefined if it does not run.
   */
  async #aim(id: string, { isStop }: { isStop: boolean }): Promise<Target | undefined> {
    await using _lock = await this.#locks.hold(id);
    const record = this.#records.get(id);
    const giveUp = new AbortController();
    if (record?.state.status === 'restarting') {
      if (!isStop) return { record, giveUp }; // nobody is there to hear it
      this.#restarts.cancel(id);
      await this.#records.update({
        ...record,
        isStoppedByUser: true,
        state: { ...record.state, status: 'exited' },
      });
      this.#waiters.ended(id, { exitCode: record.state.exitCode }, { isFinal: true });
      return { record, giveUp };
    }
    if (record === undefined || !isRunning(record)) return undefined;
    const { name } = record.hostConfig.restartPolicy;
    const hasPolicy = name !== '' && name !== 'no';
    if (isStop && hasPolicy) await this.#records.update({ ...record, isStoppedByUser: true });
    const exit = this.#waiters.next(id, 'next-exit', giveUp.signal);
    exit.catch(() => {}); // given up
    return { record, exit, giveUp };
  }

  /** Removes it unless it has a process, and says whether it is gone. Throws 409 where it may not be removed. */
  async #eraseIfIdle(id: string, o: { force: boolean; withVolumes: boolean }): Promise<boolean> {
    await using _lock = await this.#locks.hold(id);
    const record = this.#records.get(id);
    if (record === undefined) return true; // it removed itself
    const { name, state } = record;
    if (state.status === 'paused' && !o.force) throw fail.removePaused(name, id);
    if ((isRunning(record) || state.status === 'restarting') && !o.force)
      throw fail.removeRunning(name, id, state.status);
    if (isRunning(record)) return false;
    this.#restarts.cancel(id);
    await this.#erase(record, o);
    return true;
  }

  async #end({ record, exit, giveUp }: Target, number: number, timeoutMs?: number): Promise<void> {
    if (exit === undefined) return;
    try {
      const send = async (next: number) => {
        await this.#signal(record, next);
        // a paused process takes no signal but SIGKILL, and acts on none before it is thawed
        if (record.state.status === 'paused') await this.freezer.thaw(record.id);
      };
      await endProcess({ id: record.id, exit, send }, number, timeoutMs);
    } finally {
      giveUp.abort();
    }
  }

  async #signal(record: ContainerRecord, number: number): Promise<void> {
    await this.#runtime.signal(record.id, number);
    this.#tell(record, 'kill', { signal: String(number) });
  }

  async #erase(record: ContainerRecord, o: { withVolumes: boolean }): Promise<void> {
    await this.#removal.erase(record, o);
    this.#restarts.forget(record.id);
  }

  #current(id: string): ContainerRecord {
    const record = this.#records.get(id);
    if (record === undefined) throw fail.noSuchContainer(id);
    return record;
  }

  #tell(record: ContainerRecord, action: string, more?: Readonly<Record<string, string>>): void {
    tellContainer(this.#events, record, action, more);
  }
}
