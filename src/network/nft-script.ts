import { type BridgeRules, isOnAnyAddress, ofFamily, type PublishedPort, type Ruleset } from './ruleset.ts';
import { type Family, formatSubnet } from './subnets.ts';

/** The one table that is ours, in each family that has something in it. */
export const TABLE = 'skerry';
/** Ports on any address of the host, and ports on one address. */
export const ANY = 'published';
export const ONE = 'published-on-address';

/** How nft spells the families. */
export const nftFamilies = { 4: 'ip', 6: 'ip6' } as const;

const loopbacks = { 4: '127.0.0.0/8', 6: '::1' } as const;

/**
 * The rules of these families as a script for `nft`. It is one transaction: what is there is emptied and filled again,
 * and no packet sees it half done. The chain `user` is made where it is missing, and is nobody's but the user's.
 */
export function nftScript(rules: Ruleset, families: readonly Family[]): string {
  const lines = families.flatMap((family) => tableLines(family, ofFamily(rules, family)));
  return `${lines.join('\n')}\n`;
}

function tableLines(family: Family, { bridges, ports }: Ruleset): string[] {
  const table = `${nftFamilies[family]} ${TABLE}`;
  const target = `ipv${family}_addr . inet_service`;
  const chains = [
    // what must happen before addresses are rewritten
    ['early', 'type filter hook prerouting priority -300; policy accept;', earlyRules(family, bridges)],
    ['prerouting', 'type nat hook prerouting priority -100; policy accept;', fromElsewhere(family)],
    ['output', 'type nat hook output priority -100; policy accept;', lookups(family)],
    ['postrouting', 'type nat hook postrouting priority 100; policy accept;', sourceRules(family, bridges)],
    ['forward', 'type filter hook forward priority 0; policy accept;', forwardRules(bridges)],
  ] as const;
  const lines = [
    `add table ${table}`,
    `add chain ${table} user`,
    `add map ${table} ${ANY} { type inet_proto . inet_service : ${target}; }`,
    `add map ${table} ${ONE} { type ipv${family}_addr . inet_proto . inet_service : ${target}; }`,
    `flush map ${table} ${ANY}`,
    `flush map ${table} ${ONE}`,
    ...ports.map((port) => elementLine(table, port)),
  ];
  for (const [chain, hook, rules] of chains) {
    lines.push(`add chain ${table} ${chain} { ${hook} }`, `flush chain ${table} ${chain}`);
    lines.push(...rules.map((rule) => `add rule ${table} ${chain} ${rule}`));
  }
  return lines;
}

function lookups(family: Family): string[] {
  return [
    `dnat to ${nftFamilies[family]} daddr . meta l4proto . th dport map @${ONE}`,
    `fib daddr type local dnat to meta l4proto . th dport map @${ANY}`,
  ];
}

/** Nobody but the host itself may use what is published on its loopback; its own packets are rewritten in `output`. */
function fromElsewhere(family: Family): string[] {
  return [`${nftFamilies[family]} daddr ${loopbacks[family]} return`, ...lookups(family)];
}

/**
 * An IPv4 bridge has route_localnet, for published ports on loopback: containers must not reach the host's by it.
 * IPv6 knows no such thing.
 */
function earlyRules(family: Family, bridges: readonly BridgeRules[]): string[] {
  if (family === 6 || bridges.length === 0) return [];
  return [`iifname ${setOf(bridges)} ip daddr ${loopbacks[4]} drop`];
}

function sourceRules(family: Family, bridges: readonly BridgeRules[]): string[] {
  const source = `${nftFamilies[family]} saddr`;
  return bridges.flatMap(({ name, subnets, isInternal, isMasquerade }) => {
    const own = subnets.map(formatSubnet);
    return [
      // a client on the host's loopback or on the bridge itself: the answer must come back through the host
      `oifname "${name}" ct status dnat ${source} { ${[loopbacks[family], ...own].join(', ')} } masquerade`,
      ...(isMasquerade && !isInternal
        ? [`${source} { ${own.join(', ')} } oifname != "${name}" masquerade`]
        : []),
    ];
  });
}

/**
 * As many rules for a hundred bridges as for one. What comes from a bridge and goes nowhere near another one is not
 * ours to judge.
 */
function forwardRules(bridges: readonly BridgeRules[]): string[] {
  const pairs = bridges.filter(({ isIcc }) => isIcc).map(({ name }) => `"${name}" . "${name}"`);
  const internal = bridges.filter(({ isInternal }) => isInternal);
  return [
    'jump user',
    ...(pairs.length > 0 ? [`iifname . oifname { ${pairs.join(', ')} } accept`] : []),
    ...(internal.length > 0 ? [`iifname ${setOf(internal)} drop`, `oifname ${setOf(internal)} drop`] : []),
    'ct state established,related accept',
    ...(bridges.length > 0
      ? [`oifname ${setOf(bridges)} ct status dnat accept`, `oifname ${setOf(bridges)} drop`]
      : []),
  ];
}

function setOf(bridges: readonly BridgeRules[]): string {
  return `{ ${bridges.map(({ name }) => `"${name}"`).join(', ')} }`;
}

function elementLine(table: string, port: PublishedPort): string {
  const { protocol, hostIp, hostPort, containerIp, containerPort } = port;
  const key = `${protocol} . ${hostPort}`;
  const target = `${containerIp} . ${containerPort}`;
  return isOnAnyAddress(port)
    ? `add element ${table} ${ANY} { ${key} : ${target} }`
    : `add element ${table} ${ONE} { ${hostIp} . ${key} : ${target} }`;
}
