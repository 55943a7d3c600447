import { isDelta, MARK_BYTES } from '../delta/delta-header.ts';
import { fail } from '../errors.ts';
import { decompressInto } from '../layers/decompression.ts';
import type { Layers } from '../layers/layers.ts';
import { readDeltaImage } from '../lib/delta-image.ts';
import type { Digest } from '../lib/digest.ts';
import { Discarded } from '../lib/discarded.ts';
import { parseImageConfig } from '../lib/image-config.ts';
import { abortable } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import { peek } from '../lib/peek.ts';
import type { Platform } from '../lib/platform.ts';
import { familiarString } from '../lib/reference.ts';
import { nowText } from '../lib/time.ts';
import type { ImageRecord } from '../store/records.ts';
import type { ArchiveContents } from './archive-contents.ts';
import { ArchiveIntake } from './archive-intake.ts';
import { completeDelta } from './archived-delta.ts';
import type { ArchivedImage, LoadedImage } from './archived-image.ts';
import type { Bases } from './bases.ts';
import { DeltaIntake } from './delta-intake.ts';
import { readDockerArchive } from './docker-archive.ts';
import type { Events } from './events.ts';
import type { Images, MovedName } from './images.ts';
import type { LayerShelf } from './layer-shelf.ts';
import { readLegacyArchive } from './legacy-archive.ts';
import { readOciLayout } from './oci-layout.ts';
import type { Progress } from './progress.ts';
import type { Space } from './space.ts';

/** Packed bytes that may go by before their buffers are collected; unpacked, it is a few times as much. */
const COLLECT_BYTES = 2 << 20;

/** What loading needs of the rest of the engine. */
export interface LoadParts {
  images: Pick<Images, 'adopt' | 'byId' | 'refOf'>;
  shelf: Pick<
    LayerShelf,
    'add' | 'diffIdOf' | 'drop' | 'get' | 'keep' | 'lease' | 'leaseEnds' | 'pin' | 'release'
  > &
    Pick<LayerShelf, 'deltas' | 'discard' | 'isSound' | 'noteVerdict' | 'stage' | 'take'>;
  layers: Pick<Layers, 'tar' | 'topOf'>;
  bases: Pick<Bases, 'copy' | 'get' | 'places'>;
  events: Pick<Events, 'emit'>;
  space: Pick<Space, 'check' | 'limitFor' | 'failureOf'>;
  host: Platform;
  log: Log;
}

export interface LoadOptions {
  /** No progress of single layers. */
  isQuiet: boolean;
  progress: Progress;
  signal: AbortSignal;
}

/** What images come by. */
type Intake = Pick<ArchiveIntake, 'lease' | 'settle'>;

/**
 * Loads the images of an archive: Docker's, of any age, or an OCI layout; or the one that a delta leads to; packed or
 * not. Layers are unpacked or made as they come by; one synced batch at the end makes all images visible. Whatever
 * fails before leaves nothing.
 */
export async function loadImages(
  parts: LoadParts,
  input: AsyncIterable<Buffer>,
  o: LoadOptions,
): Promise<void> {
  const began = performance.now();
  await using intake = new ArchiveIntake(parts, o);
  await using deltaIntake = new DeltaIntake(parts, o);
  let fromDelta: LoadedImage | undefined;
  const take = async (pieces: AsyncIterable<Buffer>) => {
    const { head, whole } = await peek(pieces, MARK_BYTES);
    if (isDelta(head)) fromDelta = await deltaIntake.read(whole);
    else await intake.read(whole);
  };
  const stop = new AbortController();
  const signal = AbortSignal.any([o.signal, stop.signal]);
  try {
    await decompressInto(interruptible(input, signal), 'auto', async (pieces) => {
      // the client may have nothing more to say: what went wrong here must not wait for it
      await take(pieces).catch((cause: unknown) => {
        stop.abort(cause);
        throw cause;
      });
    });
    const loaded = fromDelta === undefined ? await completeAll(parts, intake) : [fromDelta];
    o.signal.throwIfAborted();
    await adopt(parts, fromDelta === undefined ? intake : deltaIntake, merged(loaded), o.progress);
    const ms = Math.round(performance.now() - began);
    parts.log.info({ images: loaded.map(({ record }) => record.id), ms }, 'images loaded');
  } catch (cause) {
    o.signal.throwIfAborted();
    throw cause;
  }
}

async function completeAll(parts: LoadParts, intake: ArchiveIntake): Promise<LoadedImage[]> {
  const archived = readImages(intake.contents, parts.host);
  const loaded: LoadedImage[] = [];
  for (const image of archived) {
    const delta = readDeltaImage(image.config);
    if (delta !== undefined) loaded.push(await completeDelta(parts, intake, image, delta));
    else loaded.push(await complete(parts, intake, image, archived));
  }
  return loaded;
}

