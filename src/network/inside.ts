import { existsSync, writeFileSync } from 'node:fs';
import { fail, messageOf } from '../errors.ts';
import { inNetworkNamespace } from '../host/kernel.ts';
import { Netlink } from '../host/netlink.ts';
import { findLink, upMessage } from './links.ts';
import { addAddressMessage, addRouteMessage, type InterfaceAddress } from './routes.ts';
import type { Family } from './subnets.ts';

/** The container's side of its networks: what is done within its network namespace. */

/** The kernel gives the loopback interface of each network namespace this index. */
const LOOPBACK_INDEX = 1;

/** A default route: by a router, or, if there is none to name, straight out of an interface. */
export interface DefaultRoute {
  family: Family;
  gateway?: string;
  interfaceName: string;
}

/** Brings up the loopback interface of a process's network: all there is in network mode `none`. */
export async function upLoopback(pid: number): Promise<void> {
  await using netlink = Netlink.open('route', namespaceOf(pid));
  await netlink.request([upMessage(LOOPBACK_INDEX)]);
}

/** Brings up loopback and the interface `name`, with its addresses and default routes. */
export async function upInterface(
  pid: number,
  o: {
    name: string;
    addresses: readonly InterfaceAddress[];
    isIpv6: boolean;
    routes: readonly Omit<DefaultRoute, 'interfaceName'>[];
  },
): Promise<void> {
  const { name, addresses, isIpv6, routes } = o;
  try {
    await using netlink = Netlink.open('route', namespaceOf(pid));
    const link = await findLink(netlink, name);
    if (link === undefined)
      throw fail.network(`there is no interface ${name} in the network of process ${pid}`);
    inNetworkNamespace(namespaceOf(pid), () => prepare(name, isIpv6));
    await netlink.request([
      upMessage(LOOPBACK_INDEX),
      ...addresses.map((address) => addAddressMessage(link.index, address)),
      upMessage(link.index),
      ...routes.map((route) => addRouteMessage({ ...route, output: link.index })),
    ]);
  } catch (cause) {
    throw fail.network(`failed to set up ${name} in the container: ${messageOf(cause)}`, { cause });
  }
}

function prepare(name: string, isIpv6: boolean): void {
  // without IPv6 it would still get a link-local address, and send router solicitations
  write(`ipv6/conf/${name}/disable_ipv6`, isIpv6 ? '0' : '1');
  // nobody else can have its addresses; and a neighbour must not make itself its router
  if (isIpv6) for (const setting of ['accept_dad', 'accept_ra']) write(`ipv6/conf/${name}/${setting}`, '0');
  // tells the neighbours at once who has the address now: a chosen MAC address does not follow from it
  write(`ipv4/conf/${name}/arp_notify`, '1');
}

function write(setting: string, value: string): void {
  const path = `/proc/sys/net/${setting}`;
  if (existsSync(path)) writeFileSync(path, value);
}

function namespaceOf(pid: number): string {
  return `/proc/${pid}/ns/net`;
}
