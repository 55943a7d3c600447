import { fail } from '../errors.ts';
import { newId } from '../lib/ids.ts';
import { Locks } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import { formatMac, hardwareAddress } from './addresses.ts';
import type { Ipam, Lease } from './ipam.ts';
import { ipvlan } from './ipvlan.ts';
import { macBytes } from './links.ts';
import { macvlan } from './macvlan.ts';
import type { Endpoint, EndpointRequest, NetworkSpec } from './model.ts';
import { RiderNetwork } from './rider-networks.ts';
import type { Family } from './subnets.ts';

/** What a container has already when it is put on one more network. */
export interface Seat {
  interfaceName: string;
  /** Nothing leads out of the container yet. */
  isWayOut: boolean;
}

/** The macvlan and ipvlan networks of this host, and who is on them. */
export class Riders {
  readonly #ipam: Ipam;
  readonly #log: Log;
  readonly #locks = new Locks();
  readonly #networks = new Map<string, RiderNetwork>();
  readonly #endpoints = new Map<string, { endpoint: Endpoint; pid: number }[]>();

  constructor(o: { ipam: Ipam; log: Log }) {
    this.#ipam = o.ipam;
    this.#log = o.log;
  }

  /** Makes a network, or finds it made. */
  async add(spec: NetworkSpec): Promise<void> {
    // of two at once on one parent, the second must see the first
    await using _lock = await this.#locks.hold('networks');
    if (this.#networks.has(spec.id)) return;
    const driver = spec.driver === 'macvlan' ? macvlan : ipvlan;
    const all = () => [...this.#networks.values()].map((network) => network.spec);
    this.#networks.set(spec.id, await RiderNetwork.open(spec, { driver, all, log: this.#log }));
  }

  /** A network that cannot be removed stays as it is. One that is not there is fine. */
  async remove(id: string): Promise<void> {
    await using _lock = await this.#locks.hold('networks');
    await this.#networks.get(id)?.remove();
    this.#networks.delete(id);
  }

  async connect(request: EndpointRequest, seat: Seat): Promise<Endpoint> {
    const { networkId, containerId, containerName, pid, linkLocalIps = [] } = request;
    const network = this.#networkOf(networkId);
    const present = this.#endpoints.get(containerId) ?? [];
    if (present.some(({ endpoint }) => endpoint.networkId === networkId))
      throw fail.endpointTaken(containerName, network.spec.name);
    const endpoint = this.#newEndpoint(network, request, seat.interfaceName);
    const mine = { endpoint, pid };
    this.#endpoints.set(containerId, [...present, mine]);
    try {
      const wayOut: readonly Family[] = seat.isWayOut ? [4, 6] : [];
      await network.plug(endpoint, { pid, linkLocalIps, wayOut });
      return endpoint;
    } catch (cause) {
      this.#forget(endpoint);
      throw cause;
    }
  }

  /** One that is not on it is fine. */
  async disconnect(networkId: string, containerId: string): Promise<void> {
    const all = this.#endpoints.get(containerId) ?? [];
    const found = all.find(({ endpoint }) => endpoint.networkId === networkId);
    if (found === undefined) return;
    await this.#networks.get(networkId)?.unplug(found.endpoint, found.pid);
    this.#forget(found.endpoint);
  }

  /** For a container that has ended: its interfaces went with it. */
  disconnectAll(containerId: string): void {
    for (const { endpoint } of this.#endpoints.get(containerId) ?? []) this.#forget(endpoint);
  }

  endpointsOf(containerId: string): Endpoint[] {
    return (this.#endpoints.get(containerId) ?? []).map(({ endpoint }) => endpoint);
  }

  /** Takes over what live containers have on these networks; those that are not among them have nothing. */
  async recover(live: readonly { pid: number; endpoints: readonly Endpoint[] }[]): Promise<void> {
    const all = live
      .flatMap(({ pid, endpoints }) => endpoints.map((endpoint) => ({ endpoint, pid })))
      .filter(({ endpoint }) => this.#networks.has(endpoint.networkId));
    const known = [...this.#endpoints.values()].flat();
    const isIn = (list: typeof all, { endpointId }: Endpoint) =>
      list.some(({ endpoint }) => endpoint.endpointId === endpointId);
    for (const { endpoint } of known) if (!isIn(all, endpoint)) this.#forget(endpoint);
    for (const each of all) if (!isIn(known, each.endpoint)) this.#adopt(each);
    for (const [id, network] of this.#networks)
      await network.mend(all.map(({ endpoint }) => endpoint).filter(({ networkId }) => networkId === id));
  }

  #networkOf(id: string): RiderNetwork {
    const network = this.#networks.get(id);
    if (network === undefined) throw fail.network(`network ${id} not found`, { status: 404 });
    return network;
  }

  #newEndpoint(network: RiderNetwork, request: EndpointRequest, interfaceName: string): Endpoint {
    const { id, isIpv6 } = network.spec;
    const wantedMac = request.macAddress && formatMac(macBytes(request.macAddress));
    const ipv4 = this.#ipam.take(id, 4, request.ipAddress);
    let ipv6: Lease | undefined;
    try {
      if (isIpv6) ipv6 = this.#ipam.take(id, 6, request.ipv6Address);
    } catch (cause) {
      this.#ipam.release(id, ipv4.address);
      throw cause;
    }
    return {
      ...{ networkId: id, endpointId: newId(), containerId: request.containerId, interfaceName },
      ...{ hostInterface: '', ports: [] },
      ipAddress: ipv4.address,
      prefixLength: ipv4.prefixLength,
      gateway: network.hasRouter ? ipv4.gateway : '',
      ipv6Address: ipv6?.address ?? '',
      ipv6PrefixLength: ipv6?.prefixLength ?? 0,
      ipv6Gateway: network.hasRouter && ipv6 !== undefined ? ipv6.gateway : '',
      macAddress: wantedMac || hardwareAddress(ipv4.address),
    };
  }

  #adopt(mine: { endpoint: Endpoint; pid: number }): void {
    const { containerId, networkId, ipAddress, ipv6Address } = mine.endpoint;
    this.#endpoints.set(containerId, [...(this.#endpoints.get(containerId) ?? []), mine]);
    for (const address of [ipAddress, ipv6Address])
      if (address !== '' && !this.#ipam.adopt(networkId, address))
        this.#log.warn({ container: containerId, address }, 'the address of a live container is not free');
  }

  #forget(endpoint: Endpoint): void {
    const { containerId, networkId, ipAddress, ipv6Address } = endpoint;
    const left = (this.#endpoints.get(containerId) ?? []).filter((each) => each.endpoint !== endpoint);
    if (left.length > 0) this.#endpoints.set(containerId, left);
    else this.#endpoints.delete(containerId);
    for (const address of [ipAddress, ipv6Address]) this.#ipam.release(networkId, address);
  }
}
