import { Failure } from '../errors.ts';
import type { Log } from '../lib/log.ts';
import type { LayerRecord } from '../store/records.ts';
import type { LayerShelf } from './layer-shelf.ts';

/** Work on layers failed: if one of those that it built on is to blame, its record says so from now on. */
export async function noteDamage(
  failure: unknown,
  base: readonly Pick<LayerRecord, 'diffId' | 'dirId'>[],
  { shelf, log }: { shelf: Pick<LayerShelf, 'noteVerdict'>; log: Log },
): Promise<void> {
  if (!(failure instanceof Failure) || failure.code !== 'BASE_DAMAGED') return;
  const { layer, damage } = failure.facts;
  const record = base.find(({ diffId }) => diffId === layer);
  if (record === undefined || damage === undefined) return;
  if (await shelf.noteVerdict(record, damage)) log.error({ layer, damage }, 'a layer is damaged');
}
