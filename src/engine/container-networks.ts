import { canonicalPort, parseHostPort, parsePort } from '../lib/port.ts';
import { upLoopback } from '../network/inside.ts';
import type { Endpoint, EndpointRequest } from '../network/model.ts';
import type { LiveContainer, Networks } from '../network/networks.ts';
import type { PortRequest } from '../network/ports.ts';
import { downEndpoint, emptyEndpoint } from './container-creation.ts';
import type { ContainerNames } from './container-names.ts';
import type { EtcFiles } from './etc-files.ts';
import type { ContainerConfig, ContainerRecord, EndpointSettings, PortBinding } from './model.ts';
import { mainNetworkOf } from './namespaces.ts';

/** What a record shows of a container's networks. */
export type Connections = Pick<ContainerRecord, 'endpoints' | 'ports'>;

/**
 * Puts containers on the networks that their records name, and remembers in the exec root what they have there, so
 * that the next daemon can take it over. Keeps no records: the caller commits what it is told.
 */
export class ContainerNetworks {
  readonly #networks: Pick<
    Networks,
    'defaultBridge' | 'connect' | 'disconnect' | 'disconnectAll' | 'endpointsOf'
  >;
  readonly #etc: Pick<EtcFiles, 'writeEndpoints' | 'endpointsOf'>;
  readonly #names: Pick<ContainerNames, 'join' | 'serve' | 'forget'>;

  constructor(o: {
    networks: Pick<Networks, 'defaultBridge' | 'connect' | 'disconnect' | 'disconnectAll' | 'endpointsOf'>;
    etc: Pick<EtcFiles, 'writeEndpoints' | 'endpointsOf'>;
    names: Pick<ContainerNames, 'join' | 'serve' | 'forget'>;
  }) {
    this.#networks = o.networks;
    this.#etc = o.etc;
    this.#names = o.names;
  }

  /** Gives a container that is about to run all its networks; what fails is taken down by the caller. */
  async connectAll(record: ContainerRecord, pid: number): Promise<Connections> {
    if (record.hostConfig.networkMode === 'host') return { endpoints: record.endpoints, ports: {} };
    const names = record.config.networkDisabled ? [] : Object.keys(record.endpoints);
    const connected = names.filter((name) => name !== 'none');
    if (connected.length === 0) {
      await upLoopback(pid);
      return { endpoints: record.endpoints, ports: {} };
    }
    for (const name of connected) await this.#networks.connect(this.#requestOf(record, name, pid));
    return this.#remember(record, pid);
  }

  /**
   * Puts a running container on one more network of its record. The caller commits afterwards: an endpoint that no
   * record names is gone after the next boot.
   */
  async connect(record: ContainerRecord, name: string): Promise<Connections> {
    await this.#networks.connect(this.#requestOf(record, name, record.state.pid));
    return this.#remember(record);
  }

  /** Takes a running container off a network; the caller has committed a record without it before. */
  async disconnect(record: ContainerRecord, networkId: string): Promise<Connections> {
    await this.#networks.disconnect(networkId, record.id);
    return this.#remember(record);
  }

  /** For a container that has ended. One that is on no network is fine. */
  async disconnectAll(id: string): Promise<void> {
    await this.#names.forget(id);
    await this.#networks.disconnectAll(id);
  }

