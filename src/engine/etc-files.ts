import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readIfThere } from '../host/files.ts';
import { hostsFile, ownLines, withAddress, withLines } from '../network/hosts.ts';
import type { Endpoint } from '../network/model.ts';
import {
  hostResolvConf,
  type OwnResolvConf,
  ownResolvConf,
  type ResolverWishes,
  resolvConf,
} from '../network/resolver.ts';
import { isUserDefined } from './endpoint-checks.ts';
import type { ContainerRecord } from './model.ts';
import type { BundleMount } from './mounts.ts';

/** What is larger is no text that a resolver reads. */
const MAX_FILE_BYTES = 1 << 20;

/**
 * The files under /etc that the engine writes for each running container, and what it must remember of its network
 * while it runs. They live in the exec root (a tmpfs): made anew at each start, so flash never sees them.
 */
export class EtcFiles {
  readonly #root: string;
  readonly #wishes: ResolverWishes;
  readonly #hostGateway: string;

  /** `resolver`: the engine-wide wishes, for containers that have none of their own; `hostGateway`: of extra hosts. */
  constructor(o: { execRoot: string; resolver: ResolverWishes; hostGateway: string }) {
    this.#root = join(o.execRoot, 'etc');
    this.#wishes = o.resolver;
    this.#hostGateway = o.hostGateway;
  }

  pathsOf(id: string): { hosts: string; hostname: string; resolv: string } {
    const at = (name: string) => join(this.#root, id, name);
    return { hosts: at('hosts'), hostname: at('hostname'), resolv: at('resolv.conf') };
  }

  /** Writes the three files before the container is made; its address is not known yet. `links`: lines for those. */
  async write(record: ContainerRecord, links: readonly string[] = []): Promise<void> {
    const { id, config, hostConfig } = record;
    const paths = this.pathsOf(id);
    await mkdir(join(this.#root, id), { recursive: true, mode: 0o711 });
    const mode = hostConfig.networkMode;
    const network = mode === 'host' || mode === 'none' ? mode : 'bridge';
    await writeFile(paths.hostname, `${config.hostname}\n`);
    const resolv = Object.keys(record.endpoints).some(isUserDefined)
      ? (await this.resolverOf(record)).text
      : resolvConf(await hostResolvConf(), this.#wishesOf(record), network);
    await writeFile(paths.resolv, resolv);
    await writeFile(`${paths.resolv}.made`, resolv);
    const hostText = network === 'host' ? (await readIfThere('/etc/hosts'))?.toString() : undefined;
    await writeFile(paths.hosts, this.#hostsOf(record, links, hostText));
  }

  /** What a container asks that is on a network with names. */
  async resolverOf(record: Pick<ContainerRecord, 'hostConfig'>): Promise<OwnResolvConf> {
    return ownResolvConf(await hostResolvConf(), this.#wishesOf(record));
  }

  /** A running container asks otherwise from now on, unless somebody has edited its file. In place, as below. */
  async useOwnResolver(id: string, text: string): Promise<void> {
    const { resolv } = this.pathsOf(id);
    const [made, now] = await Promise.all([textOf(`${resolv}.made`), textOf(resolv)]);
    if (made === undefined || now !== made || now === text) return;
    await writeFile(resolv, text);
    await writeFile(`${resolv}.made`, text);
  }

  /** Notes the addresses. In place: the file is bind-mounted, a new inode would not be seen inside. */
  async writeEndpoints(record: ContainerRecord, endpoints: readonly Endpoint[]): Promise<void> {
    const { hosts } = this.pathsOf(record.id);
    const linesOf = (those: readonly Endpoint[]) =>
      ownLines({ ...record.config, addresses: addressesOf(those) });
    const lines = { old: linesOf(await this.endpointsOf(record.id)), now: linesOf(endpoints) };
    const text = await textOf(hosts);
    if (text !== undefined) await writeFile(hosts, withLines(text, lines));
    const path = join(this.#root, record.id, 'endpoints.json');
    await writeFile(`${path}.new`, JSON.stringify(endpoints)); // a daemon may die half-way through a file
    await rename(`${path}.new`, path);
  }

  /** A container that another one is linked to has a new address. */
  async writeLinkAddress(id: string, alias: string, address: string): Promise<void> {
    const { hosts } = this.pathsOf(id);
    const text = await textOf(hosts);
    if (text !== undefined) await writeFile(hosts, withAddress(text, alias, address));
  }

  /** The network endpoints of a container that was running when the last daemon died. */
  async endpointsOf(id: string): Promise<Endpoint[]> {
    try {
      return JSON.parse(await readFile(join(this.#root, id, 'endpoints.json'), 'utf8'));
    } catch {
      return []; // no networks, or the machine was restarted
    }
  }

  /** The mounts that bring the files into the container, writable where its root is. */
  mountsOf({ id, hostConfig }: Pick<ContainerRecord, 'id' | 'hostConfig'>): BundleMount[] {
    const { hosts, hostname, resolv } = this.pathsOf(id);
    const access = hostConfig.readonlyRootfs ? 'ro' : 'rw';
    const bind = (source: string, destination: string) => ({
      destination,
      type: 'bind',
      source,
      options: ['rbind', access, 'rprivate'],
    });
    return [bind(resolv, '/etc/resolv.conf'), bind(hostname, '/etc/hostname'), bind(hosts, '/etc/hosts')];
  }

  async remove(id: string): Promise<void> {
    await rm(join(this.#root, id), { recursive: true, force: true });
  }

  #wishesOf({ hostConfig }: Pick<ContainerRecord, 'hostConfig'>): ResolverWishes {
    const own = (wish: string[] | null, general: readonly string[]) => (wish?.length ? wish : general);
    return {
      dns: own(hostConfig.dns, this.#wishes.dns),
      dnsSearch: own(hostConfig.dnsSearch, this.#wishes.dnsSearch),
      dnsOptions: own(hostConfig.dnsOptions, this.#wishes.dnsOptions),
    };
  }

  #hostsOf({ hostConfig }: ContainerRecord, links: readonly string[], hostText: string | undefined): string {
    const extraHosts = hostConfig.extraHosts ?? [];
    return hostsFile({
      extraHosts,
      links,
      hostGateway: this.#hostGateway,
      ...(hostText !== undefined && { hostText }),
    });
  }
}

/** A file that a container may have written to; undefined for one that is not there, or has grown beyond all reason. */
async function textOf(path: string): Promise<string | undefined> {
  const size = (await stat(path).catch(() => undefined))?.size;
  return size === undefined || size > MAX_FILE_BYTES ? undefined : (await readIfThere(path))?.toString();
}

function addressesOf(endpoints: readonly Endpoint[]): string[] {
  return endpoints
    .flatMap(({ ipAddress, ipv6Address }) => [ipAddress, ipv6Address])
    .filter((address) => address !== '');
}
