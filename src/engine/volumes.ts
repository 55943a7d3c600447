import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fail, messageOf } from '../errors.ts';
import { run } from '../host/exec.ts';
import { isAbsence, removeTree, renameDurable, syncDirectory } from '../host/files.ts';
import { syncFileSystem } from '../host/kernel.ts';
import { unmountAll } from '../host/mounts.ts';
import { newId } from '../lib/ids.ts';
import { Locks } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import { nowText } from '../lib/time.ts';
import type { Store } from '../store/store.ts';
import { type Change, recordsOf, type Table } from '../store/tables.ts';
import type { Events } from './events.ts';
import type { Filters } from './filters.ts';
import { selectVolumes } from './volume-filters.ts';
import { ANONYMOUS_LABEL, checkVolumeName, checkVolumeOptions, LOCAL_DRIVER } from './volume-options.ts';
import type { VolumeUsers } from './volume-users.ts';

/** A volume of the `local` driver: a directory that outlives containers. */
export interface VolumeRecord {
  name: string;
  createdAt: string;
  /** Made without a name; if that was for a container, it is removed with it if the client says so. */
  isAnonymous: boolean;
  /** Null where the client gave none: it is told so, as by dockerd. */
  labels: Record<string, string> | null;
  options: Record<string, string> | null;
}

/** A volume as clients see it. */
export interface VolumeView {
  record: VolumeRecord;
  /** Where its files are. */
  path: string;
}

/** What a volume is to be, if it is not there yet. */
export interface VolumeWish {
  /** Empty for any. */
  driver?: string;
  labels?: Record<string, string> | null;
  /** Of the local driver: what is mounted there while a container has it. */
  options?: Record<string, string> | null;
}

/**
 * The volumes on this host: `volumes/<name>/_data` under the data root. Whatever makes or removes one holds the lock of
 * its name, and a volume that somebody uses is not removed: {@link VolumeUsers} knows.
 */
export class Volumes {
  readonly #store: Pick<Store, 'commit'>;
  readonly #table: Table<VolumeRecord>;
  readonly #root: string;
  readonly #users: VolumeUsers;
  readonly #events: Events;
  readonly #log: Log;
  readonly #locks = new Locks();

  constructor(o: { store: Store; dataRoot: string; users: VolumeUsers; events: Events; log: Log }) {
    this.#store = o.store;
    this.#table = o.store.table('volumes');
    this.#root = join(o.dataRoot, 'volumes');
    this.#users = o.users;
    this.#events = o.events;
    this.#log = o.log;
  }

