import { fail } from '../errors.ts';
import { type Digest, isDigest } from '../lib/digest.ts';
import { Semaphore } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import { type Platform, parsePlatform } from '../lib/platform.ts';
import {
  canonicalString,
  familiarName,
  familiarString,
  isTag,
  parseReference,
  type Reference,
} from '../lib/reference.ts';
import type { LayerDescriptor, Registry, RegistryAuth, RemoteImage } from '../registry/registry.ts';
import type { ImageRecord, LeaseRecord } from '../store/records.ts';
import type { DeltaWishes } from './delta-choice.ts';
import type { DeltaImages } from './delta-images.ts';
import type { DeltaPulls } from './delta-pulls.ts';
import type { Events } from './events.ts';
import type { Images } from './images.ts';
import type { LayerShelf } from './layer-shelf.ts';
import type { Progress } from './progress.ts';
import { leaseForPull } from './pull-lease.ts';
import { type LayerReport, PullReport } from './pull-report.ts';
import { blobSource, pulledImage } from './pulled-image.ts';
import type { Space } from './space.ts';

/** What a client asks for: `fromImage` may carry a tag or digest itself, `tag` may be a digest. */
export interface PullRequest {
  fromImage: string;
  tag?: string;
  platform?: string;
  auth?: RegistryAuth;
  delta?: DeltaWishes;
}

/** A full reference, and what the registry calls it. */
interface Name {
  ref: Reference;
  digest: Digest;
}

/** One pull under way. */
interface Pull {
  ref: Reference;
  auth: RegistryAuth | undefined;
  lease: LeaseRecord;
  report: PullReport;
  signal: AbortSignal;
  progress: Progress;
  wishes: DeltaWishes;
}

/**
 * Pulls images. Until the last step, one synced batch, the old image answers under its name; after it the new one.
 * Whatever dies before leaves a lease and nothing that anyone can see.
 */
export class Pulls {
  readonly #registry: Pick<Registry, 'resolve' | 'tags' | 'blob' | 'unpackedBytes'>;
  readonly #images: Images;
  readonly #shelf: LayerShelf;
  readonly #events: Events;
  readonly #space: Space;
  readonly #deltas: DeltaPulls;
  readonly #deltaImages: Pick<DeltaImages, 'pull'>;
  readonly #host: Platform;
  readonly #downloads: Semaphore;
  readonly #tellsTotal: boolean;
  readonly #log: Log;

  constructor(o: {
    registry: Pick<Registry, 'resolve' | 'tags' | 'blob' | 'unpackedBytes'>;
    images: Images;
    shelf: LayerShelf;
    events: Events;
    space: Space;
    deltas: DeltaPulls;
    deltaImages: Pick<DeltaImages, 'pull'>;
    host: Platform;
    parallelDownloads: number;
    /** For balena-style supervisors: progress of the pull as a whole. */
    tellsTotal: boolean;
    log: Log;
  }) {
    this.#registry = o.registry;
    this.#images = o.images;
    this.#shelf = o.shelf;
    this.#events = o.events;
    this.#space = o.space;
    this.#deltas = o.deltas;
    this.#deltaImages = o.deltaImages;
    this.#host = o.host;
    this.#downloads = new Semaphore(o.parallelDownloads);
    this.#tellsTotal = o.tellsTotal;
    this.#log = o.log;
  }

