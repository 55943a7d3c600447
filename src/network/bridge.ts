import { createHash } from 'node:crypto';
import { Failure, fail, messageOf } from '../errors.ts';
import { Netlink } from '../host/netlink.ts';
import { newId } from '../lib/ids.ts';
import type { Log } from '../lib/log.ts';
import { addressOfMac, formatMac, hardwareAddress } from './addresses.ts';
import { presentAddresses, setUpBridge } from './bridge-setup.ts';
import { Cables } from './cables.ts';
import { forgetConnections } from './conntrack.ts';
import { type AddressPlan, bridgeRouter, defaultBridgePools } from './default-bridge.ts';
import { type BackendChoice, Firewall } from './firewall.ts';
import type { Ipam, Lease } from './ipam.ts';
import { macBytes, removeLink } from './links.ts';
import type { Endpoint, EndpointRequest, IpamConfig } from './model.ts';
import { HostPorts, type PortMapping } from './ports.ts';
import { publishedPorts } from './ruleset.ts';
import { type Family, parseCidr } from './subnets.ts';

/** How a container wants to be connected. */
export type ConnectRequest = Omit<EndpointRequest, 'networkId'> & {
  /** Default: eth0. */
  interfaceName?: string;
  /** The default routes lead here; default: yes. */
  isWayOut?: boolean;
};

export interface BridgeOptions extends AddressPlan {
  /** The bridge interface. */
  name: string;
  ipam: Ipam;
  mtu: number;
  /** Containers may talk to each other. */
  isIcc: boolean;
  /** What containers send elsewhere carries the host's address. */
  isMasquerade: boolean;
  /** Switches the host's IPv4 forwarding on. */
  isForwarding: boolean;
  firewallBackend?: BackendChoice;
  log: Log;
}

/**
 * A bridge on the host that containers are plugged into, with addresses, the way out and published ports. Its state
 * is the kernel's; what this object knows it did itself, or was told by `recover`. Disposing of it leaves the
 * containers connected.
 */
export class BridgeNetwork implements AsyncDisposable {
  readonly name: string;
  readonly id: string;
  /** `172.17.0.0/16`. */
  readonly subnet: string;
  readonly gateway: string;
  /** Settled. */
  readonly pools: readonly IpamConfig[];
  readonly #ipam: Ipam;
  readonly #hostPorts = new HostPorts();
  readonly #cables: Cables;
  readonly #firewall: Firewall;
  /** The kernel's table of connections; kept open because closing it may take 20 ms. */
  readonly #connections: Netlink;
  readonly #log: Log;
  readonly #endpoints = new Map<string, Endpoint>();

  private constructor(o: {
    name: string;
    id: string;
    pools: readonly IpamConfig[];
    ipam: Ipam;
    cables: Cables;
    firewall: Firewall;
    connections: Netlink;
    log: Log;
  }) {
    this.#cables = o.cables;
    this.#firewall = o.firewall;
    this.#connections = o.connections;
    this.#log = o.log;
    this.#ipam = o.ipam;
    this.id = o.id;
    this.pools = o.pools;
    this.name = o.name;
    this.subnet = o.pools[0]?.subnet ?? '';
    this.gateway = o.pools[0]?.gateway ?? '';
  }

  /**
   * Makes the bridge, or takes over what is there. Firewall rules that the last daemon left stay in force until
   * `recover` says whose they are, or the first `connect`.
   */
  static async open(options: BridgeOptions): Promise<BridgeNetwork> {
    const { name, ipam, isIpv6, mtu, isIcc, isMasquerade, firewallBackend = 'auto', log } = options;
    // the same after every start, although nothing is stored
    const id = createHash('sha256').update(`bridge network ${name}`).digest('hex');
    let pools: IpamConfig[] = [];
    let firewall: Firewall | undefined;
    try {
      await using netlink = Netlink.open('route');
      const wanted = defaultBridgePools(options, await presentAddresses(netlink, name));
      const driver = 'bridge';
      pools = await ipam.settle({ id, name: 'bridge', driver, isIpv6: isIpv6 === true, ipam: wanted });
      firewall = await Firewall.open({ backend: firewallBackend, log });
      const parsed = pools.flatMap(({ subnet = '' }) => parseCidr(subnet) ?? []);
      const subnets = parsed.map(({ subnet }) => subnet);
      firewall.setBridge({ name, subnets, isInternal: false, isIcc, isMasquerade });
      const addresses = pools.map(
        ({ subnet = '', gateway = '' }) => gateway + subnet.slice(subnet.indexOf('/')),
      );
      const { index } = await setUpBridge(netlink, { ...options, addresses });
      const cables = Cables.open({ bridge: index, mtu, isIcc, log });
      const connections = Netlink.open('netfilter');
      return new BridgeNetwork({ name, id, pools, ipam, cables, firewall, connections, log });
    } catch (cause) {
      ipam.forget(id);
      await firewall?.[Symbol.asyncDispose]();
      if (cause instanceof Failure) throw cause;
      throw fail.network(`cannot set up bridge ${name}: ${messageOf(cause)}`, { cause });
    }
  }

