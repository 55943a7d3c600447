import { fail } from '../errors.ts';
import { VarintReader, VarintWriter } from '../lib/varints.ts';
import { decompress } from './brotli.ts';

/**
 * A frame makes one run of a layer's tar. It is a program in columns: what belongs together stands together, each
 * column compressed on its own, so that the compressor sees numbers among numbers of one kind.
 *
 *     varint bytes inflated, varint bytes deflated   for each column, in order
 *     the columns, each a brotli stream; one of no bytes is left out
 *
 * docs/delta-format.md says what the operations mean.
 */
export const columnNames = ['ops', 'lengths', 'seeks', 'headers', 'gaps', 'changes', 'literals'] as const;
export type ColumnName = (typeof columnNames)[number];

/** What an operation does; the numbers are the format's. */
export const Op = {
  /** Bytes of the base, changed where the gaps say so. */
  copy: 1,
  /** Bytes that are in no base. */
  literal: 2,
  /** Whole members of the base's tar, as they are but for their times. */
  members: 3,
  /** A member's header alone, with another time or size. */
  header: 4,
  /** Zeros. */
  zeros: 5,
  /** A VCDIFF window against a range of the base. */
  window: 6,
  /** A gzip member: a program for its content, compressed again. */
  gzip: 7,
} as const;

/** The most output that a frame may have. */
export const MAX_FRAME_BYTES = 16 << 20;
/** What all gzip members of a frame may inflate to: they are deflated on the device. */
export const MAX_INFLATED_BYTES = MAX_FRAME_BYTES;
/** The least that one may have, unless it is the last of its layer: who reads a delta works in proportion to its output. */
export const MIN_FRAME_BYTES = MAX_FRAME_BYTES / 2;
/** What all columns of a frame may hold, and so what a frame may have in the file. */
export const MAX_COLUMN_BYTES = MAX_FRAME_BYTES * 3;
/** The most that a copy reads and changes at once; a change never reaches from one such piece into the next. */
export const PIECE_BYTES = 64 << 10;
/** So many bytes change together: the size of most addresses in programs. */
export const CHANGE_BYTES = 4;

const DAMAGED = 'delta: ';

export type ColumnReaders = Readonly<Record<ColumnName, VarintReader>>;
export type ColumnWriters = Readonly<Record<ColumnName, VarintWriter>>;

/** Empty columns to be filled. */
export function newColumns(): ColumnWriters {
  const entries = columnNames.map((name) => [name, new VarintWriter()] as const);
  return Object.fromEntries(entries) as Record<ColumnName, VarintWriter>;
}

/** What was written into the columns, in the format's order. */
export function columnBytes(columns: ColumnWriters): Buffer[] {
  return columnNames.map((name) => columns[name].toBuffer());
}

/** The frame's bytes; `pack` compresses a column. */
export async function packFrame(
  columns: readonly Buffer[],
  pack: (bytes: Buffer) => Promise<Buffer>,
): Promise<Buffer> {
  const packed = await Promise.all(columns.map(pack));
  const head = new VarintWriter();
  for (const [at, bytes] of columns.entries()) {
    head.put(bytes.length);
    head.put(packed[at]?.length ?? 0);
  }
  return Buffer.concat([head.toBuffer(), ...packed]);
}

/** How many bytes each column has, inflated and deflated. */
export function columnSizes(frame: Buffer): { name: ColumnName; plainBytes: number; packedBytes: number }[] {
  const head = new VarintReader(frame, DAMAGED);
  return columnNames.map((name) => ({ name, plainBytes: head.next(), packedBytes: head.next() }));
}

/** The columns of a frame. Throws `CORRUPT` for what cannot be one. */
export function unpackFrame(frame: Buffer): ColumnReaders {
  const head = new VarintReader(frame, DAMAGED);
  const sizes = columnNames.map((name) => ({ name, plainBytes: head.next(), packedBytes: head.next() }));
  if (sizes.reduce((sum, { plainBytes }) => sum + plainBytes, 0) > MAX_COLUMN_BYTES)
    throw fail.corrupt('delta: a frame is too large');
  const entries = sizes.map(({ name, plainBytes, packedBytes }) => {
    const packed = head.take(packedBytes);
    return [name, new VarintReader(decompress(packed, plainBytes), DAMAGED)] as const;
  });
  if (!head.isDone) throw fail.corrupt('delta: a frame is longer than it says');
  return Object.fromEntries(entries) as Record<ColumnName, VarintReader>;
}
