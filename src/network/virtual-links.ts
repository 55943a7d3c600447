import type { Netlink } from '../host/netlink.ts';
import { attribute, NLM, nested } from '../lib/netlink.ts';
import { linkHeader, OUR_GROUP } from './links.ts';

/** Interfaces that ride on others, through rtnetlink: macvlan, ipvlan, VLANs, and the dummy they may ride on. */

const RTM_NEWLINK = 16;
const IFLA = { ADDRESS: 1, IFNAME: 3, LINK: 5, LINKINFO: 18, NET_NS_PID: 19, GROUP: 27 } as const;
const INFO = { KIND: 1, DATA: 2 } as const;
const VLAN_ID = 1;

/** What kind of interface, and what is said of it: `IFLA_INFO_DATA`. */
export interface LinkKind {
  readonly kind: 'macvlan' | 'ipvlan';
  readonly data: readonly Buffer[];
}

/** `linux/if_link.h`, enum macvlan_mode. */
export const macvlanModes = { private: 1, vepa: 2, bridge: 4, passthru: 8 } as const;
/** `linux/if_link.h`, enum ipvlan_mode and the flags beside it. */
export const ipvlanModes = { l2: 0, l3: 1, l3s: 2 } as const;
export const ipvlanFlags = { bridge: 0, private: 1, vepa: 2 } as const;

/** The name, if the table has it. */
export function pick<K extends string>(table: Readonly<Record<K, number>>, name: string): K | undefined {
  return Object.hasOwn(table, name) ? (name as K) : undefined;
}

export function macvlanKind(mode: keyof typeof macvlanModes): LinkKind {
  return { kind: 'macvlan', data: [attribute(1, macvlanModes[mode])] };
}

export function ipvlanKind(mode: keyof typeof ipvlanModes, flag: keyof typeof ipvlanFlags): LinkKind {
  return {
    kind: 'ipvlan',
    data: [attribute(1, u16(ipvlanModes[mode])), attribute(2, u16(ipvlanFlags[flag]))],
  };
}

/**
 * Makes an interface that rides on `parent`, not up yet, in the network of process `pid`. Without a MAC address it
 * gets one by chance, or its parent's where it must have that.
 */
export async function addRider(
  netlink: Netlink,
  o: { parent: number; name: string; pid: number; kind: LinkKind; macAddress: Uint8Array | undefined },
): Promise<void> {
  const body = Buffer.concat([
    linkHeader(0),
    attribute(IFLA.IFNAME, o.name),
    attribute(IFLA.LINK, o.parent),
    attribute(IFLA.NET_NS_PID, o.pid),
    ...(o.macAddress === undefined ? [] : [attribute(IFLA.ADDRESS, o.macAddress)]),
    nested(IFLA.LINKINFO, attribute(INFO.KIND, o.kind.kind), nested(INFO.DATA, ...o.kind.data)),
  ]);
  await netlink.request([{ type: RTM_NEWLINK, flags: NLM.ACK | NLM.CREATE | NLM.EXCLUSIVE, body }]);
}

/** Makes `eth0.50` of `eth0`, or an interface that leads nowhere; not up yet, and marked as ours. */
export async function addParent(
  netlink: Netlink,
  name: string,
  vlan?: { readonly parent: number; readonly id: number },
): Promise<void> {
  const kind =
    vlan === undefined
      ? [attribute(INFO.KIND, 'dummy')]
      : [attribute(INFO.KIND, 'vlan'), nested(INFO.DATA, attribute(VLAN_ID, u16(vlan.id)))];
  const body = Buffer.concat([
    linkHeader(0),
    attribute(IFLA.IFNAME, name),
    attribute(IFLA.GROUP, OUR_GROUP),
    ...(vlan === undefined ? [] : [attribute(IFLA.LINK, vlan.parent)]),
    nested(IFLA.LINKINFO, ...kind),
  ]);
  await netlink.request([{ type: RTM_NEWLINK, flags: NLM.ACK | NLM.CREATE | NLM.EXCLUSIVE, body }]);
}

function u16(value: number): Uint8Array {
  return Buffer.of(value & 0xff, value >> 8);
}
