import { isIPv6 } from 'node:net';
import type { Family, Subnet } from './subnets.ts';

/** What the firewall must do for one bridge. */
export interface BridgeRules {
  /** The bridge interface. */
  readonly name: string;
  /** Of either family. In one that none is of, the bridge has no rules. */
  readonly subnets: readonly Subnet[];
  /** Nothing passes between it and anything but the host itself, published ports included. */
  readonly isInternal: boolean;
  /** Its containers may talk to each other. */
  readonly isIcc: boolean;
  /** What leaves it for elsewhere carries the host's address. */
  readonly isMasquerade: boolean;
}

/** What arrives at a port of the host goes to one of a container. Both addresses are of one family. */
export interface PublishedPort {
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  /** `0.0.0.0` or `::`: any address of the host. */
  readonly hostIp: string;
  readonly hostPort: number;
  readonly containerIp: string;
  readonly containerPort: number;
}

/** Everything that our part of the firewall holds. */
export interface Ruleset {
  readonly bridges: readonly BridgeRules[];
  readonly ports: readonly PublishedPort[];
}

export const families: readonly Family[] = [4, 6];

/** What of the rules is of one family: those bridges with their subnets of it, and those ports. */
export function ofFamily({ bridges, ports }: Ruleset, family: Family): Ruleset {
  return {
    bridges: bridges.flatMap((bridge) => {
      const subnets = bridge.subnets.filter((subnet) => subnet.family === family);
      return subnets.length === 0 ? [] : [{ ...bridge, subnets }];
    }),
    ports: ports.filter((port) => familyOf(port) === family),
  };
}

/** The ports that are in force through a container's place on a network, each with its address of the port's family. */
export function publishedPorts(endpoint: {
  readonly ipAddress: string;
  /** Empty or missing: none. */
  readonly ipv6Address?: string;
  readonly ports: readonly Omit<PublishedPort, 'containerIp'>[];
}): PublishedPort[] {
  return endpoint.ports.flatMap((port) => {
    const containerIp = isIPv6(port.hostIp) ? endpoint.ipv6Address : endpoint.ipAddress;
    return containerIp === undefined || containerIp === '' ? [] : [{ ...port, containerIp }];
  });
}

export function familyOf({ containerIp }: Pick<PublishedPort, 'containerIp'>): Family {
  return isIPv6(containerIp) ? 6 : 4;
}

export function isOnAnyAddress({ hostIp }: Pick<PublishedPort, 'hostIp'>): boolean {
  return hostIp === '0.0.0.0' || hostIp === '::';
}

/** One of the kernel's packet filters. Each call is one transaction of the kernel per family. */
export interface FirewallBackend extends AsyncDisposable {
  readonly name: 'nftables' | 'iptables';
  /** Makes our part hold exactly these rules, whatever it held; the user's own chain is made but never emptied. */
  restore(rules: Ruleset): Promise<void>;
  /** Adds ports to what is there; `rules` is everything with them. */
  publish(ports: readonly PublishedPort[], rules: Ruleset): Promise<void>;
  /** Takes ports out; `rules` is everything without them. */
  unpublish(ports: readonly PublishedPort[], rules: Ruleset): Promise<void>;
  /** Removes all that is ours, the user's own chain included. */
  remove(): Promise<void>;
}
