import { crc32c } from '../lib/crc32c.ts';
import { unsnap } from '../lib/snappy.ts';

// LevelDB, doc/table_format.md
const footerBytes = 48;
const magic = 0xdb4775248b80fb57n;
/** After each block: how it is compressed, and a checksum of both. */
const trailerBytes = 5;
const maxIndexBytes = 64 << 20;

interface Handle {
  offset: number;
  size: number;
}

/**
 * Whether one of LevelDB's tables (`*.ldb`) is exactly as it was written: its blocks lie end to end and each has its
 * checksum. LevelDB itself looks at them only under an option that `level` does not offer; and given a table that is
 * not whole it may do anything, up to an assertion that aborts the process when compaction meets keys out of order.
 */
export function isWholeTable(file: Buffer): boolean {
  try {
    const footer = file.length - footerBytes;
    if (footer < 0 || file.readBigUInt64LE(file.length - 8) !== magic) return false;
    const cursor = new Cursor(file, footer);
    const [metaindex, index] = [cursor.handle(), cursor.handle()];
    if (!isWholeBlock(file, index)) return false;
    let end = 0;
    for (const data of handlesOf(contentsOf(file, index))) {
      if (data.offset !== end || !isWholeBlock(file, data)) return false;
      end = endOf(data);
    }
    // the Bloom filter has no other name than its place, between the data and the metaindex
    const filter = { offset: end, size: metaindex.offset - end - trailerBytes };
    if (metaindex.offset !== end && !isWholeBlock(file, filter)) return false;
    return isWholeBlock(file, metaindex) && index.offset === endOf(metaindex) && endOf(index) === footer;
  } catch (cause) {
    if (cause instanceof RangeError) return false;
    throw cause;
  }
}

function endOf({ offset, size }: Handle): number {
  return offset + size + trailerBytes;
}

function isWholeBlock(file: Buffer, handle: Handle): boolean {
  const { offset, size } = handle;
  if (size < 0 || endOf(handle) > file.length) return false;
  return unmask(file.readUInt32LE(offset + size + 1)) === crc32c(file.subarray(offset, offset + size + 1));
}

/** LevelDB stores checksums rotated and shifted, so that a checksum of checksums keeps its strength (util/crc32c.h). */
function unmask(stored: number): number {
  const rotated = (stored - 0xa282ead8) >>> 0;
  return ((rotated >>> 17) | (rotated << 15)) >>> 0;
}

function contentsOf(file: Buffer, { offset, size }: Handle): Buffer {
  const block = file.subarray(offset, offset + size);
  if (file[offset + size] !== 1) return block;
  return Buffer.from(unsnap(block, { maxBytes: maxIndexBytes }).buffer);
}

/** The values of an index block: where each data block is. */
function* handlesOf(block: Buffer): Generator<Handle> {
  const restarts = block.readUInt32LE(block.length - 4);
  const end = block.length - 4 * (restarts + 1);
  const cursor = new Cursor(block, 0);
  while (cursor.at < end) {
    cursor.varint(); // bytes of the key that it shares with the one before
    const keyBytes = cursor.varint();
    const valueBytes = cursor.varint();
    cursor.at += keyBytes;
    const next = cursor.at + valueBytes;
    yield cursor.handle();
    cursor.at = next;
  }
}

/** Reads on from a place; throws RangeError at the end of the bytes. */
class Cursor {
  at: number;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes;
    this.at = at;
  }

  handle(): Handle {
    return { offset: this.varint(), size: this.varint() };
  }

  varint(): number {
    let value = 0;
    for (let unit = 1; unit < 2 ** 53; unit *= 128) {
      const byte = this.#bytes.readUInt8(this.at++);
      value += (byte & 0x7f) * unit;
      if (byte < 0x80) return value;
    }
    throw new RangeError('a number is too long');
  }
}
