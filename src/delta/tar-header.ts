import { fail } from '../errors.ts';
import { BLOCK_BYTES, MAX_EXTENSION_BYTES, number, parseHeader } from '../lib/tar.ts';
import type { Source } from './base.ts';

const [MTIME, MTIME_END] = [136, 148];
const [SIZE, SIZE_END] = [124, 136];
const [SUM, SUM_END] = [148, 156];

/** Pax records, long names, long links: blocks that belong to the header behind them. */
const extensionFlags = new Set(['x', 'g', 'L', 'K']);

/** What the header of a member takes, with the extended ones before it, and where its own block begins. */
export interface HeaderPlace {
  readonly ownBlock: number;
  readonly end: number;
  /** Bytes of content that follow, without their padding. */
  readonly contentBytes: number;
}

/** Finds the header of the member that begins at `start`. Throws `CORRUPT` if there is none. */
export function findHeader(source: Source, start: number): HeaderPlace {
  const block = Buffer.allocUnsafe(BLOCK_BYTES);
  for (let at = start; ; ) {
    source.copy(at, block);
    const { flag, size } = parseHeader(block);
    if (size < 0) throw fail.corrupt('delta: a base has a header with a negative size');
    if (!extensionFlags.has(flag)) {
      return { ownBlock: at, end: at + BLOCK_BYTES, contentBytes: hasContent(flag) ? size : 0 };
    }
    if (size > MAX_EXTENSION_BYTES || at - start > 4 * MAX_EXTENSION_BYTES)
      throw fail.corrupt('delta: the extended headers of a base are too large');
    at += BLOCK_BYTES + padded(size);
  }
}

/** Sizes are filled up to whole blocks. */
export function padded(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}

function hasContent(flag: string): boolean {
  return flag === '0' || flag === '\0' || flag === '7' || flag === 'S';
}

/** The time, in seconds, and the size that a header block states. */
export function fieldsOf(block: Buffer): { mtime: number; size: number } {
  return { mtime: number(block, MTIME, MTIME_END), size: number(block, SIZE, SIZE_END) };
}

/** Writes other values into a header block, in the spelling in which its own stand there, and signs it anew. */
export function patchHeader(block: Buffer, o: { mtime: number; size: number }): void {
  putOctal(block, MTIME, MTIME_END, o.mtime);
  putOctal(block, SIZE, SIZE_END, o.size);
  block.fill(0x20, SUM, SUM_END);
  let sum = 0;
  for (let at = 0; at < BLOCK_BYTES; at++) sum += block[at] ?? 0;
  // six digits, NUL, blank: what every writer of the last decades makes
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, SUM, 'latin1');
}

/** As many digits as fit, and the byte behind them that is there already. */
function putOctal(block: Buffer, start: number, end: number, value: number): void {
  const digits = value.toString(8).padStart(end - start - 1, '0');
  if (value < 0 || digits.length > end - start - 1)
    throw fail.corrupt('delta: a number does not fit its header');
  block.write(digits, start, 'latin1');
}
