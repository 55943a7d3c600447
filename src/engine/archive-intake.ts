import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { Failure, fail } from '../errors.ts';
import { type Compression, compressionOf } from '../layers/decompression.ts';
import type { BaseLayer } from '../layers/delta-job.ts';
import type { Layers } from '../layers/layers.ts';
import { type Digest, digestOf } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import { peek } from '../lib/peek.ts';
import { progressBar } from '../lib/progress-bar.ts';
import { readableOf } from '../lib/readable-of.ts';
import { BLOCK_BYTES, isZeroBlock, parseHeader, type TarEntry } from '../lib/tar.ts';
import { readTar } from '../lib/tar-reader.ts';
import type { LeaseRecord } from '../store/records.ts';
import {
  ArchiveContents,
  type ArchiveMember,
  absent,
  linkTarget,
  MOST_DOCUMENT_BYTES,
  memberPath,
  promisedDigest,
} from './archive-contents.ts';
import { tarIn } from './bases.ts';
import { HeldLayers } from './held-layers.ts';
import type { LayerPin } from './layer-pins.ts';
import type { LayerShelf } from './layer-shelf.ts';
import type { Progress } from './progress.ts';
import type { Space } from './space.ts';

interface IntakeParts {
  shelf: Pick<
    LayerShelf,
    | 'add'
    | 'diffIdOf'
    | 'discard'
    | 'drop'
    | 'isSound'
    | 'keep'
    | 'lease'
    | 'pin'
    | 'release'
    | 'stage'
    | 'take'
  >;
  layers: Pick<Layers, 'tar' | 'topOf'>;
  space: Pick<Space, 'check' | 'limitFor' | 'failureOf'>;
  log: Log;
}

/**
 * Takes an archive in as it comes by, whatever the order of its files: what looks like a layer is unpacked onto the
 * shelf, small files are kept in memory, and nothing is written twice. Until {@link settle}, all of it goes when this
 * does.
 */
export class ArchiveIntake implements AsyncDisposable {
  readonly contents = new ArchiveContents();
  readonly #shelf: IntakeParts['shelf'];
  readonly #layers: IntakeParts['layers'];
  readonly #space: IntakeParts['space'];
  readonly #log: Log;
  readonly #progress: Progress | undefined;
  readonly #signal: AbortSignal;
  /** Layers that were here before; those that come are under the lease. */
  readonly #pin: LayerPin;
  #lease: LeaseRecord | undefined;
  readonly #held: HeldLayers;

  constructor(
    { shelf, layers, space, log }: IntakeParts,
    o: { isQuiet: boolean; progress: Progress; signal: AbortSignal },
  ) {
    this.#shelf = shelf;
    this.#layers = layers;
    this.#held = new HeldLayers({ shelf, layers });
    this.#space = space;
    this.#log = log;
    this.#progress = o.isQuiet ? undefined : o.progress;
    this.#signal = o.signal;
    this.#pin = shelf.pin();
  }

  /** Keeps the layers that came; none if none came. */
  get lease(): LeaseRecord | undefined {
    return this.#lease;
  }

