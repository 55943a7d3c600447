import { Failure, fail } from '../errors.ts';
import { joinProblems } from '../lib/problems.ts';
import { contains, parseCidr, readAddress } from '../network/subnets.ts';
import type { EndpointSettings } from './model.ts';
import { isPredefined, type NetworkRecord } from './network-records.ts';

/** A fault in how a container wants to be on a network, and what daemons of old said of it, if they said so much. */
interface Problem {
  text: string;
  earlier?: string;
}

/** True for the name of a network that a user made: there are names on it, and addresses of one's own choice. */
export function isUserDefined(name: string): boolean {
  return !isPredefined(name) && !name.startsWith('container:');
}

/**
 * Checks how a container wants to be on a network; `network` is undefined where it is not there yet. Throws 400 with
 * all faults at once. Late addresses are those that are looked at when the container starts, and not now.
 */
export function checkEndpoint(
  name: string,
  network: NetworkRecord | undefined,
  endpoint: EndpointSettings,
  { areAddressesLate = false } = {},
): void {
  // moby: validateEndpointSettings in daemon/container_operations.go
  const { macAddress, wantedMacAddress = macAddress } = endpoint;
  const [first, ...more] = [
    ...onPredefined(name, endpoint),
    ...(areAddressesLate ? [] : addressProblems(endpoint)),
    ...(network === undefined ? [] : subnetProblems(network, endpoint)),
  ].filter(({ earlier }) => !areAddressesLate || earlier === undefined);
  if (!areAddressesLate && wantedMacAddress !== '' && !isMacAddress(wantedMacAddress)) {
    const text = `invalid MAC address ${wantedMacAddress}`;
    throw fail.invalidEndpoint(text, `address ${wantedMacAddress}: invalid MAC address`);
  }
  if (first === undefined) return;
  const texts = [first, ...more].map(({ text }) => text);
  throw fail.invalidEndpoint(
    `invalid endpoint settings:\n${joinProblems(texts)}`,
    first.earlier ?? first.text,
  );
}

/** Checks all networks that a new container is to be on. Throws 400. */
export function checkNewEndpoints(
  endpoints: Readonly<Record<string, EndpointSettings>>,
  find: (name: string) => NetworkRecord | undefined,
): void {
  const problems: Failure[] = [];
  for (const [name, endpoint] of Object.entries(endpoints)) {
    try {
      checkEndpoint(name, find(name), endpoint);
    } catch (cause) {
      if (!(cause instanceof Failure)) throw cause;
      problems.push(
        fail.invalidEndpoint(
          `invalid config for network ${name}: ${cause.message}`,
          cause.facts['earlier'] ?? '',
        ),
      );
    }
  }
  const [first] = problems;
  if (first === undefined) return;
  throw fail.invalidEndpoint(
    joinProblems(problems.map(({ message }) => message)),
    first.facts['earlier'] ?? '',
  );
}

/** All that daemons of old looked at when a container was made. Throws 400. */
export function checkAddressTexts(endpoints: Readonly<Record<string, EndpointSettings>>): void {
  for (const endpoint of Object.values(endpoints)) {
    const [first] = addressProblems({
      ...endpoint,
      ipamConfig: { ...endpoint.ipamConfig, linkLocalIPs: [] },
    });
    if (first !== undefined) throw fail.badRequest(first.text);
  }
}

/** As Go's net.ParseMAC reads them, of the length that Ethernet has. */
export function isMacAddress(text: string): boolean {
  return /^(?:[0-9a-f]{2}(?::[0-9a-f]{2}){5}|[0-9a-f]{2}(?:-[0-9a-f]{2}){5}|[0-9a-f]{4}(?:\.[0-9a-f]{4}){2})$/i.test(
    text,
  );
}

function onPredefined(name: string, { ipamConfig, aliases }: EndpointSettings): Problem[] {
  if (isUserDefined(name)) return [];
  const problems: Problem[] = [];
  if (ipamConfig?.ipv4Address || ipamConfig?.ipv6Address)
    problems.push({ text: 'user specified IP address is supported on user defined networks only' });
  if (aliases?.length)
    problems.push({
      text: 'network-scoped alias is supported only for containers in user defined networks',
    });
  return problems;
}

function addressProblems({ ipamConfig }: EndpointSettings): Problem[] {
  const { ipv4Address = '', ipv6Address = '', linkLocalIPs = [] } = ipamConfig ?? {};
  const problems: Problem[] = [];
  const refuse = (what: string, text: string) => problems.push({ text: `invalid ${what} address: ${text}` });
  if (ipv4Address !== '' && !isOfFamily(ipv4Address, 4)) refuse('IPv4', ipv4Address);
  if (ipv6Address !== '' && !isOfFamily(ipv6Address, 6)) refuse('IPv6', ipv6Address);
  for (const address of linkLocalIPs) if (!isOfFamily(address)) refuse('link-local IP', address);
  return problems;
}

/** An address of this family, or of any; the unspecified one is none. */
function isOfFamily(text: string, family?: 4 | 6): boolean {
  const address = readAddress(text);
  return address !== undefined && address.bits !== 0n && (family === undefined || address.family === family);
}

/** An address of one's own choice must lie in a subnet of the user's own choice. */
function subnetProblems({ ipam, isIpv6 }: NetworkRecord, { ipamConfig }: EndpointSettings): Problem[] {
  const { ipv4Address = '', ipv6Address = '' } = ipamConfig ?? {};
  return [
    { text: ipv4Address, family: 4 },
    { text: ipv6Address, family: 6 },
  ].flatMap(({ text, family }): Problem[] => {
    const address = readAddress(text);
    if (text === '') return [];
    // beside the range too: only 25.0.0 refused that
    const pools = ipam.config
      .flatMap(({ subnet = '' }) => parseCidr(subnet)?.subnet ?? [])
      .filter((subnet) => subnet.family === family && (family === 4 || isIpv6));
    if (pools.length === 0)
      return [
        {
          text: 'user specified IP address is supported only when connecting to networks with user configured subnets',
        },
      ];
    if (address === undefined || pools.some((subnet) => contains(subnet, address))) return [];
    return [
      {
        text: `no configured subnet or ip-range contain the IP address ${text}`,
        earlier: `Invalid address ${text}: It does not belong to any of this network's subnets`,
      },
    ];
  });
}
