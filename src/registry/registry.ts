import type { Readable } from 'node:stream';
import { buffer as bufferOf } from 'node:stream/consumers';
import { codeOf, type Failure, fail } from '../errors.ts';
import type { DeltaArtifact } from '../lib/delta-artifact.ts';
import type { Digest } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import type { Platform } from '../lib/platform.ts';
import type { ProxySettings } from '../lib/proxy-address.ts';
import { familiarString, type Reference } from '../lib/reference.ts';
import { MOST_HINT_BYTES, sizeHintRanges, unpackedSize } from '../lib/unpacked-size.ts';
import { partOf } from './blob-part.ts';
import { type BlobPart, blobStream, type KeptPart } from './blob-stream.ts';
import { Certificates } from './certificates.ts';
import { Client } from './client.ts';
import { Connections } from './connections.ts';
import type { DeltaWish } from './deltas.ts';
import { Destination } from './destination.ts';
import { type Asking, type Document, Documents } from './documents.ts';
import { type Download, download } from './download.ts';
import { Hosts, type Source } from './hosts.ts';
import { InsecureHosts } from './insecure-hosts.ts';
import type { Inspection } from './inspection.ts';
import {
  chooseEntry,
  type Descriptor,
  type LayerDescriptor,
  MOST_DOCUMENT_BYTES,
  parseManifest,
  parsePulledConfig,
} from './manifest.ts';
import { Proxies } from './proxies.ts';
import type { Search, SearchResult } from './search.ts';
import { failureOf, Setback } from './setback.ts';
import { type RegistryAuth, Tokens } from './tokens.ts';
import { discard, readBounded, Transport } from './transport.ts';

export type { Inspection } from './inspection.ts';
export type { LayerDescriptor } from './manifest.ts';
export type { SearchResult } from './search.ts';
export type { RegistryAuth } from './tokens.ts';

/** An image as a registry describes it, checked: the digests fit the bytes, and the config fits the manifest. */
export interface RemoteImage {
  /** What the reference resolved to, an index or a manifest: the `Digest:` that people see. */
  readonly digest: Digest;
  readonly manifestDigest: Digest;
  readonly mediaType: string;
  /** The exact bytes. */
  readonly manifest: Buffer;
  readonly config: Buffer;
  readonly configDigest: Digest;
  /** What the config says it was made for. */
  readonly platform: Platform;
  /** Lowest first. */
  readonly layers: LayerDescriptor[];
}

/** What a blob must turn out to be. */
type Wanted = Pick<Descriptor, 'digest' | 'size'>;

const HUB = 'https://registry-1.docker.io';
const HUB_INDEX = 'https://index.docker.io';
const MOST_DAMAGED = 64;
/** A hint that takes longer is not worth waiting for. */
const LONGEST_HINT_WAIT_MS = 5000;

/**
 * The client of OCI registries (distribution-spec v1.1). It resolves names to checked descriptions and gives blobs
 * as verified streams; it stores nothing. All failures are in dockerd's words.
 */
export class Registry {
  readonly #transport: Transport;
  readonly #hosts: Hosts;
  readonly #tokens: Tokens;
  readonly #client: Client;
  readonly #insecure: InsecureHosts;
  readonly #index: string;
  readonly #documents: Documents;
  readonly #maxAttempts: number;
  readonly #backoffMs: number;
  readonly #stallMs: number;
  readonly #log: Log;
  /** Blobs that came damaged the last time: no mirror is asked for them first. */
  readonly #damaged = new Set<Digest>();