  get firewallBackend(): 'nftables' | 'iptables' {
    return this.#firewall.backendName;
  }

  /** Gives a container its eth0, with an address, the way out and its published ports; or leaves nothing behind. */
  async connect(request: ConnectRequest): Promise<Endpoint> {
    const { containerId, containerName } = request;
    if (this.#endpoints.has(containerId)) throw fail.endpointTaken(containerName, 'bridge');
    const endpoint = this.#newEndpoint(request);
    this.#endpoints.set(containerId, endpoint);
    try {
      await this.#firewall.settle();
      endpoint.ports = await this.#reservePorts(request, endpoint);
      endpoint.hostInterface = await this.#cables.plug({
        ...endpoint,
        pid: request.pid,
        isWayOut: request.isWayOut !== false,
      });
      await this.#publish(endpoint);
      return endpoint;
    } catch (cause) {
      await this.#takeDown(endpoint).catch((err) =>
        this.#log.error({ container: containerId, err }, 'could not undo a failed connection'),
      );
      throw cause;
    }
  }

  /** Takes a container off the network. One that is not connected is fine. */
  async disconnect(containerId: string): Promise<void> {
    const endpoint = this.#endpoints.get(containerId);
    if (endpoint !== undefined) await this.#takeDown(endpoint);
  }

  endpointOf(containerId: string): Endpoint | undefined {
    return this.#endpoints.get(containerId);
  }

  /**
   * Makes the kernel match what is alive: takes over those endpoints with their addresses and ports, mends their
   * cables and all rules, and removes what belongs to nobody.
   */
  async recover(live: readonly Endpoint[]): Promise<void> {
    const alive = new Set(live.map(({ containerId }) => containerId));
    for (const endpoint of [...this.#endpoints.values()])
      if (!alive.has(endpoint.containerId)) await this.#takeDown(endpoint);
    for (const endpoint of live) if (!this.#endpoints.has(endpoint.containerId)) await this.#adopt(endpoint);
    const all = [...this.#endpoints.values()];
    await this.#firewall.restore(all.flatMap(publishedPorts));
    await this.#cables.mend(new Set(all.map(({ hostInterface }) => hostInterface)));
  }

  /** Takes everything out of the kernel: containers off the network, the rules, the bridge. For uninstalling. */
  async tearDown(): Promise<void> {
    await this.recover([]);
    await this.#firewall.remove();
    await this[Symbol.asyncDispose]();
    await using netlink = Netlink.open('route');
    await removeLink(netlink, this.name);
    this.#ipam.forget(this.id);
  }

  /** Lets go of the host's ports and of the kernel; containers stay connected. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cables[Symbol.asyncDispose]();
    await this.#hostPorts[Symbol.asyncDispose]();
    await this.#firewall[Symbol.asyncDispose]();
    await this.#connections[Symbol.asyncDispose]();
  }

  #newEndpoint(request: ConnectRequest): Endpoint {
    const wantedMac = request.macAddress && formatMac(macBytes(request.macAddress));
    const ipv4 = this.#ipam.take(this.id, 4, request.ipAddress);
    const macAddress = wantedMac || hardwareAddress(ipv4.address);
    let ipv6: Lease | undefined;
    try {
      if (this.pools.length > 1) ipv6 = this.#ipam.take(this.id, 6, this.#ipv6Wish(request, macAddress));
    } catch (cause) {
      this.#ipam.release(this.id, ipv4.address);
      throw cause;
    }
    return {
      containerId: request.containerId,
      ipAddress: ipv4.address,
      prefixLength: ipv4.prefixLength,
      gateway: this.#routerOf(4) ?? ipv4.gateway,
      macAddress,
      endpointId: newId(),
      networkId: this.id,
      ports: [],
      interfaceName: request.interfaceName ?? 'eth0',
      hostInterface: '',
      ipv6Address: ipv6?.address ?? '',
      ipv6PrefixLength: ipv6?.prefixLength ?? 0,
      ipv6Gateway: this.#routerOf(6) ?? ipv6?.gateway ?? '',
    };
  }

  /** As dockerd has it on its default bridge: what follows from the MAC address, if there is room and no range. */
  #ipv6Wish({ ipv6Address }: ConnectRequest, macAddress: string): string | undefined {
    const { subnet = '', ipRange } = this.pools[1] ?? {};
    return ipv6Address ?? (ipRange === undefined ? addressOfMac(subnet, macAddress) : undefined);
  }

  #routerOf(family: Family): string | undefined {
    return bridgeRouter(this.pools, family);
  }

  async #reservePorts(
    { ports, containerName }: ConnectRequest,
    { endpointId, ipv6Address }: Endpoint,
  ): Promise<PortMapping[]> {
    try {
      return await this.#hostPorts.reserve(ports, { isIpv6: ipv6Address !== '' });
    } catch (cause) {
      const where = `endpoint ${containerName} (${endpointId})`;
      const text = `driver failed programming external connectivity on ${where}: ${messageOf(cause)}`;
      throw fail.network(text, { cause, ...(cause instanceof Failure && { status: cause.status }) });
    }
  }

  async #publish(endpoint: Endpoint): Promise<void> {
    await this.#firewall.publish(publishedPorts(endpoint));
    void this.#forgetDatagrams(endpoint);
  }

  /**
   * Not waited for, because the kernel looks through its whole table for this, 20 ms on a large machine. Never fails.
   * TCP needs none of it: a connection to a port that was not served, or to one that is gone, has been reset.
   */
  async #forgetDatagrams({ ipAddress, ports }: Endpoint): Promise<void> {
    const udpPorts = ports.filter(({ protocol }) => protocol === 'udp').map(({ hostPort }) => hostPort);
    if (udpPorts.length === 0) return;
    try {
      await forgetConnections(this.#connections, { containerIp: ipAddress, udpPorts });
    } catch (err) {
      // some kernels cannot; then a client that keeps sending meets the old state until it pauses
      this.#log.debug({ err }, 'cannot forget connections');
    }
  }

  async #adopt(endpoint: Endpoint): Promise<void> {
    const { containerId, ports } = endpoint;
    this.#endpoints.set(containerId, endpoint);
    for (const address of addressesOf(endpoint))
      if (!this.#ipam.adopt(this.id, address))
        this.#log.warn({ container: containerId, address }, 'the address of a live container is not free');
    for (const port of await this.#hostPorts.adopt(ports))
      this.#log.warn({ container: containerId, ...port }, 'another process has the port of a live container');
  }

  /** Every step is tried, so that the least is left; the first failure is thrown at the end. */
  async #takeDown(endpoint: Endpoint): Promise<void> {
    this.#endpoints.delete(endpoint.containerId);
    const steps = [
      () => this.#firewall.unpublish(publishedPorts(endpoint)),
      async () => {
        if (endpoint.hostInterface !== '') await this.#cables.unplug(endpoint.hostInterface);
      },
      () => this.#hostPorts.release(endpoint.ports),
      async () => {
        for (const address of addressesOf(endpoint)) this.#ipam.release(this.id, address);
      },
      // last, because the kernel does little else meanwhile
      async () => void this.#forgetDatagrams(endpoint),
    ];
    let failure: { cause: unknown } | undefined;
    for (const step of steps) {
      try {
        await step();
      } catch (cause) {
        failure ??= { cause };
      }
    }
    if (failure !== undefined) throw failure.cause;
  }
}

function addressesOf({ ipAddress, ipv6Address }: Endpoint): string[] {
  return [ipAddress, ipv6Address].filter((address) => address !== '');
}
