import { mkdir, readlink, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bytesUnder } from '../host/files.ts';
import { pathInside } from '../host/inside.ts';

const MOUNTS = '/proc/mounts';

/**
 * Puts into a container's root file system what dockerd puts there for programs to find: `/.dockerenv`, by which they
 * know that they are in a container, and `/etc/mtab`, from which df and mount read what is mounted. What the image has
 * stays. A hint is not worth a failed start.
 */
export async function markRootfs(rootfs: string): Promise<void> {
  await writeFile(join(rootfs, '.dockerenv'), '', { flag: 'wx', mode: 0o755 }).catch(() => {});
  await linkMtab(rootfs).catch(() => {});
}

/** Bytes that a container has written into its upper directory: without the marks, of which one has a size. */
export async function writtenBytes(upper: string): Promise<number> {
  const bytes = await bytesUnder(upper);
  const mtab = await readlink(join(upper, 'etc/mtab')).catch(() => undefined);
  return mtab === MOUNTS ? Math.max(0, bytes - MOUNTS.length) : bytes;
}

/** Nobody runs in it yet, so what `/etc` leads to stays the same meanwhile. */
async function linkMtab(rootfs: string): Promise<void> {
  await mkdir(join(rootfs, 'etc'), { mode: 0o755 }).catch(() => {});
  const etc = await pathInside(rootfs, '/etc');
  if (etc !== undefined) await symlink(MOUNTS, join(etc, 'mtab'));
}
