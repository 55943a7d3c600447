import { align } from './alignment.ts';
import { compressedBytes } from './brotli.ts';
import { columnBytes } from './frame.ts';
import { FrameWriter } from './frame-writer.ts';
import type { WindowCodec } from './vcdiff.ts';

/** Columns are compressed with those of their neighbours, windows are not much helped by theirs: so much must be gained. */
const WORTHWHILE = 0.8;

/**
 * Writes content that is like the base's: as aligned runs with their differences, or as a VCDIFF window where that is
 * clearly smaller, as it is for short texts. `source` is what the base has from `position` on.
 */
export function writeLike(
  writer: FrameWriter,
  {
    content,
    source,
    position,
    windows,
  }: { content: Buffer; source: Buffer; position: number; windows: WindowCodec },
): void {
  const window = windows.encode(content, source, content.length);
  if (window !== undefined && window.length > 0) {
    const mostBytes = WORTHWHILE * alignedBytes(content, source);
    const o = { position, sourceBytes: source.length, targetBytes: content.length, window };
    if (compressedBytes(window) < mostBytes && writer.window(o)) return;
  }
  writeAligned(writer, { content, source, position });
}

/** What the aligned runs would take on their own, compressed. */
function alignedBytes(content: Buffer, source: Buffer): number {
  let bytes = 0;
  const scratch = new FrameWriter(({ columns }) => {
    for (const column of columnBytes(columns)) bytes += compressedBytes(column);
  });
  writeAligned(scratch, { content, source, position: 0 });
  scratch.finish();
  return bytes;
}

function writeAligned(
  writer: FrameWriter,
  { content, source, position }: { content: Buffer; source: Buffer; position: number },
): void {
  let at = 0;
  for (const { start, length, source: place } of align(source, content)) {
    if (start > at) writer.literal(content.subarray(at, start));
    const [theirs, ours] = [source.subarray(place, place + length), content.subarray(start, start + length)];
    if (writer.mayRead()) writer.copyLike(position + place, theirs, ours);
    else writer.literal(ours);
    at = start + length;
  }
  if (at < content.length) writer.literal(content.subarray(at));
}
