import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { inflateRawSync } from 'node:zlib';
import { Failure, fail, messageOf } from '../errors.ts';
import { diskPath, nameOf, nameText } from '../lib/byte-names.ts';
import { VarintReader } from '../lib/varints.ts';

/**
 * What is left of a layer's tar once its files are unpacked: everything but the files' content, in order, so that
 * the exact tar can be given back from any byte on.
 *
 * Layout of the file `tar-split`, numbers in little endian:
 *
 *     "skts" 01                        magic, version
 *     chunk*                           deflated (RFC 1951), each on its own
 *     index                            deflated: per chunk three varints: bytes in this file, bytes inflated,
 *                                      bytes of tar that it stands for
 *     u48 index offset  u32 index bytes  u48 tar bytes  "skts"
 *
 * An inflated chunk is a list of segments, about 256 KiB of them:
 *
 *     varint length × 2      bytes*length                                     raw bytes of the tar
 *     varint length × 2 + 1  varint offset  varint name bytes  name           that much of a file under diff/,
 *                                                                             from that offset on
 *
 * A varint has seven bits a byte, lowest first, the top bit set on all but the last. Names are raw bytes, without
 * links on the way. Content that is on the disk in no file (entries that a later one replaced) is raw.
 */
export const MAGIC = Buffer.from('skts\x01', 'latin1');
export const FOOTER_BYTES = 6 + 4 + 6 + 4;

/** A chunk is closed once it is this long: what a random read must inflate, against what deflate can see. */
export const CHUNK_BYTES = 256 << 10;
/** Raw bytes are cut into pieces of this size, so that a chunk never grows far beyond. */
export const RAW_BYTES = 64 << 10;
/** No honest chunk is longer: the largest raw segment, or a name of 4 KiB, may follow one byte short of the limit. */
export const MAX_CHUNK_BYTES = CHUNK_BYTES + RAW_BYTES + 64;

/**
 * Access times would be writes to the flash, one for each file that is read. A fifo that took a file's place must not be
 * waited for.
 */
