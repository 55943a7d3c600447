import { posix } from 'node:path';
import { Readable } from 'node:stream';
import { fail } from '../errors.ts';
import type { FileJobs, PackedPath } from '../layers/file-jobs.ts';
import type { PathFacts, UnpackWishes } from '../layers/files-job.ts';
import { withoutStandstill } from '../lib/standstill.ts';
import { resolveUser } from '../runtime/users.ts';
import { tellContainer } from './container-events.ts';
import type { ContainerRecords } from './container-records.ts';
import type { ContainerTrees, OpenTree } from './container-trees.ts';
import type { Events } from './events.ts';
import type { ContainerRecord } from './model.ts';

/** A client that sends nothing for so long has left. */
const STANDSTILL_MS = 60_000;

/** How an archive is unpacked. */
export interface ArchiveWishes {
  /** Nothing but a directory may take the place of one, and it the place of nothing else. */
  keepsKinds: boolean;
  /** Everything is to belong to the container's user. */
  isUsers: boolean;
}

/** Copies files into containers and out of them. All paths are the container's; see layers/container-files.ts. */
export class ContainerArchives {
  readonly #parts: ArchiveParts;

  constructor(parts: ArchiveParts) {
    this.#parts = parts;
  }

  /** What is at a path, a link itself and not what it points to. Throws 404, or 409 while the container is removed. */
  async stat(ref: string, path: string, { signal }: { signal: AbortSignal }): Promise<PathFacts> {
    return this.#during(ref, signal, (tree, o) =>
      this.#parts.jobs.stat(targetOf(tree, ref, path), { namespace: tree.namespace, ...o }),
    );
  }

  /** Hands the archive of what is at a path to `consume`. Throws as {@link stat} does; later failures are the stream's. */
  async pack(
    ref: string,
    path: string,
    consume: (packed: PackedPath) => Promise<void>,
    { signal }: { signal: AbortSignal },
  ): Promise<void> {
    await this.#during(ref, signal, async (tree, o) => {
      const packed = await this.#parts.jobs.pack(targetOf(tree, ref, path), {
        namespace: tree.namespace,
        ...o,
      });
      try {
        tellContainer(this.#parts.events, tree.record, 'archive-path');
        await consume(packed);
      } finally {
        packed.tar.destroy();
      }
    });
  }

  /** Unpacks an archive in a directory. Throws as {@link stat} does, and 400 or 500 in dockerd's words. */
  async unpack(
    ref: string,
    path: string,
    body: AsyncIterable<Buffer>,
    wishes: ArchiveWishes,
    { signal }: { signal: AbortSignal },
  ): Promise<void> {
    const input = Readable.from(withoutStandstill(body, STANDSTILL_MS), { objectMode: false });
    input.on('error', () => {}); // one that fails before it is read is told then
    try {
      await this.#during(ref, signal, async (tree, o) => {
        const job = { ...targetOf(tree, ref, path), ...(await unpackWishes(tree, wishes)) };
        await this.#parts.jobs.unpack(input, job, { namespace: tree.namespace, ...o });
        tellContainer(this.#parts.events, tree.record, 'extract-to-dir');
      });
    } finally {
      input.destroy();
    }
  }

  async #during<T>(
    ref: string,
    signal: AbortSignal,
    work: (tree: OpenTree, o: { signal: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    const { id, state } = this.#parts.records.find(ref);
    if (state.status === 'removing' || state.status === 'dead') throw fail.filesRefused(id, state.status);
    return this.#parts.trees.during(id, { signal }, work);
  }
}

function targetOf({ view }: OpenTree, ref: string, path: string) {
  return { view, path, container: ref };
}

async function unpackWishes(
  { record, rootfs, namespace }: OpenTree,
  { keepsKinds, isUsers }: ArchiveWishes,
): Promise<UnpackWishes> {
  const { user } = record.config;
  const wishes = {
    mounted: mountedIn(record, { isRunning: namespace !== undefined }),
    isRootReadonly: record.hostConfig.readonlyRootfs,
    keepsKinds,
  };
  if (!isUsers || user === '') return wishes;
  const { uid, gid } = await resolveUser(rootfs, user);
  return { ...wishes, owner: { uid, gid } };
}

/** What is not part of the root file system. A tmpfs is there only while the container runs. */
function mountedIn({ mounts, hostConfig }: ContainerRecord, { isRunning }: { isRunning: boolean }) {
  const tmpfs = isRunning ? Object.entries(hostConfig.tmpfs ?? {}) : [];
  return [
    ...mounts.filter(({ type }) => isRunning || type !== 'tmpfs'),
    ...tmpfs.map(([path, options]) => ({
      destination: posix.normalize(path).replace(/(?<=.)\/$/, ''),
      isWritable: !options.split(',').includes('ro'),
    })),
  ].map(({ destination, isWritable }) => ({ destination, isWritable }));
}

interface ArchiveParts {
  records: ContainerRecords;
  trees: Pick<ContainerTrees, 'during'>;
  jobs: Pick<FileJobs, 'stat' | 'pack' | 'unpack'>;
  events: Events;
}
