import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fail } from '../errors.ts';
import { run } from '../host/exec.ts';
import { isAbsence, removeTree, renameDurable, syncDirectory } from '../host/files.ts';
import { syncFileSystem } from '../host/kernel.ts';
import { unmountAll } from '../host/mounts.ts';
import { newId } from '../lib/ids.ts';
import type { Log } from '../lib/log.ts';
import { nowText } from '../lib/time.ts';
import type { Store } from '../store/store.ts';
import type { Change, Table } from '../store/tables.ts';
import type { Events } from './events.ts';
import { checkVolumeOptions } from './volume-options.ts';

/** A volume of the `local` driver: a directory that outlives containers. */
export interface VolumeRecord {
  name: string;
  createdAt: string;
  /** Made for one container without a name, and removed with it if the client says so. */
  isAnonymous: boolean;
  labels: Record<string, string>;
  options: Record<string, string>;
}

/** The only driver that there is. */
export const LOCAL_DRIVER = 'local';

/** What a volume is to be, if it is not there yet. */
export interface VolumeWish {
  /** Empty for any. */
  driver?: string;
  labels?: Record<string, string>;
  /** Of the local driver: what is mounted there while a container has it. */
  options?: Record<string, string>;
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

  /** The volume of this name. */
  async find(name: string): Promise<VolumeRecord | undefined> {
    return this.#table.get(name);
  }

  /** The volume of this name, made if it is not there. Throws 400 or 404 in dockerd's words. */
  async ensure(wanted: string, wish: VolumeWish = {}): Promise<VolumeRecord> {
    checkDriver(wanted, wish);
    const known = await this.#table.get(wanted);
    if (known !== undefined) return known;
    checkName(wanted);
    const record = await this.#make(wanted, wish, { isAnonymous: false });
    await this.#store.commit([this.#table.put(wanted, record)]);
    return record;
  }

  /** A new volume without a name, for a container that is about to be: unless it is {@link kept} with it, a boot removes it. */
  async prepare(wish: VolumeWish = {}): Promise<VolumeRecord> {
    const name = newId();
    checkDriver(name, wish);
    return this.#make(name, wish, { isAnonymous: true });
  }

  /** What a commit needs to keep prepared volumes. */
  kept(records: readonly VolumeRecord[]): Change[] {
    return records.map((record) => this.#table.put(record.name, record));
  }

  /** Undoes {@link prepare}. */
  async discard({ name }: VolumeRecord): Promise<void> {
    await unmountAll(this.pathOf(name)); // or what is mounted there would be removed
    await removeTree(join(this.#root, name));
    this.#events.emit('volume', 'destroy', name, { driver: LOCAL_DRIVER });
  }

  /**
   * Fills a volume that is still empty with what the image has at its mount point (dockerd's copy-up): all of it or,
   * after a crash, none, so that the next container finds it empty again. `isNew`: nobody else can have it mounted.
   */
  async fill(name: string, source: string, { isNew }: { isNew: boolean }): Promise<void> {
    const target = this.pathOf(name);
    if (!(await isEmpty(target))) return;
    if (!isNew) return fillDirectory(target, source);
    const filling = join(this.#root, name, FILLING);
    await removeTree(filling);
    await mkdir(filling);
    await fillDirectory(filling, source);
    await syncFileSystem(filling);
    await renameDurable(filling, target); // over an empty directory
  }

  /** Removes a volume with its files; absent is fine. Whether it is in use is the caller's to know. */
  async remove(name: string): Promise<void> {
    if ((await this.#table.get(name)) === undefined) return;
    await unmountAll(this.pathOf(name)); // or what is mounted there would be removed
    // the record goes first: a crash in between leaves a directory without a name, which recover() sweeps
    await this.#store.commit([this.#table.remove(name)]);
    await removeTree(join(this.#root, name));
    this.#events.emit('volume', 'destroy', name, { driver: LOCAL_DRIVER });
  }

  async #make(
    name: string,
    { labels = {}, options = {} }: VolumeWish,
    { isAnonymous }: { isAnonymous: boolean },
  ): Promise<VolumeRecord> {
    checkVolumeOptions(name, options);
    await mkdir(this.pathOf(name), { recursive: true });
    await syncDirectory(join(this.#root, name));
    await syncDirectory(this.#root);
    this.#events.emit('volume', 'create', name, { driver: LOCAL_DRIVER });
    return { name, createdAt: nowText(), isAnonymous, labels, options };
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
      if (!entry.isDirectory()) continue;
      try {
        if ((await this.#table.get(name)) === undefined) await this.#settleStranger(name, o);
        else await removeTree(join(this.#root, name, FILLING));
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
    await unmountAll(this.pathOf(name)); // what it was to hold is not known any more
    const isData = o.mounted.has(name) || (o.adoptOrphans && !(await isEmpty(this.pathOf(name))));
    if (!isData) return removeTree(join(this.#root, name));
    const record = { name, createdAt: nowText(), isAnonymous: false, labels: {}, options: {} };
    await this.#store.commit([this.#table.put(name, record)]);
  }
}

/** Where a volume's first files gather. */
const FILLING = 'filling';

/** Copies a directory's contents, owners, modes and attributes, those of the directory itself included. */
export async function fillDirectory(target: string, source: string): Promise<void> {
  const { code, stderr } = await run('cp', ['-a', '--reflink=auto', '--', `${source}/.`, `${target}/`]);
  if (code !== 0) throw fail.host(`cannot copy the image's files into ${target}: ${stderr.trim()}`);
}

function checkDriver(name: string, { driver = '' }: VolumeWish): void {
  if (driver !== '' && driver !== LOCAL_DRIVER) throw fail.noVolumeDriver(name, driver);
}

function checkName(name: string): void {
  if (name.length < 2)
    throw fail.badVolume(
      name,
      'volume name is too short, names should be at least two alphanumeric characters',
    );
  if (!namePattern.test(name)) {
    throw fail.badVolume(
      name,
      `${JSON.stringify(name)} includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
    );
  }
}

export async function isEmpty(path: string): Promise<boolean> {
  try {
    return (await readdir(path)).length === 0;
  } catch (cause) {
    if (isAbsence(cause)) return true;
    throw cause;
  }
}
