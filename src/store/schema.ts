import { fail } from '../errors.ts';
import type { Database } from './database.ts';
import { unseal } from './seal.ts';
import type { Change, Tables } from './tables.ts';

/**
 * Brings every record from one schema version to the next: its changes and the new version are written in one synced
 * batch, so a power cut leaves the old version or the new one.
 */
export type Migration = (tables: Tables) => Promise<Change[]>;

/**
 * The first migrates version 1 to 2, and so on. Only ever append: a device in the field may come from any version.
 * The seal around `meta!schema` must never change, or an older program takes a newer database for a damaged one.
 */
export const migrations: readonly Migration[] = [];

/** Where the database says what its records mean. */
export const schemaKey = 'schema';
export interface SchemaRecord {
  version: number;
}

/** There until everything that the disk still knows has been put into a new database. */
export const rebuildKey = 'rebuild';
export interface RebuildRecord {
  since: string;
}

/** What a database turned out to hold. */
export interface Inspection {
  /** Undefined where it is empty. */
  version: number | undefined;
  needsRebuild: boolean;
  /** Keys whose values are not whole. */
  damaged: string[];
}

/**
 * Reads every record once, so that a table that LevelDB cannot read is found now and not by the compaction that would
 * stop all commits later. Throws a Failure if the schema is newer than `newest`, any other error if this is no
 * database that can be trusted.
 */
export async function inspect(db: Database, newest: number): Promise<Inspection> {
  const version = await readVersion(db);
  // before anything else is looked at: how a newer version keeps its records is not known here
  if (version !== undefined && version > newest)
    throw fail.store(
      `database ${db.location} has schema version ${version} and this program knows versions up to ${newest}: run the newer program that wrote it, or move the database away`,
    );
  const found: Inspection = { version, needsRebuild: false, damaged: [] };
  for await (const [key, text] of db.iterator()) {
    if (version === undefined) throw new Error('there are records, but no schema version');
    if (key === `meta!${rebuildKey}`) found.needsRebuild = true;
    if (unseal(key, text) === undefined) found.damaged.push(key);
  }
  return found;
}

async function readVersion(db: Database): Promise<number | undefined> {
  const key = `meta!${schemaKey}`;
  const text: string | undefined = await db.get(key);
  if (text === undefined) return undefined;
  const record = unseal(key, text);
  if (record === undefined || !('version' in record) || typeof record.version !== 'number')
    throw new Error('the schema version is not readable');
  return record.version;
}
