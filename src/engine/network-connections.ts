import { Failure, fail } from '../errors.ts';
import { wantedEndpoint } from './container-creation.ts';
import { checkCompany, checkOpen, hostConflict, sharedConflict } from './container-endpoints.ts';
import type { ContainerNetworks } from './container-networks.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import { checkEndpoint } from './endpoint-checks.ts';
import type { Events } from './events.ts';
import type { Life } from './life.ts';
import type { ContainerRecord, EndpointSettings } from './model.ts';
import { donorOf } from './namespaces.ts';
import { tellNetwork } from './network-events.ts';
import type { NetworkRecord, NetworkRecords } from './network-records.ts';
import type { NetworkUsers } from './network-users.ts';

/** How a container is to be put on a network. */
export interface ConnectWish {
  container: string;
  endpoint: EndpointSettings;
  /** Of a container that does not run, addresses are looked at only at its start. */
  hasLateChecks?: boolean;
}

/** Puts containers on networks and takes them off, while they run or for their next start. */
export class NetworkConnections {
  readonly #o: ConnectionParts;

  constructor(parts: ConnectionParts) {
    this.#o = parts;
  }

  /** Puts a container on a network: at once if it runs, else from its next start on. Throws 400, 403 or 404. */
  async connect(term: string, wish: ConnectWish): Promise<void> {
    const { containers, life } = this.#o;
    await life.change(containers.find(wish.container).id, async (container) => {
      if (isRunning(container)) return this.#join(container, term, wish.endpoint);
      checkStays(container);
      await this.#note(container, term, wish);
    });
  }

  /** Takes a container off a network. With `force`, also off one that is not there any more. */
  async disconnect(term: string, o: { container: string; force: boolean }): Promise<void> {
    await this.#o.life.change(this.#containerOf(term, o), async (container) => {
      const network = this.#networkOf(term);
      const isGone = network instanceof Failure;
      if (isRunning(container)) {
        if (!isGone) return this.#leave(container, network);
        if (!o.force) throw network;
      }
      checkStays(container);
      const name = isGone ? term : network.name;
      const apart = without(container, name);
      if (apart === undefined)
        throw fail.notConnected(`container ${container.id} is not connected to the network ${name}`);
      await this.#o.containers.create(apart);
      if (!isGone) this.#tell(network, container, 'disconnect');
    });
  }

  #containerOf(term: string, { container, force }: { container: string; force: boolean }): string {
    const { containers, records } = this.#o;
    try {
      return containers.find(container).id;
    } catch (cause) {
      if (!force || !(cause instanceof Failure) || cause.status !== 404) throw cause;
      records.find(term); // or there is no such network either
      throw fail.noSuchEndpoint(container);
    }
  }

  /** The network, or why there is none. */
  #networkOf(term: string): NetworkRecord | Failure {
    try {
      return this.#o.records.find(term);
    } catch (cause) {
      if (cause instanceof Failure) return cause;
      throw cause;
    }
  }

  /** Puts a running container on one more network. */
  async #join(container: ContainerRecord, term: string, endpoint: EndpointSettings): Promise<void> {
    const { records, containers, containerNetworks, users } = this.#o;
    if (donorOf(container.hostConfig.networkMode) !== undefined) throw sharedConflict();
    const network = records.find(term);
    checkEndpoint(network.name, network, endpoint);
    checkCompany(container, network, users.networksOf(container));
    checkOpen(network);
    if (container.endpoints[network.name] !== undefined)
      throw fail.endpointTaken(container.name, network.name);
    const wanted = withEndpoint(container, network.name, {
      ...wantedEndpoint(endpoint),
      networkId: network.id,
    });
    await users.whileJoining(network, async () => {
      const connections = await containerNetworks.connect(wanted, network.name);
      try {
        await containers.create({ ...wanted, ...connections });
      } catch (cause) {
        await containerNetworks.disconnect(container, network.id);
        throw cause;
      }
    });
    this.#tell(network, container, 'connect');
  }

  /** Notes for the next start of a container that it is to be on a network, which need not be there yet. */
  async #note(
    container: ContainerRecord,
    term: string,
    { endpoint, hasLateChecks = false }: ConnectWish,
  ): Promise<void> {
    const { containers, users } = this.#o;
    const network = this.#networkOf(term);
    if (!(network instanceof Failure)) {
      checkEndpoint(network.name, network, endpoint, { areAddressesLate: hasLateChecks });
      checkCompany(container, network, users.networksOf(container));
      if (container.endpoints[network.name] !== undefined) return; // what was said first holds, as under dockerd
    }
    const name = network instanceof Failure ? term : network.name;
    await containers.create(withEndpoint(container, name, wantedEndpoint(endpoint)));
  }

  async #leave(container: ContainerRecord, network: NetworkRecord): Promise<void> {
    const { containers, containerNetworks } = this.#o;
    if (network.driver === 'host' && container.hostConfig.networkMode === 'host') throw hostConflict();
    const apart = without(container, network.name);
    if (apart === undefined)
      throw fail.notConnected(`container ${container.id} is not connected to network ${network.name}`);
    // the record first: what it does not name goes at a boot, if not now
    await containers.create(apart);
    const connections = await containerNetworks.disconnect(apart, network.id);
    await containers.create({ ...apart, ...connections });
    this.#tell(network, container, 'disconnect');
  }

  #tell(network: NetworkRecord, { id }: ContainerRecord, action: 'connect' | 'disconnect'): void {
    tellNetwork(this.#o.events, network, action, { container: id });
  }
}

function withEndpoint(container: ContainerRecord, name: string, endpoint: EndpointSettings): ContainerRecord {
  return { ...container, endpoints: { ...container.endpoints, [name]: endpoint } };
}

/** Undefined if it is not on that network. */
function without(container: ContainerRecord, name: string): ContainerRecord | undefined {
  const { [name]: left, ...endpoints } = container.endpoints;
  return left === undefined ? undefined : { ...container, endpoints };
}

function checkStays({ id, state }: ContainerRecord): void {
  if (state.status === 'removing' || state.status === 'dead')
    throw fail.notConnected(
      `Container ${id} is marked for removal and cannot be connected or disconnected to the network`,
    );
}

/** Where connections are made and kept. */
export interface ConnectionParts {
  records: Pick<NetworkRecords, 'find'>;
  containers: Pick<ContainerRecords, 'find' | 'create'>;
  containerNetworks: Pick<ContainerNetworks, 'connect' | 'disconnect'>;
  users: NetworkUsers;
  life: Pick<Life, 'change'>;
  events: Events;
}
