import { Readable } from 'node:stream';
import { Failure, fail } from '../errors.ts';
import type { DeltaMaker } from '../layers/delta-maker.ts';
import type { DeltaStep } from '../layers/delta-steps.ts';
import { BASE_LABEL, readDeltaImage, TARGET_LABEL } from '../lib/delta-image.ts';
import { type Digest, digestOf, shortDigest } from '../lib/digest.ts';
import { formatGoDuration } from '../lib/go-duration.ts';
import { parseImageConfig } from '../lib/image-config.ts';
import type { Log } from '../lib/log.ts';
import { formatBytes, progressBar } from '../lib/progress-bar.ts';
import { familiarString, parseReference, type Reference, withDefaultTag } from '../lib/reference.ts';
import { endOfArchive, headersOf, paddingAfter } from '../lib/tar-writer.ts';
import { nowText } from '../lib/time.ts';
import type { ImageRecord, LayerRecord, LeaseRecord } from '../store/records.ts';
import type { Events } from './events.ts';
import { emptyConfig, runConfigOf } from './image-making.ts';
import { tellTag } from './image-tags.ts';
import type { Images } from './images.ts';
import type { LayerPin } from './layer-pins.ts';
import type { LayerShelf } from './layer-shelf.ts';
import type { Progress } from './progress.ts';

/** Two images that are here, and the name of what is to lead from one to the other; empty for none. */
export interface DeltaImageRequest {
  source: string;
  target: string;
  tag: string;
}

/** An image, and its layers, which stay while they are read. */
interface Kept {
  record: ImageRecord;
  layers: LayerRecord[];
}

/**
 * Makes delta images as balenaEngine does, for devices that apply those: an image as any other, with one layer for each of
 * the target's, that holds one file `delta`, a librsync delta between the tars; nothing where the base has the layer, and
 * all below it. The same two images give the same image.
 */
export class DeltaImageMaking {
  readonly #parts: DeltaImageParts;

  constructor(parts: DeltaImageParts) {
    this.#parts = parts;
  }

  /** Makes one and answers its ID. Throws 400 or 404, in balenaEngine's words, before it tells anything. */
  async make(
    request: DeltaImageRequest,
    { progress, signal }: { progress: Progress; signal: AbortSignal },
  ): Promise<Digest> {
    const { images, shelf, events, log } = this.#parts;
    const began = performance.now();
    await using pin = shelf.pin();
    const source = await this.#keep(request.source, pin);
    const target = await this.#keep(request.target, pin);
    const name = tagOf(request.tag);
    // nobody gets one that a device would refuse: to a delta image, say
    readDeltaImage(JSON.stringify(configOf(source.record, target.record)));
    const lease = await shelf.lease([], `delta from ${source.record.id} to ${target.record.id}`, {
      endsWithDaemon: true,
    });
    try {
      const report = new MakingReport(progress, {
        source: request.source,
        sourceBytes: tarBytesOf(source.layers),
      });
      const layers = await this.#makeLayers({ source, target, lease, report, signal });
      const record = recordOf(source.record, target.record, layers);
      const refs = name === undefined ? [] : [{ ref: name }];
      await images.adopt([{ record, refs }], await shelf.leaseEnds(lease));
      shelf.release(lease);
      if (name !== undefined) tellTag(events, record, name);
      report.created(record.id, name);
      const ms = Math.round(performance.now() - began);
      log.info({ image: record.id, bytes: record.sizeBytes, ms }, 'delta image made');
      return record.id;
    } catch (cause) {
      await shelf.drop(lease).catch((err) => log.error({ err }, 'lease not ended'));
      throw cause;
    }
  }

