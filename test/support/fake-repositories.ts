import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import type { PushTarget } from '../../src/engine/pushes.ts';
import { type Digest, digestOf } from '../../src/lib/digest.ts';
import { abortable } from '../../src/lib/locks.ts';
import { type Reference, repositoryOf } from '../../src/lib/reference.ts';

interface Repository {
  readonly blobs: Map<Digest, Buffer>;
  /** By tag. */
  readonly manifests: Map<string, { bytes: Buffer; mediaType: string }>;
}

/** Repositories in memory that can be pushed to, all of one registry. */
export class FakeRepositories {
  /** What was done, in order: `upload library/app`, `mount library/app from library/base`. */
  readonly log: string[] = [];
  /** Uploads end only when this resolves. */
  held: Promise<void> = Promise.resolve();
  readonly #repositories = new Map<string, Repository>();

  /** By full name, `docker.io/library/app`. */
  get(name: string): Repository {
    const known = this.#repositories.get(name) ?? { blobs: new Map(), manifests: new Map() };
    this.#repositories.set(name, known);
    return known;
  }

  target(ref: Reference): PushTarget {
    const [repository, log] = [this.get(repositoryOf(ref)), this.log];
    const upload: PushTarget['upload'] = async (open: () => Readable, { signal }) => {
      signal.throwIfAborted();
      const bytes = await buffer(open());
      await abortable(this.held, signal);
      const digest = digestOf(bytes);
      repository.blobs.set(digest, bytes);
      log.push(`upload ${ref.path}`);
      return { digest, size: bytes.length };
    };
    return {
      has: async ({ digest, size }, { signal }) => {
        signal.throwIfAborted();
        return repository.blobs.get(digest)?.length === size;
      },
      mount: async (digest, from, { signal }) => {
        signal.throwIfAborted();
        const bytes = this.get(`${ref.domain}/${from}`).blobs.get(digest);
        if (bytes === undefined) return false;
        repository.blobs.set(digest, bytes);
        log.push(`mount ${ref.path} from ${from}`);
        return true;
      },
      upload,
      put: async (bytes) => {
        const digest = digestOf(bytes);
        repository.blobs.set(digest, bytes);
        return { digest, size: bytes.length };
      },
      putManifest: async (tag, manifest) => {
        repository.manifests.set(tag, manifest);
        return { isListed: false };
      },
    };
  }
}
