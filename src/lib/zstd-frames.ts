import { fail } from '../errors.ts';

const SKIPPABLE_TAIL = 0x184d2a; // the magic's upper 24 bits; the lowest nibble is the user's
const FRAME_TAIL = 0xfd2fb5;

/** What the next gathered bytes are; between them, bytes are only counted. */
type Field = 'magic' | 'descriptor' | 'block header' | 'skippable size';

/**
 * Finds where the frames of a zstd stream end (RFC 8878). Node's decompressor drops what follows a frame in the same
 * write, and takes a stream that is cut for one that has ended: fed with these pieces it does neither.
 */
export class ZstdFrames {
  #field: Field = 'magic';
  /** The field so far, little endian, and how many bytes of it. */
  #value = 0;
  #valueBytes = 0;
  /** Bytes to pass before the next field. */
  #left = 0;
  #isSkipping = false;
  #hasChecksum = false;

  /** Cuts a piece of the stream behind every frame in it, and leaves out skippable frames. */
  *push(bytes: Buffer): Generator<Buffer, void, undefined> {
    let start = 0;
    for (let at = 0; at < bytes.length; ) {
      if (this.#left > 0) {
        const passed = Math.min(this.#left, bytes.length - at);
        this.#left -= passed;
        at += passed;
      } else {
        const isFirst = this.#field === 'magic' && this.#valueBytes === 0;
        // the first byte of the magic tells the kinds apart, so a frame's beginning never waits for the next piece
        if (isFirst) this.#isSkipping = (bytes[at] ?? 0) >> 4 === 5;
        if (isFirst && this.#isSkipping) start = at;
        this.#gather(bytes[at++] ?? 0);
      }
      if (!this.#isAtFrameEnd()) continue;
      if (!this.#isSkipping && at > start) yield bytes.subarray(start, at);
      start = at;
    }
    if (!this.#isSkipping && start < bytes.length) yield bytes.subarray(start);
  }

  /** The stream is over; throws if a frame was cut. */
  end(): void {
    if (!this.#isAtFrameEnd()) throw fail.corrupt('invalid zstd data: unexpected end');
  }

  #isAtFrameEnd(): boolean {
    return this.#field === 'magic' && this.#valueBytes === 0 && this.#left === 0;
  }

  #gather(byte: number): void {
    this.#value += byte * 2 ** (8 * this.#valueBytes++);
    if (this.#valueBytes < sizes[this.#field]) return;
    const value = this.#value;
    this.#value = 0;
    this.#valueBytes = 0;
    if (this.#field === 'magic') this.#onMagic(value);
    else if (this.#field === 'descriptor') this.#onDescriptor(value);
    else if (this.#field === 'block header') this.#onBlock(value);
    else this.#pass(value, 'magic');
  }

  #pass(bytes: number, next: Field): void {
    this.#left = bytes;
    this.#field = next;
  }

  #onMagic(value: number): void {
    const tail = value >>> 8;
    if (tail === SKIPPABLE_TAIL && this.#isSkipping) this.#field = 'skippable size';
    else if (tail === FRAME_TAIL && (value & 0xff) === 0x28) this.#field = 'descriptor';
    else throw fail.corrupt('invalid zstd data: no frame');
  }

  #onDescriptor(value: number): void {
    const isSingleSegment = (value & 0x20) !== 0;
    this.#hasChecksum = (value & 4) !== 0;
    const dictionaryBytes = [0, 1, 2, 4][value & 3] ?? 0;
    const contentSizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][value >> 6] ?? 0;
    this.#pass((isSingleSegment ? 0 : 1) + dictionaryBytes + contentSizeBytes, 'block header');
  }

  #onBlock(value: number): void {
    const type = (value >> 1) & 3;
    const size = value >> 3;
    const isLast = (value & 1) === 1;
    const trailer = isLast && this.#hasChecksum ? 4 : 0;
    this.#pass((type === 1 ? 1 : size) + trailer, isLast ? 'magic' : 'block header');
  }
}

const sizes: Readonly<Record<Field, number>> = {
  magic: 4,
  descriptor: 1,
  'block header': 3,
  'skippable size': 4,
};
