import type { Readable } from 'node:stream';
import { type DeltaHeader, type DeltaLayer, PREFIX_BYTES, parsePrefix } from '../delta/delta-header.ts';
import { Failure, fail } from '../errors.ts';
import type { BaseLayer } from '../layers/delta-job.ts';
import { type Digest, digestOf, shortDigest } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import { peek } from '../lib/peek.ts';
import type { Platform } from '../lib/platform.ts';
import { progressBar } from '../lib/progress-bar.ts';
import { readableOf } from '../lib/readable-of.ts';
import { familiarString, type Reference } from '../lib/reference.ts';
import { nowText } from '../lib/time.ts';
import { parseManifest } from '../registry/manifest.ts';
import type { ImageRecord, LeaseRecord } from '../store/records.ts';
import { type LoadedImage, readConfig, readTag } from './archived-image.ts';
import { noteDamage } from './base-damage.ts';
import { type Bases, ownLayers } from './bases.ts';
import type { Images } from './images.ts';
import type { LayerPin } from './layer-pins.ts';
import type { LayerShelf } from './layer-shelf.ts';
import type { Progress } from './progress.ts';
import type { Space } from './space.ts';

interface IntakeParts {
  images: Pick<Images, 'byId'>;
  shelf: Pick<
    LayerShelf,
    'deltas' | 'drop' | 'isSound' | 'keep' | 'lease' | 'noteVerdict' | 'pin' | 'release'
  >;
  bases: Pick<Bases, 'copy' | 'places'>;
  space: Pick<Space, 'check' | 'limitFor' | 'failureOf'>;
  host: Platform;
  log: Log;
}

/** The image that a delta leads to, as its header describes it: digests and texts fit each other. */
interface Target {
  readonly id: Digest;
  readonly platform: Platform;
  readonly diffIds: readonly Digest[];
  readonly names: readonly Reference[];
  /** What a pull of a layer would fetch. */
  readonly packedBytes: ReadonlyMap<Digest, number>;
}

/** Layers to be made, and those that they are made of. */
interface Work {
  readonly missing: readonly DeltaLayer[];
  readonly base: readonly BaseLayer[];
  /** Layers of the target that only the second store has. */
  readonly copied: readonly Digest[];
}

/** What the messages about a manifest call an image without a name. */
const unnamed: Reference = { domain: 'docker.io', path: 'library/target' };

/**
 * Takes in a delta that comes as a file. Its header, of at most 4 MiB, is held here; all of it goes through a child, which
 * makes the layers that are not here out of those that are. Until {@link settle}, what was made goes when this does.
 */
export class DeltaIntake implements AsyncDisposable {
  readonly #parts: IntakeParts;
  readonly #progress: Progress | undefined;
  readonly #signal: AbortSignal;
  /** Layers that were here before; those that are made are under the lease. */
  readonly #pin: LayerPin;
  #lease: LeaseRecord | undefined;

  constructor(parts: IntakeParts, o: { isQuiet: boolean; progress: Progress; signal: AbortSignal }) {
    this.#parts = parts;
    this.#progress = o.isQuiet ? undefined : o.progress;
    this.#signal = o.signal;
    this.#pin = parts.shelf.pin();
  }

  /** Keeps the layers that were made; none if none had to be. */
  get lease(): LeaseRecord | undefined {
    return this.#lease;
  }

