import { createHash } from 'node:crypto';
import { Failure, fail, messageOf } from '../errors.ts';
import { Netlink } from '../host/netlink.ts';
import { newId } from '../lib/ids.ts';
import type { Log } from '../lib/log.ts';
import { AddressPool, hardwareAddress } from './addresses.ts';
import { type BridgeAddresses, planAddresses, setUpBridge } from './bridge-setup.ts';
import { Cables } from './cables.ts';
import { forgetConnections } from './conntrack.ts';
import { type BackendChoice, Firewall } from './firewall.ts';
import { macBytes, removeLink } from './links.ts';
import type { Endpoint, EndpointRequest } from './model.ts';
import { HostPorts, type PortMapping } from './ports.ts';
import type { PublishedPort } from './ruleset.ts';
import { formatSubnet } from './subnets.ts';

/** How a container wants to be connected. */
export type ConnectRequest = Omit<EndpointRequest, 'networkId'>;

export interface BridgeOptions {
  /** The bridge interface. */
  name: string;
  bip?: string;
  fixedCidr?: string;
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
  readonly #prefixLength: number;
  readonly #pool: AddressPool;
  readonly #hostPorts = new HostPorts();
  readonly #cables: Cables;
  readonly #firewall: Firewall;
  /** The kernel's table of connections; kept open because closing it may take 20 ms. */
  readonly #connections: Netlink;
  readonly #log: Log;
  readonly #endpoints = new Map<string, Endpoint>();

  private constructor(o: {
    name: string;
    addresses: BridgeAddresses;
    cables: Cables;
    firewall: Firewall;
    connections: Netlink;
    log: Log;
  }) {
    this.#cables = o.cables;
    this.#firewall = o.firewall;
    this.#connections = o.connections;
    this.#log = o.log;
    this.#pool = new AddressPool(o.addresses);
    this.#prefixLength = o.addresses.subnet.prefixLength;
    this.name = o.name;
    this.subnet = formatSubnet(o.addresses.subnet);
    this.gateway = o.addresses.gateway;
    // the same after every start, although nothing is stored
    this.id = createHash('sha256').update(`bridge network ${o.name}`).digest('hex');
  }

  /**
   * Makes the bridge, or takes over what is there. Firewall rules that the last daemon left stay in force until
   * `recover` says whose they are, or the first `connect`.
   */
  static async open(options: BridgeOptions): Promise<BridgeNetwork> {
    const { name, mtu, isIcc, isMasquerade, firewallBackend = 'auto', log } = options;
    let firewall: Firewall | undefined;
    try {
      await using netlink = Netlink.open('route');
      const addresses = await planAddresses(netlink, name, options);
      firewall = await Firewall.open({ backend: firewallBackend, log });
      const { subnet } = addresses;
      firewall.setBridge({ name, subnets: [subnet], isInternal: false, isIcc, isMasquerade });
      const { index } = await setUpBridge(netlink, { ...options, addresses });
      const cables = Cables.open({ bridge: index, mtu, isIcc, log });
      const connections = Netlink.open('netfilter');
      return new BridgeNetwork({ name, addresses, cables, firewall, connections, log });
    } catch (cause) {
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
    if (this.#endpoints.has(containerId))
      throw fail.network(`endpoint with name ${containerName} already exists in network bridge`, {
        status: 403,
      });
    if (request.macAddress !== undefined) macBytes(request.macAddress);
    const endpoint = this.#newEndpoint(request);
    this.#endpoints.set(containerId, endpoint);
    try {
      await this.#firewall.settle();
      endpoint.ports = await this.#reservePorts(request, endpoint);
      endpoint.hostInterface = await this.#cables.plug({
        ...endpoint,
        pid: request.pid,
        name: endpoint.interfaceName,
        address: endpoint.ipAddress,
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
  }

  /** Lets go of the host's ports and of the kernel; containers stay connected. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cables[Symbol.asyncDispose]();
    await this.#hostPorts[Symbol.asyncDispose]();
    await this.#firewall[Symbol.asyncDispose]();
    await this.#connections[Symbol.asyncDispose]();
  }

  #newEndpoint({ containerId, ipAddress: wanted, macAddress }: ConnectRequest): Endpoint {
    const ipAddress = this.#pool.take(wanted);
    return {
      containerId,
      ipAddress,
      prefixLength: this.#prefixLength,
      gateway: this.gateway,
      macAddress: macAddress?.toLowerCase() ?? hardwareAddress(ipAddress),
      endpointId: newId(),
      networkId: this.id,
      ports: [],
      interfaceName: 'eth0',
      hostInterface: '',
      ipv6Address: '',
      ipv6PrefixLength: 0,
      ipv6Gateway: '',
    };
  }

  async #reservePorts(
    { ports, containerName }: ConnectRequest,
    { endpointId }: Endpoint,
  ): Promise<PortMapping[]> {
    try {
      return await this.#hostPorts.reserve(ports);
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
    const { containerId, ipAddress, ports } = endpoint;
    this.#endpoints.set(containerId, endpoint);
    try {
      this.#pool.take(ipAddress);
    } catch (err) {
      this.#log.warn(
        { container: containerId, ipAddress, err },
        'the address of a live container is not free',
      );
    }
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
      async () => this.#pool.release(endpoint.ipAddress),
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

function publishedPorts({ ipAddress, ports }: Endpoint): PublishedPort[] {
  return ports.map((port) => ({ ...port, containerIp: ipAddress }));
}
