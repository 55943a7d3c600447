import { type Failure, fail } from '../errors.ts';
import type { IpamConfig } from './model.ts';
import {
  contains,
  formatAddress,
  formatSubnet,
  isOverlapping,
  parseCidr,
  readAddress,
  type Subnet,
} from './subnets.ts';

type Cidr = NonNullable<ReturnType<typeof parseCidr>>;

/**
 * What is wrong with the pools that a network is to be made with, all of it in one message, as dockerd says since
 * version 1.44 of the API. What is of IPv6 in a network without it is not looked at.
 */
export function checkIpam(configs: readonly IpamConfig[], isIpv6: boolean): Failure | undefined {
  const complaints = configs.flatMap((config) => complaintsOf(config, isIpv6));
  if (complaints.length === 0) return undefined;
  const [first = ''] = complaints;
  const text = complaints.length === 1 ? first : complaints.map((each) => `* ${each}`).join('\n');
  return fail.network(`invalid network config:\n${text}`, { status: 400 });
}

/** The little that dockerd looked at before. */
export function checkSubnets(configs: readonly IpamConfig[]): Failure | undefined {
  const bad = configs.find(({ subnet = '' }) => parseCidr(subnet) === undefined);
  if (bad === undefined) return undefined;
  return fail.network(`Invalid subnet ${bad.subnet ?? ''} : invalid CIDR address: ${bad.subnet ?? ''}`);
}

function complaintsOf(config: IpamConfig, isIpv6: boolean): string[] {
  const { subnet: text = '', ipRange, gateway, auxAddresses = {} } = config;
  const parsed = parseCidr(text);
  if (parsed === undefined) return [`invalid subnet ${text}: invalid CIDR block notation`];
  const { subnet } = parsed;
  if (subnet.family === 6 && !isIpv6) return [];
  const shown = shownAs(parsed);
  const about = (what: string, address: string | undefined) => {
    const complaint = addressComplaint(address, subnet, shown);
    return complaint === undefined ? [] : [`invalid ${what}: ${complaint}`];
  };
  return [
    ...hostBitsOf('subnet', parsed),
    ...(ipRange ? rangeComplaints(ipRange, subnet, shown) : []),
    ...about(`gateway ${gateway}`, gateway),
    ...Object.entries(auxAddresses).flatMap(([name, address]) => about(`auxiliary address ${name}`, address)),
  ];
}

function rangeComplaints(text: string, subnet: Subnet, shown: string): string[] {
  const what = `invalid ip-range ${text}`;
  const parsed = parseCidr(text);
  if (parsed === undefined) return [`${what}: invalid CIDR block notation`];
  const range = parsed.subnet;
  if (range.family !== subnet.family) return [`${what}: parent subnet is an IPv${subnet.family} block`];
  const isBigger = range.prefixLength < subnet.prefixLength;
  const isElsewhere = !isOverlapping(range, subnet);
  return [
    ...(isBigger ? [`${what}: CIDR block is bigger than its parent subnet ${shown}`] : []),
    ...hostBitsOf('ip-range', parsed),
    ...(isElsewhere ? [`${what}: parent subnet ${shown} doesn't contain ip-range`] : []),
  ];
}

function hostBitsOf(what: string, cidr: Cidr): string[] {
  if (cidr.address.bits === cidr.subnet.base) return [];
  return [`invalid ${what} ${shownAs(cidr)}: it should be ${formatSubnet(cidr.subnet)}`];
}

/** With its host bits. */
function shownAs({ address, subnet }: Cidr): string {
  return `${formatAddress(address)}/${subnet.prefixLength}`;
}

function addressComplaint(text: string | undefined, subnet: Subnet, shown: string): string | undefined {
  if (!text) return undefined;
  const address = readAddress(text);
  if (address === undefined) return 'invalid address';
  if (address.family !== subnet.family) return `parent subnet is an IPv${subnet.family} block`;
  return contains(subnet, address) ? undefined : `parent subnet ${shown} doesn't contain this address`;
}
