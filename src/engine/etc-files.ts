import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readIfThere } from '../host/files.ts';
import { hostsFile } from '../network/hosts.ts';
import type { Endpoint } from '../network/model.ts';
import { hostResolvConf, type ResolverWishes, resolvConf } from '../network/resolver.ts';
import type { ContainerRecord } from './model.ts';
import type { BundleMount } from './mounts.ts';

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

  /** Writes the three files before the container is made; its address is not known yet. */
  async write(record: ContainerRecord): Promise<void> {
    const { id, config, hostConfig } = record;
    const paths = this.pathsOf(id);
    await mkdir(join(this.#root, id), { recursive: true, mode: 0o711 });
    const own = (wish: string[] | null, general: readonly string[]) => (wish?.length ? wish : general);
    const resolver: ResolverWishes = {
      dns: own(hostConfig.dns, this.#wishes.dns),
      dnsSearch: own(hostConfig.dnsSearch, this.#wishes.dnsSearch),
      dnsOptions: own(hostConfig.dnsOptions, this.#wishes.dnsOptions),
    };
    const mode = hostConfig.networkMode;
    const network = mode === 'host' || mode === 'none' ? mode : 'bridge';
    await writeFile(paths.hostname, `${config.hostname}\n`);
    await writeFile(paths.resolv, resolvConf(await hostResolvConf(), resolver, network));
    const hostText = network === 'host' ? (await readIfThere('/etc/hosts'))?.toString() : undefined;
    await writeFile(paths.hosts, this.#hostsOf(record, { ...(hostText !== undefined && { hostText }) }));
  }

  /** Adds the addresses. In place: the file is bind-mounted, a new inode would not be seen inside. */
  async writeEndpoints(record: ContainerRecord, endpoints: readonly Endpoint[]): Promise<void> {
    const ipAddress = endpoints[0]?.ipAddress;
    await writeFile(
      this.pathsOf(record.id).hosts,
      this.#hostsOf(record, { ...(ipAddress !== undefined && { ipAddress }) }),
    );
    const path = join(this.#root, record.id, 'endpoints.json');
    await writeFile(`${path}.new`, JSON.stringify(endpoints)); // a daemon may die half-way through a file
    await rename(`${path}.new`, path);
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

  #hostsOf({ config, hostConfig }: ContainerRecord, more: { hostText?: string; ipAddress?: string }): string {
    const { hostname, domainname } = config;
    const extraHosts = hostConfig.extraHosts ?? [];
    return hostsFile({ hostname, domainname, extraHosts, hostGateway: this.#hostGateway, ...more });
  }
}
