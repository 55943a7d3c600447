import { fail } from '../errors.ts';
import { run } from '../host/exec.ts';
import { Netlink } from '../host/netlink.ts';
import { attribute, type NetlinkMessage, NLM, nested } from '../lib/netlink.ts';
import type { BridgeRules, FirewallBackend, PublishedPort, Ruleset } from './ruleset.ts';
import { formatSubnet, parseAddress } from './subnets.ts';

const TABLE = 'skerry';
/** Ports on any address of the host, and ports on one address. */
const ANY = 'published';
const ONE = 'published-on-address';

/**
 * The rules as one table of our own. `nft` writes them, once at start and again where they must be mended. A port
 * comes and goes as an element of a map, by netlink: `nft` would take 4 ms to add it and 20 ms to remove it, because
 * the kernel makes a socket that removed something wait for its closing.
 */
export class NftBackend implements FirewallBackend {
  readonly name = 'nftables';
  readonly #netlink: Netlink;

  private constructor(netlink: Netlink) {
    this.#netlink = netlink;
  }

  /** Throws if there is no nft, or no nf_tables in the kernel with all that the rules need. Changes nothing. */
  static async open(): Promise<NftBackend> {
    const sample = { name: 'sample', subnet: { base: 0, prefixLength: 32 }, isIcc: true, isMasquerade: true };
    await nft(nftScript({ bridges: [sample], ports: [] }), ['--check']);
    return new NftBackend(Netlink.open('netfilter'));
  }

  async restore(rules: Ruleset): Promise<void> {
    await nft(nftScript(rules));
  }

  async publish(ports: readonly PublishedPort[]): Promise<void> {
    await this.#netlink.request(transaction(ports.map((port) => elementMessage('add', port))));
  }

  async unpublish(ports: readonly PublishedPort[]): Promise<void> {
    await this.#netlink.request(transaction(ports.map((port) => elementMessage('remove', port))));
  }

