import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { codeOf, fail } from '../errors.ts';
import { run } from '../host/exec.ts';
import { bindPair } from '../host/foreign-sockets.ts';
import { inNetworkNamespace } from '../host/kernel.ts';
import { Netlink } from '../host/netlink.ts';
import { attribute, type NetlinkMessage, NLM, nested } from '../lib/netlink.ts';
import { NAME_SERVER } from './resolver.ts';

/**
 * The door to the name server of a container: what programs in there send to port 53 of 127.0.0.11 arrives at sockets
 * of the daemon. These are bound to another port, so that a program in the container can have port 53 of all addresses
 * for itself, and a rule in the container's namespace leads there.
 */

const ADDRESS = Buffer.of(127, 0, 0, 11);

const DNS_PORT = 53;
/** Beyond those that the kernel hands out, where programs seldom listen. */
const FIRST_PORT = 61_000;
const PORTS = 4_000;
const MOST_TRIES = 64;

const TABLE = 'skerry-names';

export interface Door {
  /** Descriptors that the caller owns; the TCP one does not listen yet. */
  udp: number;
  tcp: number;
  port: number;
}

/**
 * Opens the door in the network namespace at a path; again after a restart, where as a rule it has the same port, so
 * that what programs sent before is not misled.
 */
export function openDoor(namespacePath: string, containerId: string): Door {
  // the host's own names are none of ours, whatever number a process has by now
  if (statSync(namespacePath).ino === statSync('/proc/self/ns/net').ino)
    throw fail.network('a container in the network of the host has no name server of its own');
  return bindPair(namespacePath, ADDRESS, portsFor(containerId));
}

/** Leads port 53 to the sockets' port, in place of where it led before. */
export async function leadTo(namespacePath: string, port: number): Promise<void> {
  try {
    await leadByNetlink(namespacePath, port);
  } catch (cause) {
    if (!isMissing(cause)) throw cause;
    await leadByIptables(namespacePath, port);
  }
}

/** The same ones for a container each time. */
function* portsFor(containerId: string): Iterable<number> {
  const first = createHash('sha256').update(containerId).digest().readUInt32BE(0);
  for (let tries = 0; tries < MOST_TRIES; tries++) yield FIRST_PORT + ((first + tries * 61) % PORTS);
}

/** A chain is named by its port: a door that is there already need not be taken out, which takes the kernel 20 ms. */
async function leadByNetlink(namespacePath: string, port: number): Promise<void> {
  await using netlink = Netlink.open('netfilter', namespacePath);
  if (await hasChain(netlink, port)) return;
  try {
    await netlink.request(transaction([makeTable(), ...chainAndRules(port)]));
  } catch (cause) {
    if (codeOf(cause) !== 'EEXIST') throw cause;
    await netlink.request(transaction([removeTable(), makeTable(), ...chainAndRules(port)]));
  }
}

/** No nf_tables in the kernel, or not with address translation. */
function isMissing(cause: unknown): boolean {
  return ['EPROTONOSUPPORT', 'EOPNOTSUPP', 'ENOTSUP', 'ENOENT', 'EINVAL'].includes(codeOf(cause) ?? '');
}

/** dockerd's way. The rules of an earlier port are replaced. */
export async function leadByIptables(namespacePath: string, port: number): Promise<void> {
  const lines = (['udp', 'tcp'] as const).map(
    (protocol) =>
      `-A SKERRY-NAMES -d ${NAME_SERVER} -p ${protocol} --dport ${DNS_PORT} -j DNAT --to-destination ${NAME_SERVER}:${port}`,
  );
  const jump = `OUTPUT -d ${NAME_SERVER} -j SKERRY-NAMES`;
  const rules = ['*nat', ':SKERRY-NAMES - [0:0]', ...lines, 'COMMIT', ''].join('\n');
  await inside(namespacePath, 'iptables-restore', ['--noflush', '--wait'], rules);
  const check = ['--wait', '-t', 'nat', '-C', ...jump.split(' ')];
  const insert = ['--wait', '-t', 'nat', '-I', ...jump.split(' ')];
  if (
    await inside(namespacePath, 'iptables', check).then(
      () => true,
      () => false,
    )
  )
    return;
  await inside(namespacePath, 'iptables', insert);
}

async function inside(
  namespacePath: string,
  program: string,
  args: readonly string[],
  input?: string,
): Promise<void> {
  const started = inNetworkNamespace(namespacePath, () => ({
    // a process is started before this returns
    ended: run(program, args, { timeoutMs: 30_000, ...(input !== undefined && { input }) }),
  }));
  const { code, stderr } = await started.ended;
  if (code !== 0) throw fail.network(`${program}: ${stderr.trim()}`);
}

