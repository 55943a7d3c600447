import { fail } from '../errors.ts';
import { newId } from '../lib/ids.ts';
import { Locks } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import { nowText } from '../lib/time.ts';
import type { IpamConfig } from '../network/model.ts';
import type { Networks as KernelNetworks } from '../network/networks.ts';
import { parseCidr } from '../network/subnets.ts';
import type { Events } from './events.ts';
import type { Filters } from './filters.ts';
import { checkNetworkRequest, checkUse, type NetworkRequest } from './network-checks.ts';
import { tellNetwork } from './network-events.ts';
import { selectNetworks } from './network-filters.ts';
import { isPredefined, type NetworkRecord, type NetworkRecords, specOf } from './network-records.ts';
import type { Attachment, NetworkUsers } from './network-users.ts';
import { PruneRule } from './prune-rule.ts';

/** A network with those that are on it. */
export interface NetworkView {
  record: NetworkRecord;
  attachments: Attachment[];
}

/** What clients do with networks. Who is on them is {@link NetworkConnections}' to change. */
export class Networks {
  readonly #o: NetworkParts;
  readonly #locks = new Locks();
  #isPruning = false;

  constructor(parts: NetworkParts) {
    this.#o = parts;
  }

  /** Makes a network. Throws 400, 403, 404 or 409 in dockerd's words and order. */
  async create(request: NetworkRequest): Promise<{ id: string; warning: string }> {
    const { records, defaultOptions, events, log } = this.#o;
    // two at once would both find the name free; and who lends its configuration must stay meanwhile
    await using _locks = await this.#locks.holdAll([`name ${request.name}`, ...lockOf(request.configFrom)]);
    const warning = checkNetworkRequest(request, (name) => records.named(name));
    const draft = newRecord(request, defaultOptions);
    if (draft.isConfigOnly) await records.create(draft, async () => {});
    else await this.#make(this.#configured(draft));
    tellNetwork(events, draft, 'create');
    log.info({ network: draft.id, name: draft.name, driver: draft.driver }, 'network created');
    return { id: draft.id, warning };
  }

  /** The networks that pass the filters, oldest first; `withAttachments` also who is on them. */
  list(o: { filters: Filters; withAttachments: boolean }): NetworkView[] {
    const chosen = selectNetworks(
      this.#o.records.all(),
      o.filters,
      (record) => this.#o.users.attachmentsOf(record).length > 0,
    );
    return chosen.map((record) => ({
      record,
      attachments: o.withAttachments ? this.#o.users.attachmentsOf(record) : [],
    }));
  }

  /** One network, by full ID, name or ID prefix. Throws 404, or 400 if the term fits several. */
  inspect(term: string, { scope = '' } = {}): NetworkView {
    return this.#viewOf(this.#only(term, scope, fail.severalNetworks));
  }

  /** Removes a network that nobody is on. Throws 403 for one in use or one that is always there, 404 for none. */
  async remove(term: string): Promise<void> {
    await this.#remove(this.#only(term, '', fail.ambiguousNetwork));
  }

  /** Removes all networks that nobody is on, as far as the filters say so; their names. Throws 409 amid another prune. */
  async prune(o: { filters: Filters; signal?: AbortSignal }): Promise<string[]> {
    const { records, events, log } = this.#o;
    const rule = new PruneRule(o.filters);
    if (this.#isPruning) throw fail.pruneRunning();
    this.#isPruning = true;
    try {
      const removed: string[] = [];
      for (const record of records.all()) {
        if (o.signal?.aborted) break;
        if (record.isConfigOnly || isPredefined(record.name)) continue;
        if (!rule.passes(Date.parse(record.createdAt), record.labels) || this.#o.users.isInUse(record))
          continue;
        try {
          await this.#remove(record);
        } catch (err) {
          log.warn({ network: record.id, name: record.name, err }, 'could not prune a network');
          continue;
        }
        removed.push(record.name);
      }
      events.emit('network', 'prune', '', { reclaimed: '0' });
      return removed;
    } finally {
      this.#isPruning = false;
    }
  }

  /** Boot: makes every network, or takes over what the kernel has of it. One that cannot be must not keep the others down. */
  async recover(): Promise<void> {
    const { records, kernel, log } = this.#o;
    for (const record of records.all()) {
      const spec = specOf(record);
      if (spec === undefined) continue;
      try {
        await kernel.add(spec);
      } catch (err) {
        log.error({ network: record.id, name: record.name, err }, 'could not make a network again');
      }
    }
  }

  /** Gives a network its addresses, and makes it in the kernel. */
  async #make(record: NetworkRecord): Promise<void> {
    const { records, kernel } = this.#o;
    checkUse(record);
    const asked = specOf({ ...record, pools: record.ipam.config });
    if (asked === undefined) return records.create(record, async () => {});
    const pools = await kernel.settle(asked);
    try {
      await records.create({ ...record, pools }, () => kernel.add({ ...asked, ipam: pools }));
    } catch (cause) {
      kernel.forget(record.id);
      throw cause;
    }
  }

  #only(term: string, scope: string, refuse: typeof fail.ambiguousNetwork): NetworkRecord {
    const isIn = (record: NetworkRecord) => scope === '' || record.scope === scope;
    const { byId, byName, byPrefix } = this.#o.records.matches(term);
    if (byId !== undefined && isIn(byId)) return byId;
    const [named, begun] = [byName.filter(isIn), byPrefix.filter(isIn)];
    const [record = begun[0]] = named;
    if (named.length > 1) throw refuse(term, `${named.length} matches found based on name`);
    if (record === undefined) throw fail.noSuchNetwork(term);
    if (named.length === 0 && begun.length > 1)
      throw refuse(term, `${begun.length} matches found based on ID prefix`);
    return record;
  }

