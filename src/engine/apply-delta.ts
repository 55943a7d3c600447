import { createHash } from 'node:crypto';
import type { DeltaLayer } from '../delta/delta-header.ts';
import { DeltaReader, type LayerTar } from '../delta/delta-reader.ts';
import { Failure, fail, messageOf } from '../errors.ts';
import { countedInput, Housekeeping, runJob } from '../layers/child-job.ts';
import type { DeltaGoal, DeltaJob, LayerPlace, MadeLayers } from '../layers/delta-job.ts';
import { type ExtractedLayer, Extraction } from '../layers/extraction.ts';
import { TarSplit } from '../layers/tar-split.ts';
import { digestOf } from '../lib/digest.ts';

/** Of a base that is read to find out whether it is what it was. */
const CHECKED_BYTES = 256 << 10;

/** What is kept of the base outlives the small collection: the large one, some milliseconds here, is due every so many bytes. */
const LONG_LIVED_BYTES = 6 << 20;

/**
 * The program that makes layers of a delta, which comes on stdin, and of layers that are here. It stands between
 * the delta's codec and the layers, which know nothing of each other. No tar is ever whole, on disk or in memory.
 */
async function applyDelta(job: DeltaJob): Promise<MadeLayers> {
  process.umask(0);
  const housekeeping = new Housekeeping();
  const delta = await DeltaReader.open(countedInput(process.stdin));
  checkGoal(delta, job.goal);
  checkSize(delta, job);
  const base = openBase(delta, job.base);
  const layers: ExtractedLayer[] = [];
  try {
    for (const layer of delta.header.layers) {
      const place = job.layers.find(({ diffId }) => diffId === layer.diffId);
      if (place === undefined) await delta.skip(layer);
      else layers.push(await makeLayer(delta, layer, { base, place, housekeeping }));
    }
    await delta.end();
    return { layers };
  } catch (cause) {
    if (!(cause instanceof Failure)) throw cause;
    const { code, message, facts } = blamed(cause, base, housekeeping);
    return { layers, failure: { code, message, facts } };
  } finally {
    for (const { tar } of base) tar[Symbol.dispose]();
  }
}

interface BaseTar extends LayerTar {
  readonly tar: TarSplit;
}

/** A delta that leads elsewhere, be it by mistake or by malice, is refused before anything is made of it. */
function checkGoal({ header }: DeltaReader, goal: DeltaGoal): void {
  const { manifestDigest, manifest, config } = header.target;
  if (manifestDigest !== goal.manifestDigest)
    throw fail.corrupt(`delta: it leads to ${manifestDigest}, not to ${goal.manifestDigest}`);
  if (digestOf(Buffer.from(manifest)) !== goal.manifestDigest)
    throw fail.corrupt('delta: its manifest is not the one that it names');
  const imageId = digestOf(Buffer.from(config));
  if (imageId !== goal.imageId)
    throw fail.corrupt(`delta: it leads to image ${imageId}, not to ${goal.imageId}`);
}

function checkSize({ header }: DeltaReader, { layers, maxBytes = Number.MAX_SAFE_INTEGER }: DeltaJob): void {
  const wanted = new Set(layers.map(({ diffId }) => diffId));
  let total = 0;
  for (const { diffId, tarBytes } of header.layers) if (wanted.has(diffId)) total += tarBytes;
  if (total > maxBytes) throw fail.layerTooLarge(maxBytes);
}

/** The layers that the delta builds on; one that is not here is for the reader to miss. */
function openBase({ header }: DeltaReader, places: readonly LayerPlace[]): BaseTar[] {
  let readBytes = 0;
  const wanted = new Set(header.base.map(({ diffId }) => diffId));
  return places
    .filter(({ diffId }) => wanted.has(diffId))
    .map(({ diffId, directory }) => {
      try {
        const tar = TarSplit.open(directory);
        const read = (offset: number, length: number) => {
          readBytes += length;
          if (readBytes >= LONG_LIVED_BYTES) {
            readBytes = 0;
            globalThis.gc?.();
          }
          return tar.read(offset, length);
        };
        return { diffId, tarBytes: tar.tarBytes, read, tar };
      } catch (cause) {
        throw fail.baseDamaged(diffId, messageOf(cause), cause);
      }
    });
}

async function makeLayer(
  delta: DeltaReader,
  layer: DeltaLayer,
  o: { base: readonly BaseTar[]; place: LayerPlace; housekeeping: Housekeeping },
): Promise<ExtractedLayer> {
  using extraction = Extraction.open({ directory: o.place.directory, maxBytes: layer.tarBytes });
  await delta.layer(layer, o.base, (bytes) => {
    extraction.push(bytes);
    o.housekeeping.after(bytes.length);
  });
  return extraction.finish();
}

/** Whether it was the base: the frames carry hashes of their own, what was read of the base does not. */
function blamed(cause: Failure, base: readonly BaseTar[], housekeeping: Housekeeping): Failure {
  if (cause.code !== 'CORRUPT') return cause;
  for (const { diffId, tarBytes, tar } of base) {
    try {
      const hash = createHash('sha256');
      for (let at = 0; at < tarBytes; at += CHECKED_BYTES) {
        const bytes = tar.read(at, CHECKED_BYTES);
        hash.update(bytes);
        housekeeping.after(bytes.length);
      }
      if (`sha256:${hash.digest('hex')}` !== diffId) return fail.baseDamaged(diffId, messageOf(cause), cause);
    } catch (damage) {
      return fail.baseDamaged(diffId, messageOf(damage), damage);
    }
  }
  return cause;
}

void runJob(applyDelta);
