import type { Digest } from '../lib/digest.ts';
import { parseImageConfig } from '../lib/image-config.ts';
import { normalize, type Platform } from '../lib/platform.ts';
import type { Reference } from '../lib/reference.ts';
import { nowText } from '../lib/time.ts';
import type { LayerDescriptor, Registry, RegistryAuth } from '../registry/registry.ts';
import type { ImageRecord } from '../store/records.ts';
import type { LayerSource } from './layer-fetches.ts';
import type { LayerShelf } from './layer-shelf.ts';
import type { LayerReport } from './pull-report.ts';
import type { Space } from './space.ts';

/** What every pull does, whatever its layers are: where their bytes come from, and what becomes of the image. */

/** The blob that a layer comes in, or is made of. */
export function blobSource(
  { registry, space }: { registry: Pick<Registry, 'blob'>; space: Pick<Space, 'limitFor'> },
  { ref, auth }: { ref: Reference; auth?: RegistryAuth | undefined },
  blob: LayerDescriptor,
  report: Pick<LayerReport, 'retrying'>,
): Omit<LayerSource, 'diffId'> {
  return {
    blob: blob.digest,
    compression: blob.compression,
    sizeBytes: blob.size,
    maxBytes: () => space.limitFor(blob.size),
    open: (signal, kept) =>
      registry.blob(ref, blob, {
        ...(auth && { auth }),
        ...(kept && { kept }),
        signal,
        onRetry: (_attempt, secondsLeft) => report.retrying(secondsLeft),
      }),
  };
}

/** The record of an image whose layers have just come, as far as its config tells it. */
export async function pulledImage(
  id: Digest,
  { config, diffIds }: Pick<ImageRecord, 'config' | 'diffIds'>,
  { shelf, host }: { shelf: Pick<LayerShelf, 'get'>; host: Platform },
): Promise<ImageRecord> {
  const { os, architecture, variant } = parseImageConfig(config);
  let sizeBytes = 0;
  for (const diffId of diffIds) sizeBytes += (await shelf.get(diffId))?.sizeBytes ?? 0;
  return {
    id,
    config,
    diffIds: [...diffIds],
    sizeBytes,
    pulledAt: nowText(),
    platform: normalize({
      os: os || 'linux',
      architecture: architecture || host.architecture,
      ...(variant && { variant }),
    }),
  };
}
