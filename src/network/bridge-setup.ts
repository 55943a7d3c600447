import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fail } from '../errors.ts';
import type { Netlink } from '../host/netlink.ts';
import { chooseSubnet, hardwareAddress } from './addresses.ts';
import { ensureBridge, findLink, type Link } from './links.ts';
import { hostResolvConf, nameServers } from './resolver.ts';
import {
  addAddressMessage,
  addressesOf,
  type InterfaceAddress,
  removeAddressMessage,
  routedSubnets,
} from './routes.ts';
import {
  type Address,
  addressAt,
  formatAddress,
  isWithin,
  lastOf,
  parseAddress,
  parseCidr,
  type Subnet,
} from './subnets.ts';

/** What a bridge network may be told about its addresses, as dockerd's keys of that name. */
export interface AddressPlan {
  /** The bridge's own address with its prefix length. */
  bip?: string;
  /** The part of the subnet that containers get addresses from. */
  fixedCidr?: string;
}

/** The addresses of a bridge network. */
export interface BridgeAddresses {
  subnet: Subnet;
  range: Subnet;
  gateway: string;
}

/**
 * Where the network lies: as told; else where its bridge already is, so that running containers keep their gateway;
 * else in the first usual subnet that the host neither routes to nor asks for names in.
 */
export async function planAddresses(
  netlink: Netlink,
  name: string,
  { bip, fixedCidr }: AddressPlan,
): Promise<BridgeAddresses> {
  const fixed = fixedCidr === undefined ? undefined : cidr('fixed-cidr', fixedCidr).subnet;
  const { address, subnet } =
    bip !== undefined
      ? cidr('bip', bip)
      : ((await presentAddress(netlink, name)) ?? firstOf(fixed ?? (await freeSubnet(netlink))));
  const range = fixed ?? subnet;
  const gateway = formatAddress(address);
  const isEnd = address.bits === subnet.base || address.bits === lastOf(subnet).bits;
  if (isEnd && subnet.prefixLength < 31) throw fail.config(`bip: ${gateway} is no address of a host`);
  if (!isWithin(range, subnet))
    throw fail.config(`fixed-cidr: ${fixedCidr} is not within the network of ${gateway}`);
  return { subnet, range, gateway };
}

function cidr(key: string, text: string): { address: Address; subnet: Subnet } {
  const parsed = parseCidr(text);
  if (parsed?.subnet.family !== 4)
    throw fail.config(`${key}: ${text} is not an IPv4 address with a prefix length`);
  return parsed;
}

async function presentAddress(
  netlink: Netlink,
  name: string,
): Promise<{ address: Address; subnet: Subnet } | undefined> {
  const link = await findLink(netlink, name);
  const [first] = link === undefined ? [] : await addressesOf(netlink, link.index);
  return first === undefined ? undefined : parseCidr(`${first.address}/${first.prefixLength}`);
}

async function freeSubnet(netlink: Netlink): Promise<Subnet> {
  return chooseSubnet(await routedSubnets(netlink), nameServers(await hostResolvConf()));
}

function firstOf(subnet: Subnet): { address: Address; subnet: Subnet } {
  return { address: addressAt(subnet, 1n), subnet };
}

/** Makes the bridge as planned, or changes what is there into it. */
export async function setUpBridge(
  netlink: Netlink,
  o: { name: string; mtu: number; addresses: BridgeAddresses; isForwarding: boolean },
): Promise<Link> {
  const { gateway, subnet } = o.addresses;
  const macAddress = hardwareAddress(gateway);
  const bridge = await ensureBridge(netlink, { name: o.name, mtu: o.mtu, macAddress });
  await setAddress(netlink, bridge.index, { address: gateway, prefixLength: subnet.prefixLength });
  // published ports on the host's loopback: the kernel would take the answers for forgeries
  setKernel(`ipv4/conf/${o.name}/route_localnet`, '1');
  // a container must not be able to make itself the host's IPv6 router
  setKernel(`ipv6/conf/${o.name}/accept_ra`, '0');
  if (o.isForwarding) setKernel('ipv4/ip_forward', '1');
  return bridge;
}

async function setAddress(netlink: Netlink, index: number, wanted: InterfaceAddress): Promise<void> {
  const present = await addressesOf(netlink, index);
  const isWanted = ({ address, prefixLength }: InterfaceAddress) =>
    parseAddress(address).bits === parseAddress(wanted.address).bits && prefixLength === wanted.prefixLength;
  const stale = present.filter((address) => !isWanted(address));
  await netlink.request([
    ...(present.some(isWanted) ? [] : [addAddressMessage(index, wanted)]),
    ...stale.map((address) => removeAddressMessage(index, address)),
  ]);
}

/**
 * Writes a setting below /proc/sys/net where it differs; one that this kernel lacks is left out. Synchronously:
 * that directory shows the network namespace of the thread that looks.
 */
function setKernel(setting: string, value: string): void {
  const path = `/proc/sys/net/${setting}`;
  if (existsSync(path) && readFileSync(path, 'utf8').trim() !== value) writeFileSync(path, value);
}

/**
 * Whether the kernel shows frames that only cross a bridge to the IP packet filter (br_netfilter). It rewrites them
 * there as well, so that they never reach the host's own IP stack on the way from one port to another.
 */
export function isBridgeFiltered(): boolean {
  const path = '/proc/sys/net/bridge/bridge-nf-call-iptables';
  return existsSync(path) && readFileSync(path, 'utf8').trim() === '1';
}
