import { join } from 'node:path';
import { Failure, fail } from '../errors.ts';
import { bytesUnder } from '../host/files.ts';
import { notBoolean, parseBool } from '../lib/go-numbers.ts';
import type { Log } from '../lib/log.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import type { Events } from './events.ts';
import type { Filters } from './filters.ts';
import type { Launcher } from './launcher.ts';
import type { Life } from './life.ts';
import { PruneRule } from './prune-rule.ts';
import { writtenBytes } from './rootfs-marks.ts';
import { ANONYMOUS_LABEL, hasOptions } from './volume-options.ts';
import type { VolumeUsers } from './volume-users.ts';
import type { VolumeRecord, Volumes } from './volumes.ts';

/** What a prune removed, by ID or name, and the bytes that this freed. */
export interface PrunedObjects {
  removed: string[];
  freedBytes: number;
}

/** Removes containers and volumes that nobody uses. Images have a prune of their own. One prune of a kind at a time. */
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

  /**
   * Volumes that no container has, and whose files are here: those without a name, with the filter `all` the others too.
   * Throws as {@link containers} does.
   */
  async volumes(o: { filters: Filters; signal?: AbortSignal }): Promise<PrunedObjects> {
    const { volumes, volumeUsers, log } = this.#o;
    return this.#alone('volume', async (done) => {
      const isAll = wantsAll(o.filters.get('all') ?? []);
      if (o.filters.has('until')) throw fail.badRequest("invalid filter 'until'");
      const rule = new PruneRule(o.filters, ['all']);
      for (const volume of await volumes.all()) {
        if (o.signal?.aborted) break;
        const { name, labels, createdAt } = volume;
        const isCandidate = (isAll || isAnonymous(volume)) && !hasOptions(volume);
        if (!isCandidate || !rule.passes(Date.parse(createdAt), labels)) continue;
        if (volumeUsers.of(name).length > 0) continue;
        try {
          const bytes = await bytesUnder(volumes.pathOf(name));
          if (!(await volumes.removeUnused(name))) continue; // somebody has just got it
          done.removed.push(name);
          done.freedBytes += bytes;
        } catch (err) {
          log.warn({ volume: name, err }, 'could not prune a volume'); // the others can go all the same
        }
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

function isAnonymous({ isAnonymous, labels }: VolumeRecord): boolean {
  return isAnonymous || (labels !== null && Object.hasOwn(labels, ANONYMOUS_LABEL));
}

/** The filter `all`, a truth value in any of Go's forms. Throws 400. */
function wantsAll(values: readonly string[]): boolean {
  const [value = 'false'] = values;
  if (values.length > 1)
    throw fail.badRequest(`invalid filter 'all=[${values.join(' ')}]': only one value is expected`);
  const isAll = parseBool(value);
  if (isAll === undefined) throw fail.badRequest(`invalid filter 'all': ${notBoolean(value)}`);
  return isAll;
}

/** What is pruned, and whoever may need it. */
export interface PruneParts {
  records: ContainerRecords;
  life: Pick<Life, 'remove'>;
  launcher: Pick<Launcher, 'directoryOf'>;
  volumes: Pick<Volumes, 'all' | 'pathOf' | 'removeUnused'>;
  volumeUsers: Pick<VolumeUsers, 'of'>;
  events: Events;
  log: Log;
}
