import { fail } from '../errors.ts';
import type { IpamConfig } from './model.ts';
import {
  contains,
  type Family,
  formatAddress,
  formatSubnet,
  isWithin,
  lastOf,
  parseAddress,
  parseCidr,
} from './subnets.ts';

/** What the default bridge is told about its addresses, as dockerd's keys of that name. */
export interface AddressPlan {
  /** The bridge's own address with its prefix length. */
  bip?: string | undefined;
  /** The part of the subnet that containers get addresses from. */
  fixedCidr?: string | undefined;
  /** The containers' router, if it is not the bridge. */
  defaultGateway?: string | undefined;
  isIpv6?: boolean;
  bip6?: string | undefined;
  fixedCidrV6?: string | undefined;
  defaultGatewayV6?: string | undefined;
}

type Cidr = NonNullable<ReturnType<typeof parseCidr>>;

/** The auxiliary address that is the router of a bridge's containers; users may give it to any bridge network. */
const routerKeys: Readonly<Record<Family, string>> = { 4: 'DefaultGatewayIPv4', 6: 'DefaultGatewayIPv6' };

/**
 * Where the default bridge is to lie, to be settled: as told; else where its interface already is (`present`, each an
 * address with a prefix length), so that running containers keep their gateway; else anywhere.
 */
export function defaultBridgePools(o: AddressPlan, present: readonly string[]): IpamConfig[] {
  const found = present.flatMap((text) => parseCidr(text) ?? []);
  const ipv4 = poolOf(4, o, found.filter(({ subnet }) => subnet.family === 4).at(0));
  if (o.isIpv6 !== true) return [ipv4];
  const fixed = o.fixedCidrV6 === undefined ? undefined : cidrOf('fixed-cidr-v6', o.fixedCidrV6, 6).subnet;
  const within = found.find(({ address }) => fixed !== undefined && contains(fixed, address));
  const present6 = within === undefined || fixed === undefined ? undefined : { ...within, subnet: fixed };
  const keys = { bip: o.bip6, fixedCidr: o.fixedCidrV6, defaultGateway: o.defaultGatewayV6 };
  return [ipv4, poolOf(6, keys, present6)];
}

/** The router of a bridge's containers where that is not the gateway of the pool, which is the bridge itself. */
export function bridgeRouter(ipam: readonly IpamConfig[], family: Family): string | undefined {
  return ipam.flatMap(({ auxAddresses = {} }) => auxAddresses[routerKeys[family]] ?? []).at(0);
}

function poolOf(
  family: Family,
  { bip, fixedCidr, defaultGateway }: Pick<AddressPlan, 'bip' | 'fixedCidr' | 'defaultGateway'>,
  present: Cidr | undefined,
): IpamConfig {
  const [bipKey, fixedKey] = family === 4 ? ['bip', 'fixed-cidr'] : ['bip6', 'fixed-cidr-v6'];
  const range = fixedCidr === undefined ? undefined : cidrOf(fixedKey, fixedCidr, family).subnet;
  const own = bip === undefined ? present : cidrOf(bipKey, bip, family);
  if (own !== undefined) {
    const shown = formatAddress(own.address);
    if (isEnd(own)) throw fail.config(`${bipKey}: ${shown} is no address of a host`);
    if (range !== undefined && !isWithin(range, own.subnet))
      throw fail.config(`${fixedKey}: ${fixedCidr} is not within the network of ${shown}`);
  }
  const subnet = own?.subnet ?? range;
  // of IPv6, dockerd means the whole network by it
  const isPart = range !== undefined && (family === 4 || bip !== undefined);
  return {
    ...(subnet !== undefined && { subnet: formatSubnet(subnet) }),
    ...(isPart && { ipRange: formatSubnet(range) }),
    ...(own !== undefined && { gateway: formatAddress(own.address) }),
    ...(defaultGateway !== undefined && {
      auxAddresses: { [routerKeys[family]]: formatAddress(parseAddress(defaultGateway, family)) },
    }),
  };
}

function cidrOf(key: string, text: string, family: Family): Cidr {
  const parsed = parseCidr(text);
  if (parsed?.subnet.family !== family)
    throw fail.config(`${key}: ${text} is not an IPv${family} address with a prefix length`);
  return parsed;
}

/** A network's or broadcast address; in a subnet of one or two there are none (RFC 3021). */
function isEnd({ address, subnet }: Cidr): boolean {
  if (subnet.family === 6) return address.bits === subnet.base && subnet.prefixLength < 127;
  const isOne = address.bits === subnet.base || address.bits === lastOf(subnet).bits;
  return isOne && subnet.prefixLength < 31;
}
