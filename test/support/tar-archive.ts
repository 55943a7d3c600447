/** Archives of any shape, also such as no tar program would write. */

export interface Member {
  /** A string is written as UTF-8. */
  name: string | Buffer;
  /** The header's type character; a file by default. */
  type?: string;
  content?: Buffer | string;
  linkName?: string | Buffer;
  mode?: number;
  uid?: number | Buffer;
  gid?: number | Buffer;
  /** What the header claims, where that is not the content's size. */
  size?: number | Buffer;
  mtime?: number | Buffer;
  major?: number;
  minor?: number;
  prefix?: string;
  magic?: 'ustar' | 'gnu' | 'none';
  /** Bytes put over the header, by offset, before its checksum is made. */
  patches?: Record<number, Buffer>;
  /** A pax header before it. */
  pax?: Record<string, string | Buffer>;
  checksum?: number;
}

const magics = { ustar: 'ustar\x0000', gnu: 'ustar  \0', none: '' } as const;

/** One header block. */
export function headerBlock(member: Member): Buffer {
  const block = Buffer.alloc(512);
  const bytes = (value: string | Buffer) => (Buffer.isBuffer(value) ? value : Buffer.from(value));
  const number = (value: number | Buffer, at: number, length: number) =>
    Buffer.isBuffer(value) ? value.copy(block, at) : block.write(octal(value, length - 1), at, 'latin1');
  bytes(member.name).copy(block, 0, 0, 100);
  number(member.mode ?? (member.type === '5' ? 0o755 : 0o644), 100, 8);
  number(member.uid ?? 0, 108, 8);
  number(member.gid ?? 0, 116, 8);
  number(member.size ?? bytes(member.content ?? '').length, 124, 12);
  number(member.mtime ?? 1_700_000_000, 136, 12);
  block.write(member.type ?? '0', 156, 'latin1');
  bytes(member.linkName ?? '').copy(block, 157, 0, 100);
  block.write(magics[member.magic ?? 'ustar'], 257, 'latin1');
  if (member.major !== undefined) number(member.major, 329, 8);
  if (member.minor !== undefined) number(member.minor, 337, 8);
  block.write(member.prefix ?? '', 345, 'latin1');
  for (const [at, patch] of Object.entries(member.patches ?? {})) patch.copy(block, Number(at));
  const sum = block.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 0x20 : byte), 0);
  block.write(`${octal(member.checksum ?? sum, 6)}\0 `, 148, 'latin1');
  return block;
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0');
}

/** Fills up to whole blocks. */
export function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
}

/** A header with its extension and content. */
export function member(m: Member): Buffer {
  const parts = [headerBlock(m), padded(Buffer.from(m.content ?? ''))];
  if (m.pax !== undefined)
    parts.unshift(member({ name: 'PaxHeaders/x', type: 'x', content: paxRecords(m.pax) }));
  return Buffer.concat(parts);
}

/** `LENGTH KEY=VALUE\n`, where the length counts itself. */
export function paxRecords(records: Record<string, string | Buffer>): Buffer {
  return Buffer.concat(
    Object.entries(records).map(([key, value]) => {
      const body = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from('\n')]);
      let length = body.length + 1;
      while (String(length).length + body.length !== length) length = String(length).length + body.length;
      return Buffer.concat([Buffer.from(String(length)), body]);
    }),
  );
}

/** Members, then the two blocks of zeros. */
export function archive(members: readonly (Member | Buffer)[], end = Buffer.alloc(1024)): Buffer {
  return Buffer.concat([...members.map((one) => (Buffer.isBuffer(one) ? one : member(one))), end]);
}

/** A number as GNU tar writes it where octal digits do not suffice. */
export function base256(value: bigint, length: number): Buffer {
  const field = Buffer.alloc(length);
  const wrapped = BigInt.asUintN(8 * length, value);
  for (let at = 0; at < length; at++) field[at] = Number((wrapped >> BigInt(8 * (length - 1 - at))) & 0xffn);
  field[0] = (field[0] ?? 0) | 0x80;
  return field;
}