  /**
   * Brings an image here under the name it was asked for; every image of a repository if neither tag nor digest was.
   * Throws in dockerd's words; what is thrown before the first progress message can still become an HTTP status.
   */
  async pull(request: PullRequest, o: { signal: AbortSignal; progress: Progress }): Promise<void> {
    const ref = wantedReference(request);
    const platform = request.platform ? parsePlatform(request.platform, this.#host) : this.#host;
    const auth = request.auth && { auth: request.auth };
    const isOne = ref.tag !== undefined || ref.digest !== undefined;
    const tags = isOne ? [] : await this.#registry.tags(ref, { ...auth, signal: o.signal });
    let isNew = false;
    for (const each of isOne ? [ref] : tags.map((tag) => ({ ...ref, tag }))) {
      const isPlatformStrict = Boolean(request.platform);
      const wishes = request.delta ?? {};
      if (await this.#pullOne(each, { ...o, ...auth, platform, isPlatformStrict, wishes })) isNew = true;
    }
    const name = familiarString(ref);
    o.progress({
      status: `Status: ${isNew ? 'Downloaded newer image for' : 'Image is up to date for'} ${name}`,
    });
    this.#events.emit('image', 'pull', name, { name: familiarName(ref) });
  }

  /** Brings the image of one tag or digest here; false if it was here already. */
  async #pullOne(
    ref: Reference,
    o: {
      auth?: RegistryAuth;
      platform: Platform;
      isPlatformStrict: boolean;
      wishes: DeltaWishes;
      signal: AbortSignal;
      progress: Progress;
    },
  ): Promise<boolean> {
    const began = performance.now();
    const remote = await this.#registry.resolve(ref, o);
    o.progress({
      status: `Pulling from ${ref.path}`,
      id: ref.digest ? canonicalString(ref) : (ref.tag ?? ''),
    });
    const isNewByDelta = await this.#deltaImages.pull({ ref, downloads: this.#downloads, ...o }, remote);
    if (isNewByDelta !== undefined) return isNewByDelta;
    const names = namesFor(ref, remote.digest);
    const isNew = !(await this.#isCurrent(names, remote)); // else nothing is written: clients ask often
    const { signal, progress, wishes } = o;
    const fetchedBytes = isNew
      ? await this.#bring({ ref, auth: o.auth, signal, progress, wishes }, remote, names)
      : 0;
    o.progress({ status: `Digest: ${remote.digest}` });
    const ms = Math.round(performance.now() - began);
    const image = familiarString(ref);
    this.#log.info({ image, id: remote.configDigest, bytes: fetchedBytes, isNew, ms }, 'image pulled');
    return isNew;
  }

  /** True if the image is here, whole, and goes by all of these names. */
  async #isCurrent(names: readonly Name[], remote: RemoteImage): Promise<boolean> {
    const known = await this.#images.byId(remote.configDigest);
    if (known === undefined || !this.#shelf.isSound(known.diffIds)) return false;
    const refs = await Promise.all(names.map(({ ref }) => this.#images.refOf(ref)));
    return refs.every((found) => found?.imageId === known.id && found.digest === remote.digest);
  }

  /** Layers, then the batch that makes them an image. Resolves to the compressed bytes that had to be fetched. */
  async #bring(
    o: Pick<Pull, 'ref' | 'auth' | 'signal' | 'progress' | 'wishes'>,
    remote: RemoteImage,
    names: readonly Name[],
  ): Promise<number> {
    const layers = distinctLayers(remote.layers);
    const wanted = [...layers.keys()];
    await using pin = this.#shelf.pin();
    const lease = await leaseForPull(this.#shelf, wanted, { pin, why: `pull of ${familiarString(o.ref)}` });
    const report = new PullReport(o.progress, { tellsTotal: this.#tellsTotal });
    try {
      const fetchedBytes = await this.#bringLayers({ ...o, lease, report }, remote, layers);
      const record = (await this.#images.byId(remote.configDigest)) ?? (await this.#recordOf(remote));
      // earlier tries may have wanted more
      const ends = await this.#shelf.leaseEnds({ ...lease, diffIds: wanted });
      await this.#images.adopt([{ record, refs: names }], ends);
      this.#shelf.release(lease);
      return fetchedBytes;
    } catch (cause) {
      // what this cannot clean up now its term will
      await this.#shelf.abandon(lease, cause).catch((err) => this.#log.error({ err }, 'lease not ended'));
      throw cause;
    }
  }

  /** Fetches what is missing, all layers at once within the limit; the first that fails stops the rest. */
  async #bringLayers(
    pull: Pull,
    remote: RemoteImage,
    layers: ReadonlyMap<Digest, LayerDescriptor>,
  ): Promise<number> {
    const absent: [LayerDescriptor, LayerReport][] = [];
    const present: typeof absent = [];
    for (const layer of layers.values()) {
      const report = pull.report.layer(layer.digest, layer.size);
      const isSound = this.#shelf.isSound([layer.diffId]);
      const isHere = isSound && (await this.#shelf.get(layer.diffId)) !== undefined;
      report[isHere ? 'exists' : 'waiting']();
      (isHere ? present : absent).push([layer, report]);
    }
    const delta = await this.#deltas.make(
      pull,
      remote,
      absent.map(([layer]) => layer),
    );
    for (const [{ diffId }, report] of absent) if (delta.made.has(diffId)) report.done();
    // a delta that builds on a layer may be the first to see that it is damaged
    const spoilt = present.filter(([{ diffId }]) => !this.#shelf.isSound([diffId]));
    for (const [, report] of spoilt) report.waiting();
    absent.push(...spoilt);
    const missing = absent.filter(([{ diffId }]) => !delta.made.has(diffId));
    const sizeOf = (some: typeof absent) => some.reduce((sum, [{ size }]) => sum + size, 0);
    const bytes = { fetchedBytes: delta.fetchedBytes + sizeOf(missing), fullBytes: sizeOf(absent) };
    await this.#checkSpace(
      pull,
      missing.map(([layer]) => layer),
    );
    const failure = new AbortController();
    const signal = AbortSignal.any([pull.signal, failure.signal]);
    const fetches = missing.map(([layer, report]) =>
      this.#bringLayer({ ...pull, signal }, layer, report).catch((cause) => failure.abort(cause)),
    );
    await Promise.all(fetches);
    signal.throwIfAborted();
    this.#deltas.report(pull, delta, bytes);
    return bytes.fetchedBytes;
  }

  async #bringLayer(
    { ref, auth, lease, signal }: Pull,
    layer: LayerDescriptor,
    report: LayerReport,
  ): Promise<void> {
    await this.#deltas.waitFor(layer.diffId, { signal });
    await using _place = await this.#downloads.hold({ signal });
    const parts = { registry: this.#registry, space: this.#space };
    const source = { diffId: layer.diffId, ...blobSource(parts, { ref, auth }, layer, report) };
    try {
      await this.#shelf.fetch(source, lease, { onProgress: report.downloading, signal });
    } catch (cause) {
      throw this.#space.failureOf(cause);
    }
    report.done();
  }

  async #recordOf(remote: RemoteImage): Promise<ImageRecord> {
    const config = remote.config.toString('utf8');
    const diffIds = remote.layers.map(({ diffId }) => diffId);
    const parts = { shelf: this.#shelf, host: this.#host };
    return {
      ...(await pulledImage(remote.configDigest, { config, diffIds }, parts)),
      manifestDigest: remote.manifestDigest,
      manifestMediaType: remote.mediaType,
      manifest: remote.manifest.toString('utf8'),
    };
  }

  async #checkSpace({ ref, auth, signal }: Pull, layers: readonly LayerDescriptor[]): Promise<void> {
    const coming = layers.map((layer) => ({
      sizeBytes: layer.size,
      unpackedBytes: async () => {
        await using _place = await this.#downloads.hold({ signal });
        return await this.#registry.unpackedBytes(ref, layer, { ...(auth && { auth }), signal });
      },
    }));
    await this.#space.check(familiarString(ref), coming);
  }
}

function wantedReference({ fromImage, tag }: PullRequest): Reference {
  const named = parseReference(fromImage);
  if (named.domain === 'docker.io' && named.path === 'library/scratch') {
    throw fail.registry("'scratch' is a reserved name", { status: 403 });
  }
  if (tag === undefined || tag === '') return named;
  if (isDigest(tag)) return { ...named, digest: tag };
  if (!isTag(tag)) throw fail.invalidReference('invalid tag format');
  return { ...named, tag };
}

/** What a pulled image goes by: its digest, and the tag unless a digest was asked for. */
function namesFor({ domain, path, tag, digest: wanted }: Reference, digest: Digest): Name[] {
  const tagged = tag === undefined || wanted !== undefined ? [] : [{ ref: { domain, path, tag }, digest }];
  return [...tagged, { ref: { domain, path, digest }, digest }];
}

/** An image may hold one layer twice; it is fetched and told of once. */
function distinctLayers(layers: readonly LayerDescriptor[]): Map<Digest, LayerDescriptor> {
  const distinct = new Map<Digest, LayerDescriptor>();
  for (const layer of layers) if (!distinct.has(layer.diffId)) distinct.set(layer.diffId, layer);
  return distinct;
}
