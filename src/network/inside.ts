import { existsSync, writeFileSync } from 'node:fs';
import { fail, messageOf } from '../errors.ts';
import { inNetworkNamespace } from '../host/kernel.ts';
import { Netlink } from '../host/netlink.ts';
import { findLink, upMessage } from './links.ts';
import { addAddressMessage, defaultRouteMessage, type InterfaceAddress } from './routes.ts';

/** The container's side of its networks: what is done within its network namespace. */

/** The kernel gives the loopback interface of each network namespace this index. */
const LOOPBACK_INDEX = 1;

/** Brings up the loopback interface of a process's network: all there is in network mode `none`. */
export async function upLoopback(pid: number): Promise<void> {
  await using netlink = Netlink.open('route', namespaceOf(pid));
  await netlink.request([upMessage(LOOPBACK_INDEX)]);
}

/** Brings up loopback and the interface `name`, with its address and the way out. Nothing else runs in there yet. */
export async function upInterface(
  pid: number,
  { name, gateway, ...address }: InterfaceAddress & { name: string; gateway: string },
): Promise<void> {
  try {
    await using netlink = Netlink.open('route', namespaceOf(pid));
    const link = await findLink(netlink, name);
    if (link === undefined)
      throw fail.network(`there is no interface ${name} in the network of process ${pid}`);
    inNetworkNamespace(namespaceOf(pid), () => prepare(name));
    await netlink.request([
      upMessage(LOOPBACK_INDEX),
      addAddressMessage(link.index, address),
      upMessage(link.index),
      defaultRouteMessage(gateway),
    ]);
  } catch (cause) {
    throw fail.network(`failed to set up ${name} in the container: ${messageOf(cause)}`, { cause });
  }
}

function prepare(name: string): void {
  // without this it would get a link-local IPv6 address, and send router solicitations
  const ipv6 = `/proc/sys/net/ipv6/conf/${name}/disable_ipv6`;
  if (existsSync(ipv6)) writeFileSync(ipv6, '1');
  // tells the neighbours at once who has the address now: a chosen MAC address does not follow from it
  writeFileSync(`/proc/sys/net/ipv4/conf/${name}/arp_notify`, '1');
}

function namespaceOf(pid: number): string {
  return `/proc/${pid}/ns/net`;
}
