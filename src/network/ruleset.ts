import type { Subnet } from './subnets.ts';

/** What the firewall must do for one bridge. */
export interface BridgeRules {
  /** The bridge interface. */
  readonly name: string;
  readonly subnet: Subnet;
  /** Its containers may talk to each other. */
  readonly isIcc: boolean;
  /** What leaves it for elsewhere carries the host's address. */
  readonly isMasquerade: boolean;
}

/** What arrives at a port of the host goes to one of a container. */
export interface PublishedPort {
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  /** `0.0.0.0`: any address of the host. */
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

/** One of the kernel's packet filters. A backend keeps no state; each call is one transaction of the kernel. */
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