  async #keep(name: string, pin: LayerPin): Promise<Kept> {
    const { images, shelf } = this.#parts;
    try {
      return await images.using(name, async ({ record }) => {
        const layers: LayerRecord[] = [];
        for (const diffId of record.diffIds) {
          const layer = await shelf.keep(diffId, pin);
          if (layer === undefined) throw fail.corrupt(`layer ${diffId} is missing: pull the image again`);
          layers.push(layer);
        }
        return { record, layers };
      });
    } catch (cause) {
      throw cause instanceof Failure && cause.status < 500 ? fail.noImageForDelta(name, cause) : cause;
    }
  }

  /** The delta image's layers, lowest first. */
  async #makeLayers(making: Making): Promise<LayerRecord[]> {
    const [base, targets] = [making.source.layers, making.target.layers];
    const fork = targets.findIndex(({ diffId }, i) => diffId !== base[i]?.diffId);
    const common = fork < 0 ? targets : targets.slice(0, fork);
    const others = targets.slice(common.length);
    if (others.length > 0) return await this.#makeDeltas(making, { base, common, others });
    return await this.#skip(making, common);
  }

  /** A delta for each of the other layers, behind nothing for each that the base has too. */
  async #makeDeltas(
    making: Making,
    { base, common, others }: Record<'base' | 'common' | 'others', readonly LayerRecord[]>,
  ): Promise<LayerRecord[]> {
    const { report, signal } = making;
    const layers: LayerRecord[] = [];
    let isRead = false;
    for await (const step of this.#parts.maker.make({ base, targets: others }, { signal })) {
      if (step.kind === 'read') {
        report.fingerprinting(step.bytes);
        continue;
      }
      if (!isRead) {
        isRead = true;
        report.fingerprinted();
        layers.push(...(await this.#skip(making, common)));
      }
      const layer = others[layers.length - common.length];
      if (layer === undefined) throw new Error('more deltas than layers');
      if (step.kind !== 'delta') report.computing(layer, step.bytes);
      else {
        const delta = await this.#add(deltaTar(step), making);
        layers.push(delta);
        report.complete(layer, delta);
      }
    }
    return layers;
  }

  /** Empty layers: one on the disk, however many in the image. */
  async #skip(making: Making, common: readonly LayerRecord[]): Promise<LayerRecord[]> {
    for (const { diffId } of making.target.layers) making.report.waiting(diffId);
    if (common.length === 0) return [];
    const empty = await this.#add([endOfArchive], making);
    for (const { diffId } of common) making.report.skipped(diffId);
    return common.map(() => empty);
  }

  async #add(
    tar: AsyncIterable<Buffer> | Iterable<Buffer>,
    { lease, signal }: Pick<Making, 'lease' | 'signal'>,
  ): Promise<LayerRecord> {
    const input = Readable.from(tar, { objectMode: false });
    return await this.#parts.shelf.add(input, lease, { compression: 'none', signal });
  }
}

interface Making {
  readonly source: Kept;
  readonly target: Kept;
  readonly lease: LeaseRecord;
  readonly report: MakingReport;
  readonly signal: AbortSignal;
}

/** Throws 400 for what cannot be an image's tag. */
function tagOf(text: string): Reference | undefined {
  if (text === '') return undefined;
  const ref = parseReference(text);
  if (ref.digest !== undefined) throw fail.badRequest('build tag cannot contain a digest');
  return withDefaultTag(ref);
}

/** What the image's config says but for its layers: balenaEngine's, with a platform, and a time that follows from the target. */
function configOf(source: ImageRecord, target: ImageRecord): object {
  const labels = { [BASE_LABEL]: source.id, [TARGET_LABEL]: target.config };
  const { architecture, os, variant } = target.platform;
  return {
    architecture,
    config: runConfigOf({ ...emptyConfig(), labels }),
    created: parseImageConfig(target.config).created ?? '1970-01-01T00:00:00Z',
    os,
    ...(variant && { variant }),
  };
}

