import { Readable } from 'node:stream';
import { fail } from '../errors.ts';
import type { Layers } from '../layers/layers.ts';
import type { Digest } from '../lib/digest.ts';
import { Locks } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import { withResolvers } from '../lib/promises.ts';
import { familiarString } from '../lib/reference.ts';
import type { LayerRecord, LeaseRecord } from '../store/records.ts';
import { applyChanges } from './config-changes.ts';
import { mergeConfig } from './container-creation.ts';
import { tellContainer } from './container-events.ts';
import type { ContainerRecords } from './container-records.ts';
import type { Events } from './events.ts';
import type { Freezer } from './freezer.ts';
import { EMPTY_DIFF_ID, newImage, runConfigOf } from './image-making.ts';
import { newName, tellTag } from './image-tags.ts';
import type { Images } from './images.ts';
import type { Launcher } from './launcher.ts';
import type { LayerShelf } from './layer-shelf.ts';
import type { ContainerConfig, ContainerRecord } from './model.ts';
import type { Readers } from './readers.ts';

/** What is to become of a container's changes. */
export interface CommitRequest {
  /** The new image's name; empty for none. */
  repo: string;
  tag: string;
  author: string;
  comment: string;
  /** A running container stands still while it is read. */
  isPausing: boolean;
  /** Dockerfile instructions. */
  changes: readonly string[];
  /** Stands above the container's own. */
  config?: ContainerConfig;
}

/** Makes images of containers. The image is there in one batch, whole, or not at all. */
export class Commits {
  readonly #parts: CommitParts;
  /** One commit of a container at a time: the first to end would let it run on under the others. */
  readonly #locks = new Locks();

  constructor(parts: CommitParts) {
    this.#parts = parts;
  }

  /** Makes an image of a container, and answers its ID. Throws 400, 404 or 409 in dockerd's words. */
  async commit(ref: string, request: CommitRequest, { signal }: { signal: AbortSignal }): Promise<Digest> {
    const { id } = this.#parts.records.find(ref);
    await using _turn = await this.#locks.hold(id, { signal });
    const record = this.#present(id);
    return await this.#commit(record, request, signal);
  }

  async #commit(record: ContainerRecord, request: CommitRequest, signal: AbortSignal): Promise<Digest> {
    const { images, shelf, events, release, log } = this.#parts;
    const began = performance.now();
    const name = newName(request);
    const wanted = applyChanges(request.config ?? record.config, request.changes);
    const config = mergeConfig(wanted, runConfigOf(record.config));
    const parent = await images.find(record.imageId);
    const lease = await shelf.lease(parent.diffIds, `commit of ${record.name}`, { endsWithDaemon: true });
    try {
      const layer = await this.#bringLayer(record, lease, request.isPausing, signal);
      const image = newImage({
        parent,
        layer,
        config,
        container: { id: record.id, config: record.config },
        platform: parent.platform,
        author: request.author,
        comment: request.comment,
        createdBy: (record.config.cmd ?? []).join(' '),
        release,
      });
      const refs = name === undefined ? [] : [{ ref: name }];
      await images.adopt([{ record: image, refs }], await shelf.leaseEnds(lease));
      shelf.release(lease);
      if (layer.diffId === EMPTY_DIFF_ID) await shelf.collect(); // no image names it
      if (name !== undefined) tellTag(events, image, name);
      tellContainer(events, record, 'commit', {
        comment: request.comment,
        imageID: image.id,
        imageRef: name === undefined ? '' : familiarString(name),
      });
      const ms = Math.round(performance.now() - began);
      log.info({ container: record.id, image: image.id, bytes: layer.sizeBytes, ms }, 'container committed');
      return image.id;
    } catch (cause) {
      await shelf.drop(lease).catch((err) => log.error({ err }, 'lease not ended'));
      throw cause;
    }
  }

  /** The container's changes as a layer. It stands still only while they are read, not while it waits for its turn. */
  async #bringLayer(
    record: ContainerRecord,
    lease: LeaseRecord,
    isPausing: boolean,
    signal: AbortSignal,
  ): Promise<LayerRecord> {
    const { shelf, layers, launcher, readers } = this.#parts;
    const { id } = record;
    const dirIds = await shelf.directories(record.diffIds);
    const containerDir = launcher.directoryOf(id);
    let isBegun = false;
    const { promise: ended, resolve: end } = withResolvers<void>();
    const tar = async function* (this: Commits) {
      isBegun = true;
      try {
        await using _hold = isPausing ? await this.#hold(id) : undefined;
        using reader = readers.enter(id, { signal });
        this.#present(id);
        reader.signal.addEventListener('abort', () => input.destroy(reader.signal.reason), { once: true });
        yield* layers.packChanges({ dirIds, containerDir }, reader);
      } finally {
        end();
      }
    };
    const input = Readable.from(tar.call(this), { objectMode: false });
    try {
      return await shelf.add(input, lease, { compression: 'none', signal });
    } finally {
      input.destroy();
      if (isBegun) await ended; // whatever the outcome, it runs on by the time the client hears of it
    }
  }

  /** The container, unless it is gone or about to be. */
  #present(id: string): ContainerRecord {
    const record = this.#parts.records.find(id);
    const { status } = record.state;
    if (status === 'removing' || status === 'dead') throw fail.commitRefused(id, status);
    return record;
  }

  /** As under dockerd, what cannot be paused, because it just ended say, is committed as it is. */
  async #hold(id: string): Promise<AsyncDisposable | undefined> {
    try {
      return await this.#parts.freezer.hold(id);
    } catch (err) {
      this.#parts.log.warn({ container: id, err }, 'could not pause a container for its commit');
      return undefined;
    }
  }
}

interface CommitParts {
  records: ContainerRecords;
  images: Images;
  shelf: LayerShelf;
  layers: Pick<Layers, 'packChanges'>;
  launcher: Pick<Launcher, 'directoryOf'>;
  freezer: Pick<Freezer, 'hold'>;
  readers: Readers;
  events: Events;
  release: string;
  log: Log;
}
