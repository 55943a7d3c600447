import type { LayerRecord } from '../store/records.ts';
import type { Table } from '../store/tables.ts';
import type { ImageView } from './image-view.ts';

/** By image ID, the bytes of its layers that another of these images has, too. */
export async function sharedBytes(
  images: readonly ImageView[],
  layers: Table<LayerRecord>,
): Promise<Map<string, number>> {
  const users = new Map<string, number>();
  for (const { record } of images) {
    for (const diffId of new Set(record.diffIds)) users.set(diffId, (users.get(diffId) ?? 0) + 1);
  }
  const sizes = new Map<string, number>();
  for await (const [diffId, { sizeBytes }] of layers.entries()) sizes.set(diffId, sizeBytes);
  return new Map(
    images.map(({ record }) => [
      record.id,
      record.diffIds
        .filter((diffId) => (users.get(diffId) ?? 0) > 1)
        .reduce((sum, diffId) => sum + (sizes.get(diffId) ?? 0), 0),
    ]),
  );
}
