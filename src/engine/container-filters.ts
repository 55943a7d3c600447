import { fail, messageOf } from '../errors.ts';
import { parseInteger } from '../lib/go-numbers.ts';
import { parseNanos, ZERO_TIME } from '../lib/time.ts';
import { isUp, shownStatus } from './container-status.ts';
import { type Filters, hasLabels, namesMeant, passes } from './filters.ts';
import type { ContainerRecord } from './model.ts';

const known: ReadonlySet<string> = new Set([
  'ancestor',
  'before',
  'exited',
  'expose',
  'health',
  'id',
  'is-task',
  'isolation',
  'label',
  'name',
  'network',
  'publish',
  'since',
  'status',
  'volume',
]);
const statuses = ['created', 'running', 'paused', 'restarting', 'removing', 'exited', 'dead'];
const healths = ['starting', 'healthy', 'unhealthy', 'none'];

/** The containers a list shows, newest first; `ancestors` are the images that the filter of this name means. Throws 400 or 404 for filters that make no sense. */
export function selectContainers(
  all: readonly ContainerRecord[],
  o: {
    isAll: boolean;
    limit: number;
    filters: Filters;
    ancestors: ReadonlySet<string>;
    healthOf: (id: string) => string;
  },
): ContainerRecord[] {
  const { filters } = o;
  checkFilters(filters);
  const bound = (key: string) => {
    const ref = filters.get(key)?.[0];
    return ref === undefined ? undefined : createdNanos(findIn(all, ref));
  };
  const [before, since] = [bound('before'), bound('since')];
  const exited = (filters.get('exited') ?? []).map(exitCode);
  const [exposed, published] = [portsOf(filters, 'expose'), portsOf(filters, 'publish')];
  const ids = idsMeant(all, filters);
  // a name is matched with and without its slash
  const names = namesMeant(
    filters,
    'name',
    all.flatMap(({ name }) => [name, `/${name}`]),
  );
  const showsAll = o.isAll || o.limit > 0 || filters.has('status') || exited.length > 0;
  const chosen = all
    .filter(
      (record) =>
        (showsAll || isUp(record)) &&
        (before === undefined || createdNanos(record) < before) &&
        (since === undefined || createdNanos(record) > since) &&
        (exited.length === 0 || (hasEnded(record) && exited.includes(record.state.exitCode))) &&
        (ids === undefined || ids.has(record.id)) &&
        (names === undefined || names.has(record.name) || names.has(`/${record.name}`)) &&
        hasPort(record, exposed, published) &&
        passes(filters, 'ancestor', () => o.ancestors.has(record.imageId)) &&
        passes(filters, 'health', (wanted) => wanted === o.healthOf(record.id)) &&
        matches(record, filters),
    )
    .sort((a, b) => (createdNanos(b) > createdNanos(a) ? 1 : -1));
  return o.limit > 0 ? chosen.slice(0, o.limit) : chosen;
}

function matches(record: ContainerRecord, filters: Filters): boolean {
  const { config, mounts } = record;
  return (
    hasLabels(filters, config.labels) &&
    passes(filters, 'status', (wanted) => shownStatus(record) === wanted) &&
    passes(filters, 'is-task', (wanted) => wanted === 'false' || wanted === '0') &&
    passes(filters, 'network', (wanted) => isOn(record, wanted)) &&
    passes(filters, 'volume', (wanted) =>
      mounts.some(({ name, source, destination }) => (name ?? source) === wanted || destination === wanted),
    )
  );
}

function checkFilters(filters: Filters): void {
  for (const key of filters.keys()) if (!known.has(key)) throw fail.badRequest(`invalid filter '${key}'`);
  for (const value of filters.get('status') ?? [])
    if (!statuses.includes(value)) throw fail.badRequest(`invalid filter 'status=${value}'`);
  checkTaskFilter(filters);
  for (const value of filters.get('health') ?? [])
    if (!healths.includes(value)) throw fail.badRequest(`Unrecognised filter value for health: ${value}`);
}

