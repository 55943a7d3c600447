import { promisify } from 'node:util';
import { brotliCompress, brotliCompressSync, brotliDecompressSync, constants } from 'node:zlib';
import { fail } from '../errors.ts';

const compressAsync = promisify(brotliCompress);

/** The largest window that every brotli decoder knows (RFC 7932, 9.1): 4 MiB of memory for whoever unpacks. */
const WINDOW_BITS = 22;

/** A brotli stream of these bytes, made in Node's thread pool; no bytes make no stream. */
export async function compress(bytes: Buffer, quality: number): Promise<Buffer> {
  if (bytes.length === 0) return bytes;
  return compressAsync(bytes, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: quality,
      [constants.BROTLI_PARAM_LGWIN]: WINDOW_BITS,
      [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
    },
  });
}

/** About how many bytes these compress to. */
export function compressedBytes(bytes: Buffer): number {
  if (bytes.length === 0) return 0;
  return brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 5 } }).length;
}

/** What is in a brotli stream. Throws `CORRUPT` unless it is exactly `plainBytes`, and never makes more. */
export function decompress(packed: Buffer, plainBytes: number): Buffer {
  if (packed.length === 0 && plainBytes === 0) return packed;
  let plain: Buffer;
  try {
    // in one piece: pieces would be held twice, and one that is filled makes room for another
    const chunkSize = Math.max(64, plainBytes + 1);
    plain = brotliDecompressSync(packed, { maxOutputLength: Math.max(1, plainBytes), chunkSize });
  } catch (cause) {
    throw fail.corrupt('delta: a compressed part is damaged', cause);
  }
  if (plain.length !== plainBytes) throw fail.corrupt('delta: a compressed part is not as long as it says');
  return plain;
}
