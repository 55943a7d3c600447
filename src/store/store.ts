import { dirname } from 'node:path';
import { Failure, fail } from '../errors.ts';
import type { Log } from '../lib/log.ts';
import { withResolvers } from '../lib/promises.ts';
import { nowText } from '../lib/time.ts';
import { type Database, type DatabaseOptions, openDatabase, openLevel, reasonOf } from './database.ts';
import { Reserve } from './reserve.ts';
import {
  inspect,
  type Migration,
  type RebuildRecord,
  rebuildKey,
  type SchemaRecord,
  schemaKey,
  migrations as shippedMigrations,
} from './schema.ts';
import { seal, unseal } from './seal.ts';
import { type Change, type Table, type TableName, type Tables, tableNames } from './tables.ts';

// what a caller of commit() and table() names with them
export type { Change, Table, TableName } from './tables.ts';

/** Sizes come from the board's profile; `migrations` is for tests. */
export interface StoreOptions extends DatabaseOptions {
  migrations?: readonly Migration[];
}

/** What LevelDB may write while it opens: its log as a table, and once more to compact that. */
const reserveBytes = (writeBufferBytes: number) => 2 * writeBufferBytes + (256 << 10);

interface Waiting {
  changes: readonly Change[];
  resolve: () => void;
  reject: (reason: unknown) => void;
}

/**
 * The engine's records in LevelDB: typed tables as key prefixes, each value sealed with a checksum. {@link commit} is
 * the only durable point of the engine. Owns `db/` and what lies beside it under the same name; nothing else on disk.
 */
export class Store implements AsyncDisposable, Tables {
  /** The database could not be read: it was set aside, and this one began empty. */
  readonly wasRebuilt: boolean;
  readonly #options: DatabaseOptions;
  readonly #log: Log;
  readonly #reserve: Reserve;
  #database: Promise<Database>;
  #needsRebuild: boolean;
  #damagedCount = 0;
  /** A commit failed, so the end of LevelDB's log is unknown. */
  #isSuspect = false;
  #isClosed = false;
  /** One entry per request that waits for its commit; requests are bounded by the API. */
  #waiting: Waiting[] = [];
  #writer: Promise<void> | undefined;

