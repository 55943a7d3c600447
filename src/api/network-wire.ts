import type { EndpointSettings } from '../engine/model.ts';
import type { NetworkRequest } from '../engine/network-checks.ts';
import type { IpamConfig } from '../network/model.ts';
import { endpointSettings } from './container-wire.ts';
import type { NetworkView } from './engine-views.ts';
import { type NetworkDraft, networkViewShapes } from './network-gates.ts';
import { shape, type Wire } from './shapes.ts';
import type { Axes } from './versions.ts';
import { type Codec, list, map, nullable, struct, text, trueOrFalse } from './wire.ts';

/** Networks between Docker's spelling and the engine's; what differs between API versions is in `network-gates.ts`. */

const textByText = map(text);

interface WireIpam {
  driver: string;
  options: Record<string, string> | null;
  config: WirePool[] | null;
}

interface WirePool {
  subnet?: string;
  ipRange?: string;
  gateway?: string;
  auxAddresses?: Record<string, string> | null;
}

const pool = struct<WirePool>('IPAMConfig', 'network.IPAMConfig', {
  subnet: ['Subnet', text, 'optional'],
  ipRange: ['IPRange', text, 'optional'],
  gateway: ['Gateway', text, 'optional'],
  auxAddresses: ['AuxiliaryAddresses', textByText, 'optional'],
});

const ipam = struct<WireIpam>('IPAM', 'network.IPAM', {
  driver: ['Driver', text],
  options: ['Options', textByText],
  config: ['Config', list(pool)],
});

interface CreateBody {
  checkDuplicate: boolean;
  name: string;
  driver: string;
  scope: string;
  isIpv6: boolean;
  ipam: WireIpam | null;
  isInternal: boolean;
  isAttachable: boolean;
  isIngress: boolean;
  isConfigOnly: boolean;
  configFrom: { network: string } | null;
  options: Record<string, string> | null;
  labels: Record<string, string> | null;
}

/** The body of `POST /networks/create`. */
export const createBody = struct<CreateBody>('NetworkCreateRequest', 'types.NetworkCreateRequest', {
  checkDuplicate: ['CheckDuplicate', trueOrFalse],
  name: ['Name', text],
  driver: ['Driver', text],
  scope: ['Scope', text],
  isIpv6: ['EnableIPv6', trueOrFalse],
  ipam: ['IPAM', nullable(ipam)],
  isInternal: ['Internal', trueOrFalse],
  isAttachable: ['Attachable', trueOrFalse],
  isIngress: ['Ingress', trueOrFalse],
  isConfigOnly: ['ConfigOnly', trueOrFalse],
  configFrom: [
    'ConfigFrom',
    nullable(
      struct<{ network: string }>('ConfigReference', 'network.ConfigReference', {
        network: ['Network', text],
      }),
    ),
  ],
  options: ['Options', textByText],
  labels: ['Labels', textByText],
});

/** What the body asks the engine for. */
export function networkDraft({ checkDuplicate, configFrom, ipam, ...body }: CreateBody): NetworkDraft {
  const request: NetworkRequest = {
    ...body,
    configFrom: configFrom?.network ?? '',
    options: body.options ?? {},
    labels: body.labels ?? {},
    ...(ipam !== null && { ipam: { ...ipam, config: (ipam.config ?? []).map(poolOf) } }),
  };
  return { request, checkDuplicate };
}

/** Empty is as good as missing. */
function poolOf({ subnet, ipRange, gateway, auxAddresses }: WirePool): IpamConfig {
  return {
    ...(subnet && { subnet }),
    ...(ipRange && { ipRange }),
    ...(gateway && { gateway }),
    ...(auxAddresses && { auxAddresses }),
  };
}

interface ConnectBody {
  container: string;
  endpoint: EndpointSettings | null;
}

/** The body of `POST /networks/ID/connect`. */
export const connectBody = struct<ConnectBody>('NetworkConnect', 'types.NetworkConnect', {
  container: ['Container', text],
  endpoint: ['EndpointConfig', nullable(endpointSettings as Codec<EndpointSettings>)],
});

/** The body of `POST /networks/ID/disconnect`. */
export const disconnectBody = struct<{ container: string; force: boolean }>(
  'NetworkDisconnect',
  'types.NetworkDisconnect',
  { container: ['Container', text], force: ['Force', trueOrFalse] },
);

/** A network as lists and inspect show it. */
export function networkWire({ record, attachments }: NetworkView, axes: Axes): Wire {
  const wire: Wire = {
    Name: record.name,
    Id: record.id,
    Created: record.createdAt,
    Scope: record.scope,
    Driver: record.driver,
    EnableIPv6: record.isIpv6,
    IPAM: {
      Driver: record.ipam.driver,
      Options: record.ipam.options,
      Config: shownPools(record).map((one) => pool.encode(one)),
    },
    Internal: record.isInternal,
    Attachable: record.isAttachable,
    Ingress: record.isIngress,
    ConfigFrom: { Network: record.configFrom },
    ConfigOnly: record.isConfigOnly,
    Containers: Object.fromEntries(
      attachments.map(({ containerId, containerName, endpoint }) => [
        containerId,
        attachmentWire(containerName, endpoint),
      ]),
    ),
    Options: record.options,
    Labels: record.labels,
  };
  return shape(wire, networkViewShapes, axes);
}

/** What was asked for, exactly so; where nothing was for a family, what the network got. */
function shownPools({ ipam: { config }, pools }: NetworkView['record']): IpamConfig[] {
  const isV6 = ({ subnet = '' }: IpamConfig) => subnet.includes(':');
  const shown = [false, true].flatMap((wanted) => {
    const asked = config.filter((one) => isV6(one) === wanted);
    return asked.length > 0 ? asked : pools.filter((one) => isV6(one) === wanted);
  });
  return shown;
}

function attachmentWire(name: string, endpoint: EndpointSettings): Wire {
  const { endpointId, macAddress, ipAddress, ipPrefixLen, globalIPv6Address, globalIPv6PrefixLen } = endpoint;
  return {
    Name: name,
    EndpointID: endpointId,
    MacAddress: macAddress,
    IPv4Address: ipAddress === '' ? '' : `${ipAddress}/${ipPrefixLen}`,
    IPv6Address: globalIPv6Address === '' ? '' : `${globalIPv6Address}/${globalIPv6PrefixLen}`,
  };
}
