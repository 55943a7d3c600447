/**
 * Decompresses one Snappy block (google/snappy, format_description.txt). Throws RangeError if it is none, or if it
 * would expand to more than `maxBytes`.
 */
export function unsnap(block: Uint8Array, { maxBytes }: { maxBytes: number }): Uint8Array {
  const [length, start] = readLength(block);
  if (length > maxBytes) throw new RangeError('snappy: too long');
  const out = new Uint8Array(length);
  let end = 0;
  for (let at = start; at < block.length; ) {
    const tag = block[at++] ?? 0;
    const kind = tag & 3;
    if (kind === 0) {
      // a literal; lengths from 61 on are in the one to four bytes that follow
      const extra = Math.max(0, (tag >> 2) - 59);
      const size = (extra === 0 ? tag >> 2 : readNumber(block, at, extra)) + 1;
      at += extra;
      if (at + size > block.length || end + size > length)
        throw new RangeError('snappy: literal out of range');
      out.set(block.subarray(at, at + size), end);
      at += size;
      end += size;
      continue;
    }
    // a copy of what is already out; it may overlap what it writes
    const size = kind === 1 ? ((tag >> 2) & 7) + 4 : (tag >> 2) + 1;
    const width = kind === 1 ? 1 : kind === 2 ? 2 : 4;
    const back = readNumber(block, at, width) + (kind === 1 ? (tag >> 5) * 256 : 0);
    at += width;
    if (back === 0 || back > end || end + size > length) throw new RangeError('snappy: copy out of range');
    for (const stop = end + size; end < stop; end++) out[end] = out[end - back] ?? 0;
  }
  if (end !== length) throw new RangeError('snappy: cut off');
  return out;
}

/** Little-endian. */
function readNumber(bytes: Uint8Array, at: number, width: number): number {
  if (at + width > bytes.length) throw new RangeError('snappy: cut off');
  let value = 0;
  for (let i = width - 1; i >= 0; i--) value = value * 256 + (bytes[at + i] ?? 0);
  return value;
}

/** The uncompressed length, a varint of at most 32 bits, and where the elements begin. */
function readLength(block: Uint8Array): [length: number, next: number] {
  let value = 0;
  for (let at = 0; at < 5; at++) {
    const byte = block[at];
    if (byte === undefined) break;
    value += (byte & 0x7f) * 2 ** (7 * at);
    if (byte < 0x80) return [value, at + 1];
  }
  throw new RangeError('snappy: no length');
}
