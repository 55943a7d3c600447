import { removeTree } from '../host/files.ts';
import type { ContainerRecords } from './container-records.ts';
import type { Launcher } from './launcher.ts';
import type { ContainerRecord } from './model.ts';
import type { Readers } from './readers.ts';
import type { Volumes } from './volumes.ts';

/** What of a container lies on the disk. */
export class ContainerRemoval {
  readonly #parts: RemovalParts;

  constructor(parts: RemovalParts) {
    this.#parts = parts;
  }

  /** Removes a container's directory, and its anonymous volumes if asked, unless others use them. Safe to repeat. */
  async removeFiles(record: ContainerRecord, { withVolumes }: { withVolumes: boolean }): Promise<void> {
    const { records, launcher, readers, volumes } = this.#parts;
    await readers.dismiss(record.id);
    await removeTree(launcher.directoryOf(record.id));
    if (!withVolumes) return;
    const others = records.all().filter(({ id }) => id !== record.id);
    const inUse = new Set(others.flatMap(({ mounts }) => mounts.map(({ name }) => name)));
    const names = record.mounts.flatMap(({ name }) => name ?? []).filter((name) => !inUse.has(name));
    for (const name of await volumes.anonymousAmong(names)) await volumes.remove(name);
  }
}

interface RemovalParts {
  records: Pick<ContainerRecords, 'all'>;
  launcher: Pick<Launcher, 'directoryOf'>;
  readers: Pick<Readers, 'dismiss'>;
  volumes: Pick<Volumes, 'anonymousAmong' | 'remove'>;
}
