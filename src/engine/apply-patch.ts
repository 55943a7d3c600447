import { Base } from '../delta/base.ts';
import { applyPatch } from '../delta/librsync-patch.ts';
import { Failure, fail } from '../errors.ts';
import { countedInput, Housekeeping, runJob } from '../layers/child-job.ts';
import { decompressInto } from '../layers/decompression.ts';
import type { PatchJob } from '../layers/delta-job.ts';
import { type ExtractedLayer, Extraction } from '../layers/extraction.ts';
import type { TarEntry } from '../lib/tar.ts';
import { readTar } from '../lib/tar-reader.ts';
import { blamed, openBase } from './base-tars.ts';

/**
 * The program that makes one layer of a delta of the balena kind, a tar that comes on stdin and holds one file `delta`:
 * a patch of librsync's for the tars of the base's layers, one behind the other. The layer is proven to be the one that
 * is wanted. Nothing of it is ever whole, on disk or in memory.
 */
async function patchLayer(job: PatchJob): Promise<ExtractedLayer> {
  process.umask(0);
  const housekeeping = new Housekeeping();
  const base = openBase(job.base);
  const { directory, maxBytes } = job;
  using extraction = Extraction.open({ directory, ...(maxBytes !== undefined && { maxBytes }) });
  const take = (bytes: Buffer) => {
    extraction.push(bytes);
    housekeeping.after(bytes.length);
  };
  try {
    await decompressInto(countedInput(process.stdin), job.compression, (pieces) =>
      patch(pieces, new Base(base), take),
    );
    const layer = extraction.finish();
    if (layer.diffId !== job.diffId)
      throw fail.corrupt(`delta: it makes layer ${layer.diffId}, not ${job.diffId}`);
    return layer;
  } catch (cause) {
    throw cause instanceof Failure ? blamed(cause, base, housekeeping) : cause;
  } finally {
    for (const { tar } of base) tar[Symbol.dispose]();
  }
}

async function patch(
  pieces: AsyncIterable<Buffer>,
  base: Base,
  take: (bytes: Buffer) => void,
): Promise<void> {
  let isDone = false;
  for await (const { entry, content } of readTar(pieces)) {
    if (isDone || !isDelta(entry)) throw fail.corrupt('delta: its layer holds more than one file "delta"');
    // what is too much, the extraction tells
    for await (const bytes of applyPatch(content, base, { maxBytes: Number.MAX_SAFE_INTEGER })) take(bytes);
    isDone = true;
  }
  if (!isDone) throw fail.corrupt('delta: it holds nothing for a layer that its base does not have');
}

function isDelta({ type, name }: TarEntry): boolean {
  return type === 'file' && /^(?:\.\/)?delta$/.test(name);
}

void runJob(patchLayer);
