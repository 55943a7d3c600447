import { isIPv6 } from 'node:net';
import { type BridgeRules, isOnAnyAddress, type PublishedPort, type Ruleset } from './ruleset.ts';
import { type Family, formatSubnet } from './subnets.ts';

/**
 * The user's own rules: looked at before ours, never emptied. It is the chain that dockerd makes for them, so that
 * what people know and scripts do holds here too.
 */
export const USER = 'DOCKER-USER';

export type TableName = 'nat' | 'filter';
export const tables: readonly TableName[] = ['nat', 'filter'];

const loopbacks = { 4: '127.0.0.0/8', 6: '::1/128' } as const;

/** Our chains of a table. */
export const ownChains: Readonly<Record<TableName, readonly string[]>> = {
  nat: ['SKERRY', 'SKERRY-POSTROUTING'],
  filter: ['SKERRY-FORWARD', 'SKERRY-INPUT'],
};

/** The jumps that lead into our chains and the user's from the built-in ones, in the order they are looked at. */
export function jumpsOf(table: TableName, family: Family): string[] {
  if (table === 'filter')
    return [`-A FORWARD -j ${USER}`, '-A FORWARD -j SKERRY-FORWARD', '-A INPUT -j SKERRY-INPUT'];
  return [
    // nobody but the host itself may use what is published on its loopback
    `-A PREROUTING ! -d ${loopbacks[family]} -m addrtype --dst-type LOCAL -j SKERRY`,
    '-A OUTPUT -m addrtype --dst-type LOCAL -j SKERRY',
    '-A POSTROUTING -j SKERRY-POSTROUTING',
  ];
}

/** What `iptables-restore --noflush` reads for one table: the declared chains are emptied or made, others stay. */
export function tableText(table: TableName, chains: readonly string[], lines: readonly string[]): string {
  const declared = chains.map((chain) => `:${chain} - [0:0]`);
  return `${[`*${table}`, ...declared, ...lines, 'COMMIT'].join('\n')}\n`;
}

/** All rules of one family that our chains of one table hold. */
export function rulesOf(table: TableName, family: Family, { bridges, ports }: Ruleset): string[] {
  return table === 'nat'
    ? [...ports.map(portRule), ...bridges.flatMap((bridge) => sourceRules(family, bridge))]
    : [...inputRules(family, bridges), ...forwardRules(bridges)];
}

export function portRule(port: PublishedPort): string {
  const { protocol, hostIp, hostPort, containerIp, containerPort } = port;
  const address = isOnAnyAddress(port) ? '' : ` -d ${hostIp}`;
  const target = `${isIPv6(containerIp) ? `[${containerIp}]` : containerIp}:${containerPort}`;
  return `-A SKERRY${address} -p ${protocol} -m ${protocol} --dport ${hostPort} -j DNAT --to-destination ${target}`;
}

function sourceRules(family: Family, { name, subnets, isInternal, isMasquerade }: BridgeRules): string[] {
  const own = subnets.map(formatSubnet);
  const chain = '-A SKERRY-POSTROUTING';
  return [
    // a client on the host's loopback or on the bridge itself: the answer must come back through the host
    ...[loopbacks[family], ...own].map(
      (source) => `${chain} -s ${source} -o ${name} -m conntrack --ctstate DNAT -j MASQUERADE`,
    ),
    ...(isMasquerade && !isInternal
      ? own.map((source) => `${chain} -s ${source} ! -o ${name} -j MASQUERADE`)
      : []),
  ];
}

/**
 * An IPv4 bridge has route_localnet, for published ports on loopback: containers must not reach the host's by it.
 * IPv6 knows no such thing.
 */
function inputRules(family: Family, bridges: readonly BridgeRules[]): string[] {
  if (family === 6) return [];
  return bridges.map(
    ({ name }) => `-A SKERRY-INPUT -i ${name} -d ${loopbacks[4]} -m conntrack --ctstate NEW,INVALID -j DROP`,
  );
}

/** Unlike in a table of our own, ours must accept what may pass: the built-in chain may well drop the rest. */
function forwardRules(bridges: readonly BridgeRules[]): string[] {
  const chain = '-A SKERRY-FORWARD';
  const names = bridges.map(({ name }) => name);
  const pairs = bridges.filter(({ isIcc }) => isIcc).map(({ name }) => name);
  const internal = bridges.filter(({ isInternal }) => isInternal).map(({ name }) => name);
  return [
    ...pairs.map((name) => `${chain} -i ${name} -o ${name} -j ACCEPT`),
    ...internal.flatMap((name) => [`${chain} -i ${name} -j DROP`, `${chain} -o ${name} -j DROP`]),
    ...names.flatMap((name) => [
      `${chain} -o ${name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
      `${chain} -o ${name} -m conntrack --ctstate DNAT -j ACCEPT`,
      `${chain} -o ${name} -j DROP`,
    ]),
    ...names.map((name) => `${chain} -i ${name} -j ACCEPT`),
  ];
}
