import { fail } from '../errors.ts';
import { parseNanos } from '../lib/time.ts';
import { isRunning } from './container-records.ts';
import { type Filters, hasLabels, passes } from './filters.ts';
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
  for (const key of filters.keys()) if (!known.has(key)) throw fail.badRequest(`invalid filter '${key}'`);
  checkValues(filters, 'status', statuses);
  checkValues(filters, 'health', healths);
  checkTaskFilter(filters);
  for (const key of ['expose', 'publish']) for (const port of filters.get(key) ?? []) portsOf(port, key);
  const bound = (key: string) => {
    const ref = filters.get(key)?.[0];
    return ref === undefined ? undefined : createdNanos(findIn(all, ref));
  };
  const [before, since] = [bound('before'), bound('since')];
  const exited = (filters.get('exited') ?? []).map(exitCode);
  const showsAll = o.isAll || o.limit > 0 || filters.has('status') || exited.length > 0;
  const chosen = all
    .filter(
      (record) =>
        (showsAll || isRunning(record) || record.state.status === 'restarting') &&
        (before === undefined || createdNanos(record) < before) &&
        (since === undefined || createdNanos(record) > since) &&
        (exited.length === 0 ||
          (record.state.status === 'exited' && exited.includes(record.state.exitCode))) &&
        passes(filters, 'ancestor', () => o.ancestors.has(record.imageId)) &&
        passes(filters, 'health', (wanted) => wanted === o.healthOf(record.id)) &&
        matches(record, filters),
    )
    .sort((a, b) => (createdNanos(b) > createdNanos(a) ? 1 : -1));
  return o.limit > 0 ? chosen.slice(0, o.limit) : chosen;
}

function matches(record: ContainerRecord, filters: Filters): boolean {
  const { config, hostConfig, state, mounts } = record;
  const status = state.status === 'starting' ? 'created' : state.status;
  return (
    hasLabels(filters, config.labels) &&
    passes(filters, 'status', (wanted) => status === wanted) &&
    passes(filters, 'id', (wanted) => nameMatches(record.id, wanted)) &&
    passes(filters, 'name', (wanted) => nameMatches(record.name, wanted)) &&
    passes(filters, 'is-task', (wanted) => wanted === 'false' || wanted === '0') &&
    passes(filters, 'network', (wanted) => isOn(record, wanted)) &&
    passes(filters, 'volume', (wanted) =>
      mounts.some((mount) => mount.name === wanted || mount.destination === wanted),
    ) &&
    passes(filters, 'expose', (wanted) => hasPort(config.exposedPorts, wanted)) &&
    passes(filters, 'publish', (wanted) => hasPort(hostConfig.portBindings, wanted))
  );
}

function checkValues(filters: Filters, key: string, allowed: readonly string[]): void {
  for (const value of filters.get(key) ?? []) {
    if (!allowed.includes(value)) throw fail.badRequest(`invalid filter '${key}=${value}'`);
  }
}

function findIn(all: readonly ContainerRecord[], ref: string): ContainerRecord {
  const found =
    all.find(({ id, name }) => id === ref || name === ref) ?? all.find(({ id }) => id.startsWith(ref));
  if (found === undefined) throw fail.noSuchContainer(ref);
  return found;
}

function exitCode(text: string): number {
  if (/^[+-]?\d+$/.test(text)) return Number(text);
  throw fail.badRequest(`invalid filter 'exited=${text}': strconv.Atoi: parsing "${text}": invalid syntax`);
}

/** dockerd matches a regular expression on the name with and without its slash; bad ones count as plain text. */
function nameMatches(name: string, wanted: string): boolean {
  try {
    const pattern = new RegExp(wanted);
    return pattern.test(name) || pattern.test(`/${name}`);
  } catch {
    return name.includes(wanted);
  }
}

function isOn({ endpoints }: ContainerRecord, network: string): boolean {
  return Object.entries(endpoints).some(
    ([name, { networkId }]) => name === network || (network !== '' && networkId.startsWith(network)),
  );
}

function portKeys(ports: object | null): string[] {
  return Object.keys(ports ?? {}).map(withProtocol);
}

/** Whether one of the ports `80`, `80/udp` or `80-90/tcp` is among these. */
function hasPort(ports: object | null, wanted: string): boolean {
  const { first, last, protocol } = portsOf(wanted, '');
  return portKeys(ports).some((key) => {
    const [number, kind] = key.split('/');
    return kind === protocol && Number(number) >= first && Number(number) <= last;
  });
}

// dockerd: portOp in daemon/list.go
function portsOf(text: string, key: string): { first: number; last: number; protocol: string } {
  if (text.includes(':')) throw fail.badRequest(`filter for '${key}' should not contain ':': ${text}`);
  const [range = '', protocol] = text.split('/', 2);
  const [first = '', last = first] = range.split('-', 2);
  const refuse = (why: string) => fail.badRequest(`error while looking up for ${key} ${text}: ${why}`);
  if (range === '') throw refuse('empty string specified for ports.');
  for (const one of [first, last])
    if (!/^\d+$/.test(one) || Number(one) > 65535)
      throw refuse(
        `strconv.ParseUint: parsing ${JSON.stringify(one)}: ${/^\d+$/.test(one) ? 'value out of range' : 'invalid syntax'}`,
      );
  if (Number(last) < Number(first)) throw refuse(`invalid range specified for port: ${range}`);
  return { first: Number(first), last: Number(last), protocol: protocol || 'tcp' };
}

/** There are no tasks here: one that is asked for is none. */
function checkTaskFilter(filters: Filters): void {
  const wanted = filters.get('is-task') ?? [];
  const isBoolean = wanted.every((value) => ['true', 'false', '1', '0'].includes(value));
  if (!isBoolean || wanted.length > 1)
    throw fail.badRequest(`invalid filter 'is-task=[${wanted.join(' ')}]'`);
}

function withProtocol(port: string): string {
  return port.includes('/') ? port : `${port}/tcp`;
}

function createdNanos({ createdAt }: ContainerRecord): bigint {
  return parseNanos(createdAt) ?? 0n;
}
