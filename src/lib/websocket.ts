import { createHash } from 'node:crypto';

/** RFC 6455, 1.3. */
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const MAX_CONTROL_BYTES = 125;

export const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
export const PING = 9;
export const PONG = 10;
const CONTINUATION = 0;

/** Why a connection is closed (RFC 6455, 7.4.1). */
export const NORMAL = 1000;
export const PROTOCOL_ERROR = 1002;

export type Opcode = typeof TEXT | typeof BINARY | typeof CLOSE | typeof PING | typeof PONG;

/** What the server answers to a client's key, so that the client knows it is understood. */
export function acceptOf(key: string): string {
  return createHash('sha1').update(`${key}${GUID}`).digest('base64');
}

/** A whole message in one frame, as servers send it: not masked. */
export function messageFrame(opcode: Opcode, payload: Uint8Array): Buffer {
  const { length } = payload;
  const headBytes = length <= MAX_CONTROL_BYTES ? 2 : length < 65536 ? 4 : 10;
  const framed = Buffer.allocUnsafe(headBytes + length);
  framed[0] = 0x80 | opcode;
  framed[1] = headBytes === 2 ? length : headBytes === 4 ? 126 : 127;
  if (headBytes === 4) framed.writeUInt16BE(length, 2);
  if (headBytes === 10) framed.writeBigUInt64BE(BigInt(length), 2);
  framed.set(payload, headBytes);
  return framed;
}

/** The last frame of a side. */
export function closeFrame(code: number): Buffer {
  const payload = Buffer.alloc(2);
  payload.writeUInt16BE(code);
  return messageFrame(CLOSE, payload);
}

/** A client broke the rules of RFC 6455. */
export class ProtocolError extends Error {
  override name = 'ProtocolError';
}

/** What a client's bytes mean: a piece of a message's data, or a control frame as a whole. */
export type Piece =
  | { readonly kind: 'data'; readonly bytes: Buffer }
  | { readonly kind: 'control'; readonly opcode: number; readonly bytes: Buffer };

interface Head {
  readonly isFinal: boolean;
  readonly opcode: number;
  readonly mask: Buffer;
  readonly bytes: number;
}

/**
 * Reads a client's frames. Data is given on as it comes, however long its message is: for a stream of bytes the borders of
 * messages mean nothing, and nothing has to be kept but a head and a control frame of 125 bytes.
 */
export class FrameReader {
  #kept: Buffer = Buffer.alloc(0);
  #head: Head | undefined;
  /** Bytes of the present frame that have been given. */
  #given = 0;
  #isInMessage = false;

  /** Throws {@link ProtocolError}. */
  *push(chunk: Buffer): Generator<Piece> {
    this.#kept = this.#kept.length === 0 ? chunk : Buffer.concat([this.#kept, chunk]);
    for (;;) {
      this.#head ??= this.#readHead();
      const head = this.#head;
      if (head === undefined) return;
      const missing = head.bytes - this.#given;
      if (head.opcode >= CLOSE) {
        if (this.#kept.length < missing) return;
        this.#head = undefined;
        yield { kind: 'control', opcode: head.opcode, bytes: this.#take(missing, head.mask) };
        continue;
      }
      const bytes = this.#take(Math.min(missing, this.#kept.length), head.mask);
      if (bytes.length > 0) yield { kind: 'data', bytes };
      if (this.#given < head.bytes) return;
      this.#head = undefined;
      this.#given = 0;
      this.#isInMessage = !head.isFinal;
    }
  }

  /** The next bytes of the present frame, without their mask. */
  #take(count: number, mask: Buffer): Buffer {
    const bytes = Buffer.allocUnsafe(count);
    const isControl = this.#head === undefined;
    for (let at = 0; at < count; at++) {
      const place = isControl ? at : this.#given + at;
      bytes[at] = (this.#kept[at] ?? 0) ^ (mask[place % 4] ?? 0);
    }
    this.#kept = this.#kept.subarray(count);
    if (!isControl) this.#given += count;
    return bytes;
  }

  /** RFC 6455, 5.2; undefined until all of it is there. */
  #readHead(): Head | undefined {
    const [first, second] = this.#kept;
    if (first === undefined || second === undefined) return undefined;
    const [isFinal, opcode, short] = [(first & 0x80) !== 0, first & 0x0f, second & 0x7f];
    this.#check(first, second);
    const lengthBytes = short === 126 ? 2 : short === 127 ? 8 : 0;
    const headBytes = 2 + lengthBytes + 4;
    if (this.#kept.length < headBytes) return undefined;
    const long = lengthBytes === 8 ? this.#kept.readBigUInt64BE(2) : undefined;
    if (long !== undefined && long > BigInt(Number.MAX_SAFE_INTEGER))
      throw new ProtocolError('frame too long');
    const bytes = lengthBytes === 0 ? short : lengthBytes === 2 ? this.#kept.readUInt16BE(2) : Number(long);
    const mask = Buffer.from(this.#kept.subarray(headBytes - 4, headBytes));
    this.#kept = this.#kept.subarray(headBytes);
    return { isFinal, opcode, mask, bytes };
  }

  #check(first: number, second: number): void {
    const opcode = first & 0x0f;
    if ((first & 0x70) !== 0) throw new ProtocolError('no extension was agreed on');
    if ((second & 0x80) === 0) throw new ProtocolError('a frame of a client is not masked');
    if (opcode >= CLOSE) {
      if (opcode > PONG) throw new ProtocolError('unknown opcode');
      if ((first & 0x80) === 0 || (second & 0x7f) > MAX_CONTROL_BYTES)
        throw new ProtocolError('a control frame is in parts or too long');
      return;
    }
    if (opcode > BINARY) throw new ProtocolError('unknown opcode');
    if ((opcode === CONTINUATION) !== this.#isInMessage) throw new ProtocolError('a message within another');
  }
}
