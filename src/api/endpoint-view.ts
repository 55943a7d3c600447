import { dnsNamesOf } from '../engine/container-endpoints.ts';
import { isUserDefined } from '../engine/endpoint-checks.ts';
import type { ContainerRecord, EndpointSettings } from '../engine/model.ts';
import { shortId } from '../lib/ids.ts';
import { endpointShapes } from './container-gates.ts';
import { endpointSettings } from './container-wire.ts';
import { shape, type Wire } from './shapes.ts';
import type { Axes } from './versions.ts';

/** A container's place on a network, as inspect shows it. */
export function endpointWire(
  record: ContainerRecord,
  network: string,
  endpoint: EndpointSettings,
  axes: Axes,
): Wire {
  const wire = endpointSettings.encode(endpoint);
  const hasNames = isUserDefined(network);
  if (hasNames) {
    const names = [shortId(record.id), record.config.hostname];
    shape({ wire, names, hasBeenUp: endpoint.networkId !== '' }, endpointShapes, axes);
  }
  return withNames(wire, hasNames ? dnsNamesOf(record, endpoint) : null, axes);
}

/** In lists, an endpoint says where it is and not how it was asked for. */
export function briefEndpointWire({ ipamConfig, ...endpoint }: EndpointSettings, axes: Axes): Wire {
  const { ipv4Address, ipv6Address } = ipamConfig ?? {};
  const addresses = { ...(ipv4Address && { ipv4Address }), ...(ipv6Address && { ipv6Address }) };
  const brief = { ...endpoint, ipamConfig: ipamConfig === null ? null : addresses };
  return withNames(
    endpointSettings.encode({ ...brief, links: null, aliases: null, driverOpts: null }),
    null,
    axes,
  );
}

function withNames(wire: Wire, names: readonly string[] | null, axes: Axes): Wire {
  return axes.has('G102') ? { ...wire, DNSNames: names } : wire;
}
