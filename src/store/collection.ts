import type { ImageRecord, LayerRecord, LeaseRecord, RefRecord } from './records.ts';

/**
 * Everything that can keep a layer, and everything that may be garbage. Read the tables in the order layers, leases,
 * images, containers: a hold is only ever handed on rightwards, so none is missed in between. Take no lease on a
 * layer that is already here between this look and the sweep.
 */
export interface Inventory<Layer extends Pick<LayerRecord, 'diffId'> = LayerRecord> {
  images: Iterable<Pick<ImageRecord, 'id' | 'diffIds'>>;
  /** By name. */
  refs: Iterable<readonly [string, Pick<RefRecord, 'imageId'>]>;
  containers: Iterable<{ readonly diffIds: readonly string[] }>;
  layers: Iterable<Layer>;
  leases: Iterable<LeaseRecord>;
  /**
   * Leases whose work goes on in this very process. They live whatever the clock says: a board without a battery
   * starts in 1970 and jumps half a century when it finds its time server, in the middle of its first pull.
   */
  heldLeases: ReadonlySet<string>;
  nowMs: number;
}

/** What nothing named any more when {@link collect} looked. */
export interface Garbage<Layer extends Pick<LayerRecord, 'diffId'> = LayerRecord> {
  layers: Layer[];
  leases: LeaseRecord[];
  /** Names of images that are gone, as a lost record leaves them. */
  refs: string[];
  /** When the next lease will have expired, in ms since 1970; infinite if there is none. */
  nextExpiryMs: number;
}

/**
 * Mark and sweep. Layers are kept by images, containers and living leases; leases until they expire. Images are never
 * garbage: only a user's wish removes them.
 */
export function collect<Layer extends Pick<LayerRecord, 'diffId'>>(
  inventory: Inventory<Layer>,
): Garbage<Layer> {
  const images = new Set<string>();
  const marked = new Set<string>();
  const mark = (diffIds: readonly string[]) => {
    for (const diffId of diffIds) marked.add(diffId);
  };
  for (const image of inventory.images) {
    images.add(image.id);
    mark(image.diffIds);
  }
  for (const container of inventory.containers) mark(container.diffIds);

  const expired: LeaseRecord[] = [];
  let nextExpiryMs = Number.POSITIVE_INFINITY;
  for (const lease of inventory.leases) {
    const expiresMs = Date.parse(lease.expiresAt);
    const isAhead = expiresMs > inventory.nowMs; // false for an unreadable time, which would otherwise live for ever
    if (isAhead) nextExpiryMs = Math.min(nextExpiryMs, expiresMs);
    if (isAhead || inventory.heldLeases.has(lease.id)) mark(lease.diffIds);
    else expired.push(lease);
  }
  return {
    nextExpiryMs,
    layers: [...inventory.layers].filter(({ diffId }) => !marked.has(diffId)),
    leases: expired,
    refs: [...inventory.refs].filter(([, { imageId }]) => !images.has(imageId)).map(([name]) => name),
  };
}
