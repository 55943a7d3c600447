import { Failure, fail } from '../errors.ts';
import { parsePort } from '../lib/port.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import { isUserDefined } from './endpoint-checks.ts';
import type { ContainerLink, ContainerRecord, HostConfig } from './model.ts';
import { donorOf } from './namespaces.ts';

/**
 * Links of containers on the default bridge, dockerd's legacy ones: a container knows another by a word of its own, in
 * its /etc/hosts and its environment. On networks that users make, links are a matter of names and not of this.
 */

type Records = Pick<ContainerRecords, 'get' | 'all'>;

/** The default bridge, as records name it. */
const BRIDGE = 'bridge';

/** What a link does to a container that starts. */
export interface LinkSetup {
  /** Lines of its /etc/hosts. */
  hosts: string[];
  environment: string[];
}

/** `name:word`, or the name alone; `/name:/own/word` is how inspect shows it. Throws 500 for anything else. */
export function parseLink(text: string): { name: string; alias: string } {
  if (text === '') throw fail.host('empty string specified for links');
  const [name = '', alias = name, ...more] = text.split(':');
  if (more.length > 0) throw fail.host(`bad format for links: ${text}`);
  return name.startsWith('/') && text.includes(':')
    ? { name: name.slice(1), alias: alias.slice(alias.lastIndexOf('/') + 1) }
    : { name, alias };
}

/** Whom a new container is linked to. Throws 400 for one that is not there, or that has no network of its own. */
export function settleLinks(
  { links, networkMode }: Pick<HostConfig, 'links' | 'networkMode'>,
  find: (ref: string) => ContainerRecord,
): ContainerLink[] {
  if (isUserDefined(networkMode)) return [];
  const settled = new Map<string, ContainerLink>();
  for (const { name, alias } of (links ?? []).map(parseLink)) {
    const child = ownerOf(name, find);
    if (child.hostConfig.networkMode === 'host')
      throw fail.badRequest(
        "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
      );
    // of two with one word the first counts, as under dockerd
    if (!settled.has(alias)) settled.set(alias, { containerId: child.id, name: child.name, alias });
  }
  return [...settled.values()];
}

/** Whose network a container has in the end. */
function ownerOf(name: string, find: (ref: string) => ContainerRecord): ContainerRecord {
  const seen = new Set<string>();
  for (let ref = name; ; ) {
    const child = found(ref, find);
    const donor = donorOf(child.hostConfig.networkMode);
    if (donor === undefined) return child;
    // two that were each made to join the other
    if (seen.has(child.id)) throw fail.badRequest(`could not get container for ${ref}: it has no network`);
    seen.add(child.id);
    ref = donor;
  }
}

function found(ref: string, find: (ref: string) => ContainerRecord): ContainerRecord {
  try {
    return find(ref);
  } catch (cause) {
    if (!(cause instanceof Failure)) throw cause;
    throw fail.badRequest(`could not get container for ${ref}: ${cause.message}`);
  }
}

/** What inspect shows: `/web:/app/home`. */
export function shownLinks(record: ContainerRecord, records: Records): string[] | null {
  const links = record.links ?? [];
  if (links.length === 0) return null;
  return links.map((link) => `/${childOf(link, records)?.name ?? link.name}:/${record.name}/${link.alias}`);
}

/** All that a container is called: its own name, and `/app/home` by those that are linked to it. */
export function allNamesOf({ id, name }: ContainerRecord, records: Pick<ContainerRecords, 'all'>): string[] {
  const linked = records
    .all()
    .flatMap((parent) =>
      (parent.links ?? [])
        .filter(({ containerId }) => containerId === id)
        .map(({ alias }) => `/${parent.name}/${alias}`),
    );
  return [`/${name}`, ...linked].sort();
}

/** A record that knows nobody by this word any more. */
export function withoutLink(record: ContainerRecord, word: string): ContainerRecord {
  return { ...record, links: (record.links ?? []).filter(({ alias }) => alias !== word) };
}

