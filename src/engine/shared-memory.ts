import { mkdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '../errors.ts';
import { isAbsence } from '../host/files.ts';
import { MS, mount, unmount } from '../host/kernel.ts';

/**
 * The /dev/shm of containers that share theirs: a file system in memory, on the host, that each of them has mounted.
 * It lives as long as the container that it was made for; who has joined that one keeps it for himself.
 */
export class SharedMemory {
  readonly #root: string;

  constructor(execRoot: string) {
    this.#root = join(execRoot, 'shm');
  }

  pathOf(id: string): string {
    return join(this.#root, id);
  }

  /** Makes it anew; what a run before has left is gone. */
  async make(id: string, sizeBytes: number): Promise<string> {
    await this.remove(id);
    const path = this.pathOf(id);
    await mkdir(path, { recursive: true, mode: 0o700 });
    const flags = MS.NOSUID | MS.NOEXEC | MS.NODEV;
    mount('shm', path, { type: 'tmpfs', flags, data: `mode=1777,size=${sizeBytes}` });
    return path;
  }

  /** Absent is fine. */
  async remove(id: string): Promise<void> {
    const path = this.pathOf(id);
    try {
      unmount(path, { isLazy: true });
    } catch (cause) {
      if (codeOf(cause) !== 'EINVAL' && !isAbsence(cause)) throw cause; // EINVAL: no mount point
    }
    await rmdir(path).catch((cause: unknown) => {
      if (!isAbsence(cause)) throw cause;
    });
  }
}
