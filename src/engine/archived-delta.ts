import { checkLayerCount, type DeltaImage } from '../lib/delta-image.ts';
import type { Digest } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import type { Platform } from '../lib/platform.ts';
import { nowText } from '../lib/time.ts';
import type { ImageRecord } from '../store/records.ts';
import type { ArchiveIntake } from './archive-intake.ts';
import { type ArchivedImage, type LoadedImage, readConfig } from './archived-image.ts';
import { noteDamage } from './base-damage.ts';
import { type BaseImage, type Bases, ownLayers, tarIn } from './bases.ts';
import type { Images } from './images.ts';
import type { LayerShelf } from './layer-shelf.ts';

interface Parts {
  images: Pick<Images, 'byId'>;
  shelf: Pick<LayerShelf, 'get' | 'noteVerdict' | 'pin'>;
  bases: Pick<Bases, 'get'>;
  host: Platform;
  log: Log;
}

/** The image that an archived delta image leads to, once each of its layers is here or made. */
export async function completeDelta(
  parts: Parts,
  intake: ArchiveIntake,
  archived: ArchivedImage,
  delta: DeltaImage,
): Promise<LoadedImage> {
  checkLayerCount(delta, archived.layers.length);
  const { platform } = readConfig(Buffer.from(delta.config), parts.host);
  await using pin = parts.shelf.pin();
  let base: BaseImage | undefined;
  for (const [at, diffId] of delta.diffIds.entries()) {
    if (await intake.keep(diffId)) continue;
    base ??= await parts.bases.get(delta.baseId, pin);
    await bring(parts, intake, base, { diffId, path: archived.layers[at]?.path ?? '' });
  }
  return { record: await recordOf(parts, delta, platform), names: archived.names };
}

async function bring(
  { shelf, log }: Parts,
  intake: ArchiveIntake,
  { layers }: BaseImage,
  { diffId, path }: { diffId: Digest; path: string },
): Promise<void> {
  const copied = layers.find((layer) => layer.diffId === diffId);
  if (copied !== undefined && 'directory' in copied) return intake.copy(diffId, tarIn(copied.directory));
  await intake.patch(path, diffId, layers).catch(async (cause: unknown) => {
    await noteDamage(cause, ownLayers(layers), { shelf, log });
    throw cause;
  });
}

async function recordOf(
  { images, shelf }: Parts,
  { targetId, config, diffIds }: DeltaImage,
  platform: Platform,
): Promise<ImageRecord> {
  const known = await images.byId(targetId);
  if (known !== undefined) return known;
  let sizeBytes = 0;
  for (const diffId of diffIds) sizeBytes += (await shelf.get(diffId))?.sizeBytes ?? 0;
  return { id: targetId, config, diffIds: [...diffIds], sizeBytes, pulledAt: nowText(), platform };
}