  /** Where a volume's files are. */
  pathOf(name: string): string {
    return join(this.#root, name, '_data');
  }

  /** All volumes, by name. */
  async all(): Promise<VolumeRecord[]> {
    return recordsOf(this.#table);
  }

  /** The volume of this name. */
  async find(name: string): Promise<VolumeRecord | undefined> {
    return this.#table.get(name);
  }

  /** The volumes that pass, by name. Throws 400 for filters that make no sense. */
  async list({ filters }: { filters: Filters }): Promise<VolumeView[]> {
    const isUsed = (name: string) => this.#users.of(name).length > 0;
    return selectVolumes(await this.all(), filters, isUsed).map((record) => this.#viewOf(record));
  }

  /** Throws 404. */
  async inspect(name: string): Promise<VolumeView> {
    const record = await this.#table.get(name);
    if (record === undefined) throw fail.noSuchVolume(name);
    return this.#viewOf(record);
  }

  /**
   * Makes a volume; without a name it gets one, and is anonymous. One that is there is the answer as it is, whatever
   * else was asked for. Throws 400 or 404 in dockerd's words.
   */
  async create(name: string, wish: VolumeWish = {}): Promise<VolumeView> {
    if (name !== '') return this.#viewOf((await this.ensure(name, wish)).record);
    const record = await this.prepare(wish);
    await this.#store.commit(this.kept([record]));
    this.#log.info({ volume: record.name }, 'volume created');
    return this.#viewOf(record);
  }

  /**
   * The volume of this name, made if it is not there. The container that it is for, if any, has it from now on. Throws
   * as {@link create} does.
   */
  async ensure(
    name: string,
    wish: VolumeWish = {},
    { user }: { user?: string } = {},
  ): Promise<{ record: VolumeRecord; isNew: boolean }> {
    await using _lock = await this.#locks.hold(name);
    checkDriver(name, wish);
    const known = await this.#table.get(name);
    const record = known ?? (await this.#makeNamed(name, wish));
    if (user !== undefined) this.#users.claim(user, name);
    return { record, isNew: known === undefined };
  }

  /** A container that is being made gets a volume that is there. Throws 404. */
  async claim(name: string, user: string): Promise<void> {
    await using _lock = await this.#locks.hold(name);
    if ((await this.#table.get(name)) === undefined) throw fail.noSuchVolume(name);
    this.#users.claim(user, name);
  }

  /** A new volume without a name, for a container that is about to be: unless it is {@link kept} with it, a boot removes it. */
  async prepare(wish: VolumeWish = {}): Promise<VolumeRecord> {
    const name = newId();
    checkDriver(name, wish);
    const labels = { ...wish.labels, [ANONYMOUS_LABEL]: '' };
    return this.#make(name, { ...wish, labels }, { isAnonymous: true });
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

  /** Removes a volume with its files. Throws 404 unless `force`, 409 while a container has it, running or not. */
  async remove(name: string, { force }: { force: boolean }): Promise<void> {
    await using _lock = await this.#locks.hold(name);
    const record = await this.#table.get(name);
    if (record === undefined && force) return;
    if (record === undefined) throw fail.noSuchVolume(name);
    const users = this.#users.of(name);
    if (users.length > 0) throw fail.volumeInUse(name, users);
    await this.#erase(record);
    this.#log.info({ volume: name }, 'volume removed');
  }

  /** As {@link remove}; false if it is not there, or somebody but one container has it. */
  async removeUnused(name: string, { except }: { except?: string } = {}): Promise<boolean> {
    await using _lock = await this.#locks.hold(name);
    const record = await this.#table.get(name);
    if (record === undefined || this.#users.of(name).some((user) => user !== except)) return false;
    await this.#erase(record);
    return true;
  }

  async #erase(record: VolumeRecord): Promise<void> {
    const { name } = record;
    await unmountAll(this.pathOf(name)); // or what is mounted there would be removed
    // the record goes first: a crash in between leaves a directory without a name, which recover() sweeps
    await this.#store.commit([this.#table.remove(name)]);
    try {
      await removeTree(join(this.#root, name));
    } catch (cause) {
      await this.#store.commit([this.#table.put(name, record)]); // it can be looked into, and tried again
      throw fail.host(
        `remove ${name}: error removing volume path '${this.pathOf(name)}': ${messageOf(cause)}`,
        cause,
      );
    }
    this.#events.emit('volume', 'destroy', name, { driver: LOCAL_DRIVER });
  }

  async #makeNamed(name: string, wish: VolumeWish): Promise<VolumeRecord> {
    checkVolumeName(name);
    const record = await this.#make(name, wish, { isAnonymous: false });
    await this.#store.commit([this.#table.put(name, record)]);
    this.#log.info({ volume: name }, 'volume created');
    return record;
  }

  async #make(
    name: string,
    { labels = null, options = null }: VolumeWish,
    { isAnonymous }: { isAnonymous: boolean },
  ): Promise<VolumeRecord> {
    checkVolumeOptions(name, options ?? {});
    const directory = join(this.#root, name);
    await removeTree(directory); // what an earlier volume of this name could not take with it
    await mkdir(this.pathOf(name), { recursive: true });
    await syncDirectory(directory);
    await syncDirectory(this.#root);
    this.#events.emit('volume', 'create', name, { driver: LOCAL_DRIVER });
    return { name, createdAt: nowText(), isAnonymous, labels, options };
  }

  #viewOf(record: VolumeRecord): VolumeView {
    return { record, path: this.pathOf(record.name) };
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
    const record = { name, createdAt: nowText(), isAnonymous: false, labels: null, options: null };
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

export async function isEmpty(path: string): Promise<boolean> {
  try {
    return (await readdir(path)).length === 0;
  } catch (cause) {
    if (isAbsence(cause)) return true;
    throw cause;
  }
}