function readImages(contents: ArchiveContents, host: Platform): ArchivedImage[] {
  if (contents.has('manifest.json')) return readDockerArchive(contents, host);
  return contents.has('index.json') ? readOciLayout(contents, host) : readLegacyArchive(contents, host);
}

/** The record of an archived image, once each of its layers is here and is the one that its config names. */
async function complete(
  { images, shelf }: LoadParts,
  intake: ArchiveIntake,
  image: ArchivedImage,
  all: readonly ArchivedImage[],
): Promise<LoadedImage> {
  let sizeBytes = 0;
  for (const [at, layer] of image.layers.entries()) {
    const diffId = await intake.bring(layer);
    if (diffId !== layer.diffId) {
      throw fail.invalidArchive(
        `invalid diffID for layer ${at}: expected ${JSON.stringify(layer.diffId)}, got ${JSON.stringify(diffId)}`,
      );
    }
    sizeBytes += (await shelf.get(diffId))?.sizeBytes ?? 0;
  }
  const { id, config, platform, manifest, names } = image;
  const known = await images.byId(id);
  if (known !== undefined) return { record: known, names };
  const parent = all.find((other) => other.id === image.parent && isParent(other, image));
  const record: ImageRecord = {
    id,
    ...(manifest && {
      manifestDigest: manifest.digest,
      manifestMediaType: manifest.mediaType,
      manifest: manifest.text,
    }),
    config,
    ...(parent && { parent: parent.id }),
    diffIds: image.layers.map(({ diffId }) => diffId),
    sizeBytes,
    pulledAt: nowText(),
    platform,
  };
  return { record, names };
}

/** As dockerd checks it: one step less, on the same layers. So no image is its own ancestor, whatever an archive says. */
function isParent(parent: ArchivedImage, child: ArchivedImage): boolean {
  const steps = ({ config }: ArchivedImage) => parseImageConfig(config).history?.length ?? 0;
  const isPrefix = parent.layers.every(({ diffId }, at) => diffId === child.layers[at]?.diffId);
  return isPrefix && steps(child) === steps(parent) + 1;
}

/** An image may stand in an archive more than once, under different names. */
function merged(loaded: readonly LoadedImage[]): LoadedImage[] {
  const byId = new Map<Digest, LoadedImage>();
  for (const { record, names } of loaded) {
    const known = byId.get(record.id);
    byId.set(
      record.id,
      known === undefined ? { record, names } : { record: known.record, names: [...known.names, ...names] },
    );
  }
  return [...byId.values()];
}

/** Makes all of them visible at once, then tells of it. What is here under these names already is not written again. */
async function adopt(
  { images, shelf, events }: LoadParts,
  intake: Intake,
  loaded: readonly LoadedImage[],
  progress: Progress,
): Promise<void> {
  const fresh: LoadedImage[] = [];
  for (const one of loaded) if (await isNew(images, one)) fresh.push(one);
  let moved: readonly MovedName[] = [];
  if (fresh.length > 0) {
    const arrivals = fresh.map(({ record, names }) => ({ record, refs: names.map((ref) => ({ ref })) }));
    moved = await images.adopt(
      arrivals,
      intake.lease === undefined ? [] : await shelf.leaseEnds(intake.lease),
    );
    intake.settle();
  }
  const say = (line: string) => progress({ stream: `${line}\n` });
  for (const { record, names } of loaded) {
    for (const name of new Set(names.map(familiarString))) {
      const from = moved.find((move) => move.name === name && move.to === record.id)?.from;
      if (from) say(`The image ${name} already exists, renaming the old one with ID ${from} to empty string`);
      say(`Loaded image: ${name}`);
    }
    if (names.length === 0) say(`Loaded image ID: ${record.id}`);
    const labels = parseImageConfig(record.config).config?.Labels ?? {};
    events.emit('image', 'load', record.id, { name: record.id, ...labels });
  }
}

async function isNew(images: LoadParts['images'], { record, names }: LoadedImage): Promise<boolean> {
  if ((await images.byId(record.id)) === undefined) return true;
  const refs = await Promise.all(names.map((name) => images.refOf(name)));
  return refs.some((ref) => ref?.imageId !== record.id);
}

/** The input, until the signal is aborted: a client that says nothing more would otherwise hold everything up. */
async function* interruptible(
  input: AsyncIterable<Buffer>,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  const pieces = input[Symbol.asyncIterator]();
  const discarded = new Discarded({ everyBytes: COLLECT_BYTES });
  try {
    for (;;) {
      const { value, done } = await abortable(pieces.next(), signal);
      if (done === true) return;
      yield value;
      discarded.add(value.length);
    }
  } finally {
    pieces.return?.().catch(() => {}); // not waited for: a piece may be on its way for ever
  }
}
