import { fail } from '../errors.ts';
import { checkIpam, checkSubnets } from '../network/ipam-checks.ts';
import type { IpamConfig } from '../network/model.ts';
import { isPredefined, type NetworkRecord } from './network-records.ts';

/** A network as a client asks for it. */
export interface NetworkRequest {
  name: string;
  /** Empty for `bridge`. */
  driver: string;
  scope: string;
  isIpv6: boolean;
  /** Undefined where nothing was said of addresses. */
  ipam?: { driver: string; options: Record<string, string> | null; config: IpamConfig[] };
  isInternal: boolean;
  isAttachable: boolean;
  isIngress: boolean;
  isConfigOnly: boolean;
  /** Empty for none. */
  configFrom: string;
  options: Record<string, string>;
  labels: Record<string, string>;
  /** Another network of this name is no reason to refuse, only to warn; as clients of old may have it. */
  mayDuplicate?: boolean;
  /** Address pools are looked at only as far as daemons of old did. */
  hasLooseIpam?: boolean;
}

/** Drivers of this engine that keep something in the kernel, and those of which there is one network each. */
const drivers = ['bridge', 'macvlan', 'ipvlan'];
const singles = ['host', 'null'];

/**
 * Checks what a client asks for, in dockerd's order and words; answers the warning that comes with it. Throws 400 for
 * what makes no sense, 403 for what cannot be, 404 for a driver that there is not, 409 for a name that is taken.
 */
export function checkNetworkRequest(
  request: NetworkRequest,
  named: (name: string) => readonly NetworkRecord[],
): string {
  const { name } = request;
  if (isPredefined(name)) throw fail.predefinedNetwork(name);
  if (request.driver === 'overlay') throw fail.noSwarm({ status: 403 });
  // daemons of old looked at names first
  const early = request.hasLooseIpam ? duplicateWarning(request, named) : '';
  const config = request.ipam?.config ?? [];
  const fault = request.hasLooseIpam ? checkSubnets(config) : checkIpam(config, request.isIpv6);
  if (fault !== undefined) throw fault;
  if (name.trim() === '') throw fail.invalidNetworkName(name);
  const warning = request.hasLooseIpam ? early : duplicateWarning(request, named);
  checkCombination(request);
  if (!request.isConfigOnly) checkDriver(request);
  return warning;
}

function duplicateWarning(
  { name, mayDuplicate }: NetworkRequest,
  named: (name: string) => readonly NetworkRecord[],
): string {
  const [other] = named(name);
  if (other === undefined) return '';
  if (!mayDuplicate) throw fail.networkNameTaken(name);
  return `Network with name ${name} (id : ${other.id}) already exists`;
}

// moby: validateConfiguration in libnetwork/network.go
function checkCombination(request: NetworkRequest): void {
  const { isConfigOnly, isIngress, isInternal, isAttachable, scope, configFrom, ipam } = request;
  if (isConfigOnly && (isIngress || isInternal || isAttachable || scope !== ''))
    throw fail.networkRefused(
      'configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.',
    );
  if (configFrom === '') return;
  if (isConfigOnly)
    throw fail.networkRefused('a configuration network cannot depend on another configuration network');
  const hasOwn =
    !['', 'default'].includes(ipam?.driver ?? '') ||
    request.isIpv6 ||
    Object.keys(request.labels).length > 0 ||
    Object.keys(ipam?.options ?? {}).length > 0 ||
    (ipam?.config ?? []).length > 0;
  if (hasOwn)
    throw fail.networkRefused(
      'user specified configurations are not supported if the network depends on a configuration network',
    );
  if (Object.keys(request.options).length > 0)
    throw fail.networkRefused(
      'network driver options are not supported if the network depends on a configuration network',
    );
}

function checkDriver({ driver, isIngress, scope }: NetworkRequest): void {
  const known = driver === '' || drivers.includes(driver) || singles.includes(driver);
  if (!known) throw fail.noPlugin(driver);
  if (isIngress) throw fail.networkRefused('Ingress network can only be global scope network');
  if (scope === 'swarm')
    throw fail.networkRefused('cannot create a swarm scoped network when swarm is not active');
  if (scope !== '' && scope !== 'local') throw fail.networkRefused(`invalid scope for a network: ${scope}`);
}

/** Throws 403 for a driver of which there is one network, 404 for an IPAM driver that there is not. */
export function checkUse({ driver, ipam }: Pick<NetworkRecord, 'driver' | 'ipam'>): void {
  if (singles.includes(driver))
    throw fail.networkRefused(`only one instance of "${driver}" network is allowed`);
  if (ipam.driver !== 'default') throw fail.noPlugin(ipam.driver);
}