/** What its links do to a container that is about to start. Throws 500 unless all that it is linked to run. */
export function setUpLinks(record: ContainerRecord, records: Records): LinkSetup {
  const setup: LinkSetup = { hosts: [], environment: [] };
  if (record.endpoints[BRIDGE] === undefined) return setup;
  for (const link of record.links ?? []) {
    const child = childOf(link, records);
    const fullName = `/${record.name}/${link.alias}`;
    if (child === undefined || !isRunning(child))
      throw fail.host(`Cannot link to a non running container: /${child?.name ?? link.name} AS ${fullName}`);
    const endpoint = child.endpoints[BRIDGE];
    if (endpoint === undefined)
      throw fail.host(`container ${child.id} not attached to default bridge network`);
    const names = [
      link.alias,
      child.config.hostname,
      ...(link.alias === child.name ? [] : [child.name]),
    ].join(' ');
    for (const address of [endpoint.ipAddress, endpoint.globalIPv6Address])
      if (address !== '') setup.hosts.push(`${address}\t${names}`);
    setup.environment.push(...linkEnvironment(child, { fullName, alias: link.alias }));
  }
  return setup;
}

/** What a program that joins a running container finds of its links; of those that do not run any more, nothing. */
export function linkedEnvironment(record: ContainerRecord, records: Records): string[] {
  const running = (record.links ?? []).filter((link) => {
    const child = childOf(link, records);
    return child !== undefined && isRunning(child) && child.endpoints[BRIDGE] !== undefined;
  });
  return setUpLinks({ ...record, links: running }, records).environment;
}

/** The running containers that are linked to this one, and by which word: their files have its address. */
export function* linkedTo(
  { id }: Pick<ContainerRecord, 'id'>,
  records: Pick<ContainerRecords, 'all'>,
): Iterable<{ parentId: string; alias: string }> {
  for (const parent of records.all()) {
    if (!isRunning(parent) || parent.endpoints[BRIDGE] === undefined) continue;
    for (const { containerId, alias } of parent.links ?? [])
      if (containerId === id) yield { parentId: parent.id, alias };
  }
}

/** The containers that it is linked to, as far as they are there. */
export function linkedChildren(record: ContainerRecord, records: Records): ContainerRecord[] {
  return (record.links ?? []).flatMap((link) => childOf(link, records) ?? []);
}

/** The one that was meant; or, where that is gone, who has its name now. */
function childOf({ containerId, name }: ContainerLink, records: Records): ContainerRecord | undefined {
  return records.get(containerId) ?? records.all().find((record) => record.name === name);
}

/** moby: Link.ToEnv in links/links.go of 20.10 to 26 */
function linkEnvironment(child: ContainerRecord, o: { fullName: string; alias: string }): string[] {
  const { config, endpoints } = child;
  const address = endpoints[BRIDGE]?.ipAddress ?? '';
  const prefix = o.alias.toUpperCase().replaceAll('-', '_');
  const ports = Object.keys(config.exposedPorts ?? {})
    .map(parsePort)
    .sort(byNumber);
  const placeOf = ({ protocol, port }: Port) => `${protocol}://${address}:${port}`;
  const nameOf = ({ protocol, port }: Port) => `${prefix}_PORT_${port}_${protocol.toUpperCase()}`;
  const [first] = ports;
  const lines = first === undefined ? [] : [`${prefix}_PORT=${placeOf(first)}`];
  for (const { start, end } of rangesOf(ports)) {
    const name = nameOf(start);
    lines.push(`${name}_START=${placeOf(start)}`, `${name}_PORT_START=${start.port}`);
    lines.push(`${name}_END=${placeOf(end)}`, `${name}_PORT_END=${end.port}`);
  }
  for (const one of ports) {
    const name = nameOf(one);
    lines.push(`${name}=${placeOf(one)}`, `${name}_ADDR=${address}`);
    lines.push(`${name}_PORT=${one.port}`, `${name}_PROTO=${one.protocol}`);
  }
  lines.push(`${prefix}_NAME=${o.fullName}`);
  for (const variable of config.env ?? [])
    if (variable.includes('=') && !/^(HOME|PATH)=/.test(variable)) lines.push(`${prefix}_ENV_${variable}`);
  return lines;
}

type Port = ReturnType<typeof parsePort>;

/** Of one number, TCP first. */
function byNumber(one: Port, other: Port): number {
  return one.port - other.port || Number(other.protocol === 'tcp') - Number(one.protocol === 'tcp');
}

/** Three ports and more that follow each other. */
function rangesOf(ports: readonly Port[]): { start: Port; end: Port }[] {
  const ranges: { start: Port; end: Port }[] = [];
  for (let first = 0; first < ports.length; ) {
    const start = ports[first];
    let last = first;
    while (start && (ports[last + 1]?.port ?? Number.POSITIVE_INFINITY) <= start.port + (last - first) + 1)
      last++;
    const end = ports[last];
    const isRange = start !== undefined && end !== undefined && last > first + 1;
    if (isRange) ranges.push({ start, end });
    first = isRange ? last + 1 : first + 1;
  }
  return ranges;
}
