import type { Events } from './events.ts';
import type { ContainerRecord } from './model.ts';
import type { NetworkRecord, NetworkRecords } from './network-records.ts';

/** Tells of a network what dockerd tells: its name and type, and what belongs to the action. */
export function tellNetwork(
  events: Events,
  { id, name, driver }: Pick<NetworkRecord, 'id' | 'name' | 'driver'>,
  action: 'create' | 'connect' | 'disconnect' | 'destroy',
  more: Readonly<Record<string, string>> = {},
): void {
  events.emit('network', action, id, { ...more, name, type: driver });
}

/** Tells of each network that a container has come to, or left with its end. */
export function tellNetworks(
  events: Events,
  networks: Pick<NetworkRecords, 'get'>,
  { id, endpoints }: ContainerRecord,
  action: 'connect' | 'disconnect',
): void {
  for (const { networkId } of Object.values(endpoints)) {
    const network = networks.get(networkId);
    if (network !== undefined) tellNetwork(events, network, action, { container: id });
  }
}
