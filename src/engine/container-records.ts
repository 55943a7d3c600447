import { Failure, fail } from '../errors.ts';
import { randomName } from '../lib/ids.ts';
import type { Sidecars } from '../store/sidecars.ts';
import type { Store } from '../store/store.ts';
import type { Change, Table } from '../store/tables.ts';
import type { ContainerRecord, ContainerState } from './model.ts';

// dockerd: names.RestrictedNamePattern
const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

/**
 * Every container's record: the whole set in memory, each change committed before it is seen. Records are frozen
 * values; a change is a new value under the same ID.
 */
export class ContainerRecords {
  readonly #store: Pick<Store, 'commit'>;
  readonly #table: Table<ContainerRecord>;
  readonly #sidecars: Pick<Sidecars, 'writeContainer' | 'removeContainer'>;
  readonly #byId = new Map<string, ContainerRecord>();
  /** Names in use or promised to a create under way. */
  readonly #idByName = new Map<string, string>();

  private constructor(store: Store, sidecars: Pick<Sidecars, 'writeContainer' | 'removeContainer'>) {
    this.#store = store;
    this.#table = store.table('containers');
    this.#sidecars = sidecars;
  }

  static async open(o: {
    store: Store;
    sidecars: Pick<Sidecars, 'writeContainer' | 'removeContainer' | 'containers'>;
  }): Promise<ContainerRecords> {
    const records = new ContainerRecords(o.store, o.sidecars);
    for await (const [, record] of records.#table.entries()) records.#keep(record);
    if (o.store.needsRebuild) {
      // the copies beside the containers' files are what is left of records that were lost
      for await (const copy of o.sidecars.containers()) {
        const record = copy as ContainerRecord;
        if (!records.#byId.has(record.id)) await records.update(record);
      }
    }
    return records;
  }

  get size(): number {
    return this.#byId.size;
  }

  all(): ContainerRecord[] {
    return [...this.#byId.values()];
  }

  get(id: string): ContainerRecord | undefined {
    return this.#byId.get(id);
  }

  /** By full ID, name, link or unambiguous ID prefix, in this order; throws 404, or 400 if the prefix fits several. */
  find(ref: string): ContainerRecord {
    const exact = this.#byId.get(ref) ?? this.#byName(ref.replace(/^\//, '')) ?? this.#byLink(ref);
    if (exact !== undefined) return exact;
    const found = /^[0-9a-f]+$/.test(ref) ? this.all().filter(({ id }) => id.startsWith(ref)) : [];
    if (found.length > 1) throw fail.ambiguousContainer(ref);
    const [only] = found;
    if (only === undefined) throw fail.noSuchContainer(ref);
    return only;
  }

  /** Promises a name to a container that is about to be; throws 400 or 409. Without a name, makes one up. */
  reserveName(id: string, wanted: string | undefined): string {
    if (wanted === undefined || wanted === '') {
      for (let attempt = 0; ; attempt++) {
        const name = randomName(attempt);
        if (this.#idByName.has(name)) continue;
        this.#idByName.set(name, id);
        return name;
      }
    }
    const name = wanted.replace(/^\//, '');
    if (!namePattern.test(name)) throw fail.invalidContainerName(wanted);
    const owner = this.#idByName.get(name);
    if (owner !== undefined) throw fail.containerNameTaken(name, owner);
    this.#idByName.set(name, id);
    return name;
  }

  /** Gives back a name whose container did not come to be. */
  releaseName(name: string): void {
    this.#idByName.delete(name);
  }

  /** A new container, or one whose configuration changed: record and the copy beside its files, durable; and what comes to be with it. */
  async create(record: ContainerRecord, also: readonly Change[] = []): Promise<void> {
    await this.#sidecars.writeContainer(record.id, record);
    await this.update(record, { also });
  }

  /** A change of state, durable before anyone sees it; and `beforeSeen` done in between, for what has to follow the one and precede the other. */
  async update(
    wanted: ContainerRecord,
    { also = [], beforeSeen }: { also?: readonly Change[]; beforeSeen?: () => Promise<void> } = {},
  ): Promise<ContainerRecord> {
    const record = withoutStaleHold(wanted);
    await this.#store.commit([...also, this.#table.put(record.id, record)]);
    await beforeSeen?.();
    this.#keep(record);
    return record;
  }

  /** {@link update} of the state alone. */
  async move(record: ContainerRecord, state: Partial<ContainerState>): Promise<ContainerRecord> {
    return this.update({ ...record, state: { ...record.state, ...state } });
  }

  /** Renames durably; throws 400 or 409 with the old name still in force. */
  async rename(record: ContainerRecord, wanted: string): Promise<ContainerRecord> {
    const name = this.#reserveNewName(record.id, wanted);
    const renamed = { ...record, name };
    try {
      await this.create(renamed);
    } catch (cause) {
      this.releaseName(name);
      throw cause;
    }
    this.releaseName(record.name);
    return renamed;
  }

  /** Forgets a container; its files are the caller's. */
  async remove(record: ContainerRecord): Promise<void> {
    await this.#store.commit([this.#table.remove(record.id)]);
    this.#byId.delete(record.id);
    if (this.#idByName.get(record.name) === record.id) this.#idByName.delete(record.name);
    await this.#sidecars.removeContainer(record.id);
  }

  /** Who stands on an image. */
  usersOf(imageId: string): { id: string; isRunning: boolean }[] {
    return this.all()
      .filter((record) => record.imageId === imageId)
      .map((record) => ({ id: record.id, isRunning: isRunning(record) }));
  }

  /** Diff IDs of all containers' layers. */
  *diffIdsInUse(): Iterable<string> {
    for (const { diffIds } of this.#byId.values()) yield* diffIds;
  }

  #reserveNewName(id: string, wanted: string): string {
    try {
      return this.reserveName(id, wanted.startsWith('/') ? wanted : `/${wanted}`);
    } catch (cause) {
      throw cause instanceof Failure ? fail.newNameRefused(cause) : cause;
    }
  }

  #byName(name: string): ContainerRecord | undefined {
    const id = this.#idByName.get(name);
    return id === undefined ? undefined : this.#byId.get(id);
  }

  /** `app/home`: whom `app` calls so. */
  #byLink(ref: string): ContainerRecord | undefined {
    const [parent = '', alias, ...more] = ref.replace(/^\//, '').split('/');
    if (alias === undefined || more.length > 0) return undefined;
    const link = this.#byName(parent)?.links?.find((one) => one.alias === alias);
    return link && this.#byId.get(link.containerId);
  }

  #keep(record: ContainerRecord): void {
    this.#byId.set(record.id, record);
    this.#idByName.set(record.name, record.id);
  }
}

/** True while it has a process: running or paused. */
export function isRunning({ state }: ContainerRecord): boolean {
  return state.status === 'running' || state.status === 'paused';
}

/** Whatever ends a pause ends the engine's hold with it. */
function withoutStaleHold(record: ContainerRecord): ContainerRecord {
  const { isHeld, ...state } = record.state;
  return isHeld === undefined || state.status === 'paused' ? record : { ...record, state };
}
