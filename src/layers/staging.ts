import { mkdir, readdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf } from '../errors.ts';
import { removeTree } from '../host/files.ts';
import type { Log } from '../lib/log.ts';
import { hostFailure } from './host-failure.ts';
import { readLayerDirectory } from './layer-directory.ts';
import type { PublishedLayer } from './layer-records.ts';

const SWEEP_ATTEMPTS = 5;
const SWEEP_PAUSE_MS = 200;

/** A layer that is unpacked and verified, but not yet safe from a power cut. */
export interface StagedLayer extends PublishedLayer {
  readonly leaseId: string;
  /** Where it lies until it is published. */
  readonly directory: string;
}

/** The directories in which layers come to be, `staging/LEASE/DIRECTORY`. Nothing in here is synced. */
export class Staging {
  readonly path: string;
  readonly #log: Log;

  constructor(path: string, log: Log) {
    this.path = path;
    this.#log = log;
  }

  /** A new directory with an empty `diff/`. */
  async add(leaseId: string, dirId: string): Promise<string> {
    const directory = join(this.path, leaseId, dirId);
    for (let attempt = 1; ; attempt++) {
      try {
        await mkdir(directory, { recursive: true, mode: 0o700 });
        await mkdir(join(directory, 'diff'));
        return directory;
      } catch (cause) {
        // another layer of this lease may have been the last to leave, and closed the door behind it
        if (codeOf(cause) !== 'ENOENT' || attempt === 3) throw hostFailure('cannot stage a layer', cause);
      }
    }
  }

  /** What lies there and says that it is a whole layer. */
  async *sealed(): AsyncGenerator<StagedLayer, void, undefined> {
    for (const leaseId of await readdir(this.path)) {
      for (const dirId of await readdir(join(this.path, leaseId)).catch(() => [])) {
        const directory = join(this.path, leaseId, dirId);
        const layer = await readLayerDirectory(dirId, directory);
        if (!layer.isJunk) {
          const { diffId, sizeBytes, tarBytes } = layer;
          yield { dirId, diffId, sizeBytes, tarBytes, leaseId, directory };
        }
      }
    }
  }

  /** Never throws: what resists is swept at the next start. */
  async discard({ leaseId, directory }: { leaseId: string; directory: string }): Promise<void> {
    try {
      await removeTree(directory);
      await this.dropIfEmpty(leaseId);
    } catch (err) {
      // the cause of it all matters more; what is left is swept at the next start
      this.#log.warn({ err, directory }, 'a staged layer could not be removed');
    }
  }

  /** The last of its layers has left. */
  async dropIfEmpty(leaseId: string): Promise<void> {
    try {
      await rmdir(join(this.path, leaseId));
    } catch (cause) {
      const code = codeOf(cause);
      if (code !== 'ENOTEMPTY' && code !== 'EEXIST' && code !== 'ENOENT') throw cause;
    }
  }

  /** Removes what is there now, but for these leases. What resists is logged. */
  async sweep(keepLeases: ReadonlySet<string>): Promise<void> {
    for (const name of await readdir(this.path)) if (!keepLeases.has(name)) await this.#remove(name);
  }

  /** Tries again for a moment: the child of a daemon that was killed notices it at the next piece only. */
  async #remove(name: string): Promise<void> {
    const directory = join(this.path, name);
    for (let attempt = 1; attempt <= SWEEP_ATTEMPTS; attempt++) {
      try {
        await removeTree(directory);
        return;
      } catch (err) {
        if (attempt < SWEEP_ATTEMPTS) await sleep(SWEEP_PAUSE_MS);
        else this.#log.error({ err, directory }, 'could not remove what an earlier run left in staging');
      }
    }
  }
}