  /**
   * `mirrors` are URLs of mirrors of Docker Hub. `maxAttempts` are tries in a row that bring nothing, `stallMs` is
   * how long a server may be silent, `backoffMs` is the first pause. Throws `CONFIG` for a bad entry.
   */
  constructor(o: {
    mirrors: readonly string[];
    insecure: readonly string[];
    proxies?: ProxySettings;
    /** Directories with certificates of registries, one directory for each. */
    certificates?: readonly string[];
    maxAttempts: number;
    userAgent: string;
    stallMs?: number;
    backoffMs?: number;
    /** Where `docker.io` is served, and where it is searched. */
    hub?: string;
    index?: string;
    log: Log;
  }) {
    this.#stallMs = o.stallMs ?? 30_000;
    this.#backoffMs = o.backoffMs ?? 1000;
    this.#maxAttempts = Math.max(1, o.maxAttempts);
    this.#log = o.log;
    const stallMs = this.#stallMs;
    const insecure = new InsecureHosts(o.insecure);
    const connections = new Connections({
      proxies: new Proxies(o.proxies ?? { http: '', https: '', no: '' }),
      certificates: new Certificates({ directories: o.certificates ?? [] }),
      stallMs,
    });
    const transport = new Transport({ userAgent: o.userAgent, stallMs, insecure, connections });
    const hosts = new Hosts({ mirrors: o.mirrors, hub: o.hub ?? HUB, insecure, transport, log: o.log });
    const tokens = new Tokens({ transport, stallMs });
    this.#transport = transport;
    this.#hosts = hosts;
    this.#tokens = tokens;
    this.#insecure = insecure;
    this.#index = o.index ?? HUB_INDEX;
    this.#client = new Client({ hosts, tokens, transport, stallMs });
    this.#documents = new Documents({
      hosts,
      client: this.#client,
      maxAttempts: this.#maxAttempts,
      backoffMs: this.#backoffMs,
      stallMs,
      log: o.log,
    });
  }

  /**
   * What an image's name stands for now, for one platform. With `isPlatformStrict` an image of one platform must be
   * of that one; without, it is taken as it is.
   */
  async resolve(
    ref: Reference,
    o: { auth?: RegistryAuth; platform: Platform; isPlatformStrict?: boolean; signal: AbortSignal },
  ): Promise<RemoteImage> {
    const asking: Asking = { ref, auth: o.auth, signal: o.signal };
    const { platform, isPlatformStrict = false } = o;
    return this.#documents
      .fromSources(asking, (source) => this.#resolveAt(source, asking, platform, isPlatformStrict))
      .catch(rethrowFailure);
  }

  /** A manifest of any kind, unread; undefined if the repository has none by that name. */
  async manifest(
    ref: Reference,
    o: { auth?: RegistryAuth; signal: AbortSignal },
  ): Promise<Document | undefined> {
    const asking: Asking = { ref, auth: o.auth, signal: o.signal };
    const name = ref.digest ?? ref.tag ?? 'latest';
    return this.#documents
      .fromSources(asking, (source) => this.#documents.manifest(source, asking, name))
      .catch((cause: unknown) => {
        if (cause instanceof Setback && cause.status === 404) return undefined;
        throw failureOf(cause);
      });
  }

  /** A file from anywhere, with the same limits on silence and the same redirects. */
  async download(url: URL, { signal }: { signal: AbortSignal }): Promise<Download> {
    return download(this.#transport, url, { stallMs: this.#stallMs, signal });
  }

  /** Every tag of a repository, in the registry's order. Throws for a list of more than 10,000. */
  async tags(ref: Reference, o: { auth?: RegistryAuth; signal: AbortSignal }): Promise<string[]> {
    const asking: Asking = { ref, auth: o.auth, signal: o.signal };
    return this.#documents
      .fromSources(asking, (source) => this.#documents.tags(source, asking))
      .catch(rethrowFailure);
  }

  /** What a registry has under a name. Failures are in the registry's own words, with the status that fits them. */
  async inspect(ref: Reference, o: { auth?: RegistryAuth; signal: AbortSignal }): Promise<Inspection> {
    const asking: Asking = { ref, auth: o.auth, signal: o.signal };
    const { inspectAt } = await import('./inspection.ts');
    const read = (config: Wanted) => this.#config(asking, config);
    return this.#documents
      .fromSources(asking, (source) => inspectAt(source, asking, this.#documents, read))
      .catch((cause: unknown) => {
        throw cause instanceof Setback ? cause.own : cause;
      });
  }

  /** Tries credentials; resolves to the identity token that they are worth, empty if the registry gives none. */
  async login(auth: RegistryAuth, o: { signal: AbortSignal }): Promise<string> {
    const parts = { hosts: this.#hosts, tokens: this.#tokens, transport: this.#transport };
    const { login } = await import('./login.ts');
    return login(parts, auth, o).catch(rethrowFailure);
  }

  /** The repositories that Docker Hub, or the index that the term names, finds. */
  async search(search: Search, o: { signal: AbortSignal }): Promise<SearchResult[]> {
    const { Searches } = await import('./search.ts');
    const searches = new Searches({
      index: this.#index,
      insecure: this.#insecure,
      transport: this.#transport,
      stallMs: this.#stallMs,
    });
    return searches.run(search, o).catch(rethrowFailure);
  }

  /**
   * A blob as a stream that ends cleanly only if its length and sha256 are right. Broken connections are resumed
   * inside it. It holds at most 128 KiB besides what sockets buffer. A stream that fails with `CORRUPT` may be asked
   * for once more: the next one does not begin with a mirror. What is `kept` of it is not fetched again.
   */
  blob(
    ref: Reference,
    d: Wanted,
    o: {
      auth?: RegistryAuth;
      signal: AbortSignal;
      onRetry?: (attempt: number, secondsLeft: number) => void;
      kept?: KeptPart;
    },
  ): Readable {
    return this.#stream({ ref, auth: o.auth, signal: o.signal }, d, {
      onRetry: o.onRetry,
      kept: o.kept,
      mismatch: fail.verification('filesystem layer', d.digest),
    });
  }

  /**
   * The least that a layer unpacks to, found with a request for a few bytes of it; its packed size where those cannot
   * be had: it is only a hint, and whatever is wrong with the registry the pull will tell.
   */
  async unpackedBytes(
    ref: Reference,
    { digest, size, compression }: Pick<LayerDescriptor, 'digest' | 'size' | 'compression'>,
    o: { auth?: RegistryAuth; signal: AbortSignal },
  ): Promise<number> {
    const range = sizeHintRanges[compression];
    if (range === undefined) return size;
    const signal = AbortSignal.any([o.signal, AbortSignal.timeout(LONGEST_HINT_WAIT_MS)]);
    const wish = { ref, auth: o.auth, path: `blobs/${digest}`, headers: { range }, signal };
    for (const source of this.#hosts.sources(ref)) {
      try {
        const answer = await this.#client.get(source, wish);
        if (answer.status !== 206) discard(answer.body);
        else {
          const hint = await readBounded(answer, MOST_HINT_BYTES, { stallMs: this.#stallMs, signal });
          return unpackedSize(compression, hint ?? Buffer.alloc(0), size);
        }
      } catch {
        o.signal.throwIfAborted();
      }
    }
    return size;
  }

  /**
   * The deltas that are to be had beside an image, the smallest first; none if there is any trouble, or no time. With
   * `isNamed` those that `ref` itself stands for, and trouble is thrown.
   */
  async deltas(
    ref: Reference,
    wish: DeltaWish,
    o: { auth?: RegistryAuth; isNamed?: boolean; signal: AbortSignal },
  ): Promise<DeltaArtifact[]> {
    const { findDeltas, namedDeltas } = await import('./deltas.ts');
    const asking: Asking = { ref, auth: o.auth, signal: o.signal };
    if (o.isNamed) return namedDeltas(asking, this.#documents, wish).catch(rethrowFailure);
    return findDeltas(this.#hosts.sources(ref), asking, this.#documents, wish);
  }

  /** The way into a repository, for a push. Throws if the registry cannot be reached at all. */
  async destination(ref: Reference, o: { auth?: RegistryAuth; signal: AbortSignal }): Promise<Destination> {
    const source = this.#hosts.home(ref.domain);
    await this.#hosts.reach(source, o).catch(rethrowFailure);
    return new Destination({
      client: this.#client,
      transport: this.#transport,
      source,
      ref,
      auth: o.auth,
      backoffMs: this.#backoffMs,
      stallMs: this.#stallMs,
      log: this.#log,
    });
  }

  /** Closes all connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#hosts[Symbol.asyncDispose]();
    await this.#transport[Symbol.asyncDispose]();
  }

  async #resolveAt(
    source: Source,
    asking: Asking,
    platform: Platform,
    isPlatformStrict: boolean,
  ): Promise<RemoteImage> {
    const { ref } = asking;
    const target = ref.digest ?? ref.tag ?? 'latest';
    const top = await this.#documents.manifest(source, asking, target);
    let document = top;
    let manifest = parseManifest(top.bytes, top.contentType, ref);
    if (manifest.kind === 'index') {
      const entry = chooseEntry(manifest, platform);
      document = await this.#documents.manifest(source, asking, entry.digest);
      manifest = parseManifest(document.bytes, document.contentType, ref);
      if (manifest.kind === 'index') throw fail.unsupportedImage('an index inside an index is not supported');
    }
    const config = await this.#config(asking, manifest.config);
    const pulled = parsePulledConfig(config, manifest, { ref, platform, isPlatformStrict });
    return {
      digest: top.digest,
      manifestDigest: document.digest,
      mediaType: manifest.mediaType,
      manifest: document.bytes,
      config,
      configDigest: manifest.config.digest,
      ...pulled,
    };
  }

  async #config(asking: Asking, config: Wanted): Promise<Buffer> {
    if (config.size > MOST_DOCUMENT_BYTES) {
      throw fail.registry(
        `image config of ${familiarString(asking.ref)} is larger than ${MOST_DOCUMENT_BYTES} bytes`,
      );
    }
    const mismatch = fail.verification('image config', config.digest);
    const read = () => bufferOf(this.#stream(asking, config, { mismatch }));
    return read().catch((cause: unknown) => {
      if (codeOf(cause) === mismatch.code) return read(); // damaged on the way, perhaps: once more from zero
      throw cause;
    });
  }

  #stream(
    asking: Asking,
    { digest, size }: Wanted,
    o: {
      onRetry?: ((attempt: number, secondsLeft: number) => void) | undefined;
      kept?: KeptPart | undefined;
      mismatch: Failure;
    },
  ): Readable {
    const sources = this.#hosts.sources(asking.ref);
    const image = familiarString(asking.ref);
    return blobStream({
      digest,
      size,
      kept: o.kept,
      open: (offset, at, { signal }) =>
        this.#openBlob(sources[at] ?? sources[0], { ...asking, signal }, { digest, size }, offset),
      sourceCount: sources.length,
      firstSource: this.#damaged.delete(digest) ? sources.length - 1 : 0,
      maxAttempts: this.#maxAttempts,
      backoffMs: this.#backoffMs,
      stallMs: this.#stallMs,
      onRetry: o.onRetry,
      onMismatch: (at) => {
        this.#log.warn({ image, blob: digest, host: sources[at]?.host }, 'a damaged blob was received');
        this.#noteDamage(digest);
        return o.mismatch;
      },
      signal: asking.signal,
    });
  }

  #noteDamage(digest: Digest): void {
    this.#damaged.add(digest);
    for (const oldest of this.#damaged) {
      if (this.#damaged.size <= MOST_DAMAGED) break;
      this.#damaged.delete(oldest);
    }
  }

  async #openBlob(source: Source, asking: Asking, d: Wanted, offset: number): Promise<BlobPart> {
    const wish = { ...asking, path: `blobs/${d.digest}` };
    if (offset === 0) return partOf(await this.#client.get(source, wish), d.size, 0);
    try {
      const headers = { range: `bytes=${offset}-` };
      return partOf(await this.#client.get(source, { ...wish, headers }), d.size, offset);
    } catch (cause) {
      // it has no such range: shorter than promised, or mistaken about ranges; the whole of it will tell
      if (!(cause instanceof Setback) || cause.status !== 416) throw cause;
      return partOf(await this.#client.get(source, wish), d.size, 0);
    }
  }
}

function rethrowFailure(cause: unknown): never {
  throw failureOf(cause);
}
