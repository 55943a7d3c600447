import type { Digest } from '../lib/digest.ts';
import { parseImageConfig } from '../lib/image-config.ts';
import type { ImageRecord, LayerRecord } from '../store/records.ts';
import { viewOf } from './image-view.ts';

/** A step of an image's making. */
export interface HistoryEntry {
  /** The image that ended with this step, if it is here. */
  id?: string;
  created?: string;
  createdBy: string;
  tags: readonly string[];
  sizeBytes: number;
  comment: string;
}

/**
 * How an image was made, the last step first. Layers are counted for the steps that made any. The last steps are those
 * of the image and of the images that it was made on here, as far as these are here.
 */
export async function historyOf(
  record: ImageRecord,
  here: {
    image(id: Digest): Promise<ImageRecord | undefined>;
    layer(diffId: Digest): Promise<LayerRecord | undefined>;
    /** Canonical names by image ID. */
    names: ReadonlyMap<string, readonly string[]>;
  },
): Promise<HistoryEntry[]> {
  const diffIds = [...record.diffIds];
  const steps: HistoryEntry[] = [];
  for (const step of parseImageConfig(record.config).history ?? []) {
    const diffId = step.empty_layer ? undefined : diffIds.shift();
    const layer = diffId === undefined ? undefined : await here.layer(diffId);
    steps.unshift({
      ...(step.created && { created: step.created }),
      createdBy: step.created_by ?? '',
      tags: [],
      sizeBytes: layer?.sizeBytes ?? 0,
      comment: step.comment ?? '',
    });
  }
  let image: ImageRecord | undefined = record;
  for (const step of steps) {
    if (image === undefined) break;
    step.id = image.id;
    step.tags = viewOf(image, here.names.get(image.id) ?? []).repoTags;
    image = image.parent && (await here.image(image.parent));
  }
  return steps;
}
