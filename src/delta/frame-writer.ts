import {
  CHANGE_BYTES,
  type ColumnWriters,
  MAX_FRAME_BYTES,
  MAX_INFLATED_BYTES,
  MIN_FRAME_BYTES,
  newColumns,
  Op,
  PIECE_BYTES,
} from './frame.ts';
import { PlannedEffort } from './planned-effort.ts';

/** Members up to this size stay whole, if need be in a new frame. */
const WHOLE_BYTES = 64 << 10;

/** What a program's operations count from, and what is not written down yet. */
interface Context {
  /** See {@link Program}. */
  next: number;
  mtimeStep: number;
  pending: { readonly op: 'copy'; length: number } | { readonly op: 'members'; count: number } | undefined;
}

/** Takes each frame as it is complete. */
export type FrameSink = (frame: { readonly columns: ColumnWriters; readonly outputBytes: number }) => void;

/**
 * Writes the programs of a layer's frames: whatever makes the tar's bytes is given in order, and cut where a frame is
 * full. The counterpart of {@link Program}.
 */
export class FrameWriter {
  readonly #sink: FrameSink;
  readonly #effort: PlannedEffort;
  #columns = newColumns();
  #left = MAX_FRAME_BYTES;
  #context: Context = { next: 0, mtimeStep: 0, pending: undefined };
  #sinceChange = 0;
  #isInner = false;
  #inflatedBytes = 0;

  constructor(sink: FrameSink, effort = new PlannedEffort()) {
    this.#sink = sink;
    this.#effort = effort;
  }

  /** The end of the layer: gives the last frame away. */
  finish(): void {
    this.#cut();
  }