  /**
   * Opens the database, creating or replacing it if need be, and brings its schema up to date. Throws STORE if
   * another process holds it, if its schema is newer than this program, or if the place cannot be written.
   */
  static async open({ migrations = shippedMigrations, ...options }: StoreOptions): Promise<Store> {
    const { dir, log } = options;
    const newest = 1 + migrations.length;
    const sizeBytes = reserveBytes(options.writeBufferBytes);
    const reserve = new Reserve({ dir: dirname(dir), path: `${dir}.reserve`, sizeBytes });
    const { db, found, wasSetAside, droppedCommits } = await openDatabase(options, reserve, (db) =>
      inspect(db, newest),
    );
    const store = new Store(options, reserve, db, wasSetAside);
    try {
      for (const key of found.damaged) store.#noteDamage(key);
      if (droppedCommits.length > 0)
        log.error({ lines: droppedCommits }, 'LevelDB could not read all of its log');
      const isShort = found.version === undefined || droppedCommits.length > 0;
      if (isShort) await store.commit(store.#beginRebuild(found.version ?? newest));
      store.#needsRebuild = isShort || found.needsRebuild || found.damaged.length > 0;
      await store.#migrate(found.version ?? newest, migrations);
      await reserve.hold();
      return store;
    } catch (cause) {
      await store[Symbol.asyncDispose]();
      throw cause;
    }
  }

  private constructor(options: DatabaseOptions, reserve: Reserve, db: Database, wasRebuilt: boolean) {
    this.#options = options;
    this.#log = options.log;
    this.#reserve = reserve;
    this.#database = Promise.resolve(db);
    this.wasRebuilt = wasRebuilt;
    this.#needsRebuild = false;
  }

  /**
   * The database may know less than the disk: it is new, or it lost records. It stays true, over restarts too, until
   * what the sidecars know has been put in and {@link endRebuild} is committed. On a first start nothing is found.
   */
  get needsRebuild(): boolean {
    return this.#needsRebuild;
  }

  /** Part of the commit that completes a rebuild. */
  endRebuild(): Change {
    return this.table<RebuildRecord>('meta').remove(rebuildKey);
  }

  /** How often a record was found damaged since the store was opened: a sign that the flash is dying. */
  get damagedCount(): number {
    return this.#damagedCount;
  }

  table<T extends NonNullable<unknown>>(name: TableName): Table<T> {
    const keyOf = (key: string) => `${name}!${key}`;
    return {
      get: async (key) => this.#get<T>(keyOf(key)),
      entries: ({ prefix = '' } = {}) => this.#entries<T>(name, prefix),
      put: (key, value) => ({ type: 'put', key: keyOf(key), value: seal(keyOf(key), value) }),
      remove: (key) => ({ type: 'del', key: keyOf(key) }),
    };
  }

  /**
   * Writes all changes or none, and resolves when they are on the disk: the only durable point. What waits at the same
   * time shares one batch and one sync. When this throws, the outcome is open until the record is read again.
   */
  commit(changes: readonly Change[]): Promise<void> {
    if (this.#isClosed) return Promise.reject(fail.store('the store is closed'));
    if (changes.length === 0) return Promise.resolve();
    const { promise, resolve, reject } = withResolvers<void>();
    this.#waiting.push({ changes, resolve, reject });
    this.#writer ??= this.#writeAll();
    return promise;
  }

  /** Number of records by table, damaged ones included. */
  async counts(): Promise<Record<TableName, number>> {
    const counts = Object.fromEntries(tableNames.map((name) => [name, 0])) as Record<TableName, number>;
    try {
      for await (const key of (await this.#database).keys()) {
        const name = key.slice(0, key.indexOf('!'));
        if (name in counts) counts[name as TableName]++;
      }
    } catch (cause) {
      throw this.#unreadable(cause);
    }
    return counts;
  }

  /** Lets commits that have begun finish, then closes; safe to call twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    await this.#writer;
    const db = await this.#database.catch(() => undefined);
    await db?.close();
  }

  async #get<T>(key: string): Promise<T | undefined> {
    let text: string | undefined;
    try {
      text = await (await this.#database).get(key);
    } catch (cause) {
      throw this.#unreadable(cause);
    }
    return text === undefined ? undefined : this.#open<T>(key, text);
  }

  async *#entries<T>(name: TableName, prefix: string): AsyncGenerator<[string, T]> {
    const start = `${name}!${prefix}`;
    try {
      const db = await this.#database;
      // '"' follows '!': the end of the table
      for await (const [key, text] of db.iterator({ gte: start, lt: `${name}"` })) {
        if (!key.startsWith(start)) return;
        const value = this.#open<T>(key, text);
        if (value !== undefined) yield [key.slice(name.length + 1), value];
      }
    } catch (cause) {
      throw this.#unreadable(cause);
    }
  }

  #open<T>(key: string, text: string): T | undefined {
    const value = unseal(key, text);
    if (value === undefined) this.#noteDamage(key);
    // the seal proves that this text was made by put() of the same table, and the schema version what it means
    return value as T | undefined;
  }

  #noteDamage(key: string): void {
    this.#damagedCount++;
    this.#log.error({ key }, 'a record is damaged and treated as absent');
  }

  #unreadable(cause: unknown): Error {
    return fail.store(`cannot read the database: ${reasonOf(cause)}`, cause);
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      try {
        await this.#write(group.flatMap(({ changes }) => changes));
        for (const { resolve } of group) resolve();
        await this.#reserve.hold();
      } catch (cause) {
        for (const { reject } of group) reject(cause);
      }
    }
    this.#writer = undefined;
  }

  /**
   * One batch at a time, and none behind one that failed: LevelDB goes on after a torn end of its log (a full disk)
   * and acknowledges commits that it cannot read back. So it is opened anew, and the batch tried once more.
   */
  async #write(changes: readonly Change[]): Promise<void> {
    if (!this.#isSuspect) {
      try {
        return await this.#batch(changes);
      } catch (cause) {
        this.#log.error({ err: cause }, 'a commit failed: opening the database anew');
      }
    }
    try {
      await this.#reopen();
      await this.#batch(changes);
    } catch (cause) {
      throw cause instanceof Failure ? cause : fail.store(`cannot commit: ${reasonOf(cause)}`, cause);
    }
  }

  async #batch(changes: readonly Change[]): Promise<void> {
    try {
      await (await this.#database).batch([...changes], { sync: true });
    } catch (cause) {
      this.#isSuspect = true;
      throw cause;
    }
    if (changes.some(({ type, key }) => type === 'del' && key === `meta!${rebuildKey}`))
      this.#needsRebuild = false;
  }

  async #reopen(): Promise<void> {
    // a database that closes and then finds no room to open could not even be read
    if (!(await this.#reserve.release())) throw fail.noSpace('no space left on device');
    const before = this.#database;
    this.#database = (async () => {
      const db = await before.catch(() => undefined);
      await db?.close();
      return openLevel(this.#options);
    })();
    await this.#database;
    this.#isSuspect = false;
  }

  #beginRebuild(version: number): Change[] {
    const meta = this.table<SchemaRecord | RebuildRecord>('meta');
    return [meta.put(schemaKey, { version }), meta.put(rebuildKey, { since: nowText() })];
  }

  async #migrate(from: number, migrations: readonly Migration[]): Promise<void> {
    const meta = this.table<SchemaRecord>('meta');
    for (const [index, migration] of migrations.entries()) {
      const version = index + 2;
      if (version <= from) continue;
      await this.commit([...(await migration(this)), meta.put(schemaKey, { version })]);
      this.#log.info({ version }, 'the database was brought to a newer schema');
    }
  }
}
