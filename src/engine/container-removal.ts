import { fail, messageOf } from '../errors.ts';
import { removeTree } from '../host/files.ts';
import { tellContainer } from './container-events.ts';
import type { ContainerRecords } from './container-records.ts';
import type { Events } from './events.ts';
import type { HealthChecks } from './health.ts';
import type { Launcher } from './launcher.ts';
import type { ContainerRecord } from './model.ts';
import type { Readers } from './readers.ts';
import type { Streams } from './streams.ts';
import type { Volumes } from './volumes.ts';
import type { Waiters } from './waiters.ts';

/** The end of containers that have no process any more. */
export class ContainerRemoval {
  readonly #parts: RemovalParts;

  constructor(parts: RemovalParts) {
    this.#parts = parts;
  }

  /**
   * Removes a container for good. What it takes with it is durable before anything goes, so that a removal that was cut
   * off is finished by the next boot; one that fails leaves the container dead, and can be tried again.
   */
  async erase(record: ContainerRecord, o: { withVolumes: boolean }): Promise<void> {
    const { records, launcher, streams, health, waiters, events } = this.#parts;
    const { exitCode } = record.state;
    const intent = { status: 'removing', pid: 0, takesVolumes: o.withVolumes } as const;
    const removing = await records.move(record, intent);
    try {
      await launcher.takeDown(record.id);
      await this.#removeFiles(removing, o);
      await records.remove(removing);
    } catch (cause) {
      const dead = { status: 'dead', error: messageOf(cause) } as const;
      await records.move(removing, dead).catch(() => {}); // it stays as it is: the next boot tries again all the same
      // `docker run --rm` waits for this and nothing else
      waiters.stuck(record.id, { exitCode, error: messageOf(cause) });
      throw cause;
    }
    streams.dismiss(record.id);
    health.forget(record.id);
    tellContainer(events, removing, 'destroy');
    waiters.removed(record.id, { exitCode });
  }

  /** Removes a container's directory, and its anonymous volumes if asked, unless others use them. Safe to repeat. */
  async #removeFiles(record: ContainerRecord, { withVolumes }: { withVolumes: boolean }): Promise<void> {
    const { launcher, readers, volumes } = this.#parts;
    await readers.dismiss(record.id);
    try {
      await removeTree(launcher.directoryOf(record.id));
    } catch (cause) {
      throw fail.host(`unable to remove filesystem for ${record.id}: ${messageOf(cause)}`, cause);
    }
    if (!withVolumes) return;
    // whoever mounts one by its name has not made it for this container alone
    const unnamed = record.mounts.flatMap(({ name, request }) => (request?.source ? [] : (name ?? [])));
    for (const name of await volumes.anonymousAmong(unnamed))
      await volumes.removeUnused(name, { except: record.id });
  }
}

interface RemovalParts {
  records: Pick<ContainerRecords, 'move' | 'remove'>;
  launcher: Pick<Launcher, 'directoryOf' | 'takeDown'>;
  streams: Pick<Streams, 'dismiss'>;
  health: Pick<HealthChecks, 'forget'>;
  waiters: Pick<Waiters, 'stuck' | 'removed'>;
  events: Events;
  readers: Pick<Readers, 'dismiss'>;
  volumes: Pick<Volumes, 'anonymousAmong' | 'removeUnused'>;
}
