import type { PortMapping, PortRequest } from './ports.ts';

/** What the parts of the network layer tell each other and the engine. Addresses are text as a user writes them. */

/** One address pool of a network. Settled: `subnet` and `gateway` are there; as asked for, each may be missing. */
export interface IpamConfig {
  /** `172.18.0.0/16`, `fd00:1::/64`. */
  subnet?: string;
  /** The part of the subnet that addresses are given from. */
  ipRange?: string;
  gateway?: string;
  /** Addresses that something else on the network has, by its name. */
  auxAddresses?: Record<string, string>;
}

/** The drivers that keep something in the kernel. `host` and `null` do not, and are not of this layer. */
export type NetworkDriver = 'bridge' | 'macvlan' | 'ipvlan';

/** A network as this layer must know it. */
export interface NetworkSpec {
  id: string;
  name: string;
  driver: NetworkDriver;
  isIpv6: boolean;
  /** No way out of it and none in. */
  isInternal: boolean;
  /** Settled; IPv4 pools before IPv6 ones. */
  ipam: IpamConfig[];
  /** Of the driver: `com.docker.network.bridge.name` and the like. */
  options: Record<string, string>;
}

/** A container's wish to be on a network. */
export interface EndpointRequest {
  networkId: string;
  containerId: string;
  containerName: string;
  /** A process in the container's network namespace. */
  pid: number;
  /** Empty or missing: any. */
  ipAddress?: string;
  ipv6Address?: string;
  linkLocalIps?: readonly string[];
  macAddress?: string;
  driverOpts?: Readonly<Record<string, string>>;
  /** All that the container publishes; they are in force on the network that is its way out, and on no other. */
  ports: readonly PortRequest[];
}

/** A container's place on a network while it runs: all that must be known to take it over after a restart. */
export interface Endpoint {
  networkId: string;
  endpointId: string;
  containerId: string;
  /** Inside: `eth0`. */
  interfaceName: string;
  /** The host's end of the cable; empty where there is none (macvlan, ipvlan). */
  hostInterface: string;
  ipAddress: string;
  prefixLength: number;
  /** Empty on an internal network. */
  gateway: string;
  /** Empty without IPv6. */
  ipv6Address: string;
  ipv6PrefixLength: number;
  ipv6Gateway: string;
  macAddress: string;
  /** In force through this endpoint. */
  ports: PortMapping[];
}
