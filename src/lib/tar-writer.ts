import { BLOCK_BYTES, isAscii, type TarTime, type TarType } from './tar.ts';

/**
 * Writes what `tar.ts` reads: POSIX ustar headers, and pax headers before them for all that does not fit (pax(1)).
 * The same member always makes the same bytes.
 */

/** What the headers of one member are to say. Names are byte strings, one character per byte. */
export interface TarMember {
  readonly type: TarType;
  /** A directory's ends in a slash. */
  readonly name: string;
  readonly linkName?: string;
  /** The twelve permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes of content that follow; only files have any. */
  readonly size: number;
  readonly modifiedAt: TarTime;
  readonly major?: number;
  readonly minor?: number;
  readonly xattrs?: ReadonlyMap<string, Buffer>;
}

/** The two blocks of zeros that end an archive. */
export const endOfArchive: Buffer = Buffer.alloc(2 * BLOCK_BYTES);

const flags: Readonly<Record<TarType, string>> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
};

const MAX_NAME_BYTES = 100;
const MAX_PREFIX_BYTES = 155;

/** The largest numbers that octal fields of 8 and 12 bytes hold beside their closing NUL. */
const MAX_SHORT = 0o7777777;
const MAX_LONG = 0o77777777777;

/** How many zeros fill up the last block of content. */
export function paddingAfter(size: number): number {
  return (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES;
}

/** All header blocks of a member; its content follows them, filled up to whole blocks. */
export function headersOf(member: TarMember): Buffer {
  const pax = paxOf(member);
  const header = ustarHeader(member);
  if (pax.length === 0) return header;
  const base = member.name.replace(/\/$/, '').replace(/^.*\//s, '');
  const extension = ustarHeader({
    type: 'file',
    name: `PaxHeaders.0/${base.replace(/[^\x20-\x7e]/g, '_').slice(0, MAX_NAME_BYTES - 13)}`,
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: pax.length,
    modifiedAt: { seconds: 0, nanos: 0 },
  });
  extension.write('x', 156, 'latin1');
  writeChecksum(extension);
  return Buffer.concat([extension, pax, Buffer.alloc(paddingAfter(pax.length)), header]);
}

/** The pax records of what the ustar header cannot say, by key in order; empty where it says it all. */
function paxOf(member: TarMember): Buffer {
  const { name, linkName = '', uid, gid, size, modifiedAt, xattrs } = member;
  const records: [key: string, value: Buffer][] = [];
  const add = (key: string, value: string) => records.push([key, Buffer.from(value, 'latin1')]);
  if (!fitsName(linkName) || !isAscii(linkName)) add('linkpath', linkName);
  if (!isTime(modifiedAt)) add('mtime', timeText(modifiedAt));
  if (splitName(name) === undefined) add('path', name);
  if (gid > MAX_SHORT) add('gid', String(gid));
  if (size > MAX_LONG) add('size', String(size));
  if (uid > MAX_SHORT) add('uid', String(uid));
  for (const [xattr, value] of xattrs ?? []) {
    // an equals sign would end the key: there is no way to write such a name
    if (!xattr.includes('=')) records.push([`SCHILY.xattr.${xattr}`, value]);
  }
  records.sort(([a], [b]) => (a < b ? -1 : 1));
  return Buffer.concat(records.map(([key, value]) => paxRecord(key, value)));
}

/** `LENGTH KEY=VALUE\n`, where the length counts its own digits. */
function paxRecord(key: string, value: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')]);
  let length = body.length + String(body.length).length;
  if (String(length).length > String(body.length).length) length++;
  return Buffer.concat([Buffer.from(String(length)), body]);
}

function ustarHeader(member: TarMember): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  const { type, linkName = '', mode, uid, gid, size, modifiedAt, major, minor } = member;
  // a reader without pax gets the beginning of a name that does not fit
  const [prefix, name] = splitName(member.name) ?? ['', member.name.replace(/[^\0-\x7f]/g, '_')];
  block.write(name.slice(0, MAX_NAME_BYTES), 0, 'latin1');
  writeOctal(block, 100, 8, mode);
  writeOctal(block, 108, 8, uid > MAX_SHORT ? 0 : uid);
  writeOctal(block, 116, 8, gid > MAX_SHORT ? 0 : gid);
  writeOctal(block, 124, 12, size > MAX_LONG ? 0 : size);
  const { seconds } = modifiedAt;
  writeOctal(block, 136, 12, seconds < 0 || seconds > MAX_LONG ? 0 : seconds);
  block.write(flags[type], 156, 'latin1');
  block.write(linkName.replace(/[^\0-\x7f]/g, '_').slice(0, MAX_NAME_BYTES), 157, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  writeOctal(block, 329, 8, major ?? 0);
  writeOctal(block, 337, 8, minor ?? 0);
  block.write(prefix, 345, 'latin1');
  writeChecksum(block);
  return block;
}

function writeOctal(block: Buffer, at: number, length: number, value: number): void {
  block.write(value.toString(8).padStart(length - 1, '0'), at, 'latin1');
}

function writeChecksum(block: Buffer): void {
  block.fill(0x20, 148, 156);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}

/** A name's two fields, or undefined if it does not fit them. */
function splitName(name: string): readonly [prefix: string, name: string] | undefined {
  if (!isAscii(name)) return undefined;
  if (fitsName(name)) return ['', name];
  const slash = name.lastIndexOf('/', Math.min(MAX_PREFIX_BYTES, name.length - 2));
  const rest = name.slice(slash + 1);
  return slash > 0 && fitsName(rest) ? [name.slice(0, slash), rest] : undefined;
}

function fitsName(name: string): boolean {
  return name.length <= MAX_NAME_BYTES;
}

function isTime({ seconds, nanos }: TarTime): boolean {
  return nanos === 0 && seconds >= 0 && seconds <= MAX_LONG;
}

/** Decimal seconds; what lies before 1970 counts backwards here, and forwards in a {@link TarTime}. */
function timeText({ seconds, nanos }: TarTime): string {
  const isBefore = seconds < 0;
  const whole = isBefore && nanos > 0 ? seconds + 1 : seconds;
  const rest = isBefore && nanos > 0 ? 1_000_000_000 - nanos : nanos;
  const decimals = rest === 0 ? '' : `.${String(rest).padStart(9, '0').replace(/0+$/, '')}`;
  return `${isBefore ? '-' : ''}${Math.abs(whole)}${decimals}`;
}