const { O_NOATIME, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;
const READ_FLAGS = O_RDONLY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK;

/** A stream reads that much, or for that long, before others get their turn. */
const STREAM_BYTES = 256 << 10;
const STREAM_MS = 5;

const DAMAGED = 'layer data is damaged: ';

function damaged(what: string, cause?: unknown): Failure {
  return fail.corrupt(`${DAMAGED}${what}`, cause);
}

interface Chunk {
  readonly tarStart: number;
  readonly tarBytes: number;
  readonly fileStart: number;
  readonly fileBytes: number;
  readonly inflatedBytes: number;
}

interface Segment {
  readonly tarStart: number;
  readonly length: number;
  /** Raw bytes, or a place in a file. */
  readonly source: Buffer | { readonly name: string; readonly offset: number };
}

/**
 * Gives back a layer's exact tar, from any byte on. Reads synchronously, in bounded steps: most of it comes from small
 * files, and a trip through the thread pool costs more than each of those. Whoever must not trust the disk compares
 * hashes; what this class notices by itself (a file gone or cut, a damaged index) it throws as `CORRUPT`.
 */
export class TarSplit {
  readonly tarBytes: number;
  readonly #directory: string;
  readonly #fd: number;
  readonly #chunks: readonly Chunk[];
  #segments: readonly Segment[] = [];
  #loaded: Chunk | undefined;
  #file: { readonly name: string; readonly fd: number } | undefined;
  #isClosed = false;

  private constructor(directory: string, fd: number) {
    this.#directory = directory;
    this.#fd = fd;
    const { chunks, tarBytes } = this.#readIndex();
    this.#chunks = chunks;
    this.tarBytes = tarBytes;
  }

  /** Opens the tar of the layer in this directory (`diff/` and `tar-split`). */
  static open(directory: string): TarSplit {
    let fd: number | undefined;
    try {
      fd = openSync(`${directory}/tar-split`, 'r');
      return new TarSplit(directory, fd);
    } catch (cause) {
      if (fd !== undefined) closeSync(fd);
      throw cause instanceof Failure ? cause : damaged(messageOf(cause), cause);
    }
  }

  /** That part of the tar, in `room` if it fills that; shorter only where the tar ends. */
  read(offset: number, length: number, room?: Buffer): Buffer {
    const wanted = Math.max(0, Math.min(length, this.tarBytes - offset));
    const target = room?.length === wanted ? room : Buffer.allocUnsafeSlow(wanted);
    for (let done = 0; done < target.length; ) done += this.#readPiece(offset + done, target.subarray(done));
    return target;
  }

  /** The whole tar. The event loop is held for some milliseconds at a time, also where every file is a seek. */
  async *stream(): AsyncGenerator<Buffer, void, undefined> {
    for (let offset = 0; offset < this.tarBytes; ) {
      const target = Buffer.allocUnsafeSlow(Math.min(STREAM_BYTES, this.tarBytes - offset));
      const deadline = performance.now() + STREAM_MS;
      let done = 0;
      do done += this.#readPiece(offset + done, target.subarray(done));
      while (done < target.length && performance.now() < deadline);
      offset += done;
      yield target.subarray(0, done);
      await setImmediate();
    }
  }

  /** Walks the segments in order, each either raw bytes or a part of a file. */
  *segments(): Generator<Segment> {
    for (const chunk of this.#chunks) {
      this.#load(chunk);
      yield* this.#segments;
    }
  }

  /** Closes the files that it holds open. */
  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#closeFile();
    closeSync(this.#fd);
  }

  #readIndex(): { chunks: Chunk[]; tarBytes: number } {
    const { size } = fstatSync(this.#fd);
    const head = this.#pread(0, MAGIC.length);
    const footer = this.#pread(size - FOOTER_BYTES, FOOTER_BYTES);
    if (!head.equals(MAGIC) || !footer.subarray(16).equals(MAGIC.subarray(0, 4)))
      throw damaged('no tar-split');
    const indexStart = footer.readUIntLE(0, 6);
    const indexBytes = footer.readUInt32LE(6);
    if (indexStart + indexBytes + FOOTER_BYTES !== size) throw damaged('the index is not in its place');
    const index = new VarintReader(inflateRawSync(this.#pread(indexStart, indexBytes)), DAMAGED);
    const chunks: Chunk[] = [];
    let tarStart = 0;
    let fileStart = MAGIC.length;
    while (!index.isDone) {
      const [fileBytes, inflatedBytes, tarBytes] = [index.next(), index.next(), index.next()];
      chunks.push({ tarStart, tarBytes, fileStart, fileBytes, inflatedBytes });
      tarStart += tarBytes;
      fileStart += fileBytes;
    }
    if (fileStart !== indexStart || tarStart !== footer.readUIntLE(10, 6))
      throw damaged('the index is wrong');
    return { chunks, tarBytes: tarStart };
  }

  #pread(position: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafeSlow(length);
    if (position < 0 || readSync(this.#fd, bytes, 0, length, position) < length)
      throw damaged('tar-split is cut');
    return bytes;
  }

  #readPiece(offset: number, target: Buffer): number {
    const { tarStart, length, source } = this.#segmentAt(offset);
    const skipped = offset - tarStart;
    const wanted = Math.min(target.length, length - skipped);
    if (Buffer.isBuffer(source)) return source.copy(target, 0, skipped, skipped + wanted);
    return this.#readFile(source.name, source.offset + skipped, target, wanted);
  }

  #segmentAt(offset: number): Segment {
    if (this.#loaded === undefined || !contains(this.#loaded, offset)) {
      const chunk = findLast(this.#chunks, offset);
      if (chunk === undefined) throw new RangeError(`no byte ${offset} in the tar`);
      this.#load(chunk);
    }
    const segment = findLast(this.#segments, offset);
    if (segment === undefined) throw damaged('a chunk is empty');
    return segment;
  }

  #load(chunk: Chunk): void {
    const options = { maxOutputLength: Math.max(1, chunk.inflatedBytes) };
    if (chunk.inflatedBytes > MAX_CHUNK_BYTES) throw damaged('a chunk is too large');
    this.#loaded = undefined;
    try {
      const bytes = inflateRawSync(this.#pread(chunk.fileStart, chunk.fileBytes), options);
      this.#segments = parseSegments(bytes, chunk);
    } catch (cause) {
      throw cause instanceof Failure ? cause : damaged(messageOf(cause), cause);
    }
    this.#loaded = chunk;
  }

  #readFile(name: string, offset: number, target: Buffer, wanted: number): number {
    try {
      if (this.#file?.name !== name) {
        this.#closeFile();
        const path = diskPath(`${nameOf(this.#directory)}/diff/${name}`);
        this.#file = { name, fd: openSync(path, READ_FLAGS) };
      }
      const count = readSync(this.#file.fd, target, 0, wanted, offset);
      if (count === 0) throw damaged(`${nameText(name)} is cut`);
      return count;
    } catch (cause) {
      if (cause instanceof Failure) throw cause;
      throw damaged(`cannot read ${nameText(name)}: ${messageOf(cause)}`, cause);
    }
  }

  #closeFile(): void {
    if (this.#file !== undefined) closeSync(this.#file.fd);
    this.#file = undefined;
  }
}

function parseSegments(bytes: Buffer, chunk: Chunk): Segment[] {
  const fields = new VarintReader(bytes, DAMAGED);
  const segments: Segment[] = [];
  let tarStart = chunk.tarStart;
  while (!fields.isDone) {
    const head = fields.next();
    const length = Math.floor(head / 2);
    if (length === 0) throw damaged('a segment is empty');
    const isFile = head % 2 === 1;
    const source = isFile
      ? { offset: fields.next(), name: fields.take(fields.next()).toString('latin1') }
      : fields.take(length);
    segments.push({ tarStart, length, source });
    tarStart += length;
  }
  if (tarStart !== chunk.tarStart + chunk.tarBytes) throw damaged('a chunk is not as long as it says');
  return segments;
}

function contains(chunk: Chunk, offset: number): boolean {
  return offset >= chunk.tarStart && offset < chunk.tarStart + chunk.tarBytes;
}

/** The last of the parts, which are in order, that begins at or before the offset. */
function findLast<T extends { readonly tarStart: number }>(
  parts: readonly T[],
  offset: number,
): T | undefined {
  let low = 0;
  let high = parts.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((parts[middle]?.tarStart ?? 0) <= offset) low = middle + 1;
    else high = middle;
  }
  return parts[low - 1];
}
