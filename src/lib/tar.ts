import { fail } from '../errors.ts';

/**
 * The tar format, as far as a single header tells: POSIX ustar and pax (pax(1), Extended Header), GNU long names, base-256
 * numbers and all four kinds of sparse files (tar(5), and GNU tar's manual, "Storing Sparse Files").
 *
 * Names and pax values are byte strings, one character per byte: nothing promises that they are UTF-8.
 */

/** Headers and contents fill whole blocks of this size. */
export const BLOCK_BYTES = 512;

/** The largest pax header, long name or sparse map that is believed; archive/tar draws the same line. */
export const MAX_EXTENSION_BYTES = 1 << 20;

export type TarType = 'file' | 'hardlink' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo';

/** An instant: whole seconds since 1970, and nanoseconds counted forward from there. */
export interface TarTime {
  readonly seconds: number;
  readonly nanos: number;
}

/** A run of a sparse file that is stored; what lies between two runs reads as zeros. */
export interface Fragment {
  readonly offset: number;
  readonly length: number;
}

/** One member of an archive, as its headers together describe it. */
export interface TarEntry {
  readonly type: TarType;
  readonly name: string;
  /** Where a link points to; empty for anything else. */
  readonly linkName: string;
  /** The twelve permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes of the file once it is unpacked, holes included. */
  readonly size: number;
  readonly modifiedAt: TarTime;
  readonly accessedAt: TarTime | undefined;
  readonly major: number;
  readonly minor: number;
  /** Extended attributes by name, in the spelling of star that everybody uses (`SCHILY.xattr.NAME`). */
  readonly xattrs: ReadonlyMap<string, Buffer>;
  /** What is stored of the file, in rising order; a file without holes is one fragment, an empty one none. */
  readonly fragments: readonly Fragment[];
}

/** A header that cannot be understood; the words after "tar:" say what is wrong with it. */
export function invalidTar(what: string): Error {
  return fail.corrupt(`invalid tar: ${what}`);
}

/** A header block, decoded but not yet merged with the extensions before it. */
export interface TarHeader {
  /** The type's character; `\0` is an old spelling of `0`. */
  readonly flag: string;
  readonly name: string;
  readonly linkName: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes that follow in the archive. */
  readonly size: number;
  readonly modifiedAt: TarTime;
  readonly major: number;
  readonly minor: number;
}

/** True for the block of zeros, two of which end an archive. */
export function isZeroBlock(block: Buffer): boolean {
  return block[0] === 0 && block.equals(zeros);
}

const zeros = Buffer.alloc(BLOCK_BYTES);
const BLANK_CHECKSUM = 8 * 0x20;

/** Decodes a header block; throws if the checksum or a number in it is wrong. */
export function parseHeader(block: Buffer): TarHeader {
  checkSum(block);
  const flag = String.fromCharCode(block[156] ?? 0);
  const magic = block.toString('latin1', 257, 263);
  const isUstar = magic === 'ustar\0';
  const isKnown = isUstar || magic === 'ustar ';
  const prefix = isUstar ? prefixOfUstar(block) : isKnown ? prefixOfGnu(block) : '';
  const name = text(block, 0, 100);
  return {
    flag,
    name: prefix === '' ? name : `${prefix}/${name}`,
    linkName: text(block, 157, 257),
    mode: number(block, 100, 108) & 0o7777,
    uid: number(block, 108, 116),
    gid: number(block, 116, 124),
    size: number(block, 124, 136),
    modifiedAt: { seconds: number(block, 136, 148), nanos: 0 },
    major: isKnown ? number(block, 329, 337) : 0,
    minor: isKnown ? number(block, 337, 345) : 0,
  };
}

/** Old tars summed signed bytes; both sums are right. */
function checkSum(block: Buffer): void {
  let sum = BLANK_CHECKSUM;
  let highBits = 0;
  for (let at = 0; at < BLOCK_BYTES; at++) {
    if (at === 148) at = 156;
    const byte = block[at] ?? 0;
    sum += byte;
    highBits += byte >> 7;
  }
  const stored = number(block, 148, 156);
  if (stored !== sum && stored !== sum - highBits * 256) throw invalidTar('wrong checksum');
}