function recordOf(source: ImageRecord, target: ImageRecord, layers: readonly LayerRecord[]): ImageRecord {
  const diffIds = layers.map(({ diffId }) => diffId);
  const rootfs = { type: 'layers', diff_ids: diffIds };
  const config = JSON.stringify({ ...configOf(source, target), rootfs });
  return {
    id: digestOf(config),
    config,
    diffIds,
    sizeBytes: sizeOf(layers),
    pulledAt: nowText(),
    platform: target.platform,
  };
}

const tarBytesOf = (layers: readonly LayerRecord[]) =>
  layers.reduce((sum, { tarBytes }) => sum + tarBytes, 0);
const sizeOf = (layers: readonly LayerRecord[]) => layers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);

/** A layer of a delta image: balenaEngine's, byte for byte but for the delta. */
async function* deltaTar({ bytes, content }: Extract<DeltaStep, { kind: 'delta' }>): AsyncGenerator<Buffer> {
  const modifiedAt = { seconds: 0, nanos: 0 };
  yield headersOf({ type: 'file', name: 'delta', mode: 0o600, uid: 0, gid: 0, size: bytes, modifiedAt });
  yield* content;
  yield Buffer.concat([Buffer.alloc(paddingAfter(bytes)), endOfArchive]);
}

/** Tells how far it is in balenaEngine's words, which its clients look for. */
class MakingReport {
  readonly #progress: Progress;
  readonly #source: string;
  readonly #sourceBytes: number;
  readonly #began = performance.now();
  #normalBytes = 0;
  #deltaBytes = 0;

  /** `source` is the base as the client named it, `sourceBytes` what its tars have. */
  constructor(progress: Progress, { source, sourceBytes }: { source: string; sourceBytes: number }) {
    this.#progress = progress;
    this.#source = source;
    this.#sourceBytes = sourceBytes;
  }

  fingerprinting(current: number): void {
    this.#count(this.#source, 'Fingerprinting', current, this.#sourceBytes);
  }

  fingerprinted(): void {
    const took = formatGoDuration(performance.now() - this.#began);
    this.#say(this.#source, `Fingerprint complete, took ${took}`);
  }

  waiting(diffId: Digest): void {
    this.#say(shortDigest(diffId), 'Waiting');
  }

  skipped(diffId: Digest): void {
    this.#say(shortDigest(diffId), 'Skipping common layer');
  }

  computing({ diffId, tarBytes }: LayerRecord, current: number): void {
    this.#count(shortDigest(diffId), 'Computing delta', current, tarBytes);
  }

  complete({ diffId, sizeBytes }: LayerRecord, delta: LayerRecord): void {
    this.#normalBytes += sizeBytes;
    this.#deltaBytes += delta.sizeBytes;
    this.#say(shortDigest(diffId), 'Delta complete');
  }

  created(id: Digest, name: Reference | undefined): void {
    const ratio = this.#normalBytes === 0 ? 1 : this.#normalBytes / this.#deltaBytes;
    const sizes = `Normal size: ${formatBytes(this.#normalBytes)}, Delta size: ${formatBytes(this.#deltaBytes)}`;
    this.#progress({ status: `${sizes}, ${ratio.toFixed(2)}x improvement` });
    this.#progress({ status: `Created delta: ${id}` });
    if (name !== undefined) this.#progress({ status: `Successfully tagged ${familiarString(name)}\n` });
  }

  #count(id: string, status: string, current: number, total: number): void {
    const progress = progressBar(current, total);
    this.#progress({ status, progressDetail: { current, total }, progress, id });
  }

  #say(id: string, status: string): void {
    this.#progress({ status, progressDetail: {}, id });
  }
}

interface DeltaImageParts {
  images: Pick<Images, 'using' | 'adopt'>;
  shelf: Pick<LayerShelf, 'pin' | 'keep' | 'lease' | 'leaseEnds' | 'release' | 'drop' | 'add'>;
  maker: Pick<DeltaMaker, 'make'>;
  events: Events;
  log: Log;
}
