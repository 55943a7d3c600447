import { messageOf } from '../errors.ts';
import type { Log } from '../lib/log.ts';
import type { Endpoint } from '../network/model.ts';
import type { NameService } from '../network/name-service.ts';
import { dnsNamesOf } from './container-endpoints.ts';
import { isUserDefined } from './endpoint-checks.ts';
import type { EtcFiles } from './etc-files.ts';
import type { ContainerRecord, EndpointSettings } from './model.ts';
import type { NetworkRecords } from './network-records.ts';

/**
 * What running containers call each other on networks that users made. Keeps what it was told last of each container;
 * after a restart it is told once more.
 */
export class ContainerNames implements AsyncDisposable {
  readonly #networks: Pick<NetworkRecords, 'get'>;
  readonly #etc: Pick<EtcFiles, 'resolverOf' | 'useOwnResolver'>;
  readonly #log: Log;
  /** Loaded with the first container on such a network. */
  #loaded: Promise<NameService> | undefined;
  /** The networks that each container has joined. */
  readonly #joined = new Map<string, Set<string>>();

  constructor(o: {
    networks: Pick<NetworkRecords, 'get'>;
    etc: Pick<EtcFiles, 'resolverOf' | 'useOwnResolver'>;
    log: Log;
  }) {
    this.#networks = o.networks;
    this.#etc = o.etc;
    this.#log = o.log;
  }

  /** The container is on exactly these networks now, and called what its record says. Repeatable. */
  async join(record: ContainerRecord, endpoints: readonly Endpoint[]): Promise<void> {
    const { id } = record;
    const named = endpoints.filter(({ networkId }) => this.#hasNames(networkId));
    const before = this.#joined.get(id);
    if (named.length === 0 && before === undefined) return;
    const service = await this.#service();
    for (const networkId of before ?? [])
      if (!named.some((endpoint) => endpoint.networkId === networkId)) service.leave(networkId, id);
    for (const { networkId, ipAddress, ipv6Address } of named) {
      const network = this.#networks.get(networkId);
      const wanted = Object.values(record.endpoints).find((endpoint) => endpoint.networkId === networkId);
      service.join({
        networkId,
        networkName: network?.name ?? '',
        isInternal: network?.isInternal ?? true,
        containerId: id,
        ipAddress,
        ipv6Address,
        names: dnsNamesOf(record, { aliases: wanted?.aliases ?? null }),
        links: linksOf(wanted?.links),
      });
    }
    this.#joined.set(id, new Set(named.map(({ networkId }) => networkId)));
  }

  /**
   * Gives the container its name server, if it has joined a network with names. Never throws: as under dockerd, one
   * that cannot be given is a matter for the log, and no reason not to run.
   */
  async serve(record: ContainerRecord, pid: number): Promise<void> {
    const { id } = record;
    if (!this.#joined.has(id)) return;
    try {
      const { text, dns, isNdotsSet } = await this.#etc.resolverOf(record);
      await this.#etc.useOwnResolver(id, text);
      const service = await this.#service();
      await service.serve({ containerId: id, pid, dns, isNdotsSet });
    } catch (err) {
      this.#log.error({ container: id, reason: messageOf(err), err }, 'a container has no name server');
    }
  }

  /** For a container that has ended. One that has joined nothing is fine. */
  async forget(id: string): Promise<void> {
    const joined = this.#joined.get(id);
    if (joined === undefined) return;
    this.#joined.delete(id);
    const service = await this.#service();
    for (const networkId of joined) service.leave(networkId, id);
    await service.stop(id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#loaded)?.[Symbol.asyncDispose]();
  }

  #hasNames(networkId: string): boolean {
    const network = this.#networks.get(networkId);
    return network !== undefined && isUserDefined(network.name);
  }

  #service(): Promise<NameService> {
    this.#loaded ??= import('../network/name-service.ts').then(
      ({ NameService }) => new NameService({ log: this.#log }),
    );
    return this.#loaded;
  }
}

/** `name:word`, or the name alone: what this container alone calls others, and their names. */
function linksOf(links: EndpointSettings['links'] | undefined): Record<string, string> {
  return Object.fromEntries(
    (links ?? []).map((link) => {
      const [name = '', word = name] = link.replace(/^\//, '').split(':');
      return [word, name];
    }),
  );
}
