import { Netlink } from '../host/netlink.ts';
import type { HostSubnets } from './ipam.ts';
import { hostResolvConf, nameServers } from './resolver.ts';
import { routesOf } from './routes.ts';
import type { Family } from './subnets.ts';

/** What the host reaches and asks for names just now. */
export async function readHostSubnets(family: Family): Promise<HostSubnets> {
  await using netlink = Netlink.open('route');
  return { routes: await routesOf(netlink, family), nameServers: nameServers(await hostResolvConf()) };
}
