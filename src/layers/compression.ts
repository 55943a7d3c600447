import { createHash } from 'node:crypto';
import { pipeline, type Readable } from 'node:stream';
import { createGzip } from 'node:zlib';
import { fail } from '../errors.ts';
import { type Digest, shortDigest } from '../lib/digest.ts';

/**
 * zlib's default: less would cost more of a device's uplink than it saves of its processor. Together with a header
 * without a time it makes the same bytes of the same tar every time, as long as zlib stays what it is.
 */
const LEVEL = 6;
const PIECE_BYTES = 64 << 10;

/**
 * Packs a layer's tar with gzip while it is read; fails with `CORRUPT`, instead of ending, if the tar is not the one
 * that `diffId` names. The work is done on the thread pool; it holds some 270 KiB for zlib, one piece of the tar and
 * two pieces of 64 KiB. Destroying it ends the reading. `onProgress` is told how much of the tar is done.
 */
export function compressLayer(
  tar: Readable,
  { diffId, onProgress }: { diffId: Digest; onProgress: (tarBytes: number) => void },
): Readable {
  const proven = async function* (pieces: AsyncIterable<Buffer>) {
    const hash = createHash('sha256');
    let bytes = 0;
    for await (const piece of pieces) {
      hash.update(piece);
      yield piece;
      bytes += piece.length;
      onProgress(bytes);
    }
    if (`sha256:${hash.digest('hex')}` !== diffId)
      throw fail.corrupt(`layer ${shortDigest(diffId)} is damaged on this disk: pull the image again`);
  };
  const gzip = createGzip({ level: LEVEL, chunkSize: PIECE_BYTES });
  pipeline(tar, proven, gzip, () => {}); // whoever reads hears of an error there
  return gzip;
}
