import { codeOf, Failure, fail } from '../errors.ts';
import { spaceOf } from '../host/files.ts';
import { formatBytes } from '../lib/progress-bar.ts';

/** A layer that is to come. */
export interface ComingLayer {
  /** Compressed. */
  readonly sizeBytes: number;
  /** The least that it unpacks to, at the cost of a request. */
  unpackedBytes(): Promise<number>;
}

/** With so many times the compressed size free, nobody is asked what it unpacks to: text packs to a tenth at best. */
const PLENTY = 10;
/** The directory of a layer, diff/, tar-split, layer.json, and one thing in it. */
const LEAST_INODES = 5;
/** What unpacks to more than so many times its size may have only a part of what is free. */
const ABSURD_RATIO = 200;
const ABSURD_PART = 1 / 2;

const MiB = 1024 * 1024;

/**
 * The room on the file system of the data root: whether an image can fit, and how far one layer may go. Some is kept
 * back: a device whose disk is full to the last block cannot even record that it removes something.
 */
export class Space {
  readonly #dataRoot: string;

  constructor(dataRoot: string) {
    this.#dataRoot = dataRoot;
  }

  /** Throws `NO_SPACE`, with what is needed and what is there, if these layers cannot fit. */
  async check(image: string, layers: readonly ComingLayer[]): Promise<void> {
    if (layers.length === 0) return;
    const { freeBytes, freeInodes, keptBytes } = await this.#room();
    const compressedBytes = layers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const neededInodes = layers.length * LEAST_INODES;
    let neededBytes = compressedBytes;
    if (neededBytes <= freeBytes && freeBytes < PLENTY * compressedBytes) {
      const sizes = await Promise.all(layers.map((layer) => layer.unpackedBytes()));
      neededBytes = sizes.reduce((sum, bytes) => sum + bytes, 0);
    }
    if (neededBytes <= freeBytes && neededInodes <= freeInodes) return;
    const [needs, has] = [formatBytes(neededBytes), formatBytes(freeBytes + keptBytes)];
    throw fail.noSpace(
      `no space left on device: ${image} needs at least ${needs} and ${neededInodes} inodes, ` +
        `${has} and ${freeInodes} inodes are free in ${this.#dataRoot}, of which ${formatBytes(keptBytes)} are kept back`,
    );
  }

  /** The most that a layer of this compressed size may unpack to now. */
  async limitFor(compressedBytes: number): Promise<number> {
    const { freeBytes } = await this.#room();
    return Math.max(
      0,
      Math.min(freeBytes, Math.max(ABSURD_RATIO * compressedBytes, freeBytes * ABSURD_PART)),
    );
  }

  /** True if so many bytes can be written besides what is kept back. */
  async hasRoomFor(bytes: number): Promise<boolean> {
    return bytes <= (await this.#room()).freeBytes;
  }

  /** What the end of a layer's unpacking says to people if the disk ended it; anything else as it is. */
  failureOf<T>(cause: T): T | Failure {
    if (!(cause instanceof Failure) || !/^(?:NO_SPACE|LAYER_TOO_LARGE)$/.test(cause.code)) return cause;
    const told =
      cause.code === 'LAYER_TOO_LARGE'
        ? `${cause.message}, all that it may have of ${this.#dataRoot}: no space left on device`
        : cause.message;
    return fail.noSpace(`failed to register layer: ${told}`);
  }

  async #room(): Promise<{ freeBytes: number; freeInodes: number; keptBytes: number }> {
    const { totalBytes, freeBytes, freeInodes } = await spaceOf(this.#dataRoot);
    const keptBytes = Math.min(Math.max(totalBytes / 64, 8 * MiB), 64 * MiB, freeBytes);
    return { freeBytes: freeBytes - keptBytes, freeInodes, keptBytes };
  }
}

/** True where it is the disk that is full, whatever failed: unpacking, a copy of a record, a commit. */
export function isNoSpace(cause: unknown): boolean {
  if (!(cause instanceof Error)) return false;
  const code = codeOf(cause);
  if (code === 'NO_SPACE' || code === 'ENOSPC' || code === 'EDQUOT') return true;
  return /no space left on device/i.test(cause.message) || isNoSpace(cause.cause);
}