/** star keeps times behind a shorter prefix and signs the block with `tar\0`. */
function prefixOfUstar(block: Buffer): string {
  const isStar = block.toString('latin1', 508, 512) === 'tar\0';
  return text(block, 345, isStar ? 476 : 500);
}

/** GNU tar keeps times here. Go before 1.8 wrote a ustar prefix all the same, and images of that age are still about. */
function prefixOfGnu(block: Buffer): string {
  const first = block[345] ?? 0;
  const isTime = first === 0 || first === 0x20 || first >= 0x80 || (first >= 0x30 && first <= 0x37);
  const prefix = isTime ? '' : text(block, 345, 500);
  return isAscii(prefix) ? prefix : '';
}

function text(block: Buffer, start: number, end: number): string {
  const nul = block.indexOf(0, start);
  return block.toString('latin1', start, nul < 0 || nul > end ? end : nul);
}

/** A numeric field: octal digits within spaces or NULs, or base-256 where the first bit is set. */
export function number(block: Buffer, start: number, end: number): number {
  let at = start;
  if ((block[at] ?? 0) >= 0x80) return base256(block, start, end);
  while (at < end && (block[at] === 0x20 || block[at] === 0)) at++;
  let value = 0;
  for (; at < end; at++) {
    const digit = (block[at] ?? 0) - 0x30;
    if (digit === -0x10 || digit === -0x30) break;
    if (digit < 0 || digit > 7) throw invalidTar('a number is not octal');
    value = value * 8 + digit;
  }
  return value;
}

/** Two's complement, big endian; the first bit is only the mark. */
function base256(block: Buffer, start: number, end: number): number {
  const isNegative = ((block[start] ?? 0) & 0x40) !== 0;
  let value = isNegative ? -1 : 0;
  for (let at = start; at < end; at++) {
    const byte = at === start ? ((block[at] ?? 0) & 0x3f) | (isNegative ? 0xc0 : 0) : (block[at] ?? 0);
    value = at === start ? (isNegative ? byte - 256 : byte) : value * 256 + byte;
    if (!Number.isSafeInteger(value)) throw invalidTar('a number is too large');
  }
  return value;
}

/** What the extensions before a header say about it. Absent fields leave the header's own. */
export interface Extensions {
  readonly pax: ReadonlyMap<string, Buffer>;
  readonly longName?: string;
  readonly longLink?: string;
}

/** Reads a pax header's records, `LENGTH KEY=VALUE\n`. A key given twice keeps its last value. */
export function parsePax(bytes: Buffer): Map<string, Buffer> {
  const records = new Map<string, Buffer>();
  const sparseNumbers: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const digits = space < 0 || space - at > 7 ? '' : bytes.toString('latin1', at, space);
    const end = at + Number(digits);
    const equals = bytes.indexOf(0x3d, space);
    if (!/^\d+$/.test(digits) || end > bytes.length || equals <= space + 1 || equals >= end)
      throw invalidTar('a pax record is malformed');
    if (bytes[end - 1] !== 0x0a) throw invalidTar('a pax record does not end in a newline');
    const key = bytes.toString('latin1', space + 1, equals);
    const value = bytes.subarray(equals + 1, end - 1);
    if (key.includes('\0')) throw invalidTar('a pax key contains NUL');
    // sparse format 0.0 repeats two keys; 0.1 put the same numbers into one
    if (key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes') {
      const expected = sparseNumbers.length % 2 === 0 ? 'GNU.sparse.offset' : 'GNU.sparse.numbytes';
      if (key !== expected) throw invalidTar('sparse offsets and lengths do not alternate');
      sparseNumbers.push(value.toString('latin1'));
    } else records.set(key, Buffer.from(value));
    at = end;
  }
  if (sparseNumbers.length > 0) records.set('GNU.sparse.map', Buffer.from(sparseNumbers.join(',')));
  return records;
}

const types: Readonly<Record<string, TarType>> = {
  '\0': 'file',
  '0': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
  '7': 'file', // "contiguous": asks for a layout on the disk that nobody gives
  S: 'file', // GNU's old sparse format
};

const XATTR = 'SCHILY.xattr.';
const noXattrs: ReadonlyMap<string, Buffer> = new Map();
const noFragments: readonly Fragment[] = [];

