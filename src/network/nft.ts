import { fail } from '../errors.ts';
import { run } from '../host/exec.ts';
import { Netlink } from '../host/netlink.ts';
import { attribute, type NetlinkMessage, NLM, nested } from '../lib/netlink.ts';
import { ANY, nftFamilies, nftScript, ONE, TABLE } from './nft-script.ts';
import {
  type FirewallBackend,
  families,
  familyOf,
  isOnAnyAddress,
  ofFamily,
  type PublishedPort,
  type Ruleset,
} from './ruleset.ts';
import { addressBytes, type Family } from './subnets.ts';

/**
 * The rules as one table of our own per family: `inet` would need a newer kernel, and one with IPv6. `nft` writes
 * them, when networks change and where they must be mended. A port comes and goes as an element of a map, by netlink:
 * `nft` would take 4 ms to add it and 20 ms to remove it, because the kernel makes a socket that removed something
 * wait for its closing.
 */
export class NftBackend implements FirewallBackend {
  readonly name = 'nftables';
  readonly #netlink: Netlink;

  private constructor(netlink: Netlink) {
    this.#netlink = netlink;
  }

  /** Throws if there is no nft, or no nf_tables in the kernel with all that the rules need. Changes nothing. */
  static async open(): Promise<NftBackend> {
    const subnet = { family: 4, base: 0n, prefixLength: 32 } as const;
    const sample = { name: 'sample', subnets: [subnet], isInternal: true, isIcc: true, isMasquerade: true };
    await nft(nftScript({ bridges: [sample], ports: [] }, [4]), ['--check']);
    return new NftBackend(Netlink.open('netfilter'));
  }

  async restore(rules: Ruleset): Promise<void> {
    await nft(nftScript(rules, await this.#familiesFor(rules)));
  }

  async publish(ports: readonly PublishedPort[]): Promise<void> {
    await this.#netlink.request(transaction(ports.map((port) => elementMessage('add', port))));
  }

  async unpublish(ports: readonly PublishedPort[]): Promise<void> {
    await this.#netlink.request(transaction(ports.map((port) => elementMessage('remove', port))));
  }

  async remove(): Promise<void> {
    const tables = (await this.#familiesFor({ bridges: [], ports: [] })).map(
      (family) => `${nftFamilies[family]} ${TABLE}`,
    );
    await nft(tables.map((table) => `add table ${table}\ndelete table ${table}\n`).join(''));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#netlink[Symbol.asyncDispose]();
  }

  /** IPv6 only where there is something to say about it, so that the host's own traffic is not tracked for nothing. */
  async #familiesFor(rules: Ruleset): Promise<Family[]> {
    const { bridges, ports } = ofFamily(rules, 6);
    const isNeeded = bridges.length > 0 || ports.length > 0 || (await this.#hasTable(6));
    return families.filter((family) => family === 4 || isNeeded);
  }

  async #hasTable(family: Family): Promise<boolean> {
    const body = Buffer.concat([
      netfilterHeader(protocolFamilies[family], 0),
      attribute(NFTA_TABLE.NAME, TABLE),
    ]);
    const message = { type: NFNL.NFTABLES | NFT_MSG.getTable, flags: NLM.ACK, body };
    return this.#netlink.request([message]).then(
      () => true,
      () => false, // missing, or a kernel that knows no such family
    );
  }
}

/**
 * Tables of others that drop forwarded packets unless they say otherwise, as dockerd's and some firewalls' do. Nothing
 * in a table of our own can let a packet pass that another table drops.
 */
export async function droppingTables(): Promise<string[]> {
  const { stdout } = await run('nft', ['list', 'chains'], { timeoutMs: 30_000 });
  return stdout.split(/^(?=table )/m).flatMap((text) => {
    const name = /^table (?:ip|ip6|inet) (\S+)/.exec(text)?.[1];
    const isDropping = /hook forward .*policy drop/.test(text);
    return isDropping && name !== undefined && name !== TABLE ? [name] : [];
  });
}

async function nft(script: string, options: readonly string[] = []): Promise<void> {
  const { code, stderr } = await run('nft', [...options, '-f', '-'], { input: script, timeoutMs: 30_000 });
  if (code !== 0) throw fail.network(`nft: ${stderr.trim()}`);
}

// include/uapi/linux/netfilter/nf_tables.h
const NFNL = { BATCH_BEGIN: 16, BATCH_END: 17, NFTABLES: 10 << 8 } as const;
const NFT_MSG = { getTable: 1, add: 12, remove: 14 } as const;
const NFTA_TABLE = { NAME: 1 } as const;
const NFTA_LIST = { TABLE: 1, SET: 2, ELEMENTS: 3, ELEMENT: 1 } as const;
const NFTA_ELEMENT = { KEY: 1, DATA: 2, VALUE: 1 } as const;
const protocolFamilies = { 4: 2, 6: 10 } as const;
const protocolNumbers = { tcp: 6, udp: 17, sctp: 132 } as const;

/** All of the messages or none. */
function transaction(messages: readonly NetlinkMessage[]): NetlinkMessage[] {
  const mark = (type: number) => ({ type, flags: 0, body: netfilterHeader(0, NFNL.NFTABLES >> 8) });
  return [mark(NFNL.BATCH_BEGIN), ...messages, mark(NFNL.BATCH_END)];
}

/** Adds an element to its map, or removes it. Every field of a key or value fills whole 32-bit words. */
function elementMessage(change: 'add' | 'remove', port: PublishedPort): NetlinkMessage {
  const { protocol, hostIp, hostPort, containerIp, containerPort } = port;
  const isAny = isOnAnyAddress(port);
  const key = [Buffer.of(protocolNumbers[protocol], 0, 0, 0), word16(hostPort)];
  if (!isAny) key.unshift(addressBytes(hostIp));
  const value = (type: number, words: Buffer[]) =>
    nested(type, attribute(NFTA_ELEMENT.VALUE, Buffer.concat(words)));
  const element = [value(NFTA_ELEMENT.KEY, key)];
  if (change === 'add')
    element.push(value(NFTA_ELEMENT.DATA, [addressBytes(containerIp), word16(containerPort)]));
  const body = Buffer.concat([
    netfilterHeader(protocolFamilies[familyOf(port)], 0),
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

function word16(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16BE(value);
  return bytes;
}
