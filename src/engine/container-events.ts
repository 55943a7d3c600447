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
