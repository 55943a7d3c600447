import { fail } from '../errors.ts';
import { newId, shortId } from '../lib/ids.ts';
import { emptyEndpoint } from './container-creation.ts';
import { checkEndpoint, isUserDefined } from './endpoint-checks.ts';
import type { ContainerRecord, EndpointSettings } from './model.ts';
import { mainNetworkOf } from './namespaces.ts';
import type { NetworkRecord, NetworkRecords } from './network-records.ts';

/** The network that a record's endpoint means: the very one that it was on, though another may have its name now. */
export function networkOf(
  networks: Pick<NetworkRecords, 'find'>,
  name: string,
  { networkId }: EndpointSettings,
): NetworkRecord {
  return networks.find(isUserDefined(name) && networkId !== '' ? networkId : name);
}

/**
 * A container that is about to start, each of its endpoints under the name of its network and with its ID. Throws 404
 * for a network that is not there, 400 for what a network does not give, 403 for one that nobody can be on.
 */
export function settleEndpoints(
  record: ContainerRecord,
  networks: Pick<NetworkRecords, 'find'>,
): ContainerRecord {
  const main = mainNetworkOf(record.hostConfig);
  if (main === undefined || record.config.networkDisabled) return { ...record, endpoints: {} };
  const { endpoints } = record;
  const wanted = Object.keys(endpoints).length === 0 ? { [main]: emptyEndpoint() } : endpoints;
  const settled: Record<string, EndpointSettings> = {};
  const found: NetworkRecord[] = [];
  for (const [key, endpoint] of Object.entries(wanted)) {
    const network = networkOf(networks, key, endpoint);
    checkEndpoint(network.name, network, endpoint);
    checkOpen(network);
    found.push(network);
    settled[network.name] = {
      ...endpoint,
      networkId: network.id,
      ...(hasNoCable(network) && { endpointId: newId() }),
    };
  }
  for (const network of found) checkCompany(record, network, found);
  return { ...record, endpoints: settled };
}

/** Throws 403 for a network that only lends its configuration. */
export function checkOpen({ isConfigOnly }: NetworkRecord): void {
  if (isConfigOnly) throw fail.networkRefused('cannot create endpoint on configuration-only network');
}

/** Throws 400 where a container cannot be on this network beside the others. */
export function checkCompany(
  { hostConfig }: Pick<ContainerRecord, 'hostConfig'>,
  network: NetworkRecord,
  others: readonly NetworkRecord[],
): void {
  // moby: updateNetworkSettings in daemon/container_operations.go
  if (network.driver === 'host' && hostConfig.networkMode !== 'host') throw hostConflict();
  for (const other of others) {
    if (other.id === network.id) continue;
    if (network.driver === 'host' || other.driver === 'host') throw sharedConflict();
    if (network.name === 'none' || other.name === 'none')
      throw fail.badRequest(
        'container cannot be connected to multiple networks with one of the networks in private (none) mode',
      );
  }
}

export function hostConflict() {
  return fail.badRequest('container cannot be disconnected from host network or connected to host network');
}

export function sharedConflict() {
  return fail.badRequest(
    'container sharing network namespace with another container or host cannot be connected to any other network',
  );
}

/** What a container is called on a network that a user made; the first is the answer to who has its address. */
export function dnsNamesOf(
  { id, name, config }: Pick<ContainerRecord, 'id' | 'name' | 'config'>,
  { aliases }: Pick<EndpointSettings, 'aliases'>,
): string[] {
  const names = [name, ...(aliases ?? []), shortId(id), config.hostname];
  return [...new Set(names.filter((one) => one !== ''))];
}

/** True for `none` and `host`: a container has nothing on them. */
function hasNoCable({ driver }: NetworkRecord): boolean {
  return driver === 'host' || driver === 'null';
}
