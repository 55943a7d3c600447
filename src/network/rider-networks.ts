import { codeOf, fail } from '../errors.ts';
import { Netlink } from '../host/netlink.ts';
import { errnoText } from '../lib/errno.ts';
import type { Log } from '../lib/log.ts';
import { hardwareAddress } from './addresses.ts';
import { upInterface } from './inside.ts';
import { findLink, macBytes, removeLink } from './links.ts';
import type { Endpoint, NetworkSpec } from './model.ts';
import { dropParent, ensureParent } from './parents.ts';
import { addRouteMessage, linkLocalAddress } from './routes.ts';
import { type Family, parseCidr } from './subnets.ts';
import { addRider, type LinkKind } from './virtual-links.ts';

/** macvlan or ipvlan: what is not the same for both. */
export interface RiderDriver {
  readonly name: 'macvlan' | 'ipvlan';
  /** Of the parent that is made where none is named. */
  readonly dummyPrefix: string;
  /** Interfaces have MAC addresses of their own. */
  readonly hasOwnMac: boolean;
  /** Throws what dockerd says of options that are not valid. */
  kindOf(options: Readonly<Record<string, string>>): LinkKind;
  /** The parent's side routes: there is no gateway to be named. */
  isRouted(options: Readonly<Record<string, string>>): boolean;
}

export interface RiderOptions {
  readonly driver: RiderDriver;
  /** All networks of this host, this one among them or not. */
  readonly all: () => readonly NetworkSpec[];
  readonly log: Log;
}

/**
 * A network whose containers have interfaces that ride on one of the host's, the parent. The host has no part in it:
 * no address, no firewall, no published ports, and it does not reach its containers by that parent.
 */
export class RiderNetwork {
  readonly spec: NetworkSpec;
  readonly #driver: RiderDriver;
  readonly #kind: LinkKind;
  readonly #parent: { name: string; isDummy: boolean };
  readonly #all: () => readonly NetworkSpec[];
  readonly #log: Log;

  private constructor(spec: NetworkSpec, { driver, all, log }: RiderOptions) {
    this.spec = spec;
    this.#driver = driver;
    this.#kind = driver.kindOf(spec.options);
    this.#parent = parentOf(spec, driver.dummyPrefix);
    this.#all = all;
    this.#log = log;
  }

  /** Makes the parent if need be, in dockerd's order of checks; nothing is left of what fails. */
  static async open(spec: NetworkSpec, o: RiderOptions): Promise<RiderNetwork> {
    const driver = o.driver.name;
    if (!spec.ipam.some(({ subnet = '' }) => parseCidr(subnet)?.subnet.family === 4))
      throw fail.network('ipv4 pool is empty');
    const network = new RiderNetwork(spec, o);
    const { name } = network.#parent;
    if (name === 'lo') throw fail.network(`loopback interface is not a valid ${driver} parent link`);
    const other = network.#users().find((each) => each.driver === driver);
    if (other !== undefined) {
      const shown = dummyName(o.driver.dummyPrefix, other.id);
      throw fail.network(`network ${shown} is already using parent interface ${name}`);
    }
    await network.#ensureParent();
    return network;
  }

  /** Containers have a router, the gateway of their pool. */
  get hasRouter(): boolean {
    return !this.#isClosed && !this.#isRouted;
  }

