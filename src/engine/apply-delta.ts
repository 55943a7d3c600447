import type { DeltaLayer } from '../delta/delta-header.ts';
import { checkMade, DeltaReader } from '../delta/delta-reader.ts';
import { Failure, fail } from '../errors.ts';
import { countedInput, Housekeeping, runJob } from '../layers/child-job.ts';
import type { DeltaGoal, DeltaJob, LayerPlace, MadeLayers } from '../layers/delta-job.ts';
import { type ExtractedLayer, Extraction } from '../layers/extraction.ts';
import { digestOf } from '../lib/digest.ts';
import { type BaseTar, blamed, openBase } from './base-tars.ts';

/**
 * The program that makes layers of a delta, which comes on stdin, and of layers that are here. It stands between
 * the delta's codec and the layers, which know nothing of each other. No tar is ever whole, on disk or in memory.
 */
async function applyDelta(job: DeltaJob): Promise<MadeLayers> {
  process.umask(0);
  const housekeeping = new Housekeeping();
  const input = countedInput(process.stdin);
  const delta = await DeltaReader.open(input);
  checkGoal(delta, job.goal);
  checkSize(delta, job);
  const base = baseOf(delta, job.base);
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
    await input.return(undefined); // tells how much of it was read
    for (const { tar } of base) tar[Symbol.dispose]();
  }
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
function baseOf({ header }: DeltaReader, places: readonly LayerPlace[]): BaseTar[] {
  const wanted = new Set(header.base.map(({ diffId }) => diffId));
  return openBase(places.filter(({ diffId }) => wanted.has(diffId)));
}

async function makeLayer(
  delta: DeltaReader,
  layer: DeltaLayer,
  o: { base: readonly BaseTar[]; place: LayerPlace; housekeeping: Housekeeping },
): Promise<ExtractedLayer> {
  using extraction = Extraction.open({ directory: o.place.directory, maxBytes: layer.tarBytes });
  // hashed once, by the extraction
  await delta.unprovenLayer(layer, o.base, (bytes) => {
    extraction.push(bytes);
    o.housekeeping.after(bytes.length);
  });
  const made = extraction.finish();
  checkMade(layer, made.diffId);
  return made;
}

void runJob(applyDelta);
