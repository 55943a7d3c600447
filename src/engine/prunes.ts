import { join } from 'node:path';
import { Failure, fail } from '../errors.ts';
import { bytesUnder } from '../host/files.ts';
import type { Log } from '../lib/log.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import type { Events } from './events.ts';
import type { Filters } from './filters.ts';
import type { Images } from './images.ts';
import type { Launcher } from './launcher.ts';
import type { Life } from './life.ts';
import { PruneRule } from './prune-rule.ts';
import { writtenBytes } from './rootfs-marks.ts';
import type { Volumes } from './volumes.ts';

/** What a prune removed, by ID or name, and the bytes that this freed. */
export interface PrunedObjects {
  removed: string[];
  freedBytes: number;
}

/** Removes containers and volumes that nobody uses. Images are pruned by {@link Images}. One prune of a kind at a time. */
export class Prunes {
  readonly #o: PruneParts;
  readonly #running = new Set<string>();

  constructor(parts: PruneParts) {
    this.#o = parts;
  }

  /** Containers without a process. Their volumes stay. Throws 400 for filters that make no sense, 409 amid another. */
  async containers(o: { filters: Filters; signal?: AbortSignal }): Promise<PrunedObjects> {
    const { records, life, launcher } = this.#o;
    const rule = new PruneRule(o.filters);
    return this.#alone('container', async (done) => {
      for (const record of records.all()) {
        if (o.signal?.aborted) break;
        const { id, config, createdAt, state } = record;
        const isIdle = !isRunning(record) && !['starting', 'restarting', 'removing'].includes(state.status);
        if (!isIdle || !rule.passes(Date.parse(createdAt), config.labels)) continue;
        const bytes = await writtenBytes(join(launcher.directoryOf(id), 'upper'));
        try {
          await life.remove(id, id, { force: false, withVolumes: false });
        } catch (cause) {
          if (cause instanceof Failure && [404, 409].includes(cause.status)) continue; // gone, or started meanwhile
          throw cause;
        }
        done.removed.push(id);
        done.freedBytes += bytes;
      }
    });
  }

  /** Volumes that no container has: with `isAll` those with a name, too. */
  async volumes(o: { filters: Filters; isAll?: boolean; signal?: AbortSignal }): Promise<PrunedObjects> {
    const { records, volumes, images } = this.#o;
    const rule = new PruneRule(o.filters, ['all']);
    if (o.filters.has('until')) throw fail.badRequest("invalid filter 'until'");
    const isAll = o.isAll === true || rule.flag('all', false);
    return this.#alone('volume', async (done) => {
      for (const { name, isAnonymous, labels, createdAt } of await volumes.all()) {
        if (o.signal?.aborted) break;
        if ((!isAnonymous && !isAll) || !rule.passes(Date.parse(createdAt), labels)) continue;
        // a container that is being made may have this volume and no record yet
        await images.whileNoneIsTaken(async () => {
          if (records.all().some(({ mounts }) => mounts.some((mount) => mount.name === name))) return;
          const bytes = await bytesUnder(volumes.pathOf(name));
          await volumes.remove(name);
          done.removed.push(name);
          done.freedBytes += bytes;
        });
      }
    });
  }

  async #alone(
    kind: 'container' | 'volume',
    work: (done: PrunedObjects) => Promise<void>,
  ): Promise<PrunedObjects> {
    if (this.#running.has(kind)) throw fail.pruneRunning();
    this.#running.add(kind);
    try {
      const done: PrunedObjects = { removed: [], freedBytes: 0 };
      await work(done);
      this.#o.events.emit(kind, 'prune', '', { reclaimed: String(done.freedBytes) });
      this.#o.log.info({ kind, count: done.removed.length, bytes: done.freedBytes }, 'pruned');
      return done;
    } finally {
      this.#running.delete(kind);
    }
  }
}

/** What is pruned, and whoever may need it. */
export interface PruneParts {
  records: ContainerRecords;
  life: Pick<Life, 'remove'>;
  launcher: Pick<Launcher, 'directoryOf'>;
  volumes: Pick<Volumes, 'all' | 'pathOf' | 'remove'>;
  images: Pick<Images, 'whileNoneIsTaken'>;
  events: Events;
  log: Log;
}