/** By full ID or name. dockerd: idOrNameFilter in daemon/list.go */
function findIn(all: readonly ContainerRecord[], ref: string): ContainerRecord {
  const plain = ref.replace(/^\//, '');
  const found = all.find(({ id, name }) => id === ref || name === plain);
  if (found === undefined) throw fail.noSuchContainer(ref);
  return found;
}

function exitCode(text: string): number {
  try {
    return parseInteger(text);
  } catch (cause) {
    throw fail.badRequest(`invalid filter 'exited=${text}': ${messageOf(cause)}`);
  }
}

function hasEnded(record: ContainerRecord): boolean {
  return !isUp(record) && record.state.startedAt !== ZERO_TIME;
}

/** Those whose ID begins as is said, unless several do. */
function idsMeant(all: readonly ContainerRecord[], filters: Filters): ReadonlySet<string> | undefined {
  const wanted = filters.get('id') ?? [];
  if (wanted.length === 0) return undefined;
  const meant = wanted.map((prefix) => all.filter(({ id }) => prefix !== '' && id.startsWith(prefix)));
  return new Set(meant.flatMap(([first, second]) => (first && !second ? [first.id] : [])));
}

function isOn({ endpoints }: ContainerRecord, network: string): boolean {
  return Object.entries(endpoints).some(
    ([name, { networkId }]) => name === network || networkId.startsWith(network),
  );
}

interface PortRange {
  readonly first: number;
  readonly last: number;
  readonly protocol: string;
}

/** Whether a port in force is among those exposed, or those published, that are asked for. dockerd counts a port that is not published as 0. */
function hasPort(
  { ports }: ContainerRecord,
  exposed: readonly PortRange[],
  published: readonly PortRange[],
): boolean {
  if (exposed.length + published.length === 0) return true;
  return Object.entries(ports).some(([port, bindings]) => {
    const [inside, protocol = 'tcp'] = port.split('/');
    const isIn = (ranges: readonly PortRange[], number: number) =>
      ranges.some((range) => range.protocol === protocol && range.first <= number && number <= range.last);
    const outside = bindings?.length ? bindings.map(({ hostPort }) => Number(hostPort)) : [0];
    return isIn(exposed, Number(inside)) || outside.some((number) => isIn(published, number));
  });
}

// dockerd: portOp in daemon/list.go
function portsOf(filters: Filters, key: 'expose' | 'publish'): PortRange[] {
  return (filters.get(key) ?? []).map((text) => {
    if (text.includes(':')) throw fail.badPortFilter(`filter for '${key}' should not contain ':': ${text}`);
    const refuse = (why: string) => fail.badPortFilter(`error while looking up for ${key} ${text}: ${why}`);
    const [range = '', protocol] = text.split('/', 2);
    if (range === '') throw refuse('empty string specified for ports');
    const [first = '', last = first] = range.split('-', 2);
    for (const one of [first, last])
      if (!/^\d+$/.test(one) || Number(one) > 65535)
        throw refuse(
          `strconv.ParseUint: parsing ${JSON.stringify(one)}: ${/^\d+$/.test(one) ? 'value out of range' : 'invalid syntax'}`,
        );
    if (Number(last) < Number(first)) throw refuse(`invalid range specified for port: ${range}`);
    return { first: Number(first), last: Number(last), protocol: protocol || 'tcp' };
  });
}

/** There are no tasks here: one that is asked for is none. */
function checkTaskFilter(filters: Filters): void {
  const wanted = filters.get('is-task') ?? [];
  const isBoolean = wanted.every((value) => ['true', 'false', '1', '0'].includes(value));
  if (!isBoolean || wanted.length > 1)
    throw fail.badRequest(`invalid filter 'is-task=[${wanted.join(' ')}]'`);
}

function createdNanos({ createdAt }: ContainerRecord): bigint {
  return parseNanos(createdAt) ?? 0n;
}
