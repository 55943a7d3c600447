import type { Readable } from 'node:stream';
import { fail } from '../errors.ts';
import type { Layers } from '../layers/layers.ts';
import { tellContainer } from './container-events.ts';
import type { ContainerRecords } from './container-records.ts';
import type { ContainerTrees } from './container-trees.ts';
import type { Events } from './events.ts';

/** Gives out the whole file systems of containers. */
export class ContainerExports {
  readonly #parts: ExportParts;

  constructor(parts: ExportParts) {
    this.#parts = parts;
  }

  /**
   * Hands the tar of a container's root file system to `consume`. What is mounted in a running container is not part of
   * it. Throws 404, or 409 while the container is being removed; what fails later fails in the stream.
   */
  async export(
    ref: string,
    consume: (tar: Readable) => Promise<void>,
    { signal }: { signal: AbortSignal },
  ): Promise<void> {
    const { records, trees, layers, events } = this.#parts;
    const record = records.find(ref);
    const { id, state } = record;
    if (state.status === 'removing' || state.status === 'dead') throw fail.exportRefused(id, state.status);
    await trees.during(id, { signal }, ({ rootfs }, o) => consume(layers.packTree(rootfs, o)));
    tellContainer(events, record, 'export');
  }
}

interface ExportParts {
  records: ContainerRecords;
  trees: Pick<ContainerTrees, 'during'>;
  layers: Pick<Layers, 'packTree'>;
  events: Events;
}
