import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { Netlink } from '../host/netlink.ts';
import { hardwareAddress } from './addresses.ts';
import { ensureBridge, findLink, type Link } from './links.ts';
import { addAddressMessage, addressesOf, type InterfaceAddress, removeAddressMessage } from './routes.ts';
import { contains, type Family, parseAddress, parseCidr } from './subnets.ts';

/** The addresses of an interface of that name, each with its prefix length; none if there is no such interface. */
export async function presentAddresses(netlink: Netlink, name: string): Promise<string[]> {
  const link = await findLink(netlink, name);
  if (link === undefined) return [];
  const all = [
    ...(await addressesOf(netlink, link.index, 4)),
    ...(await addressesOf(netlink, link.index, 6)),
  ];
  return all.map(({ address, prefixLength }) => `${address}/${prefixLength}`);
}

/** Makes a bridge with these addresses (`172.17.0.1/16`), the IPv4 one first, or changes what is there into it. */
export async function setUpBridge(
  netlink: Netlink,
  o: { name: string; mtu: number; addresses: readonly string[]; isForwarding: boolean },
): Promise<Link> {
  const wanted = o.addresses.map(interfaceAddress);
  const macAddress = hardwareAddress(wanted[0]?.address ?? '');
  const bridge = await ensureBridge(netlink, { name: o.name, mtu: o.mtu, macAddress });
  const isIpv6 = wanted.some(({ address }) => parseAddress(address).family === 6);
  // an interface may have been made where IPv6 is off by default
  if (isIpv6) setKernel(`ipv6/conf/${o.name}/disable_ipv6`, '0');
  for (const family of [4, 6] as const) await setAddresses(netlink, bridge.index, family, wanted);
  // published ports on the host's loopback: the kernel would take the answers for forgeries
  setKernel(`ipv4/conf/${o.name}/route_localnet`, '1');
  // a container must not be able to make itself the host's IPv6 router
  setKernel(`ipv6/conf/${o.name}/accept_ra`, '0');
  if (o.isForwarding) setKernel('ipv4/ip_forward', '1');
  if (o.isForwarding && isIpv6) forwardIpv6();
  return bridge;
}

/** Routers do not listen to other routers, unless told so: the host must keep the way out that it has by them. */
function forwardIpv6(): void {
  const directory = '/proc/sys/net/ipv6/conf';
  for (const name of existsSync(directory) ? readdirSync(directory) : [])
    if (readKernel(`ipv6/conf/${name}/accept_ra`) === '1') setKernel(`ipv6/conf/${name}/accept_ra`, '2');
  setKernel('ipv6/conf/default/forwarding', '1');
  setKernel('ipv6/conf/all/forwarding', '1');
}

/** Those of that family, and no others but the one that each IPv6 interface makes itself. */
async function setAddresses(
  netlink: Netlink,
  index: number,
  family: Family,
  all: readonly InterfaceAddress[],
): Promise<void> {
  const isSame = (one: InterfaceAddress) => (other: InterfaceAddress) =>
    parseAddress(one.address).bits === parseAddress(other.address).bits &&
    one.prefixLength === other.prefixLength;
  const wanted = all.filter(({ address }) => parseAddress(address).family === family);
  const present = (await addressesOf(netlink, index, family)).filter(({ address }) => !isLinkLocal(address));
  const stale = present.filter((one) => !wanted.some(isSame(one)));
  const missing = wanted.filter((one) => !present.some(isSame(one)));
  await netlink.request([
    ...missing.map((address) => addAddressMessage(index, address)),
    ...stale.map((address) => removeAddressMessage(index, address)),
  ]);
}

function isLinkLocal(text: string): boolean {
  const linkLocal = parseCidr('fe80::/64')?.subnet;
  return linkLocal !== undefined && contains(linkLocal, parseAddress(text));
}

function interfaceAddress(text: string): InterfaceAddress {
  const [address = '', length] = text.split('/');
  return { address, prefixLength: Number(length) };
}

/**
 * Writes a setting below /proc/sys/net where it differs; one that this kernel lacks is left out. Synchronously:
 * that directory shows the network namespace of the thread that looks.
 */
function setKernel(setting: string, value: string): void {
  const present = readKernel(setting);
  if (present !== undefined && present !== value) writeFileSync(`/proc/sys/net/${setting}`, value);
}

function readKernel(setting: string): string | undefined {
  const path = `/proc/sys/net/${setting}`;
  return existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
}

/**
 * Whether the kernel shows frames that only cross a bridge to the IP packet filter (br_netfilter). It rewrites them
 * there as well, so that they never reach the host's own IP stack on the way from one port to another.
 */
export function isBridgeFiltered(): boolean {
  const path = '/proc/sys/net/bridge/bridge-nf-call-iptables';
  return existsSync(path) && readFileSync(path, 'utf8').trim() === '1';
}
