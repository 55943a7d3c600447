import { mkdir, readdir, rename, stat } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { fail, messageOf } from '../errors.ts';
import { isAbsence, removeTree, syncDirectory } from '../host/files.ts';
import { syncFileSystem } from '../host/kernel.ts';
import type { Runtime } from '../runtime/runtime.ts';
import { tellContainer } from './container-events.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import type { Events } from './events.ts';
import type { Launcher } from './launcher.ts';
import type { Life } from './life.ts';
import type { ContainerRecord } from './model.ts';

// dockerd: names.RestrictedNamePattern
const nameCharacters = '[a-zA-Z0-9][a-zA-Z0-9_.-]';
const namePattern = new RegExp(`^${nameCharacters}+$`);

/** Where checkpoints are kept: beside the container's own files, or under a directory that the client names. */
export interface CheckpointPlace {
  name: string;
  /** Empty for the container's own. */
  directory: string;
}

/**
 * Processes of containers, frozen on disk by CRIU through the OCI runtime. A checkpoint has its name only once it is
 * whole and on the disk.
 */
export class Checkpoints {
  readonly #parts: CheckpointParts;

  constructor(parts: CheckpointParts) {
    this.#parts = parts;
  }

  /** Throws 500 in dockerd's words, or with the runtime's: without CRIU, for instance. */
  async create(ref: string, o: CheckpointPlace & { exits: boolean }): Promise<void> {
    const { records, runtime, life, events } = this.#parts;
    await life.change(records.find(ref).id, async (record) => {
      if (!isRunning(record)) throw fail.host(`Container ${ref} not running`);
      if (record.config.tty) throw fail.host('checkpoint not support on containers with tty');
      checkName(o.name);
      const root = this.#rootOf(record, o.directory);
      const [path, draft] = [join(root, o.name), join(root, `.${o.name}`)];
      if (await isThere(path)) {
        const why = `checkpoint with name ${o.name} already exists for container ${ref}`;
        throw fail.host(`cannot checkpoint container ${ref}: ${why}`);
      }
      await removeTree(draft); // of a try that was cut off
      await mkdir(draft, { recursive: true, mode: 0o700 });
      try {
        await runtime.checkpoint(record.id, { directory: draft, exits: o.exits });
      } catch (cause) {
        await removeTree(draft);
        throw fail.host(`Cannot checkpoint container ${ref}: ${messageOf(cause)}`, cause);
      }
      await syncFileSystem(draft);
      await rename(draft, path);
      await syncDirectory(root);
      tellContainer(events, record, 'checkpoint');
    });
  }

  async list(ref: string, directory: string): Promise<string[]> {
    const root = this.#rootOf(this.#parts.records.find(ref), directory);
    const entries = await readdir(root, { withFileTypes: true }).catch((cause) => {
      if (isAbsence(cause)) return [];
      throw cause;
    });
    return entries.flatMap((entry) =>
      entry.isDirectory() && namePattern.test(entry.name) ? entry.name : [],
    );
  }

  async remove(ref: string, place: CheckpointPlace): Promise<void> {
    await removeTree(await this.find(ref, place));
  }

  /** The directory of a checkpoint. Throws 500 if there is none. */
  async find(ref: string, { name, directory }: CheckpointPlace): Promise<string> {
    const record = this.#parts.records.find(ref);
    const path = join(this.#rootOf(record, directory), name);
    if (!namePattern.test(name) || !(await isThere(path)))
      throw fail.host(`checkpoint ${name} does not exist for container ${ref}`);
    return path;
  }

  #rootOf({ id }: ContainerRecord, directory: string): string {
    if (directory === '') return join(this.#parts.launcher.directoryOf(id), 'checkpoints');
    if (!isAbsolute(directory)) throw fail.badRequest(`checkpoint directory ${directory} is not absolute`);
    return join(directory, id, 'checkpoints');
  }
}

function checkName(name: string): void {
  if (!namePattern.test(name))
    throw fail.host(`Invalid checkpoint ID (${name}), only ${nameCharacters} are allowed`);
}

async function isThere(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (cause) {
    if (isAbsence(cause)) return false;
    throw cause;
  }
}

interface CheckpointParts {
  records: Pick<ContainerRecords, 'find'>;
  runtime: Pick<Runtime, 'checkpoint'>;
  life: Pick<Life, 'change'>;
  launcher: Pick<Launcher, 'directoryOf'>;
  events: Events;
}
