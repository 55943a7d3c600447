import { fail } from '../errors.ts';
import { ByteInput } from '../lib/byte-input.ts';
import {
  DELTA_MAGIC,
  FIRST_COPY,
  FIRST_LITERAL,
  LAST_COPY,
  LAST_SHORT_LITERAL,
  OP_END,
  WIDTHS,
} from './librsync-format.ts';

/** What a patch builds on: any part of it, in a buffer that is let go of. `Base` of base.ts is one. */
export interface PatchBase {
  readonly bytes: number;
  read(position: number, length: number): Buffer;
}

/** A long copy is made in pieces of this size; short ones, and short literals, are handed on together. */
const PIECE_BYTES = 64 << 10;

const PREFIX = 'librsync delta: ';

/**
 * Applies a librsync delta, as `rdiff delta` and balenaEngine write it, and gives what it makes of the base, in order. Holds two pieces
 * of 64 KiB beside what the stream gives. A delta that is cut, goes on behind its end, reaches out of its base or
 * makes more than `maxBytes` is a `CORRUPT` failure. The format has no checksum: compare the digest of what was made.
 */
export async function* applyPatch(
  patch: AsyncIterable<Buffer>,
  base: PatchBase,
  { maxBytes }: { maxBytes: number },
): AsyncGenerator<Buffer, void, undefined> {
  const input = new ByteInput(patch, PREFIX);
  const output = new PieceBuffer();
  try {
    if ((await input.number(4)) !== DELTA_MAGIC) throw corrupt('it is none');
    let roomBytes = maxBytes;
    for (;;) {
      const command = await nextCommand(input);
      if (command === 'end') break;
      const { position, length } = command;
      if (length === 0) throw corrupt('a command is empty');
      if (length > roomBytes) throw corrupt(`it makes more than ${maxBytes} bytes`);
      roomBytes -= length;
      if (position === undefined) for await (const bytes of input.take(length)) yield* output.add(bytes);
      else yield* copy(base, position, length, output);
    }
    if (!(await input.isAtEnd())) throw corrupt('it goes on behind its end');
    yield* output.flush();
  } finally {
    await input.close();
  }
}

/** So many bytes of the delta itself, or of the base from a position on. */
type Command = 'end' | { readonly position?: number; readonly length: number };

async function nextCommand(input: ByteInput): Promise<Command> {
  const op = await input.number(1);
  if (op === OP_END) return 'end';
  if (op <= LAST_SHORT_LITERAL) return { length: op };
  if (op < FIRST_COPY) return { length: await input.number(widthOf(op - FIRST_LITERAL)) };
  if (op > LAST_COPY) throw corrupt(`there is no command ${op}`);
  const position = await input.number(widthOf((op - FIRST_COPY) >> 2));
  return { position, length: await input.number(widthOf((op - FIRST_COPY) & 3)) };
}

function widthOf(code: number): number {
  return WIDTHS[code] ?? 0;
}

function* copy(base: PatchBase, position: number, length: number, output: PieceBuffer): Generator<Buffer> {
  if (position > base.bytes || length > base.bytes - position) throw corrupt('a range lies outside its base');
  for (let done = 0; done < length; ) {
    const bytes = base.read(position + done, Math.min(PIECE_BYTES, length - done));
    if (bytes.length === 0) throw corrupt('its base is cut');
    done += bytes.length;
    yield* output.add(bytes);
  }
}

/** Joins short runs of bytes, so that who takes them is not called for each. */
class PieceBuffer {
  #piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
  #used = 0;

  *add(bytes: Buffer): Generator<Buffer> {
    if (bytes.length > this.#piece.length - this.#used) yield* this.flush();
    if (bytes.length >= PIECE_BYTES) yield bytes;
    else this.#used += bytes.copy(this.#piece, this.#used);
  }

  *flush(): Generator<Buffer> {
    if (this.#used === 0) return;
    yield this.#piece.subarray(0, this.#used);
    this.#piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
    this.#used = 0;
  }
}

function corrupt(what: string): Error {
  return fail.corrupt(`${PREFIX}${what}`);
}
