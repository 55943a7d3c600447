/** DNS messages (RFC 1035, EDNS of RFC 6891), as far as a server reads questions and writes answers of its own. */

/** Types of records. */
export const TYPE = { A: 1, PTR: 12, MX: 15, AAAA: 28, OPT: 41 } as const;

export const CLASS = { IN: 1, ANY: 255 } as const;

export const RCODE = { OK: 0, FORMAT_ERROR: 1, SERVER_FAILURE: 2, NOT_IMPLEMENTED: 4, REFUSED: 5 } as const;

/** A message over TCP has its length in 16 bits. */
export const MAX_MESSAGE_BYTES = 65535;

const HEADER_BYTES = 12;
/** What every client takes over UDP: RFC 1035, 2.3.4. */
const MIN_UDP_BYTES = 512;
/** What we say that we take: no fragment on any usual path. */
const OWN_UDP_BYTES = 1232;
const MAX_NAME_BYTES = 255;
const POINTER = 0xc0;
/** A name that stands right behind the header. */
const POINTER_TO_QUESTION = 0xc00c;

const FLAG = { RESPONSE: 0x8000, TRUNCATED: 0x0200, RECURSION_DESIRED: 0x0100, RECURSION_AVAILABLE: 0x0080 };
const OPCODE_MASK = 0x7800;

/** What a client asks. */
export interface Query {
  readonly id: number;
  /** As it was sent, without the last dot; a dot or a backslash within a label has a backslash before it. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** The question in its wire form. */
  readonly question: Buffer;
  readonly flags: number;
  /** The largest answer that the client takes over UDP. */
  readonly udpBytes: number;
  readonly hasEdns: boolean;
}

/** A record about the name that was asked for. */
export interface AnswerRecord {
  readonly type: number;
  readonly ttlSeconds: number;
  readonly bytes: Buffer;
}

/** A query that is not one we work on, but whose sender can be told so. */
export interface Refusal {
  readonly id: number;
  readonly flags: number;
  readonly rcode: number;
}

/** Reads a query. Undefined for what must not be answered at all: an answer, or fewer bytes than a header has. */
export function readQuery(bytes: Buffer): Query | Refusal | undefined {
  if (bytes.length < HEADER_BYTES) return undefined;
  const id = bytes.readUInt16BE(0);
  const flags = bytes.readUInt16BE(2);
  if (flags & FLAG.RESPONSE) return undefined;
  if (flags & OPCODE_MASK) return { id, flags, rcode: RCODE.NOT_IMPLEMENTED };
  const malformed = { id, flags, rcode: RCODE.FORMAT_ERROR };
  if (bytes.readUInt16BE(4) !== 1) return malformed;
  const read = readName(bytes, HEADER_BYTES);
  if (read === undefined || read.isCompressed || read.end + 4 > bytes.length) return malformed;
  const end = read.end + 4;
  const edns = findEdns(bytes, end);
  if (edns === 'malformed') return malformed;
  return {
    id,
    name: read.name,
    type: bytes.readUInt16BE(read.end),
    class: bytes.readUInt16BE(read.end + 2),
    question: bytes.subarray(HEADER_BYTES, end),
    flags,
    udpBytes: Math.max(MIN_UDP_BYTES, edns ?? 0),
    hasEdns: edns !== undefined,
  };
}

/** An answer of our own. Over `maxBytes`, records are left out and the client is told to ask again over TCP. */
export function writeAnswer(query: Query, records: readonly AnswerRecord[], maxBytes: number): Buffer {
  const edns = query.hasEdns ? [ednsRecord()] : [];
  const parts: Buffer[] = [];
  let size = HEADER_BYTES + query.question.length + (edns[0]?.length ?? 0);
  let isTruncated = false;
  for (const record of records) {
    const part = recordBytes(record);
    isTruncated = size + part.length > maxBytes;
    if (isTruncated) break;
    size += part.length;
    parts.push(part);
  }
  const header = headerBytes(query, RCODE.OK, isTruncated ? FLAG.TRUNCATED : 0);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(parts.length, 6);
  header.writeUInt16BE(edns.length, 10);
  return Buffer.concat([header, query.question, ...parts, ...edns]);
}

/** An answer that says no more than why there is none. */
export function writeFailure(query: Query | Refusal, rcode: number): Buffer {
  const header = headerBytes(query, rcode, 0);
  if (!('question' in query)) return header;
  header.writeUInt16BE(1, 4);
  return Buffer.concat([header, query.question]);
}

/**
 * Whether a message from another server answers this query, which was sent to it as `id`: it must name the same
 * question, or none at all where it only says that it failed.
 */