/**
 * Merges a header with what its extensions say. `storedBytes` is how much of the archive belongs to the member: only
 * files have contents, whatever a header of another type claims. `fragments` describes a file without holes.
 */
export function mergeHeader(header: TarHeader, { pax, longName, longLink }: Extensions): MergedHeader {
  const type = types[header.flag];
  if (type === undefined) throw invalidTar(`unhandled tar header type ${header.flag.charCodeAt(0)}`);
  const name = longName ?? paxText(pax, 'path') ?? header.name;
  const isOldDirectory = header.flag === '\0' && name.endsWith('/');
  const storedBytes =
    type === 'file' && !isOldDirectory ? countOf(paxNumber(pax, 'size') ?? header.size, 'size') : 0;
  const isDevice = type === 'character' || type === 'block';
  const entry: TarEntry = {
    type: isOldDirectory ? 'directory' : type,
    name: withoutNul(name),
    linkName: withoutNul(longLink ?? paxText(pax, 'linkpath') ?? header.linkName),
    mode: header.mode,
    uid: countOf(paxNumber(pax, 'uid') ?? header.uid, 'uid', 0xfffffffe),
    gid: countOf(paxNumber(pax, 'gid') ?? header.gid, 'gid', 0xfffffffe),
    size: storedBytes,
    modifiedAt: paxTime(pax, 'mtime') ?? header.modifiedAt,
    accessedAt: paxTime(pax, 'atime'),
    major: isDevice ? countOf(header.major, 'device number', 0xfff) : 0,
    minor: isDevice ? countOf(header.minor, 'device number', 0xfffff) : 0,
    xattrs: xattrsOf(pax),
    fragments: storedBytes === 0 ? noFragments : [{ offset: 0, length: storedBytes }],
  };
  return { entry, storedBytes };
}

export interface MergedHeader {
  readonly entry: TarEntry;
  readonly storedBytes: number;
}

function withoutNul(name: string): string {
  if (name.includes('\0')) throw invalidTar('a name contains NUL');
  return name;
}

function countOf(value: number, what: string, limit = Number.MAX_SAFE_INTEGER): number {
  if (value < 0 || value > limit) throw invalidTar(`${what} ${value} is out of range`);
  return value;
}

/** A pax value as a byte string. An empty one takes an earlier one back: the header's own counts again. */
export function paxText(pax: ReadonlyMap<string, Buffer>, key: string): string | undefined {
  const value = pax.get(key);
  return value === undefined || value.length === 0 ? undefined : value.toString('latin1');
}

/** A decimal number of a pax header. */
export function paxNumber(pax: ReadonlyMap<string, Buffer>, key: string): number | undefined {
  const value = paxText(pax, key);
  return value === undefined ? undefined : decimal(value);
}

/** A decimal number that fits 53 bits. */
export function decimal(digits: string): number {
  const value = Number(digits);
  if (!/^-?\d{1,16}$/.test(digits) || !Number.isSafeInteger(value))
    throw invalidTar('a number is not decimal');
  return value;
}

function paxTime(pax: ReadonlyMap<string, Buffer>, key: string): TarTime | undefined {
  const value = paxText(pax, key);
  if (value === undefined) return undefined;
  const parts = /^(-?)(\d{1,15})(?:\.(\d*))?$/.exec(value);
  if (parts === null) throw invalidTar('a time is not decimal');
  const seconds = Number(parts[2]);
  const nanos = Number((parts[3] ?? '').slice(0, 9).padEnd(9, '0'));
  if (parts[1] === '') return { seconds, nanos };
  return nanos === 0
    ? { seconds: -seconds, nanos: 0 }
    : { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos };
}

function xattrsOf(pax: ReadonlyMap<string, Buffer>): ReadonlyMap<string, Buffer> {
  let xattrs: Map<string, Buffer> | undefined;
  for (const [key, value] of pax) {
    if (!key.startsWith(XATTR)) continue;
    xattrs ??= new Map();
    xattrs.set(Buffer.from(key.slice(XATTR.length), 'latin1').toString(), value);
  }
  return xattrs ?? noXattrs;
}

/** True if every character is ASCII: such a byte string is also the text that it looks like. */
export function isAscii(bytes: string): boolean {
  return !/[^\0-\x7f]/.test(bytes);
}