  /** Gives a container its interface, up, with its addresses and these default routes; all or nothing. */
  async plug(
    endpoint: Endpoint,
    o: { pid: number; linkLocalIps: readonly string[]; wayOut: readonly Family[] },
  ): Promise<void> {
    this.#settleMac(endpoint);
    await this.#make(endpoint, o.pid);
    try {
      await upInterface(o.pid, {
        name: endpoint.interfaceName,
        addresses: [
          { address: endpoint.ipAddress, prefixLength: endpoint.prefixLength },
          ...(endpoint.ipv6Address === ''
            ? []
            : [{ address: endpoint.ipv6Address, prefixLength: endpoint.ipv6PrefixLength }]),
          ...o.linkLocalIps.map(linkLocalAddress),
        ],
        isIpv6: this.spec.isIpv6,
        routes: o.wayOut.flatMap((family) => {
          const gateway = family === 4 ? endpoint.gateway : endpoint.ipv6Gateway;
          return gateway === '' ? [] : [{ family, gateway }];
        }),
      });
      if (!this.#isClosed && this.#isRouted) await leadOut(endpoint, o.pid);
    } catch (cause) {
      await this.unplug(endpoint, o.pid);
      throw cause;
    }
  }

  /** Takes the interface from a container that runs on; one that has ended took it along. */
  async unplug({ interfaceName }: Endpoint, pid: number | undefined): Promise<void> {
    if (pid === undefined) return;
    try {
      await using netlink = Netlink.open('route', `/proc/${pid}/ns/net`);
      await removeLink(netlink, interfaceName);
    } catch (cause) {
      if (codeOf(cause) !== 'ENOENT') throw cause; // the process, and the network with it
    }
  }

  /** The interfaces are the containers' own; only the parent can be missing, and they went with it. */
  async mend(endpoints: readonly Endpoint[]): Promise<void> {
    try {
      await this.#ensureParent();
    } catch (err) {
      const containers = endpoints.map(({ containerId }) => containerId);
      this.#log.warn({ network: this.spec.id, containers, err }, 'the parent of a network cannot be used');
    }
  }

  /** Removes the parent if it was made here and no other network rides on it. */
  async remove(): Promise<void> {
    if (this.#users().length > 0) return;
    await using netlink = Netlink.open('route');
    await dropParent(netlink, this.#parent.name);
  }

  /** No way out: as asked for, or because there is no parent that leads anywhere. */
  get #isClosed(): boolean {
    return this.spec.isInternal || this.#parent.isDummy;
  }

  get #isRouted(): boolean {
    return this.#driver.isRouted(this.spec.options);
  }

  /** Other networks of both drivers on the same parent. */
  #users(): NetworkSpec[] {
    return this.#all().filter(
      (other) =>
        other.id !== this.spec.id &&
        other.driver !== 'bridge' &&
        other.options['parent'] === this.#parent.name,
    );
  }

  async #ensureParent(): Promise<void> {
    await using netlink = Netlink.open('route');
    await ensureParent(netlink, this.#driver.name, this.#parent);
  }

  #settleMac(endpoint: Endpoint): void {
    if (this.#driver.hasOwnMac) return;
    if (!['', hardwareAddress(endpoint.ipAddress)].includes(endpoint.macAddress))
      throw fail.network('ipvlan interfaces do not support custom mac address assignment');
    endpoint.macAddress = '';
  }

  async #make({ interfaceName: name, macAddress }: Endpoint, pid: number): Promise<void> {
    await using netlink = Netlink.open('route');
    const parent = await findLink(netlink, this.#parent.name);
    if (parent === undefined)
      throw fail.network(
        `the requested parent interface ${this.#parent.name} was not found on the Docker host`,
      );
    const mac = macAddress === '' ? undefined : macBytes(macAddress);
    try {
      await addRider(netlink, { parent: parent.index, name, pid, kind: this.#kind, macAddress: mac });
    } catch (cause) {
      const message = `failed to create the ${this.#driver.name} port: ${errnoText(cause)}`;
      throw fail.network(message, { cause });
    }
  }
}

/** Every packet for elsewhere goes straight out of the interface, unless another one is the way out already. */
async function leadOut({ interfaceName, ipv6Address }: Endpoint, pid: number): Promise<void> {
  await using netlink = Netlink.open('route', `/proc/${pid}/ns/net`);
  const link = await findLink(netlink, interfaceName);
  if (link === undefined) return;
  const families: readonly Family[] = ipv6Address === '' ? [4] : [4, 6];
  for (const family of families) {
    try {
      await netlink.request([addRouteMessage({ family, output: link.index })]);
    } catch (cause) {
      if (codeOf(cause) !== 'EEXIST') throw cause;
    }
  }
}

function parentOf({ id, options }: NetworkSpec, dummyPrefix: string): { name: string; isDummy: boolean } {
  const { parent: name = '' } = options;
  return name === '' ? { name: dummyName(dummyPrefix, id), isDummy: true } : { name, isDummy: false };
}

function dummyName(prefix: string, networkId: string): string {
  return `${prefix}${networkId.slice(0, 12)}`;
}
