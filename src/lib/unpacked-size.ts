/** How a layer's blob is packed. */
export type Packing = 'gzip' | 'zstd' | 'none';

/**
 * The few bytes of a packed blob that tell how much is in it, as an HTTP range; undefined where its own size says it.
 * {@link unpackedSize} reads them.
 */
export const sizeHintRanges: Readonly<Record<Packing, string | undefined>> = {
  gzip: 'bytes=-4', // RFC 1952, 2.3.1: ISIZE
  zstd: 'bytes=0-17', // RFC 8878, 3.1.1: magic number and the longest frame header
  none: undefined,
};

/** Longer answers hold more than was asked for. */
export const MOST_HINT_BYTES = 18;

/**
 * The least that a blob of `packedBytes` unpacks to, by the bytes that {@link sizeHintRanges} asks for. Never too
 * much for a blob that is honest: where they may speak of a part only, or modulo 2^32, the packed size stands.
 */
export function unpackedSize(packing: Packing, hint: Buffer, packedBytes: number): number {
  const told = packing === 'gzip' ? gzipSize(hint) : packing === 'zstd' ? zstdSize(hint) : 0;
  return Math.max(told, packedBytes);
}

/**
 * The size of the last member, modulo 2^32. Less than was packed means more members, or more than 4 GiB: which of
 * both cannot be told, and a guess of 4 GiB could refuse what fits.
 */
function gzipSize(tail: Buffer): number {
  return tail.length === 4 ? tail.readUInt32LE() : 0;
}

/** The content size of the first frame; 0 where it does not tell. */
function zstdSize(head: Buffer): number {
  if (head.length < 6 || head.readUInt32LE() !== 0xfd2fb528) return 0;
  const descriptor = head[4] ?? 0;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const at = 5 + (isSingleSegment ? 0 : 1) + dictionaryBytes;
  const kind = descriptor >> 6;
  const bytes = kind === 0 ? (isSingleSegment ? 1 : 0) : 2 ** kind;
  if (bytes === 0 || head.length < at + bytes) return 0;
  if (bytes === 8) return Number(head.readBigUInt64LE(at));
  // two bytes begin where one byte ends
  return head.readUIntLE(at, bytes) + (bytes === 2 ? 256 : 0);
}