  async #remove(record: NetworkRecord): Promise<void> {
    const { records, kernel, events, log } = this.#o;
    if (isPredefined(record.name))
      throw fail.networkRefused(`${record.name} is a pre-defined network and cannot be removed`);
    await using _locks = await this.#locks.holdAll(lockOf(record.isConfigOnly ? record.name : ''));
    if (records.get(record.id) === undefined) throw fail.noSuchNetwork(record.id);
    const refuse = (why: string) => fail.networkRefused(`error while removing network: ${why}`);
    const { id, name } = record;
    if (record.isConfigOnly && records.all().some(({ configFrom }) => configFrom === name))
      throw refuse(`configuration network ${JSON.stringify(name)} is in use`);
    // nobody comes between this look and the removal, which hides it at once
    if (this.#o.users.isInUse(record)) throw refuse(`network ${name} id ${id} has active endpoints`);
    await records.remove(record, async () => {
      if (specOf(record) !== undefined) await kernel.remove(id);
    });
    if (!record.isConfigOnly) tellNetwork(events, record, 'destroy');
    log.info({ network: id, name }, 'network removed');
  }

  /** A record with the configuration of the network that it is from. Throws 404 if there is none. */
  #configured(record: NetworkRecord): NetworkRecord {
    const { configFrom } = record;
    if (configFrom === '') return record;
    const lender = this.#o.records.named(configFrom).find(({ isConfigOnly }) => isConfigOnly);
    if (lender === undefined)
      throw fail.network(`configuration network ${JSON.stringify(configFrom)} does not exist`, {
        status: 404,
      });
    const { isIpv6, ipam, options, labels } = lender;
    return { ...record, isIpv6, ipam, options, labels };
  }

  #viewOf(record: NetworkRecord): NetworkView {
    return { record, attachments: this.#o.users.attachmentsOf(record) };
  }
}

/** Of a network that lends its configuration. */
function lockOf(lender: string): string[] {
  return lender === '' ? [] : [`lender ${lender}`];
}

function newRecord(request: NetworkRequest, defaultOptions: OptionsByDriver): NetworkRecord {
  const driver = request.driver || 'bridge';
  // who takes another network's configuration takes its options as they are
  const defaults = request.configFrom === '' ? defaultOptions[driver] : {};
  const { name, isConfigOnly, ipam, isIpv6, isInternal, isAttachable, isIngress } = request;
  const config = ipam?.config ?? [];
  const families = [...config.filter((pool) => !isIpv6Pool(pool)), ...config.filter(isIpv6Pool)];
  return {
    id: newId(),
    name,
    createdAt: nowText(),
    driver: isConfigOnly ? 'null' : driver,
    scope: 'local',
    isIpv6,
    isInternal,
    isAttachable,
    isIngress,
    isConfigOnly,
    configFrom: request.configFrom,
    ipam: { driver: ipam?.driver || 'default', options: ipam?.options ?? null, config: families },
    pools: [],
    options: { ...defaults, ...request.options },
    labels: request.labels,
  };
}

function isIpv6Pool({ subnet = '' }: IpamConfig): boolean {
  return parseCidr(subnet)?.subnet.family === 6;
}

/** What networks of a driver get that do not say. */
type OptionsByDriver = Readonly<Record<string, Readonly<Record<string, string>>>>;

/** What networks are made of, and who may be on them. */
export interface NetworkParts {
  records: NetworkRecords;
  users: NetworkUsers;
  kernel: Pick<KernelNetworks, 'settle' | 'forget' | 'add' | 'remove'>;
  defaultOptions: OptionsByDriver;
  events: Events;
  log: Log;
}
