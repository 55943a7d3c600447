import { join } from 'node:path';
import { fail } from '../errors.ts';
import type { FileJobs } from '../layers/file-jobs.ts';
import type { Change } from '../layers/tree-changes.ts';
import type { ContainerRecords } from './container-records.ts';
import type { Launcher } from './launcher.ts';
import type { LayerShelf } from './layer-shelf.ts';
import type { Readers } from './readers.ts';

/** Tells what containers have changed in what their images have. */
export class ContainerChanges {
  readonly #parts: ChangesParts;

  constructor(parts: ChangesParts) {
    this.#parts = parts;
  }

  /** Hands the changes to `consume`, in the order of their paths. Throws 404, or 409 while the container is removed. */
  async changes(
    ref: string,
    consume: (changes: AsyncIterable<Change>) => Promise<void>,
    { signal }: { signal: AbortSignal },
  ): Promise<void> {
    const { records, readers, shelf, launcher, jobs, dataRoot } = this.#parts;
    const { id, diffIds } = records.find(ref);
    using reader = readers.enter(id, { signal });
    const { status } = records.find(id).state;
    if (status === 'removing' || status === 'dead') throw fail.filesRefused(id, status);
    const dirIds = await shelf.directories(diffIds);
    const lower = dirIds.map((dirId) => join(dataRoot, 'layers', dirId, 'diff')).reverse();
    await consume(jobs.changes({ upper: join(launcher.directoryOf(id), 'upper'), lower }, reader));
  }
}

interface ChangesParts {
  records: ContainerRecords;
  readers: Readers;
  shelf: Pick<LayerShelf, 'directories'>;
  launcher: Pick<Launcher, 'directoryOf'>;
  jobs: Pick<FileJobs, 'changes'>;
  dataRoot: string;
}
