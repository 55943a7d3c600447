import { fail } from '../errors.ts';
import { spaceOf } from '../host/files.ts';
import { type Digest, isDigest } from '../lib/digest.ts';
import { parseImageConfig } from '../lib/image-config.ts';
import { Semaphore } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import { normalize, type Platform, parsePlatform } from '../lib/platform.ts';
import { formatBytes } from '../lib/progress-bar.ts';
import {
  familiarName,
  familiarString,
  isTag,
  parseReference,
  type Reference,
  withDefaultTag,
} from '../lib/reference.ts';
import { nowText } from '../lib/time.ts';
import type { LayerDescriptor, Registry, RegistryAuth, RemoteImage } from '../registry/registry.ts';
import type { ImageRecord, LeaseRecord } from '../store/records.ts';
import type { Events } from './events.ts';
import type { Images } from './images.ts';
import type { LayerShelf } from './layer-shelf.ts';
import type { Progress } from './progress.ts';
import { layerReport } from './pull-report.ts';

/** What a client asks for: `fromImage` may carry a tag or digest itself, `tag` may be a digest. */
export interface PullRequest {
  fromImage: string;
  tag?: string;
  platform?: string;
  auth?: RegistryAuth;
}

/**
 * Pulls images. Until the last step, one synced batch, the old image answers under its name; after it the new one.
 * Whatever dies before leaves a lease and nothing that anyone can see.
 */
export class Pulls {
  readonly #registry: Pick<Registry, 'resolve' | 'blob'>;
  readonly #images: Images;
  readonly #shelf: LayerShelf;
  readonly #events: Events;
  readonly #dataRoot: string;
  readonly #host: Platform;
  readonly #downloads: Semaphore;
  readonly #log: Log;

  constructor(o: {
    registry: Pick<Registry, 'resolve' | 'blob'>;
    images: Images;
    shelf: LayerShelf;
    events: Events;
    dataRoot: string;
    host: Platform;
    parallelDownloads: number;
    log: Log;
  }) {
    this.#registry = o.registry;
    this.#images = o.images;
    this.#shelf = o.shelf;
    this.#events = o.events;
    this.#dataRoot = o.dataRoot;
    this.#host = o.host;
    this.#downloads = new Semaphore(o.parallelDownloads);
    this.#log = o.log;
  }

  /**
   * Brings an image here under the name it was asked for. Throws in dockerd's words; what is thrown before the
   * first progress message can still become an HTTP status.
   */
  async pull(request: PullRequest, o: { signal: AbortSignal; progress: Progress }): Promise<void> {
    const ref = wantedReference(request);
    const platform = request.platform ? parsePlatform(request.platform, this.#host) : this.#host;
    const began = performance.now();
    const remote = await this.#registry.resolve(ref, {
      ...(request.auth && { auth: request.auth }),
      platform,
      isPlatformStrict: Boolean(request.platform),
      signal: o.signal,
    });
    o.progress({ status: `Pulling from ${ref.path}`, id: ref.digest ?? ref.tag ?? '' });

