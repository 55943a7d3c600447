import { fail } from '../errors.ts';
import { Disposal } from '../lib/disposal.ts';
import type { Log } from '../lib/log.ts';
import { BridgeNetwork, type BridgeOptions } from './bridge.ts';
import { readHostSubnets } from './host-subnets.ts';
import { Ipam } from './ipam.ts';
import type { Endpoint, EndpointRequest, IpamConfig, NetworkSpec } from './model.ts';
import { poolRanges } from './pools.ts';
import type { PortRequest } from './ports.ts';
import type { Riders, Seat } from './riders.ts';

/** What the daemon's configuration says of networks. */
export interface NetworksOptions extends Omit<BridgeOptions, 'ipam'> {
  /** Where networks without a subnet lie; empty for dockerd's list. */
  addressPools: readonly { readonly base: string; readonly size: number }[];
}

/** What a running container has on its networks, as it was before the daemon died. */
export interface LiveContainer {
  containerId: string;
  containerName: string;
  /** A process in the container's network namespace. */
  pid: number;
  /** All that the container publishes. */
  ports: readonly PortRequest[];
  endpoints: readonly Endpoint[];
}

/**
 * The networks that containers are on, as far as they are in the kernel: the one door of this layer. Keeps no records;
 * after a start, the owner adds the networks that exist, then tells which containers live.
 */
export class Networks implements AsyncDisposable {
  /** The network `bridge`: it is there from the start, lies where the configuration says, and keeps its ID. */
  readonly defaultBridge: NetworkSpec;
  readonly #bridge: BridgeNetwork;
  readonly #ipam: Ipam;
  readonly #log: Log;
  /** Loaded with the first network of theirs. */
  #riders: Riders | undefined;
  /** Those that could not be made, because their parent was missing perhaps; tried again when they are needed. */
  readonly #missing = new Map<string, NetworkSpec>();
  readonly #disposal: Disposal;

  private constructor(o: {
    bridge: BridgeNetwork;
    ipam: Ipam;
    defaultBridge: NetworkSpec;
    disposal: Disposal;
    log: Log;
  }) {
    this.#log = o.log;
    this.#bridge = o.bridge;
    this.#ipam = o.ipam;
    this.defaultBridge = o.defaultBridge;
    this.#disposal = o.disposal;
  }

  /** Opens what all networks share, and makes the default bridge or takes it over. */
  static async open(o: NetworksOptions): Promise<Networks> {
    const disposal = new Disposal();
    const ranges = o.addressPools.length > 0 ? poolRanges(o.addressPools) : undefined;
    const ipam = new Ipam({ ranges, readHost: readHostSubnets });
    const bridge = disposal.use(await BridgeNetwork.open({ ...o, ipam }));
    const defaultBridge: NetworkSpec = {
      id: bridge.id,
      name: 'bridge',
      driver: 'bridge',
      isIpv6: o.isIpv6 === true,
      isInternal: false,
      ipam: [...bridge.pools],
      options: {
        'com.docker.network.bridge.default_bridge': 'true',
        'com.docker.network.bridge.enable_icc': String(o.isIcc),
        'com.docker.network.bridge.enable_ip_masquerade': String(o.isMasquerade),
        'com.docker.network.bridge.host_binding_ipv4': '0.0.0.0',
        'com.docker.network.bridge.name': o.name,
        'com.docker.network.driver.mtu': String(o.mtu),
      },
    };
    return new Networks({ bridge, ipam, defaultBridge, disposal, log: o.log });
  }

  /** The host as containers of the default bridge see it. */
  get hostGateway(): string {
    return this.#bridge.gateway;
  }

  /**
   * Says where a new network lies, and holds its address pools until `forget` or `remove`. What is asked for is
   * completed; throws what dockerd says of pools that cannot be.
   */
  async settle(wanted: NetworkSpec): Promise<IpamConfig[]> {
    return this.#ipam.settle(wanted);
  }

  /** Gives back the pools of a network that is not made after all. */
  forget(id: string): void {
    if (id === this.defaultBridge.id) return;
    this.#missing.delete(id);
    this.#ipam.forget(id);
  }

  /** Makes a network that has been settled, or takes over what the kernel has of it; all or nothing. Repeatable. */
  async add(spec: NetworkSpec): Promise<void> {
    if (spec.id === this.defaultBridge.id) return;
    if (spec.driver === 'bridge')
      throw fail.network(`could not find plugin ${spec.driver} in v1 plugin registry`, { status: 404 });
    if (!this.#ipam.has(spec.id)) await this.#ipam.settle(spec);
    try {
      const { Riders } = await import('./riders.ts');
      this.#riders ??= new Riders({ ipam: this.#ipam, log: this.#log });
      await this.#riders.add(spec);
      this.#missing.delete(spec.id);
    } catch (cause) {
      this.#missing.set(spec.id, spec);
      throw cause;
    }
  }

  /** Takes a network, which nobody is on, out of the kernel, and gives its pools back. One that is not there is fine. */
  async remove(id: string): Promise<void> {
    await this.#riders?.remove(id);
    this.forget(id);
  }

  /** Puts a container on a network: at its start, or while it runs; all or nothing. */
  async connect(request: EndpointRequest): Promise<Endpoint> {
    const { networkId, containerId } = request;
    const seat = seatBeside(this.endpointsOf(containerId));
    if (networkId === this.defaultBridge.id) return this.#bridge.connect({ ...request, ...seat });
    const missing = this.#missing.get(networkId);
    if (missing !== undefined) await this.add(missing);
    if (this.#riders === undefined) throw fail.network(`network ${networkId} not found`, { status: 404 });
    return this.#riders.connect(request, seat);
  }

  /** Takes a container off a network. One that is not on it is fine. */
  async disconnect(networkId: string, containerId: string): Promise<void> {
    if (networkId === this.defaultBridge.id) await this.#bridge.disconnect(containerId);
    else await this.#riders?.disconnect(networkId, containerId);
  }

  /** Takes a container off all its networks: for one that has ended. */
  async disconnectAll(containerId: string): Promise<void> {
    this.#riders?.disconnectAll(containerId);
    await this.#bridge.disconnect(containerId);
  }

  /** What a container has now, its way out first: a change of one of its networks may move ports to another. */
  endpointsOf(containerId: string): Endpoint[] {
    const endpoint = this.#bridge.endpointOf(containerId);
    return [...(endpoint === undefined ? [] : [endpoint]), ...(this.#riders?.endpointsOf(containerId) ?? [])];
  }

  /**
   * Makes the kernel match what is alive, once the networks are added: takes over what those containers have, mends
   * it, and removes what belongs to nobody.
   */
  async recover(live: readonly LiveContainer[]): Promise<void> {
    const all = live.flatMap(({ endpoints }) => endpoints);
    await this.#bridge.recover(all.filter(({ networkId }) => networkId === this.defaultBridge.id));
    await this.#riders?.recover(live);
  }

  /** Lets go of the host's ports and of the kernel; containers stay connected. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#disposal[Symbol.asyncDispose]();
  }
}

/** The lowest free interface beside those, and whether something leads out already. */
function seatBeside(endpoints: readonly Endpoint[]): Seat {
  const taken = new Set(endpoints.map(({ interfaceName }) => interfaceName));
  let number = 0;
  while (taken.has(`eth${number}`)) number++;
  return { interfaceName: `eth${number}`, isWayOut: endpoints.every(({ gateway }) => gateway === '') };
}
