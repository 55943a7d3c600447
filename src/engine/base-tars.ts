import { createHash } from 'node:crypto';
import type { TarBytes } from '../delta/base.ts';
import { Failure, fail, messageOf } from '../errors.ts';
import type { Housekeeping } from '../layers/child-job.ts';
import type { LayerPlace } from '../layers/delta-job.ts';
import { TarSplit } from '../layers/tar-split.ts';
import type { Digest } from '../lib/digest.ts';

/** Of a base that is read to find out whether it is what it was. */
const CHECKED_BYTES = 256 << 10;

/** Buffers that are kept for a while outlive the small collection: the large one, some milliseconds here, is due every so many bytes. */
const LONG_LIVED_BYTES = 6 << 20;

/** A layer that a delta builds on, in a child that applies it. Whoever opens it closes its `tar`. */
export interface BaseTar extends TarBytes {
  readonly diffId: Digest;
  readonly tar: TarSplit;
}

/** Opens layers for a delta to build on; throws `BASE_DAMAGED` for one that cannot even be opened. */
export function openBase(places: readonly LayerPlace[]): BaseTar[] {
  let readBytes = 0;
  const opened: BaseTar[] = [];
  for (const { diffId, directory } of places) {
    try {
      const tar = TarSplit.open(directory);
      const read = (offset: number, length: number, room?: Buffer) => {
        if (room === undefined) readBytes += length;
        if (readBytes >= LONG_LIVED_BYTES) {
          readBytes = 0;
          globalThis.gc?.();
        }
        return tar.read(offset, length, room);
      };
      opened.push({ diffId, tarBytes: tar.tarBytes, read, tar });
    } catch (cause) {
      throw fail.baseDamaged(diffId, messageOf(cause), cause);
    }
  }
  return opened;
}

/** Whether it was the base: deltas carry hashes of their own, what was read of the base does not. */
export function blamed(cause: Failure, base: readonly BaseTar[], housekeeping: Housekeeping): Failure {
  if (cause.code !== 'CORRUPT') return cause;
  for (const { diffId, tarBytes, tar } of base) {
    try {
      const hash = createHash('sha256');
      for (let at = 0; at < tarBytes; at += CHECKED_BYTES) {
        const bytes = tar.read(at, CHECKED_BYTES);
        hash.update(bytes);
        housekeeping.after(bytes.length);
      }
      if (`sha256:${hash.digest('hex')}` !== diffId) return fail.baseDamaged(diffId, cause.message, cause);
    } catch (damage) {
      if (!(damage instanceof Failure)) throw damage;
      return fail.baseDamaged(diffId, damage.message, damage);
    }
  }
  return cause;
}