  /** What a container has that was running when the last daemon died; only what its record still names. */
  async liveOf(record: ContainerRecord): Promise<LiveContainer> {
    const named = new Set(Object.entries(record.endpoints).map((entry) => this.#networkIdOf(...entry)));
    const endpoints = await this.#etc.endpointsOf(record.id);
    return {
      containerId: record.id,
      containerName: record.name,
      pid: record.state.pid,
      ports: portRequests(record),
      endpoints: endpoints.filter(({ networkId }) => named.has(networkId)),
    };
  }

  /** Running containers are called what their records say now: after a restart, or a change of name. */
  async name(records: readonly ContainerRecord[]): Promise<void> {
    // all names first: whoever can ask must not be told that another is not there
    for (const record of records) await this.#names.join(record, this.#networks.endpointsOf(record.id));
    for (const record of records) await this.#names.serve(record, record.state.pid);
  }

  /** What a record shows once these endpoints are up; those that are down are as wished. */
  connectionsOf(record: ContainerRecord, endpoints: readonly Endpoint[]): Connections {
    const shown = Object.entries(disconnectedEndpoints(record.endpoints)).map(([name, wanted]) => {
      const endpoint = endpoints.find(({ networkId }) => networkId === this.#networkIdOf(name, wanted));
      return [name, endpoint === undefined ? wanted : connectedEndpoint(wanted, endpoint)] as const;
    });
    return { endpoints: Object.fromEntries(shown), ports: publishedPorts(record.config, endpoints) };
  }

  async #remember(record: ContainerRecord, pid = record.state.pid): Promise<Connections> {
    const endpoints = this.#networks.endpointsOf(record.id);
    await this.#etc.writeEndpoints(record, endpoints);
    await this.#names.join(record, endpoints);
    await this.#names.serve(record, pid);
    return this.connectionsOf(record, endpoints);
  }

  #requestOf(record: ContainerRecord, name: string, pid: number): EndpointRequest {
    const { id, config, hostConfig, endpoints } = record;
    const wanted = endpoints[name] ?? emptyEndpoint();
    const { ipv4Address, ipv6Address, linkLocalIPs } = wanted.ipamConfig ?? {};
    // records of older daemons have only the container's own, which is that on its main network
    const { wantedMacAddress: macAddress = name === mainNetworkOf(hostConfig) ? config.macAddress : '' } =
      wanted;
    return {
      networkId: this.#networkIdOf(name, wanted),
      containerId: id,
      containerName: record.name,
      pid,
      ports: portRequests(record),
      ...(ipv4Address && { ipAddress: ipv4Address }),
      ...(ipv6Address && { ipv6Address }),
      ...(linkLocalIPs && { linkLocalIps: linkLocalIPs }),
      ...(macAddress && { macAddress }),
      ...(wanted.driverOpts && { driverOpts: wanted.driverOpts }),
    };
  }

  /** A container that names no network by ID means the default bridge. */
  #networkIdOf(name: string, { networkId }: EndpointSettings): string {
    return name === 'bridge' ? this.#networks.defaultBridge.id : networkId;
  }
}

/** What inspect shows of an endpoint that is up. */
function connectedEndpoint(wanted: EndpointSettings, endpoint: Endpoint): EndpointSettings {
  return {
    ...wanted,
    networkId: endpoint.networkId,
    endpointId: endpoint.endpointId,
    gateway: endpoint.gateway,
    ipAddress: endpoint.ipAddress,
    ipPrefixLen: endpoint.prefixLength,
    ipv6Gateway: endpoint.ipv6Gateway,
    globalIPv6Address: endpoint.ipv6Address,
    globalIPv6PrefixLen: endpoint.ipv6PrefixLength,
    macAddress: endpoint.macAddress,
  };
}

/** What inspect shows of endpoints that are down: the wish stays, the addresses go. */
export function disconnectedEndpoints(
  endpoints: Record<string, EndpointSettings>,
): Record<string, EndpointSettings> {
  return Object.fromEntries(
    Object.entries(endpoints).map(([name, endpoint]) => [name, downEndpoint(endpoint)]),
  );
}

/** The host's side is wanted for ports that are exposed too; for others, as under dockerd, nothing is published. */
function portRequests({ config, hostConfig }: ContainerRecord): PortRequest[] {
  const bindings = new Map(
    Object.entries(hostConfig.portBindings ?? {}).map(([key, wanted]) => [canonicalPort(key), wanted]),
  );
  return Object.keys(config.exposedPorts ?? {}).flatMap((key): PortRequest[] => {
    const { port: containerPort, protocol } = parsePort(key);
    const wanted = bindings.get(canonicalPort(key)) ?? [];
    if (wanted.length === 0 && hostConfig.publishAllPorts)
      return [{ containerPort, protocol, hostIp: '', hostPort: 0 }];
    return wanted.map(({ hostIp, hostPort }) => ({
      containerPort,
      protocol,
      hostIp,
      ...parseHostPort(hostPort),
    }));
  });
}

/** What inspect shows of the ports of a container that is connected. */
function publishedPorts(
  { exposedPorts }: Pick<ContainerConfig, 'exposedPorts'>,
  endpoints: readonly Pick<Endpoint, 'ports'>[],
): Record<string, PortBinding[] | null> {
  const shown: Record<string, PortBinding[] | null> = {};
  for (const key of Object.keys(exposedPorts ?? {})) shown[canonicalPort(key)] = null;
  for (const { containerPort, protocol, hostIp, hostPort } of endpoints.flatMap(({ ports }) => ports)) {
    const key = `${containerPort}/${protocol}`;
    const binding = { hostIp: hostIp || '0.0.0.0', hostPort: String(hostPort) };
    shown[key] = [...(shown[key] ?? []), binding];
  }
  return shown;
}
