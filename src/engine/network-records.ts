import { fail } from '../errors.ts';
import { newId } from '../lib/ids.ts';
import { nowText } from '../lib/time.ts';
import type { IpamConfig, NetworkSpec } from '../network/model.ts';
import type { Store } from '../store/store.ts';
import type { Table } from '../store/tables.ts';

/** The whole durable record of a network. */
export interface NetworkRecord {
  id: string;
  name: string;
  createdAt: string;
  /** `bridge`, `macvlan`, `ipvlan`; `host` and `null` keep nothing in the kernel. */
  driver: string;
  /** `local`: there are no swarms. */
  scope: string;
  isIpv6: boolean;
  isInternal: boolean;
  isAttachable: boolean;
  isIngress: boolean;
  /** It lends its configuration to other networks, and no container can be on it. */
  isConfigOnly: boolean;
  /** The network that its configuration is from; empty if it is its own. */
  configFrom: string;
  /** As it was asked for: what inspect shows. */
  ipam: { driver: string; options: Record<string, string> | null; config: IpamConfig[] };
  /** Where it lies; what was asked for, completed. Empty where nothing is in the kernel. */
  pools: IpamConfig[];
  options: Record<string, string>;
  labels: Record<string, string>;
}

/** Networks that are always there. */
const predefined: ReadonlyMap<string, string> = new Map([
  ['bridge', 'bridge'],
  ['host', 'host'],
  ['none', 'null'],
]);

/** True for the name of a network that nobody makes or removes; `default` stands for one of them. */
export function isPredefined(name: string): boolean {
  return predefined.has(name) || name === 'default';
}

/** What a term may mean: the network of this ID alone, else those of this name, and those whose IDs begin so. */
export interface NetworkMatches {
  byId: NetworkRecord | undefined;
  byName: NetworkRecord[];
  byPrefix: NetworkRecord[];
}

/**
 * Every network's record: the whole set in memory, oldest first, each change committed before it is seen. Names need
 * not be unique: clients of old may have made two of one name.
 */
export class NetworkRecords {
  readonly #store: Pick<Store, 'commit'>;
  readonly #table: Table<NetworkRecord>;
  readonly #byId = new Map<string, NetworkRecord>();
  /** On their way out: nobody finds them any more. */
  readonly #leaving = new Set<string>();

  private constructor(store: Pick<Store, 'commit' | 'table'>) {
    this.#store = store;
    this.#table = store.table('networks');
  }

  /** Reads all; the predefined ones are made where they are missing, and `bridge` is as the configuration says. */
  static async open(o: {
    store: Pick<Store, 'commit' | 'table'>;
    defaultBridge: NetworkSpec;
  }): Promise<NetworkRecords> {
    const records = new NetworkRecords(o.store);
    const found: NetworkRecord[] = [];
    for await (const [, record] of records.#table.entries()) found.push(record);
    found.sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1));
    for (const record of found) records.#byId.set(record.id, record);
    for (const [name, driver] of predefined) await records.#ensure(name, driver, o.defaultBridge);
    return records;
  }

  all(): NetworkRecord[] {
    return [...this.#byId.values()].filter(({ id }) => !this.#leaving.has(id));
  }

  get(id: string): NetworkRecord | undefined {
    return this.#leaving.has(id) ? undefined : this.#byId.get(id);
  }

  /** All networks of this name. */
  named(name: string): NetworkRecord[] {
    return this.all().filter((record) => record.name === name);
  }

  matches(term: string): NetworkMatches {
    return {
      byId: this.get(term),
      byName: this.named(term),
      byPrefix: this.all().filter(({ id }) => id.startsWith(term)),
    };
  }

  /** By full ID, name or unambiguous ID prefix, in this order. Throws 404, or 400 if the term fits several. */
  find(term: string): NetworkRecord {
    const { byId, byName, byPrefix } = this.matches(term);
    if (byId !== undefined) return byId;
    if (byName.length > 1) throw fail.ambiguousNetwork(term, `${byName.length} matches found on name`);
    const [only = byPrefix[0]] = byName;
    if (only === undefined) throw fail.noSuchNetwork(term);
    if (byName.length === 0 && byPrefix.length > 1)
      throw fail.ambiguousNetwork(term, `${byPrefix.length} matches found based on ID prefix`);
    return only;
  }

  /** Commits a new record, does what has to follow before anyone may see it, and takes it back if that fails. */
  async create(record: NetworkRecord, beforeSeen: () => Promise<void>): Promise<void> {
    await this.#store.commit([this.#table.put(record.id, record)]);
    try {
      await beforeSeen();
    } catch (cause) {
      await this.#store.commit([this.#table.remove(record.id)]);
      throw cause;
    }
    this.#byId.set(record.id, record);
  }

  /** Forgets a network after the effect, during which nobody finds it. If that fails, it is there again. */
  async remove({ id }: NetworkRecord, effect: () => Promise<void>): Promise<void> {
    this.#leaving.add(id);
    try {
      await effect();
      await this.#store.commit([this.#table.remove(id)]);
      this.#byId.delete(id);
    } finally {
      this.#leaving.delete(id);
    }
  }

  async #ensure(name: string, driver: string, defaultBridge: NetworkSpec): Promise<void> {
    const [known] = this.named(name);
    const record: NetworkRecord = {
      id: known?.id ?? newId(),
      name,
      createdAt: known?.createdAt ?? nowText(),
      driver,
      scope: 'local',
      isIpv6: false,
      isInternal: false,
      isAttachable: false,
      isIngress: false,
      isConfigOnly: false,
      configFrom: '',
      ipam: { driver: 'default', options: null, config: [] },
      pools: [],
      options: {},
      labels: {},
      ...(name === 'bridge' && asConfigured(defaultBridge)),
    };
    if (known !== undefined && JSON.stringify(known) === JSON.stringify(record)) return;
    const stale = known === undefined || known.id === record.id ? [] : [this.#table.remove(known.id)];
    await this.#store.commit([...stale, this.#table.put(record.id, record)]);
    if (known !== undefined) this.#byId.delete(known.id);
    this.#byId.set(record.id, record);
  }
}

function asConfigured({ id, isIpv6, isInternal, ipam, options }: NetworkSpec): Partial<NetworkRecord> {
  return {
    id,
    isIpv6,
    isInternal,
    ipam: { driver: 'default', options: null, config: ipam },
    pools: ipam,
    options,
  };
}

/** A network as the kernel's side must know it; undefined for one that keeps nothing there. */
export function specOf(record: Omit<NetworkRecord, 'createdAt'>): NetworkSpec | undefined {
  const { id, name, driver, isIpv6, isInternal, isConfigOnly, pools, options } = record;
  if (isConfigOnly || (driver !== 'bridge' && driver !== 'macvlan' && driver !== 'ipvlan')) return undefined;
  return { id, name, driver, isIpv6, isInternal, ipam: pools, options };
}
