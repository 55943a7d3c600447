import { mkdir, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fail, messageOf } from '../errors.ts';
import { isAbsence, readIfThere, removeTree, syncDirectory, writeDurable } from '../host/files.ts';
import { type Digest, hexOf } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import type { ImageRecord } from './records.ts';
import { seal, unseal } from './seal.ts';

/** An image with the names that stood for it when the copy was written. */
export interface ImageSidecar {
  record: ImageRecord;
  /** Canonical references. */
  names: string[];
  /** Tags of which it is a generation, to which they can go back; absent in copies of old. */
  former?: FormerName[];
}

/** A tag that stood for an image until the given time. */
export interface FormerName {
  /** The canonical reference. */
  name: string;
  digest?: Digest;
  until: string;
}

/**
 * Copies of what cannot be worked out again, as sealed JSON files beside the things themselves, so that a lost
 * database can be rebuilt: `images/<hex>.json` and `containers/<id>/config.json` under the data root. Write the copy
 * before the record and remove it after the record: then the copies never know less than the database, and what they
 * know more after a power cut, a whole database tells at boot.
 */
export class Sidecars {
  readonly #dataRoot: string;
  readonly #log: Log;

  constructor(o: { dataRoot: string; log: Log }) {
    this.#dataRoot = o.dataRoot;
    this.#log = o.log;
  }

  /** Durable when it resolves; replaces an older copy. */
  async writeImage(
    record: ImageRecord,
    names: readonly string[],
    former: readonly FormerName[] = [],
  ): Promise<void> {
    await this.#write(imagePath(record.id), { record, names, ...(former.length > 0 && { former }) });
  }

  /** Gone for good when it resolves; absent is fine. */
  async removeImage(id: Digest): Promise<void> {
    await this.#remove(imagePath(id));
  }

  /** Every image of which there is a whole copy. */
  async *images(): AsyncGenerator<ImageSidecar> {
    for (const name of await this.#list('images')) {
      if (!/^[0-9a-f]{64}\.json$/.test(name)) continue;
      const copy = await this.#read(join('images', name));
      // the seal covers the path: only writeImage() can have written this
      if (copy !== undefined) yield copy as ImageSidecar;
    }
  }

  /**
   * At boot: removes everything in `images/` that is no copy of one of these images. Copies of containers go with their
   * directories. What resists is logged: it must not keep the engine from starting.
   */
  async sweep(known: ReadonlySet<string>): Promise<void> {
    const copies = new Set([...known].map((id) => imagePath(id as Digest)));
    for (const name of await this.#list('images')) {
      const path = join('images', name);
      if (copies.has(path)) continue;
      await this.#remove(path).catch((err) => this.#log.error({ err, path }, 'junk could not be removed'));
    }
  }

  /** Durable when it resolves; the container's directory is made if it is not there. */
  async writeContainer(id: string, record: object): Promise<void> {
    await this.#write(containerPath(id), record);
  }

  /** Gone for good when it resolves; the container's directory stays, and may be gone already. */
  async removeContainer(id: string): Promise<void> {
    await this.#remove(containerPath(id));
  }

  /** The record of every container of which there is a whole copy. */
  async *containers(): AsyncGenerator<object> {
    for (const id of await this.#list('containers')) {
      const copy = await this.#read(containerPath(id));
      if (copy !== undefined) yield copy;
    }
  }

  async #write(path: string, value: object): Promise<void> {
    const file = join(this.#dataRoot, path);
    try {
      await this.#createDirectory(dirname(file));
      await writeDurable(file, `${seal(path, value)}\n`);
    } catch (cause) {
      throw fail.store(`cannot write ${file}: ${messageOf(cause)}`, cause);
    }
  }

  async #remove(path: string): Promise<void> {
    const file = join(this.#dataRoot, path);
    try {
      await removeTree(file); // which may be anything, after a power cut
      await syncDirectory(dirname(file));
    } catch (cause) {
      if (!isAbsence(cause)) throw fail.store(`cannot remove ${file}: ${messageOf(cause)}`, cause);
    }
  }

  /** A copy's content; undefined where it is absent, or junk, which is said aloud. */
  async #read(path: string): Promise<object | undefined> {
    const file = join(this.#dataRoot, path);
    try {
      const bytes = await readIfThere(file);
      if (bytes === undefined) return undefined;
      const value = unseal(path, bytes.toString().trimEnd());
      if (value !== undefined) return value;
      this.#log.error({ file }, 'a copy of a record is damaged and treated as absent');
    } catch (err) {
      this.#log.error({ file, err }, 'a copy of a record cannot be read and is treated as absent');
    }
    return undefined;
  }

  async #list(directory: string): Promise<string[]> {
    try {
      return await readdir(join(this.#dataRoot, directory));
    } catch (cause) {
      if (isAbsence(cause)) return [];
      throw fail.store(`cannot list ${directory}: ${messageOf(cause)}`, cause);
    }
  }

  async #createDirectory(directory: string): Promise<void> {
    const first = await mkdir(directory, { recursive: true, mode: 0o710 });
    if (first === undefined) return;
    for (let made = directory; ; made = dirname(made)) {
      await syncDirectory(dirname(made));
      if (made === first) return;
    }
  }
}

const imagePath = (id: Digest) => join('images', `${hexOf(id)}.json`);
const containerPath = (id: string) => join('containers', id, 'config.json');
