import type { Digest } from '../lib/digest.ts';
import type { LeaseRecord } from '../store/records.ts';
import type { LayerPin } from './layer-pins.ts';
import type { LayerShelf } from './layer-shelf.ts';

/**
 * Leases what a pull is about to bring, and what an earlier one has left for it. A layer that an image here has, whole, is
 * kept by that and by the pin: so a pull that fails does not keep it from a prune until the lease's term.
 */
export async function leaseForPull(
  shelf: Pick<LayerShelf, 'isSound' | 'keep' | 'lease' | 'named'>,
  diffIds: readonly Digest[],
  { pin, why }: { pin: LayerPin; why: string },
): Promise<LeaseRecord> {
  const here = new Set<Digest>();
  for (const diffId of diffIds)
    if ((await shelf.keep(diffId, pin)) !== undefined && shelf.isSound([diffId])) here.add(diffId);
  // looked at after they were pinned: an image that goes from here on takes none of them along
  const named = await shelf.named();
  const wanted = new Set(diffIds.filter((diffId) => !here.has(diffId) || !named.has(diffId)));
  return shelf.lease([...wanted], why);
}
