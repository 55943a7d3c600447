import { fail } from '../errors.ts';
import type { Locks } from '../lib/locks.ts';
import type { Runtime } from '../runtime/runtime.ts';
import { tellContainer } from './container-events.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import type { Events } from './events.ts';
import type { HealthChecks } from './health.ts';
import type { ContainerRecord } from './model.ts';

/** Pauses containers: for a user until further notice, or for as long as something needs their files to hold still. */
export class Freezer {
  readonly #records: ContainerRecords;
  readonly #runtime: Pick<Runtime, 'pause' | 'resume'>;
  readonly #events: Events;
  readonly #health: Pick<HealthChecks, 'halt' | 'resume'>;
  readonly #locks: Locks;

  /** `locks` are those of the containers' life. */
  constructor(o: {
    records: ContainerRecords;
    runtime: Pick<Runtime, 'pause' | 'resume'>;
    events: Events;
    health: Pick<HealthChecks, 'halt' | 'resume'>;
    locks: Locks;
  }) {
    this.#records = o.records;
    this.#runtime = o.runtime;
    this.#events = o.events;
    this.#health = o.health;
    this.#locks = o.locks;
  }

  async pause(id: string): Promise<void> {
    await using _lock = await this.#locks.hold(id);
    const record = this.#current(id);
    if (record.state.status === 'paused') throw fail.alreadyPaused(id);
    if (record.state.status === 'restarting') throw fail.execRestarting(id);
    if (!isRunning(record)) throw fail.notRunning(id);
    await this.#freeze(record);
    this.#tell(await this.#records.move(record, { status: 'paused' }), 'pause');
  }

  async unpause(id: string): Promise<void> {
    await using _lock = await this.#locks.hold(id);
    const record = this.#current(id);
    if (record.state.status !== 'paused') throw fail.notPaused(id);
    await this.#resume(record);
  }

  /** Lets a paused container run; one that is not, or is gone, is fine. */
  async thaw(id: string): Promise<void> {
    await using _lock = await this.#locks.hold(id);
    const record = this.#records.get(id);
    if (record?.state.status === 'paused') await this.#resume(record);
  }

  /**
   * Pauses a container until the answer is disposed of. That it is to run on is durable before it stands still: a
   * daemon that finds it so lets it go. Undefined if it does not run, or stands still already.
   */
  async hold(id: string): Promise<AsyncDisposable | undefined> {
    await using _lock = await this.#locks.hold(id);
    const record = this.#current(id);
    if (record.state.status !== 'running') return undefined;
    const held = await this.#records.move(record, { status: 'paused', isHeld: true });
    try {
      await this.#freeze(record);
    } catch (cause) {
      await this.#records.move(held, { status: 'running' });
      throw cause;
    }
    this.#tell(held, 'pause');
    return { [Symbol.asyncDispose]: () => this.release(id) };
  }

  /** Lets go of what {@link hold} holds, at boot too. A user may have let it run, and paused it again, since. */
  async release(id: string): Promise<void> {
    await using _lock = await this.#locks.hold(id);
    const record = this.#records.get(id);
    if (record?.state.isHeld === true) await this.#resume(record);
  }

  /** Nobody asks a container that stands still how it is. */
  async #freeze(record: ContainerRecord): Promise<void> {
    await this.#health.halt(record.id);
    try {
      await this.#runtime.pause(record.id);
    } catch (cause) {
      this.#health.resume(record);
      throw cause;
    }
  }

  async #resume(record: ContainerRecord): Promise<void> {
    await this.#runtime.resume(record.id);
    const running = await this.#records.move(record, { status: 'running' });
    this.#health.resume(running);
    this.#tell(running, 'unpause');
  }

  #current(id: string): ContainerRecord {
    const record = this.#records.get(id);
    if (record === undefined) throw fail.noSuchContainer(id);
    return record;
  }

  #tell(record: ContainerRecord, action: string): void {
    tellContainer(this.#events, record, action);
  }
}
