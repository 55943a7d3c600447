import { fail } from '../errors.ts';

/** Bytes of a stream, taken in portions of one's own choice. Holds the piece that came last. */
export class ByteInput {
  readonly #pieces: AsyncIterator<Buffer>;
  readonly #prefix: string;
  #rest: Buffer = Buffer.alloc(0);

  /** `prefix` begins the message of what is wrong. */
  constructor(pieces: AsyncIterable<Buffer>, prefix: string) {
    this.#pieces = pieces[Symbol.asyncIterator]();
    this.#prefix = prefix;
  }

  /** Some of the next bytes, at least one and at most so many. Throws `CORRUPT` where there is none. */
  async some(most: number): Promise<Buffer> {
    if (await this.isAtEnd()) throw fail.corrupt(`${this.#prefix}it is cut`);
    const bytes = this.#rest.subarray(0, most);
    this.#rest = this.#rest.subarray(bytes.length);
    return bytes;
  }

  /** The next so many bytes, as they come. */
  async *take(length: number): AsyncGenerator<Buffer, void, undefined> {
    for (let left = length; left > 0; ) {
      const bytes = await this.some(left);
      left -= bytes.length;
      yield bytes;
    }
  }

  /** The next number, in big endian. Throws `CORRUPT` for one that no double holds. */
  async number(width: number): Promise<number> {
    let value = 0;
    for (let left = width; left > 0; ) {
      const bytes = await this.some(left);
      for (const byte of bytes) value = value * 0x100 + byte;
      left -= bytes.length;
    }
    if (!Number.isSafeInteger(value)) throw fail.corrupt(`${this.#prefix}a number is too large`);
    return value;
  }

  async isAtEnd(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const { done, value } = await this.#pieces.next();
      if (done === true) return true;
      this.#rest = value;
    }
    return false;
  }

  /** Lets go of the stream. */
  async close(): Promise<void> {
    await this.#pieces.return?.();
  }
}