  /** Reads the delta to its end. Throws, before a layer is made, if the base is not here or the image is none for this host. */
  async read(pieces: AsyncIterable<Buffer>): Promise<LoadedImage> {
    const { header, headerBytes, whole } = await readHeader(pieces);
    const target = readTarget(header, this.#parts.host);
    const known = await this.#parts.images.byId(target.id);
    const work = await this.#plan(header, target);
    const sizes = work.missing.map(({ tarBytes }) => ({
      sizeBytes: tarBytes,
      unpackedBytes: async () => tarBytes,
    }));
    await this.#parts.space.check('the image of the delta', sizes);
    // over all of its layers, so that loads of it that died end with this one
    if (known === undefined || work.missing.length + work.copied.length > 0)
      this.#lease = await this.#parts.shelf.lease(target.diffIds, 'load of a delta');
    if (this.#lease !== undefined) await this.#copy(work.copied, this.#lease);
    if (this.#lease !== undefined && work.missing.length > 0)
      await this.#make(readableOf(whole), this.#lease, { header, headerBytes, target, work });
    else for await (const _ of whole) this.#signal.throwIfAborted();
    return { record: known ?? (await this.#recordOf(header, target)), names: target.names };
  }

  /** What was made is part of an image now. */
  settle(): void {
    if (this.#lease !== undefined) this.#parts.shelf.release(this.#lease);
    this.#lease = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const lease = this.#lease;
    this.#lease = undefined;
    // what this cannot clean up now the lease's term will
    if (lease !== undefined)
      await this.#parts.shelf.drop(lease).catch((err) => this.#parts.log.error({ err }, 'lease not ended'));
    await this.#pin[Symbol.asyncDispose]();
  }

  /** Sees what has to be made, and holds on to the rest. A target that is here already needs no base. */
  async #plan(header: DeltaHeader, { diffIds }: Target): Promise<Work> {
    const made = new Map(header.layers.map((layer) => [layer.diffId, layer]));
    const missing: DeltaLayer[] = [];
    const copied: Digest[] = [];
    for (const diffId of new Set(diffIds)) {
      const isHere = (await this.#keep(diffId)) !== undefined;
      if (isHere && this.#parts.shelf.isSound([diffId])) continue;
      const layer = made.get(diffId);
      if (layer !== undefined) missing.push(layer);
      else if ((await this.#parts.bases.places([diffId], this.#pin)).length > 0) copied.push(diffId);
      else throw isHere ? damagedBase(diffId) : missingBase(header, diffId);
    }
    if (missing.length === 0) return { missing, base: [], copied };
    const wanted = header.base.map(({ diffId }) => diffId);
    const base = await this.#parts.bases.places(wanted, this.#pin);
    const lacking = wanted.find((diffId) => !base.some((place) => place.diffId === diffId));
    if (lacking === undefined) return { missing, base, copied };
    throw (await this.#keep(lacking)) === undefined ? missingBase(header, lacking) : damagedBase(lacking);
  }

  async #copy(diffIds: readonly Digest[], lease: LeaseRecord): Promise<void> {
    const copied = await this.#parts.bases.copy(diffIds, lease, this.#signal);
    const damaged = diffIds.find((diffId) => !copied.has(diffId));
    if (damaged !== undefined) throw damagedBase(damaged);
  }

  async #make(
    input: Readable,
    lease: LeaseRecord,
    o: { header: DeltaHeader; headerBytes: number; target: Target; work: Work },
  ): Promise<void> {
    const { shelf, space, log } = this.#parts;
    const diffIds = o.work.missing.map(({ diffId }) => diffId);
    const fullBytes = diffIds.reduce((sum, diffId) => sum + (o.target.packedBytes.get(diffId) ?? 0), 0);
    const made = await shelf.deltas
      .make(input, lease, {
        goal: { manifestDigest: o.header.target.manifestDigest, imageId: o.target.id },
        base: o.work.base,
        diffIds,
        maxBytes: await space.limitFor(fullBytes),
        onProgress: this.#progressOf(o.header, { missing: o.work.missing, from: o.headerBytes }),
        signal: this.#signal,
      })
      .catch((failure: unknown) => ({ layers: [], failure }));
    const { failure } = made;
    await noteDamage(failure, ownLayers(o.work.base), { shelf, log });
    if (failure instanceof Failure && failure.code === 'LAYER_TOO_LARGE') throw space.failureOf(failure);
    if (failure !== undefined) throw failure;
    if (made.layers.length < diffIds.length) throw fail.corrupt('delta: it lacks layers that it lists');
  }

  /** Tells of each layer how far its part of the delta has been read. */
  #progressOf({ layers }: DeltaHeader, o: { missing: readonly DeltaLayer[]; from: number }) {
    let start = o.from;
    const parts = layers.map((layer) => {
      const part = { layer, start, total: layer.frames.reduce((sum, [bytes]) => sum + bytes, 0), told: 0 };
      start += part.total;
      return part;
    });
    const shown = parts.filter(({ layer }) => o.missing.includes(layer));
    return (deltaBytes: number) => {
      for (const part of shown) {
        const current = Math.min(part.total, Math.max(0, deltaBytes - part.start));
        if (current === part.told) continue;
        part.told = current;
        this.#progress?.({
          status: 'Loading layer',
          progressDetail: { current, total: part.total },
          progress: progressBar(current, part.total),
          id: shortDigest(part.layer.diffId),
        });
      }
    };
  }

  async #recordOf({ target }: DeltaHeader, { id, platform, diffIds }: Target): Promise<ImageRecord> {
    let sizeBytes = 0;
    for (const diffId of diffIds) sizeBytes += (await this.#keep(diffId))?.sizeBytes ?? 0;
    return {
      id,
      manifestDigest: target.manifestDigest,
      manifestMediaType: target.mediaType,
      manifest: target.manifest,
      config: target.config,
      diffIds: [...diffIds],
      sizeBytes,
      pulledAt: nowText(),
      platform,
    };
  }

  async #keep(diffId: Digest) {
    return this.#parts.shelf.keep(diffId, this.#pin);
  }
}

/** The header, how long it is in the file, and the whole file once more. */
async function readHeader(
  pieces: AsyncIterable<Buffer>,
): Promise<{ header: DeltaHeader; headerBytes: number; whole: AsyncIterable<Buffer> }> {
  const prefix = await peek(pieces, PREFIX_BYTES);
  const { bytes, parse } = parsePrefix(prefix.head.subarray(0, PREFIX_BYTES));
  const headerBytes = PREFIX_BYTES + bytes;
  const { head, whole } = await peek(prefix.whole, headerBytes);
  if (head.length < headerBytes) throw fail.corrupt('delta: it is cut');
  return { header: parse(head.subarray(PREFIX_BYTES, headerBytes)), headerBytes, whole };
}

/** Throws for a header that contradicts itself, and for an image that cannot be one for this host. */
function readTarget({ target }: DeltaHeader, host: Platform): Target {
  const bytes = Buffer.from(target.manifest);
  if (digestOf(bytes) !== target.manifestDigest)
    throw fail.corrupt('delta: its manifest is not the one that it names');
  const manifest = parseManifest(bytes, target.mediaType, unnamed);
  if (manifest.kind === 'index') throw fail.corrupt('delta: it leads to an index');
  const { id, platform, diffIds } = readConfig(Buffer.from(target.config), host);
  if (id !== manifest.config.digest) throw fail.corrupt('delta: its config is not the one that it names');
  if (diffIds.length !== manifest.layers.length)
    throw fail.corrupt('delta: its manifest and its config have not as many layers');
  const packedBytes = new Map(diffIds.map((diffId, at) => [diffId, manifest.layers[at]?.size ?? 0]));
  return { id, platform, diffIds, packedBytes, names: (target.tags ?? []).map(readTag) };
}

function missingBase({ from }: DeltaHeader, diffId: Digest): Failure {
  const names = (from?.tags ?? []).map((tag) => familiarString(readTag(tag)));
  const image = from === undefined ? '' : ` ${from.id}${names.length > 0 ? ` (${names.join(', ')})` : ''}`;
  return fail.noDeltaBase(`the delta's base image${image} is not here: layer ${diffId} is missing`);
}

function damagedBase(diffId: Digest): Failure {
  return fail.corrupt(`delta: layer ${diffId} of its base is damaged: verify the image with repair first`);
}
