import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { fail } from '../errors.ts';
import type { Layers } from '../layers/layers.ts';
import { tellContainer } from './container-events.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import type { Events } from './events.ts';
import type { Launcher } from './launcher.ts';
import type { Life } from './life.ts';
import type { Readers } from './readers.ts';

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
    const { records, readers, layers, events } = this.#parts;
    const record = records.find(ref);
    const { id, state } = record;
    if (state.status === 'removing' || state.status === 'dead') throw fail.exportRefused(id, state.status);
    try {
      using reader = readers.enter(id, { signal });
      await using root = await this.#openRoot(id, reader);
      // by the open directory: the mount may go with the container's process
      await consume(layers.packTree(`/proc/${process.pid}/fd/${root.fd}/.`, reader));
    } finally {
      await this.#unmount(id);
    }
    tellContainer(events, record, 'export');
  }

  async #openRoot(id: string, o: { signal: AbortSignal }) {
    return this.#parts.life.change(
      id,
      async (record) => open(await this.#parts.launcher.mount(record), 'r'),
      o,
    );
  }

  /** Unless somebody else needs the mount. */
  async #unmount(id: string): Promise<void> {
    const { records, life, readers, launcher } = this.#parts;
    if (records.get(id) === undefined) return;
    await life.change(id, async (record) => {
      if (!isRunning(record) && !readers.has(id)) await launcher.unmount(id);
    });
  }
}

interface ExportParts {
  records: ContainerRecords;
  readers: Readers;
  life: Pick<Life, 'change'>;
  launcher: Pick<Launcher, 'mount' | 'unmount'>;
  layers: Pick<Layers, 'packTree'>;
  events: Events;
}
