import { createHash, type Hash } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readSync, renameSync, rmSync } from 'node:fs';
import { codeOf, Failure, fail, messageOf } from '../errors.ts';
import { nameText } from '../lib/byte-names.ts';
import type { Digest } from '../lib/digest.ts';
import type { TarEntry } from '../lib/tar.ts';
import { type TarSink, TarWalker } from '../lib/tar-walker.ts';
import type { Compression } from './decompression.ts';
import { LayerDisk } from './layer-disk.ts';
import { cleanName } from './layer-paths.ts';
import { LayerTree, type OpenFile } from './layer-tree.ts';
import { TarSplit } from './tar-split.ts';
import { TarSplitWriter, writeWhole } from './tar-split-writer.ts';

/** What a child that unpacks a layer is told. */
export interface ExtractionJob {
  /** Holds an empty `diff/`. */
  readonly directory: string;
  readonly compression: Compression;
  /** More tar than this is a failure. */
  readonly maxBytes?: number;
}

/** What is known of a layer once it is unpacked. */
export interface ExtractedLayer {
  readonly diffId: Digest;
  readonly tarBytes: number;
  /** Bytes of all regular files, each counted once. */
  readonly sizeBytes: number;
  /** Extended attributes that had no place on this file system. */
  readonly ignoredXattrs: number;
}

/** Files that later entries replace are set aside until the end; nobody builds a layer with more of them than this. */
const MAX_REPLACED = 100_000;

/** A file that left the tree: tar-split's segments up to `before` mean this copy. */
interface Replaced {
  readonly before: number;
  readonly copy: string;
}

/**
 * Unpacks one layer's tar, pushed in pieces of any size, into `directory`: `diff/` is the tree, `tar-split` the rest.
 * Nothing of it is synced. After a failure the directory holds rubbish and the caller removes it.
 */
export class Extraction implements TarSink, Disposable {
  readonly #directory: string;
  readonly #maxBytes: number;
  readonly #hash: Hash = createHash('sha256');
  readonly #walker = new TarWalker(this);
  readonly #disk: LayerDisk;
  readonly #tree: LayerTree;
  readonly #replaced = new Map<string, Replaced[]>();
  readonly #split: TarSplitWriter;
  #replacedCount = 0;
  #tarBytes = 0;
  #file: OpenFile | undefined;
  /** For messages: the entry under way. */
  #entryName = '';

  private constructor(o: { directory: string; maxBytes: number }) {
    this.#directory = o.directory;
    this.#maxBytes = o.maxBytes;
    this.#disk = LayerDisk.open(`${o.directory}/diff`);
    this.#tree = new LayerTree(this.#disk, { putAside: (path) => this.#putAside(path) });
    this.#split = TarSplitWriter.create(`${o.directory}/tar-split`);
  }

  /** Begins in a directory that holds an empty `diff/`. More than `maxBytes` of tar is a failure. */
  static open(o: { directory: string; maxBytes?: number }): Extraction {
    return new Extraction({ directory: o.directory, maxBytes: o.maxBytes ?? Number.MAX_SAFE_INTEGER });
  }

  /** The next bytes of the tar. */
  push(bytes: Buffer): void {
    this.#tarBytes += bytes.length;
    if (this.#tarBytes > this.#maxBytes) throw fail.layerTooLarge(this.#maxBytes);
    this.#hash.update(bytes);
    this.#translating(() => this.#walker.push(bytes));
  }

  /** The tar is over: settles everything, and tells what came of it. */
  finish(): ExtractedLayer {
    return this.#translating(() => {
      this.#walker.end();
      this.#entryName = '';
      this.#tree.finish();
      this.#split.finish();
      this.#split[Symbol.dispose]();
      if (this.#replacedCount > 0) this.#inlineReplaced();
      return {
        diffId: `sha256:${this.#hash.digest('hex')}` as Digest,
        tarBytes: this.#tarBytes,
        sizeBytes: this.#tree.sizeBytes,
        ignoredXattrs: this.#tree.ignoredXattrs,
      };
    });
  }