export function isAnswerTo(answer: Buffer, { question }: Query, id: number): boolean {
  if (answer.length < HEADER_BYTES || answer.readUInt16BE(0) !== id) return false;
  const flags = answer.readUInt16BE(2);
  if (!(flags & FLAG.RESPONSE) || flags & OPCODE_MASK) return false;
  const questions = answer.readUInt16BE(4);
  if (questions === 0) return rcodeOf(answer) !== RCODE.OK;
  const theirs = answer.subarray(HEADER_BYTES, HEADER_BYTES + question.length);
  return questions === 1 && isSameQuestion(theirs, question);
}

export function rcodeOf(answer: Buffer): number {
  return (answer[3] ?? 0) & 0xf;
}

/** The message with another ID, as a copy. */
export function withId(message: Buffer, id: number): Buffer {
  const copy = Buffer.from(message);
  copy.writeUInt16BE(id, 0);
  return copy;
}

/** A name in its wire form, without compression. Undefined if it cannot be one. */
export function nameBytes(name: string): Buffer | undefined {
  const labels = name === '' ? [] : name.split('.').map((label) => Buffer.from(label, 'latin1'));
  if (labels.some(({ length }) => length === 0 || length > 63)) return undefined;
  const bytes = Buffer.concat([...labels.flatMap((label) => [Buffer.of(label.length), label]), Buffer.of(0)]);
  return bytes.length > MAX_NAME_BYTES ? undefined : bytes;
}

/**
 * The name at an offset, and where it ends. A pointer must lead further back than everything that was read for the
 * name before it, so that reading comes to an end.
 */
export function readName(
  bytes: Buffer,
  start: number,
): { name: string; end: number; isCompressed: boolean } | undefined {
  const labels: string[] = [];
  let end: number | undefined;
  let size = 1;
  let earliest = start;
  for (let at = start; ; ) {
    const length = bytes[at];
    if (length === undefined) return undefined;
    if (length === 0) return { name: labels.join('.'), end: end ?? at + 1, isCompressed: end !== undefined };
    if ((length & POINTER) === POINTER) {
      if (at + 2 > bytes.length) return undefined;
      const target = bytes.readUInt16BE(at) & 0x3fff;
      if (target >= earliest) return undefined;
      end ??= at + 2;
      earliest = target;
      at = target;
      continue;
    }
    size += 1 + length;
    if (length & POINTER || size > MAX_NAME_BYTES || at + 1 + length > bytes.length) return undefined;
    labels.push(bytes.toString('latin1', at + 1, at + 1 + length).replace(/[.\\]/g, '\\$&'));
    at += 1 + length;
  }
}

/** How large an answer the sender takes, by its OPT record; undefined without one. */
function findEdns(bytes: Buffer, start: number): number | undefined | 'malformed' {
  const records = bytes.readUInt16BE(6) + bytes.readUInt16BE(8) + bytes.readUInt16BE(10);
  let at = start;
  for (let count = 0; count < records; count++) {
    const read = readName(bytes, at);
    if (read === undefined || read.end + 10 > bytes.length) return 'malformed';
    if (bytes.readUInt16BE(read.end) === TYPE.OPT) return bytes.readUInt16BE(read.end + 2);
    at = read.end + 10 + bytes.readUInt16BE(read.end + 8);
  }
  return undefined;
}

function headerBytes({ id, flags }: { id: number; flags: number }, rcode: number, more: number): Buffer {
  const kept = flags & (OPCODE_MASK | FLAG.RECURSION_DESIRED);
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE(kept | FLAG.RESPONSE | FLAG.RECURSION_AVAILABLE | more | rcode, 2);
  return header;
}

function recordBytes({ type, ttlSeconds, bytes }: AnswerRecord): Buffer {
  const head = Buffer.alloc(12);
  head.writeUInt16BE(POINTER_TO_QUESTION, 0);
  head.writeUInt16BE(type, 2);
  head.writeUInt16BE(CLASS.IN, 4);
  head.writeUInt32BE(ttlSeconds, 6);
  head.writeUInt16BE(bytes.length, 10);
  return Buffer.concat([head, bytes]);
}

function ednsRecord(): Buffer {
  const record = Buffer.alloc(11);
  record.writeUInt16BE(TYPE.OPT, 1);
  record.writeUInt16BE(OWN_UDP_BYTES, 3);
  return record;
}

/** Servers may write the letters of a name in another case. */
function isSameQuestion(one: Buffer, other: Buffer): boolean {
  return one.toString('latin1').toLowerCase() === other.toString('latin1').toLowerCase();
}
