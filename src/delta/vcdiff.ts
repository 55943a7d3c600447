import { fail, messageOf } from '../errors.ts';

/** What xdelta3's instance of 16 MiB holds beside its own tables; more than that poisons it for good. */
export const MAX_SOURCE_BYTES = 6 << 20;
export const MAX_TARGET_BYTES = 4 << 20;
export const MAX_WINDOW_BYTES = 1 << 20;
/** Sizes up to which encoding is safe as well. */
export const MAX_ENCODED_SOURCE_BYTES = 1536 << 10;
export const MAX_ENCODED_TARGET_BYTES = 512 << 10;

/** XD3_ADLER32: without a checksum half of all flipped bits decode to something. */
const WITH_CHECKSUM = 1 << 10;
/** XD3_COMPLEVEL_SHIFT: the strongest search. */
const LEVEL_9 = 9 << 20;

type Answer = { ret: number; str: string; output: Uint8Array };
type Call = (input: Uint8Array, source: Uint8Array, outputBytes: number, flags: number) => Answer;

/**
 * VCDIFF windows (RFC 3284) by xdelta3, in WebAssembly. It has memory for one call at a time and no checks of its own,
 * so sizes are checked here. After an exception the instance is worthless, and so is this object.
 */
export class WindowCodec {
  readonly #encode: Call;
  readonly #decode: Call;
  #isBroken = false;

  private constructor(o: { encode: Call; decode: Call }) {
    this.#encode = o.encode;
    this.#decode = o.decode;
  }

  /** Loads the codec; nobody pays for it before. */
  static async open(): Promise<WindowCodec> {
    const { init, xd3_encode_memory, xd3_decode_memory } = await import('xdelta3-wasm');
    await init();
    return new WindowCodec({ encode: xd3_encode_memory, decode: xd3_decode_memory });
  }

  /** Throws `CORRUPT` for a window that would not fit the codec. */
  check(sourceBytes: number, targetBytes: number): void {
    if (sourceBytes > MAX_SOURCE_BYTES || targetBytes > MAX_TARGET_BYTES)
      throw fail.corrupt('delta: a window is too large');
  }

  /** Exactly `targetBytes`. Throws `CORRUPT` for anything else. */
  decode(window: Buffer, source: Buffer, targetBytes: number): Buffer {
    if (window.length > MAX_WINDOW_BYTES) throw fail.corrupt('delta: a window is too large');
    const output = this.#call(this.#decode, window, source, targetBytes, 0);
    if (output?.length !== targetBytes) throw fail.corrupt('delta: a window is damaged');
    return Buffer.from(output.buffer, output.byteOffset, output.length);
  }

  /** The window that makes `target` of `source`; undefined where it would have more than `mostBytes`. */
  encode(target: Buffer, source: Buffer, mostBytes: number): Buffer | undefined {
    if (target.length > MAX_ENCODED_TARGET_BYTES || source.length > MAX_ENCODED_SOURCE_BYTES)
      return undefined;
    const limit = Math.min(mostBytes, MAX_WINDOW_BYTES);
    const output = this.#call(this.#encode, target, source, limit, WITH_CHECKSUM | LEVEL_9);
    return output === undefined ? undefined : Buffer.from(output);
  }

  /** Undefined for an answer that says no. */
  #call(
    call: Call,
    input: Buffer,
    source: Buffer,
    outputBytes: number,
    flags: number,
  ): Uint8Array | undefined {
    if (this.#isBroken) throw fail.host('the VCDIFF codec has failed before');
    try {
      const { ret, output } = call(input, source, outputBytes, flags);
      return ret === 0 ? output : undefined;
    } catch (cause) {
      this.#isBroken = true;
      throw fail.corrupt(`delta: a window is damaged: ${messageOf(cause)}`, cause);
    }
  }
}
