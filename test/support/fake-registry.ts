import { Readable } from 'node:stream';
import type { PushRegistry, PushTarget } from '../../src/engine/pushes.ts';
import { fail } from '../../src/errors.ts';
import { type Digest, digestOf } from '../../src/lib/digest.ts';
import { abortable } from '../../src/lib/locks.ts';
import { familiarName, familiarString, type Reference } from '../../src/lib/reference.ts';
import type { Registry, RemoteImage } from '../../src/registry/registry.ts';
import { FakeRepositories } from './fake-repositories.ts';
import { layerOf, makeImage, type TestImage, type TestLayer } from './registry-images.ts';

/** Images in memory, as the engine sees a registry: by name, and blobs that can be held up or broken. */
export class FakeRegistry
  implements
    Pick<Registry, 'resolve' | 'tags' | 'blob' | 'unpackedBytes' | 'download' | 'deltas'>,
    PushRegistry
{
  readonly images = new Map<string, TestImage>();
  /** Blobs that were asked for, in order. */
  readonly asked: Digest[] = [];
  /** Blobs that break off half-way. */
  readonly broken = new Set<Digest>();
  /** Blobs whose second half comes only when this resolves. */
  readonly held = new Map<Digest, Promise<void>>();
  /** Where pushes go. */
  readonly repositories = new FakeRepositories();
  readonly #blobs = new Map<Digest, Buffer>();

  /** Puts an image of uncompressed layers with these contents under a name. */
  put(
    name: string,
    contents: readonly string[],
    o: { config?: object; configFile?: object } = {},
  ): TestImage {
    const image = makeImage({ layers: contents.map(fakeLayer), ...o });
    for (const { blob, digest } of image.layers) this.#blobs.set(digest, blob);
    this.images.set(name, image);
    return image;
  }

  async download(url: URL): Promise<never> {
    throw fail.registry(`failed to GET ${url} with status 404 Not Found: `, { status: 404 });
  }

  async deltas(): Promise<[]> {
    return [];
  }

  async tags(ref: Reference): Promise<string[]> {
    const prefix = `${familiarName(ref)}:`;
    const names = [...this.images.keys()].filter((name) => name.startsWith(prefix));
    if (names.length === 0) throw fail.repositoryNotFound(familiarName(ref), 'name unknown');
    return names.map((name) => name.slice(prefix.length));
  }

  async destination(ref: Reference): Promise<PushTarget> {
    return this.repositories.target(ref);
  }

  async resolve(ref: Reference, { signal }: { signal: AbortSignal }): Promise<RemoteImage> {
    signal.throwIfAborted();
    const image = this.images.get(familiarString(ref));
    if (image === undefined) throw fail.manifestNotFound(familiarString(ref), 'manifest unknown');
    return {
      digest: image.digest,
      manifestDigest: image.digest,
      mediaType: image.mediaType,
      manifest: image.bytes,
      config: image.config,
      configDigest: image.configDigest,
      platform: image.platform,
      layers: image.layers.map(({ digest, blob, diffId }) => ({
        digest,
        diffId,
        size: blob.length,
        mediaType: 'application/vnd.oci.image.layer.v1.tar',
        compression: 'none',
      })),
    };
  }

  blob(_ref: Reference, { digest }: { digest: Digest }, { signal }: { signal: AbortSignal }): Readable {
    this.asked.push(digest);
    return Readable.from(this.#halves(digest, signal), { signal });
  }

  async unpackedBytes(_ref: Reference, { size }: { size: number }): Promise<number> {
    return size;
  }

  async *#halves(digest: Digest, signal: AbortSignal): AsyncGenerator<Buffer> {
    const bytes = this.#blobs.get(digest) ?? Buffer.alloc(0);
    const middle = Math.ceil(bytes.length / 2);
    yield bytes.subarray(0, middle);
    if (this.broken.has(digest)) throw fail.registry('connection reset by peer');
    await abortable(this.held.get(digest) ?? Promise.resolve(), signal);
    yield bytes.subarray(middle);
  }
}

/** A layer whose tar is no more than this text. */
export function fakeLayer(content: string): TestLayer {
  return layerOf(Buffer.from(content), 'none');
}

/** The diff ID of {@link fakeLayer}. */
export function fakeDiffId(content: string): Digest {
  return digestOf(content);
}