  /**
   * False if the frame costs who reads it so much already that only literals and zeros should follow. Begins a new one
   * where the present one is long enough.
   */
  mayRead(): boolean {
    if (!this.#effort.isSpent) return true;
    if (this.#isInner || MAX_FRAME_BYTES - this.#left < MIN_FRAME_BYTES) return false;
    this.#cut();
    return true;
  }

  /** Bytes as the base has them. */
  copy(position: number, length: number): void {
    for (let done = 0; done < length; ) {
      const piece = this.#reserve(length - done);
      this.#copied(position + done, piece);
      this.#sinceChange += piece;
      done += piece;
    }
  }

  /** Bytes that are like those of the base from `position` on, which are `source`. */
  copyLike(position: number, source: Buffer, target: Buffer): void {
    for (let done = 0; done < target.length; ) {
      const piece = this.#reserve(target.length - done);
      const before = this.#copied(position + done, piece) % PIECE_BYTES;
      for (let at = 0; at < piece; ) {
        const length = Math.min(PIECE_BYTES - (at === 0 ? before : 0), piece - at);
        this.#differences(source.subarray(done + at), target.subarray(done + at, done + at + length));
        at += length;
      }
      done += piece;
    }
  }

  literal(bytes: Buffer): void {
    for (let done = 0; done < bytes.length; ) {
      const piece = this.#reserve(bytes.length - done);
      this.#begin(Op.literal);
      this.#columns.lengths.put(piece);
      this.#columns.literals.putBytes(bytes.subarray(done, done + piece));
      this.#context.next += piece;
      done += piece;
    }
  }

  zeros(length: number): void {
    for (let done = 0; done < length; ) {
      const piece = this.#reserve(length - done);
      this.#begin(Op.zeros);
      this.#columns.lengths.put(piece);
      this.#context.next += piece;
      done += piece;
    }
  }

  /** A member of the base, whole, its time moved by so many seconds. False if it is too long for one frame. */
  member(o: { position: number; bytes: number; mtimeStep: number }): boolean {
    if (o.bytes > this.#left && !this.#make(o.bytes)) return false;
    this.#left -= o.bytes;
    this.#effort.read(o.position, o.bytes);
    const context = this.#context;
    if (context.pending?.op === 'members' && context.next === o.position) context.pending.count++;
    else {
      this.#begin(Op.members);
      this.#seek(o.position);
      context.pending = { op: 'members', count: 1 };
    }
    this.#time(o.mtimeStep);
    context.next = o.position + o.bytes;
    return true;
  }

  /** The header of a member of the base, with another time and perhaps another size. */
  header(o: { position: number; bytes: number; mtimeStep: number; size?: number | undefined }): void {
    if (o.bytes > this.#left) this.#cut();
    this.#left -= o.bytes;
    this.#effort.read(o.position, o.bytes);
    this.#begin(Op.header);
    this.#columns.headers.put(o.size === undefined ? 0 : 1);
    this.#seek(o.position);
    if (o.size !== undefined) this.#columns.headers.put(o.size);
    this.#time(o.mtimeStep);
    this.#context.next = o.position + o.bytes;
  }

  /** A VCDIFF window against these bytes of the base. False if it is too long for one frame. */
  window(o: { position: number; sourceBytes: number; targetBytes: number; window: Buffer }): boolean {
    if (o.targetBytes > this.#left && !this.#make(o.targetBytes)) return false;
    this.#left -= o.targetBytes;
    this.#read(o.position, o.sourceBytes);
    this.#effort.window(o.sourceBytes);
    this.#begin(Op.window);
    this.#seek(o.position);
    for (const number of [o.sourceBytes, o.targetBytes, o.window.length]) this.#columns.lengths.put(number);
    this.#columns.literals.putBytes(o.window);
    this.#context.next = o.position + o.sourceBytes;
    return true;
  }

  /**
   * A gzip member of `bytes`; `write` says what its content is made of, against that of the base's member if there is
   * one. False if the frame has no room for it.
   */
  gzip(
    o: {
      bytes: number;
      shape: number;
      head: Buffer;
      plainBytes: number;
      base?: { position: number; bytes: number; plainBytes: number };
    },
    write: () => void,
  ): boolean {
    if (this.#inflatedBytes + o.plainBytes > MAX_INFLATED_BYTES) return false;
    if (o.bytes > this.#left && !this.#make(o.bytes)) return false;
    this.#left -= o.bytes;
    this.#inflatedBytes += o.plainBytes;
    if (o.base !== undefined) this.#read(o.base.position, o.base.bytes);
    this.#effort.gzip(o.base?.bytes ?? 0, o.base?.plainBytes ?? 0);
    this.#begin(Op.gzip);
    for (const number of [o.shape, o.head.length]) this.#columns.lengths.put(number);
    this.#columns.literals.putBytes(o.head);
    for (const number of [o.plainBytes, o.base?.bytes ?? 0]) this.#columns.lengths.put(number);
    if (o.base !== undefined) this.#seek(o.base.position);
    const [outer, left] = [this.#context, this.#left];
    this.#context = { next: 0, mtimeStep: 0, pending: undefined };
    this.#left = o.plainBytes;
    this.#isInner = true;
    write();
    this.#settle();
    this.#isInner = false;
    [this.#context, this.#left] = [outer, left];
    outer.next += o.base?.bytes ?? 0;
    return true;
  }

  /** How much of `wanted` the present frame takes; begins a new one if it is full. */
  #reserve(wanted: number): number {
    if (this.#left === 0) this.#cut();
    const piece = Math.min(wanted, this.#left);
    this.#left -= piece;
    return piece;
  }

  /** Room for something that must not be cut, in a new frame where that wastes little. */
  #make(bytes: number): boolean {
    if (this.#isInner || (bytes > WHOLE_BYTES && this.#left > WHOLE_BYTES)) return false;
    this.#cut();
    return bytes <= this.#left;
  }

  #cut(): void {
    if (this.#isInner) throw new Error('a gzip member makes more than it says');
    this.#settle();
    const outputBytes = MAX_FRAME_BYTES - this.#left;
    if (outputBytes > 0) this.#sink({ columns: this.#columns, outputBytes });
    this.#columns = newColumns();
    this.#context = { next: 0, mtimeStep: 0, pending: undefined };
    this.#left = MAX_FRAME_BYTES;
    this.#sinceChange = 0;
    this.#inflatedBytes = 0;
    this.#effort.reset();
  }

  /** What a gzip member is made of is at hand, once it is inflated. */
  #read(position: number, bytes: number): void {
    if (!this.#isInner) this.#effort.read(position, bytes);
  }

  /** Enters a copy, or makes the one before longer: then returns how long that was. */
  #copied(position: number, length: number): number {
    this.#read(position, length);
    const context = this.#context;
    if (context.pending?.op === 'copy' && context.next === position) {
      const before = context.pending.length;
      context.pending.length += length;
      context.next += length;
      return before;
    }
    this.#begin(Op.copy);
    this.#seek(position);
    context.pending = { op: 'copy', length };
    context.next = position + length;
    return 0;
  }

  #differences(source: Buffer, target: Buffer): void {
    const { gaps, changes } = this.#columns;
    for (let at = 0; at < target.length; ) {
      if (source[at] === target[at]) {
        this.#sinceChange++;
        at++;
        continue;
      }
      gaps.put(this.#sinceChange);
      this.#sinceChange = 0;
      const end = Math.min(at + CHANGE_BYTES, target.length);
      let borrow = 0;
      for (; at < end; at++) {
        const difference = (target[at] ?? 0) - (source[at] ?? 0) - borrow;
        borrow = difference < 0 ? 1 : 0;
        changes.putByte(difference & 0xff);
      }
    }
  }

  #begin(op: number): void {
    this.#settle();
    this.#columns.ops.put(op);
  }

  /** Writes down how long the operation was that could still have grown. */
  #settle(): void {
    const { pending } = this.#context;
    if (pending?.op === 'copy') this.#columns.lengths.put(pending.length);
    else if (pending?.op === 'members') this.#columns.lengths.put(pending.count);
    this.#context.pending = undefined;
  }

  #seek(position: number): void {
    this.#columns.seeks.putSigned(position - this.#context.next);
    this.#context.next = position;
  }

  #time(step: number): void {
    this.#columns.headers.putSigned(step - this.#context.mtimeStep);
    this.#context.mtimeStep = step;
  }
}
