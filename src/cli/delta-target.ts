import type { DeltaHeader } from '../delta/delta-header.ts';
import type { DeltaReader, LayerTar, TarSink } from '../delta/delta-reader.ts';
import { fail } from '../errors.ts';
import { platform as hostPlatform } from '../host/facts.ts';
import { type Digest, digestOf } from '../lib/digest.ts';
import type { Platform } from '../lib/platform.ts';
import type { Reference } from '../lib/reference.ts';
import { type LayerDescriptor, parseManifest, parsePulledConfig } from '../registry/manifest.ts';
import { unpackLayers } from './delta-making.ts';
import { ProgressLine } from './progress-line.ts';
import type { SourceContext, SourceImage } from './source-image.ts';
import type { Terminal } from './terminal.ts';

/** The image that a delta leads to, as its header describes it: digests and texts fit each other. */
export interface DeltaTarget {
  readonly id: Digest;
  readonly config: string;
  readonly platform: Platform;
  /** Lowest first, those included that the base has. */
  readonly layers: readonly LayerDescriptor[];
}

/** What messages call an image that has no name. */
const unnamed: Reference = { domain: 'docker.io', path: 'library/target' };

/** Throws for a header that contradicts itself. */
export function targetOf({ target }: DeltaHeader): DeltaTarget {
  const bytes = Buffer.from(target.manifest);
  if (digestOf(bytes) !== target.manifestDigest)
    throw fail.corrupt('delta: the manifest in it is not what its digest says');
  const manifest = parseManifest(bytes, target.mediaType, unnamed);
  if (manifest.kind === 'index') throw fail.corrupt('delta: it leads to an index');
  const id = digestOf(target.config);
  if (id !== manifest.config.digest)
    throw fail.corrupt('delta: the config in it is not what its digest says');
  const wanted = { ref: unnamed, platform: hostPlatform(), isPlatformStrict: false };
  const pulled = parsePulledConfig(Buffer.from(target.config), manifest, wanted);
  return { id, config: target.config, ...pulled };
}

/**
 * Unpacks the layers of a base that a delta needs: those that it builds on and, with `isWhole`, those that the target
 * shares. Throws for a base that lacks one.
 */
export async function unpackBase(
  base: SourceImage,
  header: DeltaHeader,
  o: { isWhole: boolean; context: SourceContext; stderr: Terminal['stderr'] },
): Promise<LayerTar[]> {
  const ofBase = new Map(base.layers.map((layer) => [layer.diffId, layer]));
  const made = new Set(header.layers.map(({ diffId }) => diffId));
  const shared = targetOf(header).layers.filter(({ diffId }) => !made.has(diffId));
  for (const { diffId } of [...header.base, ...shared]) {
    if (!ofBase.has(diffId))
      throw fail.config(`${base.name} is not the delta's base: it lacks the layer ${diffId}`);
  }
  const needed = new Set([...header.base, ...(o.isWhole ? shared : [])].map(({ diffId }) => diffId));
  const layers = [...ofBase.values()].filter(({ diffId }) => needed.has(diffId));
  const total = layers.reduce((sum, { packedBytes }) => sum + packedBytes, 0);
  using progress = new ProgressLine(o.stderr, 'reading layers', total);
  return await unpackLayers(layers, o.context.workspace, { progress, signal: o.context.signal });
}

/** Makes every layer of a delta, each proven to be what its digest says. `open` gives each one's sink, and is told of its end. */
export async function decodeLayers(
  reader: DeltaReader,
  base: readonly LayerTar[],
  o: {
    open: (layer: DeltaHeader['layers'][number]) => { sink: TarSink; close(): void };
    stderr: Terminal['stderr'];
    signal: AbortSignal;
  },
): Promise<void> {
  const total = reader.header.layers.reduce((sum, { tarBytes }) => sum + tarBytes, 0);
  using progress = new ProgressLine(o.stderr, 'decoding', total);
  for (const layer of reader.header.layers) {
    o.signal.throwIfAborted();
    const { sink, close } = o.open(layer);
    try {
      await reader.layer(layer, base, (bytes) => {
        sink(bytes);
        progress.add(bytes.length);
      });
    } finally {
      close();
    }
  }
  await reader.end();
}
