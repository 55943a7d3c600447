import { Readable } from 'node:stream';
import { codeOf, fail } from '../errors.ts';
import { compressLayer } from '../layers/compression.ts';
import type { Layers } from '../layers/layers.ts';
import { type Digest, digestOf } from '../lib/digest.ts';
import { Locks, Semaphore } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import {
  canonicalString,
  familiarName,
  familiarString,
  isTag,
  parseReference,
  type Reference,
  repositoryOf,
} from '../lib/reference.ts';
import type { Destination } from '../registry/destination.ts';
import type { Registry, RegistryAuth } from '../registry/registry.ts';
import type { ImageRecord, RefRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { Table } from '../store/tables.ts';
import type { Events } from './events.ts';
import type { Images } from './images.ts';
import { blobsOf, type KnownBlob, type KnownLayer, knownLayers } from './known-blobs.ts';
import type { LayerShelf } from './layer-shelf.ts';
import type { Progress } from './progress.ts';
import { LayerPushReport } from './push-report.ts';
import { manifestOf, type PackedLayer } from './pushed-manifest.ts';

/** What a client asks for: one tag, or all of the repository's if it gives none. */
export interface PushRequest {
  name: string;
  tag?: string;
  auth?: RegistryAuth;
}

/** What a push needs of a repository. */
export type PushTarget = Pick<Destination, 'has' | 'mount' | 'upload' | 'put' | 'putManifest'>;

/** What a push needs of the client of registries. */
export interface PushRegistry {
  destination(...args: Parameters<Registry['destination']>): Promise<PushTarget>;
}

/** A reference with a tag. */
type Tagged = Reference & { readonly tag: string };

/** One push under way. */
interface Push {
  readonly ref: Reference;
  readonly to: PushTarget;
  readonly progress: Progress;
  readonly signal: AbortSignal;
  /** Layers that this push knows to be there. */
  readonly done: Map<Digest, PackedLayer>;
}

// What is tried before a layer is sent, as dockerd bounds it.
const MOST_LOOKS = 4;
const MOST_MOUNTS = 4;

/**
 * Pushes images. A layer is sent only if the registry has it in no way that we know of; it is packed while it is sent.
 * The manifest comes last, so that a push that dies leaves the registry's tags as they were.
 */
export class Pushes {
  readonly #registry: PushRegistry;
  readonly #images: Pick<Images, 'using' | 'notePushed'>;
  readonly #tables: { images: Table<ImageRecord>; refs: Table<RefRecord> };
  readonly #shelf: Pick<LayerShelf, 'pin' | 'keep' | 'get' | 'notePushed'>;
  readonly #layers: Pick<Layers, 'tar'>;
  readonly #events: Events;
  readonly #uploads: Semaphore;
  /** By repository and layer: of two pushes of one layer, the second finds it there. */
  readonly #locks = new Locks();
  readonly #log: Log;

  constructor(o: {
    registry: PushRegistry;
    images: Pick<Images, 'using' | 'notePushed'>;
    store: Pick<Store, 'table'>;
    shelf: Pick<LayerShelf, 'pin' | 'keep' | 'get' | 'notePushed'>;
    layers: Pick<Layers, 'tar'>;
    events: Events;
    /** Layers that are sent at the same time, of all pushes together. */
    parallelUploads: number;
    log: Log;
  }) {
    this.#registry = o.registry;
    this.#images = o.images;
    this.#tables = {
      images: o.store.table('images'),
      refs: o.store.table('refs'),
    };
    this.#shelf = o.shelf;
    this.#layers = o.layers;
    this.#events = o.events;
    this.#uploads = new Semaphore(o.parallelUploads);
    this.#log = o.log;
  }

  /**
   * Brings images to the registry that their name says. Throws in dockerd's words; only what is wrong with the name
   * itself comes before the first progress message.
   */
  async push(request: PushRequest, o: { signal: AbortSignal; progress: Progress }): Promise<void> {
    const ref = pushedReference(request);
    o.progress({ status: `The push refers to repository [${repositoryOf(ref)}]` });
    const tags = await this.#tagsOf(ref);
    const { signal } = o;
    const to = await this.#registry.destination(ref, {
      ...(request.auth && { auth: request.auth }),
      signal,
    });
    const push: Push = { ref, to, done: new Map(), ...o };
    for (const tag of tags) await this.#pushTag(push, { domain: ref.domain, path: ref.path, tag });
    this.#events.emit('image', 'push', familiarString(ref), { name: familiarName(ref) });
  }

  /** The tags to push: at least one. */
  async #tagsOf(ref: Reference): Promise<string[]> {
    const repository = repositoryOf(ref);
    const tags: string[] = [];
    let isKnown = false;
    for (const mark of ['@', ':']) {
      for await (const [key] of this.#tables.refs.entries({ prefix: `${repository}${mark}` })) {
        isKnown = true;
        if (mark === ':') tags.push(key.slice(repository.length + 1));
      }
    }
    if (!isKnown) throw fail.nothingToPush(familiarName(ref));
    if (ref.tag !== undefined) return [ref.tag];
    if (ref.digest !== undefined) throw fail.badRequest('cannot push a digest reference');
    if (tags.length === 0) throw fail.badRequest(`no tags to push for ${familiarName(ref)}`);
    return tags;
  }

  async #pushTag(push: Push, ref: Tagged): Promise<void> {
    const began = performance.now();
    await using pin = this.#shelf.pin();
    const hold = async ({ record }: { record: ImageRecord }) => {
      for (const diffId of record.diffIds) await this.#shelf.keep(diffId, pin);
      return record;
    };
    const image = await this.#images.using(canonicalString(ref), hold).catch((cause: unknown) => {
      throw codeOf(cause) === 'NO_SUCH_IMAGE' ? fail.noSuchTag(familiarString(ref)) : cause;
    });
    const config = Buffer.from(image.config);
    if (digestOf(config) !== image.id) throw fail.corrupt(`the config of image ${image.id} is damaged`);

    const layers = await this.#pushLayers(push, image);
    const { signal } = push;
    await push.to.put(config, { signal });
    const manifest = manifestOf(image, layers, ref);
    await push.to.putManifest(ref.tag, manifest, { signal });
    await this.#images.notePushed(image.id, ref, manifest.digest);
    const [Digest, Size] = [manifest.digest, manifest.bytes.length];
    push.progress({ status: `${ref.tag}: digest: ${Digest} size: ${Size}` });
    push.progress({ progressDetail: {}, aux: { Tag: ref.tag, Digest, Size } });
    const ms = Math.round(performance.now() - began);
    this.#log.info({ image: familiarString(ref), id: image.id, digest: manifest.digest, ms }, 'image pushed');
  }

  /** All layers at once, within the limit; the first that fails stops the rest. The blobs, lowest layer first. */
  async #pushLayers(push: Push, image: ImageRecord): Promise<PackedLayer[]> {
    const known = await knownLayers(this.#tables, image, push.ref);
    const failure = new AbortController();
    const signal = AbortSignal.any([push.signal, failure.signal]);
    const topFirst = [...new Set([...image.diffIds].reverse())];
    const reports = topFirst.map((diffId) => [diffId, new LayerPushReport(push.progress, diffId)] as const);
    const work = reports.map(([diffId, report]) =>
      this.#pushLayer({ ...push, signal }, diffId, known.get(diffId), report).catch((cause) =>
        failure.abort(cause),
      ),
    );
    await Promise.all(work);
    signal.throwIfAborted();
    return image.diffIds.flatMap((diffId) => push.done.get(diffId) ?? []);
  }

  async #pushLayer(
    push: Push,
    diffId: Digest,
    known: KnownLayer | undefined,
    report: LayerPushReport,
  ): Promise<void> {
    if (push.done.has(diffId)) return report.exists();
    await using _turn = await this.#locks.hold(`${repositoryOf(push.ref)} ${diffId}`, push);
    if (this.#uploads.isFull) report.waiting();
    await using _place = await this.#uploads.hold(push);
    const blobs = blobsOf(known, await this.#shelf.get(diffId));
    const blob =
      (await this.#findBlob(push, blobs, report)) ??
      (await this.#mountBlob(push, blobs, report)) ??
      (await this.#uploadBlob(push, diffId, report));
    push.done.set(diffId, blob);
  }

  async #findBlob(
    { to, signal }: Push,
    blobs: readonly KnownBlob[],
    report: LayerPushReport,
  ): Promise<PackedLayer | undefined> {
    for (const blob of blobs.slice(0, MOST_LOOKS)) {
      if (!(await to.has(blob, { signal }))) continue;
      report.exists();
      return blob;
    }
    return undefined;
  }

  async #mountBlob(
    { to, signal }: Push,
    blobs: readonly KnownBlob[],
    report: LayerPushReport,
  ): Promise<PackedLayer | undefined> {
    const chances = blobs.flatMap((blob) => blob.repositories.map((from) => ({ blob, from })));
    for (const { blob, from } of chances.slice(0, MOST_MOUNTS)) {
      if (!(await to.mount(blob.digest, from, { signal }))) continue;
      report.mounted(from);
      return blob;
    }
    return undefined;
  }

  async #uploadBlob({ to, signal }: Push, diffId: Digest, report: LayerPushReport): Promise<PackedLayer> {
    const compressed = async function* (this: Pushes) {
      // looked up for each try: a repair may have put the layer somewhere else
      const record = await this.#shelf.get(diffId);
      if (record === undefined) throw fail.corrupt(`layer ${diffId} is missing: pull the image again`);
      const onProgress = (tarBytes: number) => report.pushing(tarBytes, record.tarBytes);
      const tar = this.#layers.tar(record.dirId);
      yield* compressLayer(tar, { diffId, onProgress }) as AsyncIterable<Buffer>;
    };
    const open = () => Readable.from(compressed.call(this), { objectMode: false });
    const onRetry = (seconds: number) => report.retrying(seconds);
    const blob = await to.upload(open, { onRetry, signal });
    await this.#shelf.notePushed(diffId, blob);
    report.pushed();
    return { ...blob, compression: 'gzip' };
  }
}

function pushedReference({ name, tag }: PushRequest): Reference {
  const named = parseReference(name);
  if (tag === undefined || tag === '') return named;
  if (!isTag(tag)) throw fail.invalidReference('invalid tag format');
  return { domain: named.domain, path: named.path, tag };
}
