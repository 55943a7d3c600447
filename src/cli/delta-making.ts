import { createReadStream, createWriteStream } from 'node:fs';
import { open, rm, writeFile } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import type { DeltaOrigin } from '../delta/delta-header.ts';
import type { LayerTar } from '../delta/delta-reader.ts';
import { encodeDelta } from '../delta/encoder.ts';
import { fail } from '../errors.ts';
import { Semaphore } from '../lib/locks.ts';
import { canonicalString, type Reference } from '../lib/reference.ts';
import type { ProgressLine } from './progress-line.ts';
import type { SourceImage } from './source-image.ts';
import type { SourceLayer, Workspace } from './workspace.ts';

/** Downloads at once. */
const MOST_FETCHES = 3;
/** As many as the format has room for. */
const MOST_NAMES = 64;

/** What is to be made of which layers. */
export interface DeltaPlan {
  readonly base: SourceImage;
  readonly target: SourceImage;
  /** What the target has and the base lacks. */
  readonly missing: readonly SourceLayer[];
  /** What the delta builds on. */
  readonly sources: readonly SourceLayer[];
  readonly sharedCount: number;
  /** Packed bytes of what is missing: what a pull without a delta fetches. */
  readonly fullBytes: number;
}

/** What a delta that travels as a file tells whoever loads it. */
export interface DeltaNames {
  readonly from: DeltaOrigin;
  /** Of the image that comes of it. */
  readonly tags: readonly string[];
}

/**
 * What a delta's file says besides digests: the image that it was made from, and the names of the target or, with
 * `tag`, this one. Nothing of it goes into a delta that is pushed, whose bytes follow from the layers alone.
 */
export function namesFor({ base, target }: Pick<DeltaPlan, 'base' | 'target'>, tag?: Reference): DeltaNames {
  const texts = (refs: readonly Reference[]) =>
    [...new Set(refs.map(canonicalString))].sort().slice(0, MOST_NAMES);
  return {
    from: { id: base.id, tags: texts(base.tags) },
    tags: texts(tag === undefined ? target.tags : [tag]),
  };
}

/**
 * Which layers a delta is about. Those that both images have are left alone, and not even fetched; unless the base has
 * no others, as with an image that only adds to it: then what it adds may still be like what it has.
 */
export function planDelta(base: SourceImage, target: SourceImage): DeltaPlan {
  const ofBase = byDiffId(base.layers);
  const ofTarget = byDiffId(target.layers);
  const missing = [...ofTarget.values()].filter(({ diffId }) => !ofBase.has(diffId));
  const own = [...ofBase.values()].filter(({ diffId }) => !ofTarget.has(diffId));
  return {
    base,
    target,
    missing,
    sources: own.length > 0 ? own : [...ofBase.values()],
    sharedCount: ofTarget.size - missing.length,
    fullBytes: missing.reduce((sum, { packedBytes }) => sum + packedBytes, 0),
  };
}

/** Fetches the layers that a delta is about. */
export async function unpackLayers(
  layers: readonly SourceLayer[],
  workspace: Workspace,
  o: { progress: ProgressLine; signal: AbortSignal },
): Promise<LayerTar[]> {
  const fetches = new Semaphore(MOST_FETCHES);
  const failed = new AbortController();
  const signal = AbortSignal.any([o.signal, failed.signal]);
  return Promise.all(
    layers.map(async (layer) => {
      await using _fetch = await fetches.hold({ signal });
      const tar = await workspace.tar(counted(layer, o.progress), { signal }).catch((cause: unknown) => {
        failed.abort(cause); // the others would go on with nobody to take what they bring
        throw cause;
      });
      return tar;
    }),
  );
}

/** Makes the delta's file in the workspace. */
export async function makeDelta(
  { target }: DeltaPlan,
  tars: { readonly sources: readonly LayerTar[]; readonly missing: readonly LayerTar[] },
  o: {
    names?: DeltaNames | undefined;
    workspace: Workspace;
    quality: number;
    jobs: number;
    progress: ProgressLine;
    signal: AbortSignal;
  },
): Promise<{ path: string; bytes: number }> {
  const [framesPath, path] = [o.workspace.newPath(), o.workspace.newPath()];
  const frames = await open(framesPath, 'wx', 0o600);
  let bytes = 0;
  try {
    const header = await encodeDelta({
      ...o,
      from: o.names?.from,
      base: tars.sources,
      target: {
        ...(o.names && { tags: o.names.tags }),
        manifestDigest: target.manifest.digest,
        mediaType: target.manifest.mediaType,
        manifest: exactText(target.manifest.bytes),
        config: exactText(target.config),
        layers: tars.missing,
      },
      keep: async (frame, outputBytes) => {
        await frames.writeFile(frame);
        bytes += frame.length;
        o.progress.add(outputBytes);
      },
    });
    await writeFile(path, header);
    bytes += header.length;
  } finally {
    await frames.close();
  }
  await pipeline(createReadStream(framesPath), createWriteStream(path, { flags: 'a' }), { signal: o.signal });
  await rm(framesPath);
  return { path, bytes };
}

/** A delta holds manifest and config as texts; their digests are those of the bytes. */
function exactText(bytes: Buffer): string {
  const text = bytes.toString();
  if (!Buffer.from(text).equals(bytes)) throw fail.corrupt('a manifest or config is not UTF-8');
  return text;
}

function byDiffId(layers: readonly SourceLayer[]): Map<string, SourceLayer> {
  return new Map(layers.map((layer) => [layer.diffId, layer]));
}

function counted(layer: SourceLayer, progress: ProgressLine): SourceLayer {
  return {
    ...layer,
    open: async function* (o) {
      for await (const piece of layer.open(o)) {
        progress.add(piece.length);
        yield piece;
      }
    },
  };
}