// include/uapi/linux/netfilter/nf_tables.h
const SUBSYSTEM = 10;
const BATCH = { BEGIN: 16, END: 17 } as const;
const MSG = { NEWTABLE: 0, DELTABLE: 2, NEWCHAIN: 3, GETCHAIN: 4, NEWRULE: 6 } as const;
const NFPROTO_IPV4 = 2;
const LOCAL_OUT = 3;
const PRIORITY_DNAT = -100;
const REGISTER = { FIRST: 1, SECOND: 2 } as const;
const NETWORK_HEADER = 1;
const TRANSPORT_HEADER = 2;
const META_L4PROTO = 16;
const NAT_DNAT = 1;

function chainAndRules(port: number): NetlinkMessage[] {
  const chain = message(
    MSG.NEWCHAIN,
    [
      attribute(1, TABLE),
      attribute(3, chainName(port)),
      nested(4, attribute(1, word(LOCAL_OUT)), attribute(2, word(PRIORITY_DNAT))),
      attribute(7, 'nat'),
    ],
    NLM.CREATE,
  );
  return [chain, ruleMessage(17, port), ruleMessage(6, port)];
}

/** `ip daddr 127.0.0.11 meta l4proto P th dport 53 dnat to :PORT` */
function ruleMessage(protocol: number, port: number): NetlinkMessage {
  const expressions = [
    load('meta', attribute(2, word(META_L4PROTO)), attribute(1, word(REGISTER.FIRST))),
    isEqual(Buffer.of(protocol)),
    payload(NETWORK_HEADER, 16, 4),
    isEqual(ADDRESS),
    payload(TRANSPORT_HEADER, 2, 2),
    isEqual(half(DNS_PORT)),
    load('immediate', attribute(1, word(REGISTER.FIRST)), nested(2, attribute(1, ADDRESS))),
    load('immediate', attribute(1, word(REGISTER.SECOND)), nested(2, attribute(1, half(port)))),
    load(
      'nat',
      attribute(1, word(NAT_DNAT)),
      attribute(2, word(NFPROTO_IPV4)),
      attribute(3, word(REGISTER.FIRST)),
      attribute(5, word(REGISTER.SECOND)),
    ),
  ];
  return message(
    MSG.NEWRULE,
    [attribute(1, TABLE), attribute(2, chainName(port)), nested(4, ...expressions)],
    NLM.CREATE,
  );
}

function payload(base: number, offset: number, length: number): Buffer {
  return load(
    'payload',
    attribute(1, word(REGISTER.FIRST)),
    attribute(2, word(base)),
    attribute(3, word(offset)),
    attribute(4, word(length)),
  );
}

function isEqual(bytes: Buffer): Buffer {
  return load(
    'cmp',
    attribute(1, word(REGISTER.FIRST)),
    attribute(2, word(0)),
    nested(3, attribute(1, bytes)),
  );
}

/** An expression of a rule. */
function load(name: string, ...attributes: Buffer[]): Buffer {
  return nested(1, attribute(1, name), nested(2, ...attributes));
}

function makeTable(): NetlinkMessage {
  return message(MSG.NEWTABLE, [attribute(1, TABLE)], NLM.CREATE | NLM.EXCLUSIVE);
}

function removeTable(): NetlinkMessage {
  return message(MSG.DELTABLE, [attribute(1, TABLE)], 0);
}

async function hasChain(netlink: Netlink, port: number): Promise<boolean> {
  try {
    await netlink.request([message(MSG.GETCHAIN, [attribute(1, TABLE), attribute(3, chainName(port))], 0)]);
    return true;
  } catch (cause) {
    if (codeOf(cause) !== 'ENOENT') throw cause;
    return false;
  }
}

function chainName(port: number): string {
  return `to-${port}`;
}

function message(type: number, attributes: Buffer[], flags: number): NetlinkMessage {
  const body = Buffer.concat([Buffer.of(NFPROTO_IPV4, 0, 0, 0), ...attributes]);
  return { type: (SUBSYSTEM << 8) | type, flags: flags | NLM.ACK, body };
}

/** All of the messages or none. */
function transaction(messages: readonly NetlinkMessage[]): NetlinkMessage[] {
  const mark = (type: number) => ({ type, flags: 0, body: Buffer.of(0, 0, 0, SUBSYSTEM) });
  return [mark(BATCH.BEGIN), ...messages, mark(BATCH.END)];
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

function half(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