  async remove(): Promise<void> {
    await nft(`add table ip ${TABLE}\ndelete table ip ${TABLE}\n`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#netlink[Symbol.asyncDispose]();
  }
}

/**
 * Tables of others that drop forwarded packets unless they say otherwise, as dockerd's and some firewalls' do. Nothing
 * in a table of our own can let a packet pass that another table drops.
 */
export async function droppingTables(): Promise<string[]> {
  const { stdout } = await run('nft', ['list', 'chains', 'ip'], { timeoutMs: 30_000 });
  return stdout.split(/^(?=table )/m).flatMap((text) => {
    const name = /^table ip (\S+)/.exec(text)?.[1];
    const isDropping = /hook forward .*policy drop/.test(text);
    return isDropping && name !== undefined && name !== TABLE ? [name] : [];
  });
}

async function nft(script: string, options: readonly string[] = []): Promise<void> {
  const { code, stderr } = await run('nft', [...options, '-f', '-'], { input: script, timeoutMs: 30_000 });
  if (code !== 0) throw fail.network(`nft: ${stderr.trim()}`);
}

/** Everything in one transaction: what is there is emptied and filled again, and no packet sees it half done. */
export function nftScript({ bridges, ports }: Ruleset): string {
  const chains = [
    // what must happen before addresses are rewritten
    ['early', 'type filter hook prerouting priority -300; policy accept;', bridges.map(earlyRule)],
    ['prerouting', 'type nat hook prerouting priority -100; policy accept;', [notForLoopback, ...lookups]],
    ['output', 'type nat hook output priority -100; policy accept;', lookups],
    ['postrouting', 'type nat hook postrouting priority 100; policy accept;', bridges.flatMap(sourceRules)],
    ['forward', 'type filter hook forward priority 0; policy accept;', forwardRules(bridges)],
  ] as const;
  const lines = [
    `add table ip ${TABLE}`,
    `add chain ip ${TABLE} user`,
    `add map ip ${TABLE} ${ANY} { type inet_proto . inet_service : ipv4_addr . inet_service; }`,
    `add map ip ${TABLE} ${ONE} { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }`,
    `flush map ip ${TABLE} ${ANY}`,
    `flush map ip ${TABLE} ${ONE}`,
    ...ports.map(elementLine),
  ];
  for (const [chain, hook, rules] of chains) {
    lines.push(`add chain ip ${TABLE} ${chain} { ${hook} }`, `flush chain ip ${TABLE} ${chain}`);
    lines.push(...rules.map((rule) => `add rule ip ${TABLE} ${chain} ${rule}`));
  }
  return `${lines.join('\n')}\n`;
}

/** Nobody but the host itself may use what is published on its loopback; its own packets are rewritten in `output`. */
const notForLoopback = 'ip daddr 127.0.0.0/8 return';

const lookups = [
  `dnat to ip daddr . meta l4proto . th dport map @${ONE}`,
  `fib daddr type local dnat to meta l4proto . th dport map @${ANY}`,
];

/** The bridge has route_localnet, for published ports on loopback: containers must not reach the host's by it. */
function earlyRule({ name }: BridgeRules): string {
  return `iifname "${name}" ip daddr 127.0.0.0/8 drop`;
}

function sourceRules({ name, subnet, isMasquerade }: BridgeRules): string[] {
  const own = formatSubnet(subnet);
  return [
    // a client on the host's loopback or on the bridge itself: the answer must come back through the host
    `oifname "${name}" ct status dnat ip saddr { 127.0.0.0/8, ${own} } masquerade`,
    ...(isMasquerade ? [`ip saddr ${own} oifname != "${name}" masquerade`] : []),
  ];
}

/** What comes from a bridge and goes nowhere near another one is not ours to judge. */
function forwardRules(bridges: readonly BridgeRules[]): string[] {
  const perBridge = bridges.flatMap(({ name, isIcc }) => [
    `oifname "${name}" ct state established,related accept`,
    `oifname "${name}" ct status dnat accept`,
    ...(isIcc ? [`iifname "${name}" oifname "${name}" accept`] : []),
    `oifname "${name}" drop`,
  ]);
  return ['jump user', ...perBridge];
}

function elementLine(port: PublishedPort): string {
  const { protocol, hostIp, hostPort, containerIp, containerPort } = port;
  const key = `${protocol} . ${hostPort}`;
  const target = `${containerIp} . ${containerPort}`;
  return hostIp === '0.0.0.0'
    ? `add element ip ${TABLE} ${ANY} { ${key} : ${target} }`
    : `add element ip ${TABLE} ${ONE} { ${hostIp} . ${key} : ${target} }`;
}

// include/uapi/linux/netfilter/nf_tables.h
const NFNL = { BATCH_BEGIN: 16, BATCH_END: 17, NFTABLES: 10 << 8 } as const;
const NFT_MSG = { add: 12, remove: 14 } as const;
const NFTA_LIST = { TABLE: 1, SET: 2, ELEMENTS: 3, ELEMENT: 1 } as const;
const NFTA_ELEMENT = { KEY: 1, DATA: 2, VALUE: 1 } as const;
const NFPROTO_IPV4 = 2;
const protocolNumbers = { tcp: 6, udp: 17, sctp: 132 } as const;

/** All of the messages or none. */
function transaction(messages: readonly NetlinkMessage[]): NetlinkMessage[] {
  const mark = (type: number) => ({ type, flags: 0, body: netfilterHeader(0, NFNL.NFTABLES >> 8) });
  return [mark(NFNL.BATCH_BEGIN), ...messages, mark(NFNL.BATCH_END)];
}

/** Adds an element to its map, or removes it. Every field of a key or value fills whole 32-bit words. */
function elementMessage(change: 'add' | 'remove', port: PublishedPort): NetlinkMessage {
  const { protocol, hostIp, hostPort, containerIp, containerPort } = port;
  const isAny = hostIp === '0.0.0.0';
  const key = [Buffer.of(protocolNumbers[protocol], 0, 0, 0), word16(hostPort)];
  if (!isAny) key.unshift(word32(parseAddress(hostIp)));
  const value = (type: number, words: Buffer[]) =>
    nested(type, attribute(NFTA_ELEMENT.VALUE, Buffer.concat(words)));
  const element = [value(NFTA_ELEMENT.KEY, key)];
  if (change === 'add')
    element.push(value(NFTA_ELEMENT.DATA, [word32(parseAddress(containerIp)), word16(containerPort)]));
  const body = Buffer.concat([
    netfilterHeader(NFPROTO_IPV4, 0),
    attribute(NFTA_LIST.TABLE, TABLE),
    attribute(NFTA_LIST.SET, isAny ? ANY : ONE),
    nested(NFTA_LIST.ELEMENTS, nested(NFTA_LIST.ELEMENT, ...element)),
  ]);
  const flags = change === 'add' ? NLM.ACK | NLM.CREATE : NLM.ACK;
  return { type: NFNL.NFTABLES | NFT_MSG[change], flags, body };
}

/** `struct nfgenmsg`. */
function netfilterHeader(family: number, resource: number): Buffer {
  return Buffer.of(family, 0, resource >> 8, resource & 0xff);
}

function word32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function word16(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16BE(value);
  return bytes;
}
