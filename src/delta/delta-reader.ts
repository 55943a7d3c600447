import { createHash } from 'node:crypto';
import { fail } from '../errors.ts';
import type { Digest } from '../lib/digest.ts';
import { Base, type TarBytes } from './base.ts';
import { type DeltaHeader, type DeltaLayer, frameHash, PREFIX_BYTES, parsePrefix } from './delta-header.ts';
import { Effort } from './effort.ts';
import { type ColumnReaders, unpackFrame } from './frame.ts';
import { mayHaveWindows, Output, Program } from './program.ts';
import { WindowCodec } from './vcdiff.ts';

/** A layer by the digest of its tar, and that tar. */
export interface LayerTar extends TarBytes {
  readonly diffId: Digest;
}

/** Takes the bytes of a tar in order; they are lent for the length of the call. */
export type TarSink = (bytes: Buffer) => void;

/**
 * Reads a delta as it comes in, from its first byte to its last, and holds one frame of it at a time. Whatever is wrong
 * with it is a `CORRUPT` failure, told before a wrong byte counts as a layer.
 */
export class DeltaReader {
  readonly header: DeltaHeader;
  readonly #queue: ByteQueue;

  private constructor(header: DeltaHeader, queue: ByteQueue) {
    this.header = header;
    this.#queue = queue;
  }

  /** Reads the header. `chunks` is what a stream gives. */
  static async open(chunks: AsyncIterable<Buffer>): Promise<DeltaReader> {
    const queue = new ByteQueue(chunks);
    const { bytes, parse } = parsePrefix(await queue.take(PREFIX_BYTES));
    return new DeltaReader(parse(await queue.take(bytes)), queue);
  }

  /** The next layer's frames, each proven to be as it was made; for who looks at them, instead of {@link layer}. */
  async *frames(layer: DeltaLayer): AsyncGenerator<{ packed: Buffer; outputBytes: number }> {
    for (const [bytes, outputBytes, expected] of layer.frames) {
      const packed = await this.#queue.take(bytes);
      if (frameHash(packed) !== expected) throw fail.corrupt('delta: a frame is damaged');
      yield { packed, outputBytes };
    }
  }

  /**
   * Makes the next layer's tar of the base's. Call it, or {@link skip}, for each of `header.layers`, in order. Resolves once the tar is
   * proven to be the layer's.
   */
  async layer(layer: DeltaLayer, base: readonly LayerTar[], sink: TarSink): Promise<void> {
    const hash = createHash('sha256');
    await this.unprovenLayer(layer, base, (bytes) => {
      hash.update(bytes);
      sink(bytes);
    });
    checkMade(layer, `sha256:${hash.digest('hex')}`);
  }

  /** As {@link layer}, for who hashes the tar in any case: the caller must {@link checkMade} before it counts as the layer. */
  async unprovenLayer(layer: DeltaLayer, base: readonly LayerTar[], sink: TarSink): Promise<void> {
    const source = baseOf(this.header, base);
    let windows: WindowCodec | undefined;
    for await (const { packed, outputBytes } of this.frames(layer)) {
      const columns = unpackFrame(packed);
      if (mayHaveWindows(columns)) windows ??= await WindowCodec.open();
      runColumns(columns, outputBytes, { source, windows, sink });
    }
  }

  /** Passes over the next layer, of which nothing is made. */
  async skip(layer: DeltaLayer): Promise<void> {
    for (const [bytes] of layer.frames) await this.#queue.take(bytes);
  }

  /** After the last layer: nothing must follow. */
  async end(): Promise<void> {
    if (!(await this.#queue.isAtEnd())) throw fail.corrupt('delta: it is longer than it says');
  }
}

/** Makes one frame's part of a tar. Throws `CORRUPT` for a program that does not end where it should. */
export function runFrame(
  packed: Buffer,
  outputBytes: number,
  o: { source: Base; windows: WindowCodec; sink: TarSink; mostEffortBytes?: number | undefined },
): void {
  runColumns(unpackFrame(packed), outputBytes, o);
}

function runColumns(
  columns: ColumnReaders,
  outputBytes: number,
  o: { source: Base; windows: WindowCodec | undefined; sink: TarSink; mostEffortBytes?: number | undefined },
): void {
  const effort = new Effort(o.mostEffortBytes);
  o.source.chargeTo(effort);
  const program = new Program(columns, { ...o, effort });
  program.run(new Output(outputBytes, o.sink));
  if (!program.isDone) throw fail.corrupt('delta: a frame goes on behind its end');
}

/** Throws `CORRUPT` unless the tar that was made, of this digest, is the layer's. */
export function checkMade({ diffId }: DeltaLayer, found: string): void {
  if (found !== diffId)
    throw fail.corrupt(`delta: layer verification failed: expected ${diffId}, made ${found}`);
}

/** The base's layers as the delta numbers them. */
export function baseOf({ base }: DeltaHeader, tars: readonly LayerTar[]): Base {
  const inOrder = base.map(({ diffId, tarBytes }) => {
    const found = tars.find((tar) => tar.diffId === diffId);
    if (found === undefined) throw fail.corrupt(`delta: layer ${diffId} of its base is missing`);
    if (found.tarBytes !== tarBytes)
      throw fail.corrupt(`delta: layer ${diffId} of its base has another size`);
    return found;
  });
  return new Base(inOrder);
}

/** Bytes of a stream, taken in portions. */
class ByteQueue {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(chunks: AsyncIterable<Buffer>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** Grows with what comes, not with what a stranger says is to come. */
  async take(bytes: number): Promise<Buffer> {
    const parts = [this.#rest];
    let have = this.#rest.length;
    while (have < bytes) {
      const { done, value } = await this.#chunks.next();
      if (done) throw fail.corrupt('delta: it is cut');
      parts.push(value);
      have += value.length;
    }
    const all = parts.length === 1 ? this.#rest : Buffer.concat(parts);
    this.#rest = all.subarray(bytes);
    return all.subarray(0, bytes);
  }

  async isAtEnd(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const { done, value } = await this.#chunks.next();
      if (done) return true;
      this.#rest = value;
    }
    return false;
  }
}
