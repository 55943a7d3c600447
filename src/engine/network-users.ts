import { networkOf } from './container-endpoints.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import type { ContainerRecord, EndpointSettings } from './model.ts';
import type { NetworkRecord, NetworkRecords } from './network-records.ts';

/** A container that is on a network. */
export interface Attachment {
  containerId: string;
  containerName: string;
  endpoint: EndpointSettings;
}

/** Who is on which network, as the containers' records say. Containers without a process are on none. */
export class NetworkUsers {
  readonly #networks: Pick<NetworkRecords, 'find'>;
  readonly #containers: Pick<ContainerRecords, 'all'>;
  /** How many containers are just being put on a network, by its ID. */
  readonly #joining = new Map<string, number>();

  constructor(o: { networks: Pick<NetworkRecords, 'find'>; containers: Pick<ContainerRecords, 'all'> }) {
    this.#networks = o.networks;
    this.#containers = o.containers;
  }

  attachmentsOf({ id }: NetworkRecord): Attachment[] {
    return this.#containers
      .all()
      .filter(isRunning)
      .flatMap((container) => {
        const endpoint = Object.values(container.endpoints).find(
          ({ networkId, endpointId }) => networkId === id && endpointId !== '',
        );
        if (endpoint === undefined) return [];
        return [{ containerId: container.id, containerName: container.name, endpoint }];
      });
  }

  /** Somebody is on it, or about to be. */
  isInUse(network: NetworkRecord): boolean {
    const isMeant = ({ id }: NetworkRecord) => id === network.id;
    const isStarting = (container: ContainerRecord) =>
      container.state.status === 'starting' && this.networksOf(container).some(isMeant);
    return (
      (this.#joining.get(network.id) ?? 0) > 0 ||
      this.attachmentsOf(network).length > 0 ||
      this.#containers.all().some(isStarting)
    );
  }

  /** The networks that a container is on or to be on, as far as they are there. */
  networksOf({ endpoints }: ContainerRecord): NetworkRecord[] {
    return Object.entries(endpoints).flatMap(([name, endpoint]) => {
      try {
        return [networkOf(this.#networks, name, endpoint)];
      } catch {
        return []; // it is gone, or cannot be told from others of its name
      }
    });
  }

  /** Counts as somebody on a network while the work goes on, which puts a container there. */
  async whileJoining<T>({ id }: NetworkRecord, work: () => Promise<T>): Promise<T> {
    const count = (by: number) => this.#joining.set(id, (this.#joining.get(id) ?? 0) + by);
    count(1);
    try {
      return await work();
    } finally {
      count(-1);
      if (this.#joining.get(id) === 0) this.#joining.delete(id);
    }
  }
}