  /** Reads the archive to its end. */
  async read(pieces: AsyncIterable<Buffer>): Promise<void> {
    for await (const { entry, content } of readTar(pieces)) {
      const path = memberPath(textOf(entry.name));
      const target = textOf(entry.linkName);
      if (entry.type === 'file') this.contents.add(path, await this.#take(path, entry, content));
      else if (entry.type === 'symlink') this.contents.link(path, linkTarget(path, target));
      else if (entry.type === 'hardlink') this.contents.link(path, memberPath(target));
      else if (entry.type !== 'directory') throw fail.invalidArchive(`${path} is a ${entry.type} file`);
    }
  }

  /**
   * The diff ID of the layer at a path. An archive may leave out what is here already, and a layer may be so small that
   * it does not look like one.
   */
  async bring(layer: { path: string; diffId: Digest; sizeBytes?: number }): Promise<Digest> {
    const found = this.contents.find(layer.path);
    if (found === undefined) {
      if ((await this.#shelf.keep(layer.diffId, this.#pin)) === undefined) throw absent(layer.path);
      return layer.diffId;
    }
    if (found.kind === 'unknown') throw fail.invalidArchive(`${layer.path} is no layer`);
    const bytes = found.kind === 'layer' ? found.sizeBytes : found.bytes.length;
    if (layer.sizeBytes !== undefined && layer.sizeBytes !== bytes)
      throw fail.invalidArchive(`${layer.path} has ${bytes} bytes, not ${layer.sizeBytes}`);
    const diffId = found.kind === 'layer' ? found.diffId : await this.#addSmall(layer.path, found.bytes);
    const held = this.#held.release(diffId);
    if (held !== undefined && this.#lease !== undefined)
      await this.#shelf.take(held.staged, this.#lease, held.blob);
    return diffId;
  }

  /** Holds on to a layer until the archive is done with; false if it is not here, undamaged. */
  async keep(diffId: Digest): Promise<boolean> {
    return (await this.#shelf.keep(diffId, this.#pin)) !== undefined && this.#shelf.isSound([diffId]);
  }

  /** Takes in a layer whose tar is at hand here. */
  async copy(diffId: Digest, tar: Readable): Promise<void> {
    await this.#shelf.add(tar, await this.#leased(), { compression: 'none', diffId, signal: this.#signal });
  }

  /** Makes a layer of what lies at a path, which is the tar of a delta for these layers; see {@link Layers.extract}. */
  async patch(path: string, diffId: Digest, base: readonly BaseLayer[]): Promise<void> {
    const found = this.contents.find(path);
    if (found === undefined) throw absent(path);
    if (found.kind === 'unknown') throw fail.invalidArchive(`${path} is no layer`);
    const id = found.kind === 'layer' ? found.diffId : await this.#addSmall(path, found.bytes);
    const held = this.#held.get(id)?.staged;
    const record = held ?? (await this.#shelf.keep(id, this.#pin));
    if (record === undefined) throw absent(path);
    const delta = held === undefined ? this.#layers.tar(record.dirId) : tarIn(held.directory);
    const maxBytes = () => this.#space.limitFor(record.tarBytes);
    const o = { compression: 'none', diffId, base, maxBytes, signal: this.#signal } as const;
    await this.#shelf.add(delta, await this.#leased(), o).catch((cause) => this.#rethrow(cause));
  }

  /** Everything that came is part of an image now. */
  settle(): void {
    if (this.#lease !== undefined) this.#shelf.release(this.#lease);
    this.#lease = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#held[Symbol.asyncDispose]();
    const lease = this.#lease;
    this.#lease = undefined;
    // what this cannot clean up now the lease's term will
    if (lease !== undefined)
      await this.#shelf.drop(lease).catch((err) => this.#log.error({ err }, 'lease not ended'));
    await this.#pin[Symbol.asyncDispose]();
  }

  async #take(path: string, { size }: TarEntry, content: AsyncIterable<Buffer>): Promise<ArchiveMember> {
    const { head, whole } = await peek(content, BLOCK_BYTES);
    const blob = promisedDigest(path);
    const compression = compressionOf(head);
    if (compression !== 'none' || isTar(head)) {
      const layer = { path, sizeBytes: size, compression, ...(blob && { blob }) };
      return { kind: 'layer', sizeBytes: size, diffId: await this.#takeLayer(whole, layer) };
    }
    if (size > MOST_DOCUMENT_BYTES) return { kind: 'unknown' };
    const bytes: Buffer[] = [];
    for await (const piece of whole) bytes.push(piece);
    const document = Buffer.concat(bytes);
    if (blob !== undefined && digestOf(document) !== blob) throw damaged(blob);
    return { kind: 'document', bytes: document };
  }

  /** A layer that is here, undamaged, under the name that this one goes by is only checked against it. */
  async #takeLayer(
    content: AsyncIterable<Buffer>,
    layer: { path: string; sizeBytes: number; compression: Compression; blob?: Digest },
  ): Promise<Digest> {
    const { blob, compression } = layer;
    if (blob === undefined) return this.#add(readableOf(content), layer);
    const isPlain = compression === 'none';
    const known = isPlain ? blob : await this.#shelf.diffIdOf(blob);
    const here = known && (await this.#shelf.keep(known, this.#pin));
    if (known === undefined || here === undefined || here.damage !== undefined)
      return this.#add(readableOf(isPlain ? content : proven(content, blob)), {
        ...layer,
        ...(isPlain && { diffId: blob }),
      });
    for await (const _ of proven(content, blob)) this.#signal.throwIfAborted();
    return known;
  }

  async #add(
    content: Readable,
    layer: { path: string; sizeBytes: number; compression: Compression; diffId?: Digest; blob?: Digest },
  ): Promise<Digest> {
    const { compression, diffId, blob, sizeBytes } = layer;
    // unpacked, it takes as much at least
    await this.#space.check('a layer of the archive', [{ sizeBytes, unpackedBytes: async () => sizeBytes }]);
    const lease = await this.#leased();
    const onProgress = (bytes: number) => this.#tell(layer, bytes);
    const staged = await this.#shelf
      .stage(content, lease, {
        compression,
        ...(diffId && { diffId }),
        maxBytes: () => this.#space.limitFor(sizeBytes),
        onProgress,
        signal: this.#signal,
      })
      .catch((cause) => this.#rethrow(cause));
    onProgress(sizeBytes);
    if (await this.#held.add(staged, blob)) return staged.diffId;
    return (await this.#shelf.take(staged, lease, blob)).diffId;
  }

  async #addSmall(path: string, bytes: Buffer): Promise<Digest> {
    return this.#add(Readable.from([bytes]), { compression: 'auto', path, sizeBytes: bytes.length });
  }

  async #leased(): Promise<LeaseRecord> {
    this.#lease ??= await this.#shelf.lease([], 'load of an archive');
    return this.#lease;
  }

  #rethrow(cause: unknown): never {
    const isTooLarge = cause instanceof Failure && cause.code === 'LAYER_TOO_LARGE';
    throw isTooLarge ? this.#space.failureOf(cause) : cause;
  }

  #tell({ path, sizeBytes: total }: { path: string; sizeBytes: number }, current: number): void {
    this.#progress?.({
      status: 'Loading layer',
      progressDetail: { current, total },
      progress: progressBar(current, total),
      id: shortName(path),
    });
  }
}

/** What people see of a layer's path: `blobs/sha256/HEX`, `HEX/layer.tar`, `HEX.tar`. */
function shortName(path: string): string {
  return (
    path
      .replace(/\/layer\.tar$/, '')
      .split('/')
      .at(-1) ?? ''
  ).slice(0, 12);
}

function isTar(head: Buffer): boolean {
  if (head.length < BLOCK_BYTES) return false;
  const block = head.subarray(0, BLOCK_BYTES);
  if (isZeroBlock(block)) return true;
  try {
    parseHeader(block);
    return true;
  } catch {
    return false;
  }
}

/** The bytes as they are; fails instead of ending if they do not have this digest. */
async function* proven(
  content: AsyncIterable<Buffer>,
  digest: Digest,
): AsyncGenerator<Buffer, void, undefined> {
  const hash = createHash('sha256');
  for await (const piece of content) {
    hash.update(piece);
    yield piece;
  }
  if (`sha256:${hash.digest('hex')}` !== digest) throw damaged(digest);
}

function damaged(blob: Digest): Error {
  return fail.invalidArchive(`blob ${blob} of the archive is damaged`);
}

/** Names in a tar are byte strings. */
function textOf(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString();
}
