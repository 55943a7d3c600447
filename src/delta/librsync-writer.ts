import type { Source } from './base.ts';
import type { BlockIndex } from './block-index.ts';
import {
  DELTA_MAGIC,
  FIRST_COPY,
  FIRST_LITERAL,
  LAST_SHORT_LITERAL,
  OP_END,
  WIDTHS,
} from './librsync-format.ts';

/** A literal is written once it is this long. */
const LITERAL_BYTES = 64 << 10;
/** So much of the base is compared at once. */
const COMPARED_BYTES = 4 << 10;
/** Behind a difference, a copy goes on in step with its base if a run of so many equal bytes begins within so many. */
const RESUMED_BYTES = 12;
const SKIPPED_BYTES = 64;

/**
 * Makes a librsync delta, which `rdiff patch`, balenaEngine and `applyPatch` apply. The target is pushed through in order, the base is read
 * where the index points; the same inputs give the same bytes. A copy begins and ends at any byte, not only at the
 * borders of blocks as librsync's own do. Holds less than 200 KiB beside the index.
 */
export class LibrsyncWriter {
  readonly #base: Source;
  readonly #index: BlockIndex;
  readonly #sink: (bytes: Buffer) => void;
  readonly #window: Buffer;
  readonly #compared = Buffer.allocUnsafeSlow(COMPARED_BYTES);
  /** In the window: the literal that waits to be written goes from `literal` to `at`, what was not looked at from there to `end`. */
  #literal = 0;
  #at = 0;
  #end = 0;
  /** What ends at `at`; there is no literal then. */
  #copy: { position: number; length: number } | undefined;
  /** Of the block at `at`, if it is known. */
  #sum: number | undefined;
  #isEnding = false;

