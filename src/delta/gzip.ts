import zlib, { gunzipSync, inflateRawSync } from 'node:zlib';
import { fail } from '../errors.ts';
import { PlainSource } from './base.ts';
import { Deflater } from './deflate.ts';
import type { DeflateShape } from './deflate-block.ts';

/** The compressors that made nearly every `.gz` of the distributions, by the number that the format knows them by. */
export const gzipShapes: readonly DeflateShape[] = [
  { level: 9, blockSymbols: 32768, isTruncating: true }, // gzip -9
  { level: 6, blockSymbols: 32768, isTruncating: true }, // gzip
  { level: 9, blockSymbols: 16384, isTruncating: false }, // zlib: Python, Perl
  { level: 6, blockSymbols: 16384, isTruncating: false },
];

const TRAILER_BYTES = 8;
const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value >>> 0;
});

/** What a member of the base inflates to; an empty source for no member. Throws `CORRUPT`. */
export function readGzip(member: Buffer, mostBytes: number): PlainSource {
  if (member.length === 0) return new PlainSource(member);
  try {
    // in one piece, of the size that the member states
    const stated = member.length < 4 ? 0 : member.readUInt32LE(member.length - 4);
    const chunkSize = Math.max(64, Math.min(stated, mostBytes) + 1);
    return new PlainSource(gunzipSync(member, { maxOutputLength: mostBytes, chunkSize }));
  } catch (cause) {
    throw fail.corrupt('delta: a gzip member of the base is damaged', cause);
  }
}

/** A member with this content, `head` its header as it stands. Throws `CORRUPT` for an unknown shape. */
export function makeGzip(
  plain: Buffer,
  { head, shape, deflater }: { head: Buffer; shape: number; deflater: Deflater },
): Buffer {
  const how = gzipShapes[shape];
  if (how === undefined) throw fail.corrupt(`delta: unknown compressor ${shape}`);
  const trailer = Buffer.alloc(TRAILER_BYTES);
  trailer.writeUInt32LE(crc32(plain), 0);
  trailer.writeUInt32LE(plain.length % 2 ** 32, 4);
  return Buffer.concat([head, deflater.deflate(plain, how), trailer]);
}

/** A member taken apart so that {@link makeGzip} gives exactly it. */
export interface GzipParts {
  readonly head: Buffer;
  readonly shape: number;
  readonly plain: Buffer;
}

/** Takes a member apart; undefined if it is none, is too large, or was made by a compressor that is not known. */
export function takeApart(member: Buffer, mostBytes: number): GzipParts | undefined {
  const headBytes = headLength(member);
  if (headBytes === undefined || member.length > mostBytes) return undefined;
  let plain: Buffer;
  try {
    plain = inflateRawSync(member.subarray(headBytes, -TRAILER_BYTES), { maxOutputLength: mostBytes });
  } catch {
    return undefined;
  }
  const head = member.subarray(0, headBytes);
  // the header's extra flags say 2 for the strongest compression (RFC 1952, 2.3.1)
  const likely = member[8] === 2 ? [0, 2] : [1, 3, 0, 2];
  if (plain.length === 0) return undefined;
  const deflater = new Deflater();
  const shape = likely.find((one) => gives(member, plain, { head, shape: one, deflater }));
  return shape === undefined ? undefined : { head, shape, plain };
}

function gives(member: Buffer, plain: Buffer, o: Parameters<typeof makeGzip>[1]): boolean {
  try {
    return makeGzip(plain, o).equals(member);
  } catch {
    return false;
  }
}

/** RFC 1952, 2.3: the fixed fields, then those that the flags announce. */
function headLength(member: Buffer): number | undefined {
  if (member.length < 18 || member[0] !== 0x1f || member[1] !== 0x8b || member[2] !== 8) return undefined;
  const flags = member[3] ?? 0;
  let at = 10;
  if (flags & 4) at += 2 + member.readUInt16LE(at);
  for (const bit of [8, 16]) {
    if (!(flags & bit)) continue;
    const nul = member.indexOf(0, at);
    if (nul < 0) return undefined;
    at = nul + 1;
  }
  if (flags & 2) at += 2;
  return at + TRAILER_BYTES < member.length ? at : undefined;
}

function crc32(bytes: Buffer): number {
  // Node has its own since 20.15; 32-bit ARM runs 20.11
  if (typeof zlib.crc32 === 'function') return zlib.crc32(bytes);
  let value = 0xffffffff;
  for (let at = 0; at < bytes.length; at++)
    value = (crcTable[(value ^ (bytes[at] ?? 0)) & 0xff] ?? 0) ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}
