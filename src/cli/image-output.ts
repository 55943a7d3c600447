import { createReadStream, createWriteStream, existsSync } from 'node:fs';
import { copyFile, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fail } from '../errors.ts';
import type { Digest } from '../lib/digest.ts';
import { blobPath, imageDocuments, indexDocuments, type SavedImage } from '../lib/image-archive.ts';
import { endOfArchive, headersOf, paddingAfter } from '../lib/tar-writer.ts';

/** An image, with the file that holds the tar of each layer. */
export interface WrittenImage extends SavedImage {
  readonly files: ReadonlyMap<Digest, string>;
}

/** Writes a whole image or nothing. */
export type ImageWriter = (image: WrittenImage, o: { signal: AbortSignal }) => Promise<void>;

/** Reads `oci:DIR` or `docker-archive:FILE`. Throws `CONFIG` for anything else, and for a directory that is there. */
export function imageWriter(output: string): ImageWriter {
  const [, kind, path = ''] = /^(oci|docker-archive):(.+)$/.exec(output) ?? [];
  if (kind === undefined) throw fail.config(`--output takes oci:DIR or docker-archive:FILE, not ${output}`);
  if (kind === 'oci' && existsSync(path)) throw fail.config(`${path} is there already`);
  const write = kind === 'oci' ? writeLayout : writeArchive;
  return async (image, o) => {
    const part = `${path}.part-${process.pid}`;
    try {
      await write(part, image, o);
      await rename(part, path);
    } catch (cause) {
      await rm(part, { recursive: true, force: true });
      o.signal.throwIfAborted();
      throw fail.host(`cannot write ${path}`, cause);
    }
  };
}

async function writeLayout(directory: string, image: WrittenImage, o: { signal: AbortSignal }) {
  for (const { path, bytes } of documentsOf(image)) {
    await mkdir(dirname(join(directory, path)), { recursive: true });
    await writeFile(join(directory, path), bytes);
  }
  for (const [diffId, file] of image.files) {
    o.signal.throwIfAborted();
    await copyFile(file, join(directory, blobPath(diffId)));
  }
}

async function writeArchive(path: string, image: WrittenImage, o: { signal: AbortSignal }) {
  await pipeline(archiveOf(image), createWriteStream(path), { signal: o.signal });
}

/** Documents first: who reads the archive need not go back. */
async function* archiveOf(image: WrittenImage): AsyncGenerator<Buffer> {
  for (const { path, bytes } of documentsOf(image)) {
    yield Buffer.concat([headerOf(path, bytes.length), bytes, Buffer.alloc(paddingAfter(bytes.length))]);
  }
  for (const { diffId, tarBytes } of new Map(image.layers.map((layer) => [layer.diffId, layer])).values()) {
    yield headerOf(blobPath(diffId), tarBytes);
    yield* createReadStream(image.files.get(diffId) ?? '') as AsyncIterable<Buffer>;
    yield Buffer.alloc(paddingAfter(tarBytes));
  }
  yield endOfArchive;
}

function headerOf(name: string, size: number): Buffer {
  const modifiedAt = { seconds: 0, nanos: 0 };
  return headersOf({ type: 'file', name, mode: 0o644, uid: 0, gid: 0, size, modifiedAt });
}

function documentsOf(image: WrittenImage): { path: string; bytes: Buffer }[] {
  return [...indexDocuments([image]), ...imageDocuments(image)];
}
