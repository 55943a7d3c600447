import { createHash } from 'node:crypto';
import { codeOf, Failure, messageOf } from '../errors.ts';
import type { Digest } from '../lib/digest.ts';
import type { TarEntry } from '../lib/tar.ts';
import { type TarSink, TarWalker } from '../lib/tar-walker.ts';
import { differencesOf } from './layer-comparison.ts';
import { LayerModel } from './layer-model.ts';
import { LayerTree, type OpenFile } from './layer-tree.ts';
import { TarSplit } from './tar-split.ts';

/** What a child that verifies a layer is told. */
export interface VerificationJob {
  readonly directory: string;
  readonly diffId: Digest;
}

/** What was found: damage in words, or none. Not being there is told apart: nothing can be said of its state. */
export interface Verdict {
  readonly state: 'ok' | 'damaged' | 'missing';
  readonly differences: readonly string[];
}

/** What the host is short of says nothing about the layer. */
const shortages = new Set<string | undefined>(['EMFILE', 'ENFILE', 'ENOMEM']);

/** A step reads so much. */
const PIECE_BYTES = 256 << 10;

/**
 * Proves that a layer on the disk is what its diff ID names: its tar is put together again from its files, hashed, and
 * taken apart in memory, and the tree must be as that has it. Reads only, and leaves no traces, not even access times.
 */
export function verifyLayer(
  { directory, diffId }: VerificationJob,
  { onPiece, onEntry }: { onPiece: (bytes: number) => void; onEntry: () => void },
): Verdict {
  const headers = new Headers();
  try {
    const found = tarDigestOf(directory, headers, onPiece);
    if (found !== diffId) return damaged(`its content is that of ${found}`);
    headers.finish();
    const differences = differencesOf(headers.model, `${directory}/diff`, onEntry);
    return { state: differences.length === 0 ? 'ok' : 'damaged', differences };
  } catch (cause) {
    if (cause instanceof Failure && cause.code !== 'CORRUPT') throw cause;
    // a disk that does not give back what it has, or a tree that changes while it is read
    if (codeOf(cause) === undefined || shortages.has(codeOf(cause))) throw cause;
    return damaged(messageOf(cause));
  }
}

function tarDigestOf(directory: string, headers: Headers, onPiece: (bytes: number) => void): string {
  using split = TarSplit.open(directory);
  const hash = createHash('sha256');
  for (let offset = 0; offset < split.tarBytes; ) {
    const bytes = split.read(offset, PIECE_BYTES);
    hash.update(bytes);
    headers.push(bytes);
    offset += bytes.length;
    onPiece(bytes.length);
  }
  return `sha256:${hash.digest('hex')}`;
}

function damaged(difference: string): Verdict {
  return { state: 'damaged', differences: [difference] };
}

/** Builds the model of a layer from its tar's headers, and passes over contents. */
class Headers implements TarSink {
  readonly model = new LayerModel();
  readonly #tree = new LayerTree(this.model, { putAside: (path) => this.model.removeFile(path) });
  readonly #walker = new TarWalker(this);
  #file: OpenFile | undefined;

  push(bytes: Buffer): void {
    this.#walker.push(bytes);
  }

  finish(): void {
    this.#walker.end();
    this.#tree.finish();
  }

  raw(): void {}

  content(): void {}

  open(entry: TarEntry): boolean {
    this.#file = this.#tree.add(entry);
    if (this.#file === undefined) return false;
    this.model.setContent(this.#file.fd, entry.fragments);
    return true;
  }

  close(): void {
    if (this.#file !== undefined) this.#tree.finishFile(this.#file);
    this.#file = undefined;
  }
}