    const layers = distinctLayers(remote.layers);
    const lease = await this.#shelf.lease([...layers.keys()], `pull of ${familiarString(ref)}`);
    let fetchedBytes = 0;
    let isNew: boolean;
    try {
      fetchedBytes = await this.#bringLayers(ref, remote, layers, lease, request.auth, o);
      isNew = await this.#publish(ref, remote, lease);
    } catch (cause) {
      await this.#shelf.abandon(lease, cause);
      throw cause;
    }
    this.#shelf.release(lease);
    o.progress({ status: `Digest: ${remote.digest}` });
    const outcome = isNew ? 'Downloaded newer image for' : 'Image is up to date for';
    o.progress({ status: `Status: ${outcome} ${familiarString(ref)}` });
    const name = familiarString(ref);
    this.#events.emit('image', 'pull', name, { name: familiarName(ref) });
    const ms = Math.round(performance.now() - began);
    this.#log.info({ image: name, id: remote.configDigest, bytes: fetchedBytes, isNew, ms }, 'image pulled');
  }

  /** Fetches what is missing, all layers at once within the limit; the first that fails stops the rest. */
  async #bringLayers(
    ref: Reference,
    remote: RemoteImage,
    layers: ReadonlyMap<Digest, LayerDescriptor>,
    lease: LeaseRecord,
    auth: RegistryAuth | undefined,
    o: { signal: AbortSignal; progress: Progress },
  ): Promise<number> {
    const missing: LayerDescriptor[] = [];
    for (const layer of layers.values()) {
      const report = layerReport(layer.digest, layer.size, o.progress);
      if ((await this.#shelf.get(layer.diffId)) !== undefined) report.exists();
      else {
        report.waiting();
        missing.push(layer);
      }
    }
    const totalBytes = missing.reduce((sum, { size }) => sum + size, 0);
    await this.#checkSpace(totalBytes);
    const failure = new AbortController();
    const signal = AbortSignal.any([o.signal, failure.signal]);
    const fetches = missing.map(async (layer) => {
      try {
        await this.#bringLayer(ref, layer, lease, auth, { signal, progress: o.progress });
      } catch (cause) {
        failure.abort(cause);
        throw cause;
      }
    });
    const outcomes = await Promise.allSettled(fetches);
    if (failure.signal.aborted) throw failure.signal.reason;
    o.signal.throwIfAborted();
    if (outcomes.some(({ status }) => status === 'rejected'))
      throw fail.corrupt(`pull of ${remote.digest} failed`);
    return totalBytes;
  }

  async #bringLayer(
    ref: Reference,
    layer: LayerDescriptor,
    lease: LeaseRecord,
    auth: RegistryAuth | undefined,
    o: { signal: AbortSignal; progress: Progress },
  ): Promise<void> {
    const report = layerReport(layer.digest, layer.size, o.progress);
    await using _place = await this.#downloads.hold({ signal: o.signal });
    await this.#shelf.fetch(
      {
        diffId: layer.diffId,
        blob: layer.digest,
        compression: layer.compression,
        open: (signal) => this.#registry.blob(ref, layer, { ...(auth && { auth }), signal }),
      },
      lease,
      { onProgress: report.downloading, signal: o.signal },
    );
    report.done();
  }

  /** True if the name stands for another image now than before. */
  async #publish(ref: Reference, remote: RemoteImage, lease: LeaseRecord): Promise<boolean> {
    const before = await this.#images.refOf(ref);
    const known = await this.#images.byId(remote.configDigest);
    const record = known ?? (await this.#recordOf(remote));
    const { tag: _tag, digest: _digest, ...repository } = ref;
    const digested = { ref: { ...repository, digest: remote.digest }, digest: remote.digest };
    const tagged = ref.tag === undefined || ref.digest !== undefined ? [] : [{ ref, digest: remote.digest }];
    await this.#images.adopt(record, [...tagged, digested], await this.#shelf.leaseEnds(lease));
    return known === undefined || before?.imageId !== remote.configDigest;
  }

  async #recordOf(remote: RemoteImage): Promise<ImageRecord> {
    const config = remote.config.toString('utf8');
    const { os, architecture, variant } = parseImageConfig(config);
    let sizeBytes = 0;
    for (const { diffId } of remote.layers) sizeBytes += (await this.#shelf.get(diffId))?.sizeBytes ?? 0;
    return {
      id: remote.configDigest,
      manifestDigest: remote.manifestDigest,
      manifestMediaType: remote.mediaType,
      manifest: remote.manifest.toString('utf8'),
      config,
      diffIds: remote.layers.map(({ diffId }) => diffId),
      sizeBytes,
      pulledAt: nowText(),
      platform: normalize({
        os: os || 'linux',
        architecture: architecture || this.#host.architecture,
        ...(variant && { variant }),
      }),
    };
  }

  /** Unpacked layers are never smaller than what is fetched, so this much at least must be free. */
  async #checkSpace(neededBytes: number): Promise<void> {
    const { freeBytes } = await spaceOf(this.#dataRoot);
    if (neededBytes <= freeBytes) return;
    throw fail.noSpace(
      `no space left on device: the layers need at least ${formatBytes(neededBytes)}, ${formatBytes(freeBytes)} are free in ${this.#dataRoot}`,
    );
  }
}

function wantedReference({ fromImage, tag }: PullRequest): Reference {
  const named = parseReference(fromImage);
  if (named.domain === 'docker.io' && named.path === 'library/scratch') {
    throw fail.registry("'scratch' is a reserved name", { status: 403 });
  }
  if (tag === undefined || tag === '') return withDefaultTag(named);
  if (isDigest(tag)) return { ...named, digest: tag };
  if (!isTag(tag)) throw fail.invalidReference('invalid tag format');
  return { ...named, tag };
}

/** An image may hold one layer twice; it is fetched and told of once. */
function distinctLayers(layers: readonly LayerDescriptor[]): Map<Digest, LayerDescriptor> {
  const distinct = new Map<Digest, LayerDescriptor>();
  for (const layer of layers) if (!distinct.has(layer.diffId)) distinct.set(layer.diffId, layer);
  return distinct;
}
