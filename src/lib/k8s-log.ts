import { parseNanos } from './time.ts';

/**
 * The line format of a container's log file, as conmon and the CRI have it: `TIME STREAM TAG TEXT\n`. `F` is the end of
 * a line that the process wrote, `P` a part of one: the newline after it is the file's.
 */
export interface K8sRecord {
  readonly stream: 1 | 2;
  /** Since 1970. */
  readonly timeNanos: bigint;
  readonly isPartial: boolean;
  /** What the process wrote: with its newline, unless this is a part. */
  readonly data: Buffer;
}

const NEWLINE = 0x0a;
const SPACE = 0x20;

/** Reads one record, given with its closing newline; undefined for anything else. `data` shares the line's memory. */
export function parseK8sRecord(line: Buffer): K8sRecord | undefined {
  const time = line.indexOf(SPACE);
  const stream = line.indexOf(SPACE, time + 1);
  const tag = line.indexOf(SPACE, stream + 1);
  if (time < 0 || stream < 0 || tag < 0 || line.at(-1) !== NEWLINE) return undefined;
  const timeNanos = parseNanos(line.toString('latin1', 0, time));
  const name = line.toString('latin1', time + 1, stream);
  if (timeNanos === undefined || (name !== 'stdout' && name !== 'stderr')) return undefined;
  const isPartial = isPart(line, stream, tag);
  return {
    stream: name === 'stdout' ? 1 : 2,
    timeNanos,
    isPartial,
    data: line.subarray(tag + 1, isPartial ? -1 : undefined),
  };
}

/** Whether a record ends a line that the process wrote; reads no more of it than its head. */
export function endsLine(line: Buffer): boolean {
  const stream = line.indexOf(SPACE, line.indexOf(SPACE) + 1);
  return !isPart(line, stream, line.indexOf(SPACE, stream + 1));
}

/** Further tags may follow the first, with colons in between. */
function isPart(line: Buffer, start: number, end: number): boolean {
  return line[start + 1] === 0x50 && (end === start + 2 || line[start + 2] === 0x3a);
}
