import { fail } from '../errors.ts';
import { copyBytes } from './copy-bytes.ts';

/**
 * Numbers of any size up to 2^53 in few bytes: seven bits a byte, lowest first, the top bit set on all but the last.
 */
export class VarintReader {
  readonly #bytes: Buffer;
  readonly #prefix: string;
  #at = 0;

  /** `prefix` begins the message of what is wrong. */
  constructor(bytes: Buffer, prefix: string) {
    this.#bytes = bytes;
    this.#prefix = prefix;
  }

  get isDone(): boolean {
    return this.#at >= this.#bytes.length;
  }

  /** The next number; throws `CORRUPT` where there is none, or one that no double holds. */
  next(): number {
    const first = this.#bytes[this.#at];
    if (first === undefined || first >= 0x80) return this.#nextLong();
    this.#at++;
    return first;
  }

  #nextLong(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 0x80) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined || scale > Number.MAX_SAFE_INTEGER) throw this.#corrupt('a number is cut');
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
    }
    if (!Number.isSafeInteger(value)) throw this.#corrupt('a number is too large');
    return value;
  }

  /** The next number with a sign, which stands in its lowest bit. */
  nextSigned(): number {
    const value = this.next();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  /** All that is left, lent. */
  rest(): Buffer {
    return this.#bytes.subarray(this.#at);
  }

  /** The next byte as it is. Throws `CORRUPT` if there is none. */
  byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw this.#corrupt('a part is cut');
    return byte;
  }

  /** That many bytes as they are, into the target. Throws `CORRUPT` if there are fewer. */
  copyTo(target: Buffer, at: number, length: number): void {
    if (length > this.#bytes.length - this.#at) throw this.#corrupt('a part is cut');
    copyBytes(this.#bytes, this.#at, target, at, length);
    this.#at += length;
  }

  /** That many bytes as they are, lent. Throws `CORRUPT` if there are fewer. */
  take(length: number): Buffer {
    if (length > this.#bytes.length - this.#at) throw this.#corrupt('a part is cut');
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  #corrupt(what: string): Error {
    return fail.corrupt(`${this.#prefix}${what}`);
  }
}

/** Collects numbers and bytes for a {@link VarintReader}; grows as it must. */
export class VarintWriter {
  #bytes: Buffer;
  #used = 0;

  constructor(roomBytes = 1024) {
    this.#bytes = Buffer.allocUnsafe(roomBytes);
  }

  get bytes(): number {
    return this.#used;
  }

  put(value: number): void {
    this.#reserve(8);
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.#bytes[this.#used++] = (rest % 0x80) | 0x80;
    this.#bytes[this.#used++] = rest;
  }

  putSigned(value: number): void {
    this.put(value < 0 ? -value * 2 - 1 : value * 2);
  }

  putByte(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#used++] = value;
  }

  putBytes(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#used);
    this.#used += bytes.length;
  }

  /** All that was put so far, in a buffer of its own. */
  toBuffer(): Buffer {
    return Buffer.from(this.#bytes.subarray(0, this.#used));
  }

  #reserve(room: number): void {
    if (this.#used + room <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#used + room));
    this.#bytes.copy(grown, 0, 0, this.#used);
    this.#bytes = grown;
  }
}
