import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { linkTarget, memberPath } from '../engine/archive-contents.ts';
import { codeOf, fail } from '../errors.ts';
import type { TarEntry } from '../lib/tar.ts';
import { type TarSink, TarWalker } from '../lib/tar-walker.ts';

/** What a manifest, a config or an index may take, as in a pull. */
const MOST_DOCUMENT_BYTES = 4 << 20;
const MOST_MEMBERS = 16_384;
const MOST_LINKS = 16;
const PIECE_BYTES = 1 << 20;

/** The files that images lie in: a directory, or an archive of one. */
export interface ImageFiles {
  /** Undefined for what is not there. */
  bytesOf(path: string): Promise<number | undefined>;
  open(path: string): AsyncIterable<Buffer>;
}

/** A small file as a whole. Throws for one that is missing or too large to be a document. */
export async function readDocument(files: ImageFiles, path: string): Promise<Buffer> {
  const bytes = await files.bytesOf(path);
  if (bytes === undefined) throw fail.invalidArchive(`${path} is missing`);
  if (bytes > MOST_DOCUMENT_BYTES)
    throw fail.invalidArchive(`${path} is larger than ${MOST_DOCUMENT_BYTES} bytes`);
  return buffer(files.open(path));
}

/** A directory's files. */
export function directoryFiles(directory: string): ImageFiles {
  return {
    async bytesOf(path) {
      try {
        return (await stat(join(directory, path))).size;
      } catch (cause) {
        if (codeOf(cause) === 'ENOENT' || codeOf(cause) === 'ENOTDIR') return undefined;
        throw cause;
      }
    },
    open: (path) => createReadStream(join(directory, path), { highWaterMark: PIECE_BYTES }),
  };
}

/** A tar's files, read where they lie. Walks through the whole of it once. */
export async function archiveFiles(file: string): Promise<ImageFiles> {
  const places = new Places();
  const walker = new TarWalker(places);
  for await (const piece of createReadStream(file, { highWaterMark: PIECE_BYTES })) walker.push(piece);
  walker.end();
  return {
    bytesOf: async (path) => places.find(path)?.bytes,
    open(path) {
      const place = places.find(path);
      if (place === undefined) throw fail.invalidArchive(`${path} is missing`);
      const { start, bytes } = place;
      if (bytes === 0) return nothing();
      return createReadStream(file, { start, end: start + bytes - 1, highWaterMark: PIECE_BYTES });
    },
  };
}

async function* nothing(): AsyncGenerator<Buffer> {}

/** Where the files of a tar lie. */
class Places implements TarSink {
  readonly #files = new Map<string, { start: number; bytes: number }>();
  readonly #links = new Map<string, string>();
  #at = 0;

  raw(bytes: Buffer): void {
    this.#at += bytes.length;
  }

  open({ type, name, linkName, size, fragments }: TarEntry): boolean {
    const path = memberPath(name);
    if (this.#files.size + this.#links.size >= MOST_MEMBERS)
      throw fail.invalidArchive('the archive holds too many files');
    if (type === 'symlink') this.#links.set(path, linkTarget(path, linkName));
    if (type === 'hardlink') this.#links.set(path, memberPath(linkName));
    if (type !== 'file') return false;
    if (fragments.reduce((sum, { length }) => sum + length, 0) !== size)
      throw fail.invalidArchive(`${path} is a sparse file`);
    this.#files.set(path, { start: this.#at, bytes: size });
    return false;
  }

  content(): void {}

  close(): void {}

  find(name: string): { start: number; bytes: number } | undefined {
    let path = memberPath(name);
    for (let links = 0; links <= MOST_LINKS; links++) {
      const target = this.#links.get(path);
      if (target === undefined) return this.#files.get(path);
      path = target;
    }
    throw fail.invalidArchive(`too many links: ${name}`);
  }
}
