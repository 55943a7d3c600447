import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fail } from '../errors.ts';
import { run } from '../host/exec.ts';
import { isAbsence, removeTree, syncDirectory } from '../host/files.ts';
import { newId } from '../lib/ids.ts';
import type { Log } from '../lib/log.ts';
import { nowText } from '../lib/time.ts';
import type { Store } from '../store/store.ts';
import type { Change, Table } from '../store/tables.ts';
import type { Events } from './events.ts';

/** A volume of the `local` driver: a directory that outlives containers. */
export interface VolumeRecord {
  name: string;
  createdAt: string;
  /** Made for one container without a name, and removed with it if the client says so. */
  isAnonymous: boolean;
  labels: Record<string, string>;
  options: Record<string, string>;
}

// dockerd: volume/local, volumeNameRegex
const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

/** The volumes on this host: `volumes/<name>/_data` under the data root. */
export class Volumes {
  readonly #store: Pick<Store, 'commit'>;
  readonly #table: Table<VolumeRecord>;
  readonly #root: string;
  readonly #events: Events;
  readonly #log: Log;

  constructor(o: { store: Store; dataRoot: string; events: Events; log: Log }) {
    this.#store = o.store;
    this.#table = o.store.table('volumes');
    this.#root = join(o.dataRoot, 'volumes');
    this.#events = o.events;
    this.#log = o.log;
  }

  /** Where a volume's files are. */
  pathOf(name: string): string {
    return join(this.#root, name, '_data');
  }

  /** All volumes, by name. */
  async all(): Promise<VolumeRecord[]> {
    const records: VolumeRecord[] = [];
    for await (const [, record] of this.#table.entries()) records.push(record);
    return records;
  }

  /** The volume of this name, made if it is not there. */
  async ensure(wanted: string): Promise<VolumeRecord> {
    if (wanted.length < 2) {
      throw fail.badRequest(
        `create ${wanted}: volume name is too short, names should be at least two alphanumeric characters`,
      );
    }
    if (!namePattern.test(wanted)) {
      throw fail.badRequest(
        `create ${wanted}: "${wanted}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
      );
    }
    const known = await this.#table.get(wanted);
    if (known !== undefined) return known;
    const record = await this.#make(wanted, { isAnonymous: false });
    await this.#store.commit([this.#table.put(wanted, record)]);
    return record;
  }

  /** A new volume without a name, for a container that is about to be: unless it is {@link kept} with it, a boot removes it. */
  async prepare(): Promise<VolumeRecord> {
    return this.#make(newId(), { isAnonymous: true });
  }

  /** What a commit needs to keep prepared volumes. */
  kept(records: readonly VolumeRecord[]): Change[] {
    return records.map((record) => this.#table.put(record.name, record));
  }

  /** Undoes {@link prepare}. */
  async discard({ name }: VolumeRecord): Promise<void> {
    await removeTree(join(this.#root, name));
    this.#events.emit('volume', 'destroy', name, { driver: 'local' });
  }

  /** Fills a volume that is still empty with what the image has at its mount point (dockerd's copy-up). */
  async fill(name: string, source: string): Promise<void> {
    const target = this.pathOf(name);
    if (!(await isEmpty(target))) return;
    const { code, stderr } = await run('cp', ['-a', '--reflink=auto', '--', `${source}/.`, `${target}/`]);
    if (code !== 0) throw fail.host(`cannot copy the image's files into volume ${name}: ${stderr.trim()}`);
  }

  /** Removes a volume with its files; absent is fine. Whether it is in use is the caller's to know. */
  async remove(name: string): Promise<void> {
    if ((await this.#table.get(name)) === undefined) return;
    // the record goes first: a crash in between leaves a directory without a name, which recover() sweeps
    await this.#store.commit([this.#table.remove(name)]);
    await removeTree(join(this.#root, name));
    this.#events.emit('volume', 'destroy', name, { driver: 'local' });
  }

  async #make(name: string, { isAnonymous }: { isAnonymous: boolean }): Promise<VolumeRecord> {
    await mkdir(this.pathOf(name), { recursive: true });
    await syncDirectory(join(this.#root, name));
    await syncDirectory(this.#root);
    this.#events.emit('volume', 'create', name, { driver: 'local' });
    return { name, createdAt: nowText(), isAnonymous, labels: {}, options: {} };
  }

  /** Names of all anonymous volumes among these. */
  async anonymousAmong(names: readonly string[]): Promise<string[]> {
    const records = await Promise.all(names.map((name) => this.#table.get(name)));
    return records.flatMap((record) => (record?.isAnonymous ? [record.name] : []));
  }

  /**
   * Boot: a directory without a record is half made or half removed, and goes. Where records may have been lost
   * (`adoptOrphans`) it is a user's data after all, and gets its record back, as a named volume, unless it is empty; one
   * that a container mounts does in any case.
   */
  async recover(o: { adoptOrphans: boolean; mounted: ReadonlySet<string> }): Promise<void> {
    for (const entry of await readdir(this.#root, { withFileTypes: true })) {
      const { name } = entry;
      if (!entry.isDirectory() || (await this.#table.get(name)) !== undefined) continue;
      try {
        await this.#settleStranger(name, o);
      } catch (err) {
        // whatever lies there, it must not keep the engine from starting
        this.#log.error({ volume: name, err }, 'could not settle what earlier runs left of a volume');
      }
    }
  }

  async #settleStranger(
    name: string,
    o: { adoptOrphans: boolean; mounted: ReadonlySet<string> },
  ): Promise<void> {
    const isData = o.mounted.has(name) || (o.adoptOrphans && !(await isEmpty(this.pathOf(name))));
    if (!isData) return removeTree(join(this.#root, name));
    const record = { name, createdAt: nowText(), isAnonymous: false, labels: {}, options: {} };
    await this.#store.commit([this.#table.put(name, record)]);
  }
}

async function isEmpty(path: string): Promise<boolean> {
  try {
    return (await readdir(path)).length === 0;
  } catch (cause) {
    if (isAbsence(cause)) return true;
    throw cause;
  }
}
