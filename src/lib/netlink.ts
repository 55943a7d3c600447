/**
 * Netlink's wire form: messages with a 16-byte header, holding attributes of type, length and value. Numbers are in
 * the machine's byte order, which is little-endian on everything that we run on; nf_tables' own are big-endian.
 */

export interface NetlinkMessage {
  type: number;
  flags: number;
  body: Buffer;
}

/** A message as the kernel sent it, with the number of the request that it answers. */
export interface NetlinkReply extends NetlinkMessage {
  sequence: number;
}

/** Types of messages that every netlink family has. */
export const NLMSG = { ERROR: 2, DONE: 3 } as const;

/** Flags of messages. The meaning of the upper ones depends on whether the message asks or makes. */
export const NLM = {
  REQUEST: 0x1,
  ACK: 0x4,
  /** In a reply: what was listed changed meanwhile. */
  INTERRUPTED: 0x10,
  DUMP: 0x300,
  EXCLUSIVE: 0x200,
  CREATE: 0x400,
} as const;

const HEADER_BYTES = 16;
const NESTED = 0x8000;
const TYPE_MASK = 0x3fff;

/** Text gets its closing NUL, a number becomes 32 bits. */
export function attribute(type: number, value: Uint8Array | string | number): Buffer {
  const bytes =
    typeof value === 'string' ? Buffer.from(`${value}\0`) : typeof value === 'number' ? u32(value) : value;
  const whole = Buffer.alloc(padded(4 + bytes.length));
  whole.writeUInt16LE(4 + bytes.length, 0);
  whole.writeUInt16LE(type, 2);
  whole.set(bytes, 4);
  return whole;
}

/** An attribute that holds attributes. */
export function nested(type: number, ...children: Uint8Array[]): Buffer {
  return attribute(type | NESTED, Buffer.concat(children));
}

/** The attributes in `bytes` by type; of several with one type, the last. What is cut short is left out. */
export function readAttributes(bytes: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = bytes.readUInt16LE(at);
    if (length < 4 || at + length > bytes.length) break;
    found.set(bytes.readUInt16LE(at + 2) & TYPE_MASK, bytes.subarray(at + 4, at + length));
    at += padded(length);
  }
  return found;
}

/** The messages as one datagram; the kernel works through them in order. Sequence numbers count up from `sequence`. */
export function writeMessages(messages: readonly NetlinkMessage[], sequence: number): Buffer {
  return Buffer.concat(
    messages.map(({ type, flags, body }, index) => {
      const whole = Buffer.alloc(HEADER_BYTES + padded(body.length));
      whole.writeUInt32LE(HEADER_BYTES + body.length, 0);
      whole.writeUInt16LE(type, 4);
      whole.writeUInt16LE(flags | NLM.REQUEST, 6);
      whole.writeUInt32LE((sequence + index) >>> 0, 8);
      body.copy(whole, HEADER_BYTES);
      return whole;
    }),
  );
}

/** The messages in one datagram from the kernel. Their bodies are views of it. */
export function readMessages(datagram: Buffer): NetlinkReply[] {
  const messages: NetlinkReply[] = [];
  for (let at = 0; at + HEADER_BYTES <= datagram.length; ) {
    const length = datagram.readUInt32LE(at);
    if (length < HEADER_BYTES || at + length > datagram.length) break;
    messages.push({
      type: datagram.readUInt16LE(at + 4),
      flags: datagram.readUInt16LE(at + 6),
      sequence: datagram.readUInt32LE(at + 8),
      body: datagram.subarray(at + HEADER_BYTES, at + length),
    });
    at += padded(length);
  }
  return messages;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

function padded(length: number): number {
  return (length + 3) & ~3;
}
