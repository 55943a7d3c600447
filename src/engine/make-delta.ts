import { createHash } from 'node:crypto';
import { ftruncateSync, readSync, writeSync } from 'node:fs';
import { Base } from '../delta/base.ts';
import { BlockIndex } from '../delta/block-index.ts';
import { LibrsyncWriter } from '../delta/librsync-writer.ts';
import { fail } from '../errors.ts';
import { Housekeeping, runJob } from '../layers/child-job.ts';
import type { LayerPlace } from '../layers/delta-job.ts';
import { type DeltaMakingJob, type DeltaStep, writeAll, writeStep } from '../layers/delta-steps.ts';
import { TarSplit } from '../layers/tar-split.ts';
import type { Digest } from '../lib/digest.ts';
import { openBase } from './base-tars.ts';

/** An empty file without a name, for one delta at a time. */
const SPOOL = 0;
const PIECE_BYTES = 256 << 10;
const PROGRESS_MS = 100;

/**
 * The program that makes librsync deltas between layers that are here. Like apply-delta it stands between the codec and
 * the layers. Of the base it holds an index, of the rest some hundred kilobytes.
 */
async function makeDelta(job: DeltaMakingJob): Promise<true> {
  const housekeeping = new Housekeeping();
  const tars = openBase(job.base);
  try {
    const base = new Base(tars);
    const index = new BlockIndex(base.bytes);
    const reading = new Steps('read');
    for (const { diffId, tar } of tars)
      readWhole(tar, diffId, (bytes) => {
        index.push(bytes);
        reading.add(bytes.length);
        housekeeping.after(bytes.length);
      });
    reading.tell();
    for (const target of job.targets) makeOne(target, { base, index, housekeeping });
    return true;
  } finally {
    for (const { tar } of tars) tar[Symbol.dispose]();
  }
}

function makeOne(
  place: LayerPlace,
  { base, index, housekeeping }: { base: Base; index: BlockIndex; housekeeping: Housekeeping },
): void {
  using tar = TarSplit.open(place.directory);
  const computing = new Steps('computed');
  const spool = new Spool();
  const writer = new LibrsyncWriter({ base, index, sink: (bytes) => spool.add(bytes) });
  readWhole(tar, place.diffId, (bytes) => {
    writer.push(bytes);
    computing.add(bytes.length);
    housekeeping.after(bytes.length);
  });
  writer.end();
  computing.tell();
  spool.send();
}

/** The whole tar in order, proven at its end to be the layer's. Its bytes are lent for the length of the call. */
function readWhole(tar: TarSplit, diffId: Digest, take: (bytes: Buffer) => void): void {
  const hash = createHash('sha256');
  const room = Buffer.allocUnsafeSlow(PIECE_BYTES);
  for (let at = 0; at < tar.tarBytes; at += PIECE_BYTES) {
    const bytes = tar.read(at, PIECE_BYTES, room);
    hash.update(bytes);
    take(bytes);
  }
  if (`sha256:${hash.digest('hex')}` !== diffId)
    throw fail.corrupt(`layer ${diffId} is damaged on disk: pull the image again`);
}

/** Tells how far the work is, at most ten times a second. */
class Steps {
  readonly #kind: 'read' | 'computed';
  #bytes = 0;
  #toldAt = Date.now();

  constructor(kind: Exclude<DeltaStep['kind'], 'delta'>) {
    this.#kind = kind;
  }

  add(bytes: number): void {
    this.#bytes += bytes;
    if (Date.now() - this.#toldAt >= PROGRESS_MS) this.tell();
  }

  tell(): void {
    this.#toldAt = Date.now();
    writeStep(this.#kind, this.#bytes);
  }
}

/** A delta on its way: its size is known at its end, and wanted before it. */
class Spool {
  readonly #piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
  #used = 0;
  #kept = 0;

  add(bytes: Buffer): void {
    for (let done = 0; done < bytes.length; ) {
      const taken = bytes.copy(this.#piece, this.#used, done);
      done += taken;
      this.#used += taken;
      if (this.#used === this.#piece.length) this.#keep();
    }
  }

  send(): void {
    writeStep('delta', this.#kept + this.#used);
    const rest = Buffer.from(this.#piece.subarray(0, this.#used));
    for (let at = 0; at < this.#kept; ) {
      const bytes = readSync(SPOOL, this.#piece, 0, Math.min(PIECE_BYTES, this.#kept - at), at);
      if (bytes === 0) throw new Error('the spool of a delta is cut');
      writeAll(this.#piece.subarray(0, bytes));
      at += bytes;
    }
    writeAll(rest);
    ftruncateSync(SPOOL, 0);
  }

  #keep(): void {
    for (let done = 0; done < this.#used; )
      done += writeSync(SPOOL, this.#piece, done, this.#used - done, this.#kept + done);
    this.#kept += this.#used;
    this.#used = 0;
  }
}

void runJob(makeDelta);