  /** `sink` is lent each piece for the length of the call. */
  constructor(o: { base: Source; index: BlockIndex; sink: (bytes: Buffer) => void }) {
    this.#base = o.base;
    this.#index = o.index;
    this.#sink = o.sink;
    this.#window = Buffer.allocUnsafeSlow(
      2 * LITERAL_BYTES + 2 * Math.max(COMPARED_BYTES, o.index.blockBytes),
    );
    this.#sink(numberBytes(DELTA_MAGIC, 4));
  }

  /** The next bytes of the target. */
  push(bytes: Buffer): void {
    for (let done = 0; done < bytes.length; ) {
      this.#window.copyWithin(0, this.#literal, this.#end);
      this.#at -= this.#literal;
      this.#end -= this.#literal;
      this.#literal = 0;
      const taken = bytes.copy(this.#window, this.#end, done);
      done += taken;
      this.#end += taken;
      this.#proceed();
    }
  }

  /** The target ends here. */
  end(): void {
    this.#isEnding = true;
    this.#proceed();
    this.#endCopy();
    this.#at = this.#end;
    this.#writeLiteral();
    this.#sink(Buffer.of(OP_END));
  }

  /** Goes as far as it can with what is in the window. */
  #proceed(): void {
    while (this.#copy === undefined ? this.#search() : this.#extend(this.#copy));
  }

  /** Looks for a block of the base, byte after byte. False if that needs more of the target. */
  #search(): boolean {
    const { blockBytes } = this.#index;
    const window = this.#window;
    let sum = this.#sum;
    for (; this.#end - this.#at >= blockBytes; this.#at++) {
      sum ??= this.#index.sumOf(window, this.#at);
      const position = this.#index.find(sum);
      if (position >= 0 && this.#begin(position)) return true;
      if (this.#at - this.#literal >= LITERAL_BYTES) this.#writeLiteral();
      const next = this.#at + blockBytes;
      sum = next < this.#end ? this.#index.roll(sum, window[this.#at] ?? 0, window[next] ?? 0) : undefined;
    }
    this.#sum = sum;
    return false;
  }

  /** Begins a copy of the block there, and of what is equal before it, if it is what its sum says. */
  #begin(position: number): boolean {
    const { blockBytes } = this.#index;
    for (let done = 0; done < blockBytes; ) {
      const wanted = Math.min(blockBytes - done, COMPARED_BYTES);
      if (this.#equalBytes(position + done, this.#at + done, wanted) < wanted) return false;
      done += wanted;
    }
    const before = this.#equalBytesBefore(position);
    this.#at -= before;
    this.#writeLiteral();
    this.#copy = { position: position - before, length: before + blockBytes };
    this.#at += before + blockBytes;
    this.#literal = this.#at;
    this.#sum = undefined;
    return true;
  }

  /** Goes on with a copy as far as it is equal, and in step behind a short difference. False if that needs more of the target. */
  #extend(copy: { position: number; length: number }): boolean {
    for (;;) {
      const position = copy.position + copy.length;
      const wanted = Math.min(COMPARED_BYTES, this.#end - this.#at, this.#base.bytes - position);
      const equal = wanted === 0 ? 0 : this.#equalBytes(position, this.#at, wanted);
      copy.length += equal;
      this.#at += equal;
      this.#literal = this.#at;
      if (equal < wanted || position + equal === this.#base.bytes) break;
      if (this.#at === this.#end) return false;
    }
    if (!this.#isEnding && this.#end - this.#at < SKIPPED_BYTES + RESUMED_BYTES) return false;
    const position = copy.position + copy.length;
    const skipped = this.#differentBytes(position);
    this.#endCopy();
    if (skipped === undefined) return true;
    this.#at += skipped;
    this.#writeLiteral();
    this.#copy = { position: position + skipped, length: 0 };
    return true;
  }

  /** How many bytes on, target and base are equal again for a while. */
  #differentBytes(position: number): number | undefined {
    const most = SKIPPED_BYTES + RESUMED_BYTES;
    const bytes = Math.min(most, this.#end - this.#at, this.#base.bytes - position);
    if (bytes <= RESUMED_BYTES) return undefined;
    this.#base.copy(position, this.#compared.subarray(0, bytes));
    let run = 0;
    for (let i = 0; i < bytes; i++) {
      run = this.#compared[i] === this.#window[this.#at + i] ? run + 1 : 0;
      if (run === RESUMED_BYTES) return i + 1 - run;
    }
    return undefined;
  }

  /** How many bytes are equal from there on, of so many; not more than `COMPARED_BYTES`. */
  #equalBytes(position: number, at: number, bytes: number): number {
    const compared = this.#compared.subarray(0, bytes);
    this.#base.copy(position, compared);
    if (this.#window.compare(compared, 0, bytes, at, at + bytes) === 0) return bytes;
    let equal = 0;
    while (compared[equal] === this.#window[at + equal]) equal++;
    return equal;
  }

  /** How many bytes of the literal are equal to those before that position. */
  #equalBytesBefore(position: number): number {
    const bytes = Math.min(this.#at - this.#literal, position, COMPARED_BYTES);
    const compared = this.#compared.subarray(0, bytes);
    if (bytes > 0) this.#base.copy(position - bytes, compared);
    let equal = 0;
    while (equal < bytes && compared[bytes - 1 - equal] === this.#window[this.#at - 1 - equal]) equal++;
    return equal;
  }

  #endCopy(): void {
    if (this.#copy === undefined) return;
    const { position, length } = this.#copy;
    this.#copy = undefined;
    if (length === 0) return;
    const [wide, long] = [widthCode(position), widthCode(length)];
    const command = Buffer.of(FIRST_COPY + 4 * wide + long);
    const operands = [numberBytes(position, WIDTHS[wide] ?? 8), numberBytes(length, WIDTHS[long] ?? 8)];
    this.#sink(Buffer.concat([command, ...operands]));
  }

  #writeLiteral(): void {
    const bytes = this.#window.subarray(this.#literal, this.#at);
    this.#literal = this.#at;
    if (bytes.length === 0) return;
    const long = widthCode(bytes.length);
    if (bytes.length <= LAST_SHORT_LITERAL) this.#sink(Buffer.of(bytes.length));
    else
      this.#sink(
        Buffer.concat([Buffer.of(FIRST_LITERAL + long), numberBytes(bytes.length, WIDTHS[long] ?? 8)]),
      );
    this.#sink(bytes);
  }
}

/** The code of the narrowest width that holds a number. */
function widthCode(value: number): 0 | 1 | 2 | 3 {
  if (value <= 0xff) return 0;
  if (value <= 0xffff) return 1;
  return value <= 0xffffffff ? 2 : 3;
}

function numberBytes(value: number, width: number): Buffer {
  const bytes = Buffer.allocUnsafe(width);
  if (width === 8) bytes.writeBigUInt64BE(BigInt(value));
  else bytes.writeUIntBE(value, 0, width);
  return bytes;
}
