import type { Events } from './events.ts';
import type { ContainerRecord } from './model.ts';

/** Tells of a container what dockerd tells: its labels, image and name, and what belongs to the action. */
export function tellContainer(
  events: Events,
  { id, name, config }: ContainerRecord,
  action: string,
  more: Readonly<Record<string, string>> = {},
): void {
  events.emit('container', action, id, { ...config.labels, image: config.image, name, ...more });
}

/** Tells of each network that a container is on. */
export function tellNetworks(
  events: Events,
  { id, endpoints }: ContainerRecord,
  action: 'connect' | 'disconnect',
): void {
  for (const [name, { networkId }] of Object.entries(endpoints)) {
    const type = name === 'bridge' ? 'bridge' : name === 'host' ? 'host' : 'null';
    events.emit('network', action, networkId || name, { container: id, name, type });
  }
}