  /** Closes what an extraction that failed left open. */
  [Symbol.dispose](): void {
    this.#split[Symbol.dispose]();
    if (this.#file !== undefined) closeSync(this.#file.fd);
    this.#file = undefined;
  }

  raw(bytes: Buffer): void {
    this.#split.raw(bytes);
  }

  open(entry: TarEntry): boolean {
    this.#entryName = entry.name;
    this.#file = this.#tree.add(entry);
    if (this.#file === undefined) return false;
    for (const { offset, length } of entry.fragments) this.#split.file(this.#file.path, offset, length);
    return true;
  }

  content(bytes: Buffer, offset: number): void {
    if (this.#file !== undefined) writeWhole(this.#file.fd, bytes, offset);
  }

  close(): void {
    const file = this.#file;
    this.#file = undefined;
    if (file !== undefined) this.#tree.finishFile(file);
  }

  #putAside(path: string): void {
    if (++this.#replacedCount > MAX_REPLACED) throw fail.corrupt('too many entries replace earlier ones');
    const copies = `${this.#directory}/replaced`;
    if (this.#replacedCount === 1) mkdirSync(copies, 0o700);
    const copy = `${copies}/${this.#replacedCount}`;
    renameSync(this.#disk.path(path), copy);
    const earlier = this.#replaced.get(path);
    const replaced = { before: this.#split.segments, copy };
    if (earlier === undefined) this.#replaced.set(path, [replaced]);
    else earlier.push(replaced);
  }

  /** Writes tar-split once more, with the content of replaced files in it, and drops their copies. */
  #inlineReplaced(): void {
    using before = TarSplit.open(this.#directory);
    using after = TarSplitWriter.create(`${this.#directory}/tar-split.new`);
    let index = 0;
    for (const { length, source } of before.segments()) {
      const at = index++;
      if (Buffer.isBuffer(source)) {
        after.raw(source);
        continue;
      }
      const replaced = this.#replaced.get(source.name)?.find((one) => one.before > at);
      if (replaced === undefined) after.file(source.name, source.offset, length);
      else inline(after, replaced.copy, source.offset, length);
    }
    after.finish();
    renameSync(`${this.#directory}/tar-split.new`, `${this.#directory}/tar-split`);
    rmSync(`${this.#directory}/replaced`, { recursive: true });
  }

  #translating<T>(work: () => T): T {
    try {
      return work();
    } catch (cause) {
      throw extractionFailure(cause, this.#entryName);
    }
  }
}

function inline(target: TarSplitWriter, path: string, offset: number, length: number): void {
  const fd = openSync(path, 'r');
  try {
    const bytes = Buffer.allocUnsafe(Math.min(length, 64 << 10));
    for (let done = 0; done < length; ) {
      const count = readSync(fd, bytes, 0, Math.min(bytes.length, length - done), offset + done);
      if (count === 0) throw fail.host(`${path} was cut while the layer was unpacked`);
      target.raw(bytes.subarray(0, count));
      done += count;
    }
  } finally {
    closeSync(fd);
  }
}

/** What the file system says to names, links and sizes that it cannot hold: the layer's fault, not the host's. */
const refusals = new Set(
  'EEXIST EFBIG EINVAL EISDIR ELOOP EMLINK ENAMETOOLONG ENOENT ENOTDIR ENOTEMPTY ERANGE E2BIG'.split(' '),
);

function callOf(cause: unknown): string {
  return cause instanceof Error && 'syscall' in cause ? String(cause.syscall) : 'write';
}

function extractionFailure(cause: unknown, entryName: string): unknown {
  const code = codeOf(cause);
  if (cause instanceof Failure || code === undefined) return cause;
  const message = `cannot unpack ${nameText(entryName)}: ${messageOf(cause)}`;
  // as Go words it, because clients look for that
  const full = { ENOSPC: 'no space left on device', EDQUOT: 'disk quota exceeded' }[code];
  if (full !== undefined) return fail.noSpace(`${callOf(cause)} /${nameText(cleanName(entryName))}: ${full}`);
  return refusals.has(code) ? fail.corrupt(message, cause) : fail.host(message, cause);
}
