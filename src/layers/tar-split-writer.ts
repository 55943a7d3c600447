import { closeSync, openSync, writeSync } from 'node:fs';
import { deflateRawSync } from 'node:zlib';
import { CHUNK_BYTES, FOOTER_BYTES, MAGIC, MAX_CHUNK_BYTES, RAW_BYTES } from './tar-split.ts';

/** Headers are so repetitive that higher levels gain little and cost a multiple. */
const DEFLATE_LEVEL = 3;

/** Writes the file while a layer is unpacked. Nothing is synced: the layer is, as a whole. */
export class TarSplitWriter {
  readonly #fd: number;
  readonly #body = Buffer.allocUnsafeSlow(MAX_CHUNK_BYTES);
  readonly #index: number[] = [];
  #used = 0;
  #chunkTarBytes = 0;
  #fileBytes = 0;
  #tarBytes = 0;
  #segments = 0;
  #isClosed = false;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Begins a new file; there must be none of that name. */
  static create(path: string): TarSplitWriter {
    const writer = new TarSplitWriter(openSync(path, 'wx', 0o600));
    writer.#write(MAGIC);
    return writer;
  }

  /** How many segments there are so far: a clock for whoever must know what came before what. */
  get segments(): number {
    return this.#segments;
  }

  /** The next bytes of the tar, to be kept as they are. */
  raw(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += RAW_BYTES) {
      const length = Math.min(RAW_BYTES, bytes.length - at);
      this.#begin(length, 0, 8 + length);
      bytes.copy(this.#body, this.#used, at, at + length);
      this.#used += length;
    }
  }

  /** The next bytes of the tar are in a file. */
  file(name: string, offset: number, length: number): void {
    if (length === 0) return;
    this.#begin(length, 1, 24 + name.length);
    this.#varint(offset);
    this.#varint(name.length);
    this.#used += this.#body.write(name, this.#used, 'latin1');
  }

  /** Writes what is left and the index. */
  finish(): void {
    this.#flush();
    const index = Buffer.allocUnsafe(this.#index.length * 8);
    const indexBytes = this.#index.reduce((at, value) => putVarint(index, at, value), 0);
    const deflated = deflateRawSync(index.subarray(0, indexBytes));
    const footer = Buffer.alloc(FOOTER_BYTES);
    footer.writeUIntLE(this.#fileBytes, 0, 6);
    footer.writeUInt32LE(deflated.length, 6);
    footer.writeUIntLE(this.#tarBytes, 10, 6);
    MAGIC.copy(footer, 16, 0, 4);
    this.#write(Buffer.concat([deflated, footer]));
  }

  /** Closes the file, finished or not. */
  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    closeSync(this.#fd);
  }

  #begin(length: number, kind: 0 | 1, room: number): void {
    if (this.#used + room > MAX_CHUNK_BYTES || this.#used >= CHUNK_BYTES) this.#flush();
    this.#varint(length * 2 + kind);
    this.#chunkTarBytes += length;
    this.#segments++;
  }

  #varint(value: number): void {
    this.#used = putVarint(this.#body, this.#used, value);
  }

  #flush(): void {
    if (this.#used === 0) return;
    const deflated = deflateRawSync(this.#body.subarray(0, this.#used), { level: DEFLATE_LEVEL });
    this.#index.push(deflated.length, this.#used, this.#chunkTarBytes);
    this.#write(deflated);
    this.#tarBytes += this.#chunkTarBytes;
    this.#used = 0;
    this.#chunkTarBytes = 0;
  }

  #write(bytes: Buffer): void {
    writeWhole(this.#fd, bytes);
    this.#fileBytes += bytes.length;
  }
}

/** Writes all of the bytes: a disk that is nearly full takes a part, and says so only at the next call. */
export function writeWhole(fd: number, bytes: Buffer, position?: number): void {
  for (let done = 0; done < bytes.length; ) {
    const at = position === undefined ? null : position + done;
    done += writeSync(fd, bytes, done, bytes.length - done, at);
  }
}

function putVarint(target: Buffer, at: number, value: number): number {
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) target[at++] = (rest % 0x80) | 0x80;
  target[at++] = rest;
  return at;
}
