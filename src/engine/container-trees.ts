import { type FileHandle, open } from 'node:fs/promises';
import { codeOf } from '../errors.ts';
import { identityOf, type View } from '../layers/container-view.ts';
import { isRunning } from './container-records.ts';
import type { Launcher } from './launcher.ts';
import type { Life } from './life.ts';
import type { ContainerRecord } from './model.ts';
import type { MountSetup } from './mount-setup.ts';
import type { BundleMount } from './mounts.ts';
import type { Reader, Readers } from './readers.ts';

/** A container's files, for as long as somebody uses them. */
export interface OpenTree {
  readonly record: ContainerRecord;
  readonly view: View;
  /** The descriptor of the container's mount namespace, if the view is from inside. */
  readonly namespace: number | undefined;
  /** Of its root file system alone; good for this process and its children, even when it is unmounted meanwhile. */
  readonly rootfs: string;
}

/** Gives access to the files of containers, running or not, and lets go of them. */
export class ContainerTrees {
  readonly #parts: TreeParts;

  constructor(parts: TreeParts) {
    this.#parts = parts;
  }

  /**
   * Runs `work` on a container's files: as its processes see them, or with its volumes and binds where they would be.
   * `work` must let go of them when its signal is aborted, which it is when the container is removed.
   */
  async during<T>(
    id: string,
    { signal }: { signal: AbortSignal },
    work: (tree: OpenTree, o: { signal: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    const { readers } = this.#parts;
    try {
      using reader = readers.enter(id, { signal });
      const { record, view, root, namespace } = await this.#open(id, reader);
      try {
        const rootfs = `/proc/${process.pid}/fd/${root.fd}/.`;
        return await work({ record, rootfs, view, namespace: namespace?.fd }, reader);
      } finally {
        await Promise.all([root.close(), namespace?.close()]);
      }
    } finally {
      await this.#unmount(id);
    }
  }

  /** Under the lock of its life: a process that is there is its own, and so is what is mounted. */
  async #open(id: string, { signal }: Reader) {
    const { life, launcher, mounts } = this.#parts;
    return life.change(
      id,
      async (record) => {
        const rootfs = await launcher.mount(record);
        const namespace = isRunning(record) ? await mountNamespaceOf(record.state.pid) : undefined;
        const binds = namespace === undefined ? await mounts.setUp(record) : [];
        const root = await open(rootfs, 'r');
        const identity = identityOf(await root.stat({ bigint: true }));
        const view: View =
          namespace === undefined
            ? outsideView(record, { rootfs, identity, mounts: binds })
            : { kind: 'inside' };
        return { record, root, namespace, view };
      },
      { signal },
    );
  }

  /** Unless somebody else needs the mount, or all of it is gone. */
  async #unmount(id: string): Promise<void> {
    const { life, readers, launcher, mounts } = this.#parts;
    try {
      await life.change(id, async (record) => {
        if (isRunning(record) || readers.has(id)) return;
        await launcher.unmount(id);
        await mounts.release(id);
      });
    } catch (cause) {
      if (codeOf(cause) !== 'NO_SUCH_CONTAINER') throw cause;
    }
  }
}

/** Undefined if it has just ended, or has none of its own, as in runtimes whose containers are virtual machines. */
async function mountNamespaceOf(pid: number): Promise<FileHandle | undefined> {
  const [theirs, ours] = await Promise.all([
    open(`/proc/${pid}/ns/mnt`, 'r').catch(() => undefined),
    open('/proc/self/ns/mnt', 'r'),
  ]);
  await using own = ours;
  if (theirs === undefined) return undefined;
  const [there, here] = await Promise.all([theirs.stat(), own.stat()]);
  if (there.ino !== here.ino) return theirs;
  await theirs.close();
  return undefined;
}

function outsideView(
  { hostConfig }: ContainerRecord,
  o: { rootfs: string; identity: string; mounts: readonly BundleMount[] },
): View {
  const binds = o.mounts.filter(({ type }) => type === 'bind');
  return {
    ...o,
    kind: 'outside',
    isReadonly: hostConfig.readonlyRootfs,
    mounts: binds.map(({ source, destination, options }) => ({
      source,
      destination,
      isReadonly: options.includes('ro') || options.includes('rro'),
      isRecursive: options.includes('rbind'),
    })),
  };
}

interface TreeParts {
  readers: Readers;
  life: Pick<Life, 'change'>;
  launcher: Pick<Launcher, 'mount' | 'unmount'>;
  mounts: Pick<MountSetup, 'setUp' | 'release'>;
}
