import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LayerTar } from '../delta/delta-reader.ts';
import { fail } from '../errors.ts';
import { type Compression, decompressInto } from '../layers/decompression.ts';
import type { Digest } from '../lib/digest.ts';

/** A layer as its source has it. */
export interface SourceLayer {
  readonly diffId: Digest;
  /** Of what is fetched or read. */
  readonly packedBytes: number;
  readonly compression: Compression;
  open(o: { signal: AbortSignal }): AsyncIterable<Buffer>;
}

/** A private directory for the tars of layers, below `TMPDIR`, which goes with all that is in it. */
export class Workspace implements AsyncDisposable {
  readonly #directory: string;
  readonly #tars = new Map<Digest, Promise<LayerTar>>();
  readonly #descriptors: number[] = [];
  readonly #paths = new Map<Digest, string>();
  #files = 0;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async open(): Promise<Workspace> {
    return new Workspace(await mkdtemp(join(tmpdir(), 'skerry-delta-')));
  }

  /** A path for a file of the caller's own. */
  newPath(): string {
    return join(this.#directory, String(this.#files++));
  }

  /** Where the tar of a layer lies that has been unpacked. */
  pathOf(diffId: Digest): string {
    const path = this.#paths.get(diffId);
    if (path === undefined) throw new Error(`layer ${diffId} has not been unpacked`);
    return path;
  }

  /** A layer's tar, unpacked once and proven to be what its diff ID says. */
  tar(layer: SourceLayer, o: { signal: AbortSignal }): Promise<LayerTar> {
    const known = this.#tars.get(layer.diffId);
    if (known !== undefined) return known;
    const tar = this.#unpack(layer, o);
    this.#tars.set(layer.diffId, tar);
    return tar;
  }

  #tarAt(path: string, diffId: Digest, tarBytes: number): LayerTar {
    const descriptor = openSync(path, 'r');
    this.#descriptors.push(descriptor);
    return {
      diffId,
      tarBytes,
      read(offset, length) {
        const bytes = Buffer.allocUnsafe(Math.max(0, Math.min(length, tarBytes - offset)));
        let done = 0;
        while (done < bytes.length) {
          const count = readSync(descriptor, bytes, done, bytes.length - done, offset + done);
          if (count === 0) break;
          done += count;
        }
        return bytes.subarray(0, done);
      },
    };
  }

  async #unpack({ diffId, compression, open: pieces }: SourceLayer, o: { signal: AbortSignal }) {
    const path = this.newPath();
    const file = await open(path, 'wx', 0o600);
    const hash = createHash('sha256');
    let tarBytes = 0;
    try {
      await decompressInto(pieces(o), compression, async (unpacked) => {
        for await (const piece of unpacked) {
          o.signal.throwIfAborted();
          hash.update(piece);
          tarBytes += piece.length;
          await file.writeFile(piece);
        }
      });
    } finally {
      await file.close();
    }
    const found = `sha256:${hash.digest('hex')}`;
    if (found !== diffId)
      throw fail.corrupt(`layer verification failed: expected ${diffId}, unpacked ${found}`);
    this.#paths.set(diffId, path);
    return this.#tarAt(path, diffId, tarBytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#tars.values());
    for (const descriptor of this.#descriptors.splice(0)) closeSync(descriptor);
    await rm(this.#directory, { recursive: true, force: true });
  }
}
