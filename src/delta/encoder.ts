import { createHash } from 'node:crypto';
import { fail } from '../errors.ts';
import { Semaphore } from '../lib/locks.ts';
import { Base } from './base.ts';
import { BaseIndex } from './base-index.ts';
import { compress } from './brotli.ts';
import {
  type DeltaHeader,
  type DeltaLayer,
  type DeltaOrigin,
  type FrameEntry,
  formatHeader,
  frameHash,
} from './delta-header.ts';
import { type LayerTar, runFrame } from './delta-reader.ts';
import { columnBytes, packFrame } from './frame.ts';
import { FrameWriter } from './frame-writer.ts';
import { PlannedEffort } from './planned-effort.ts';
import { Planner } from './planner.ts';
import { WindowCodec } from './vcdiff.ts';

/** What a delta leads to. */
export type DeltaTarget = DeltaHeader['target'] & { readonly layers: readonly LayerTar[] };

/** Frames that wait to be compressed, when one member does not make more of them. */
const MOST_PACKING = 3;

/**
 * Makes a delta. The same inputs give the same bytes. `quality` is brotli's, 0 to 11: 11 costs a multiple of 9 and
 * saves a tenth; `jobs` is how many columns are compressed at once. `keep` gets each frame in order, and
 * the bytes of tar that it makes; what it kept is to be put behind the header that this resolves to.
 */
export async function encodeDelta(o: {
  base: readonly LayerTar[];
  target: DeltaTarget;
  /** For a delta that is to travel as a file. */
  from?: DeltaOrigin | undefined;
  quality: number;
  jobs: number;
  keep: (frame: Buffer, outputBytes: number) => Promise<void> | void;
  /** What a frame may cost who reads it; that of the format unless a test says otherwise. */
  mostEffortBytes?: number | undefined;
  signal: AbortSignal;
}): Promise<Buffer> {
  const { layers: targets, ...target } = o.target;
  const present = new Set(o.base.map(({ diffId }) => diffId));
  const missing = [...new Map(targets.map((layer) => [layer.diffId, layer])).values()];
  const base = new Base(o.base);
  const index = new BaseIndex(base, o.base);
  const windows = await WindowCodec.open();
  // brotli takes some 50 MB for a column at its best quality: `jobs` bounds memory as well as processors
  const jobs = new Semaphore(o.jobs);
  const pack = async (bytes: Buffer) => {
    await using _job = await jobs.hold({ signal: o.signal });
    return await compress(bytes, o.quality);
  };
  const layers: DeltaLayer[] = [];
  for (const layer of missing) {
    if (present.has(layer.diffId)) continue;
    const frames: FrameEntry[] = [];
    const hash = createHash('sha256');
    for await (const { packed, outputBytes } of framesOf(layer, { ...o, base, index, windows, pack })) {
      // what a device would make of it, made here: nobody gets a delta that does not lead to its target
      const sink = (bytes: Buffer) => void hash.update(bytes);
      runFrame(packed, outputBytes, { source: base, windows, sink, mostEffortBytes: o.mostEffortBytes });
      await o.keep(packed, outputBytes);
      frames.push([packed.length, outputBytes, frameHash(packed)]);
    }
    if (`sha256:${hash.digest('hex')}` !== layer.diffId)
      throw fail.corrupt(`delta: layer ${layer.diffId} is not what its digest says`);
    layers.push({ diffId: layer.diffId, tarBytes: layer.tarBytes, frames });
  }
  const baseLayers = o.base.map(({ diffId, tarBytes }) => ({ diffId, tarBytes }));
  return formatHeader({ ...(o.from && { from: o.from }), base: baseLayers, target, layers });
}

async function* framesOf(
  target: LayerTar,
  o: {
    base: Base;
    index: BaseIndex;
    windows: WindowCodec;
    pack: (bytes: Buffer) => Promise<Buffer>;
    mostEffortBytes?: number | undefined;
    signal: AbortSignal;
  },
): AsyncGenerator<{ packed: Buffer; outputBytes: number }> {
  const packing: Promise<{ packed: Buffer; outputBytes: number }>[] = [];
  const writer = new FrameWriter(({ columns, outputBytes }) => {
    const packed = packFrame(columnBytes(columns), o.pack).then((bytes) => ({
      packed: bytes,
      outputBytes,
    }));
    packed.catch(() => {}); // told where it is awaited, which may be later
    packing.push(packed);
  }, new PlannedEffort(o.mostEffortBytes));
  const { base, index, windows } = o;
  for (const _ of new Planner({ base, index, target, writer, windows }).run()) {
    o.signal.throwIfAborted();
    while (packing.length >= MOST_PACKING) yield await (packing.shift() as (typeof packing)[0]);
  }
  while (packing.length > 0) yield await (packing.shift() as (typeof packing)[0]);
}
