import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Level } from 'level';
import { codeOf, Failure, fail, messageOf } from '../errors.ts';
import { removeTree, renameDurable, syncDirectory } from '../host/files.ts';
import type { Log } from '../lib/log.ts';
import type { Reserve } from './reserve.ts';
import { isWholeTable } from './table-file.ts';

/** LevelDB as the store uses it: text to text. */
export type Database = Level<string, string>;

/** Where the database is and how much memory and flash it may use. */
export interface DatabaseOptions {
  dir: string;
  cacheBytes: number;
  writeBufferBytes: number;
  blockBytes: number;
  fileBytes: number;
  log: Log;
}

/** An open database, with what its inspection found. */
export interface Opened<T> {
  db: Database;
  found: T;
  /** The old one was damaged: it lies beside this one, which is empty. */
  wasSetAside: boolean;
  /** What LevelDB's own log says it could not read back: commits that were acknowledged may be gone. */
  droppedCommits: string[];
}

/** How many damaged databases are kept for people to look at; the oldest go first. */
const keptAside = 3;

/** LevelDB does not know files of this name. */
const brokenSuffix = '.broken';

/**
 * Opens the database and has it inspected before anyone relies on it. One that LevelDB or the inspection cannot read
 * is renamed to `db.damaged-<UTC time>` and an empty one takes its place, to be filled from the sidecars. LevelDB's
 * own repair is not tried: it puts every table that it finds back into use, so removed records come back and old
 * values hide new ones; it reads the log without checksums, so half a batch may stand; and it syncs nothing. A stale
 * record passes every check that we have, a missing one is noticed and rebuilt.
 *
 * What is not damage, and throws: another process holds the lock, the disk is full or may not be written, the schema
 * is newer than this program.
 */
export async function openDatabase<T>(
  options: DatabaseOptions,
  reserve: Reserve,
  inspect: (db: Database) => Promise<T>,
): Promise<Opened<T>> {
  const { dir, log } = options;
  try {
    await createDirectory(dir);
    return { ...(await openWithRoom(options, reserve, inspect)), wasSetAside: false };
  } catch (cause) {
    if (!isDamage(cause)) throw asFailure(cause, dir);
    const aside = await setAside(dir).catch((why) => {
      throw fail.store(`cannot set the damaged database ${dir} aside: ${messageOf(why)}`, cause);
    });
    log.error({ dir, aside, err: cause }, 'the database is damaged: set aside, an empty one takes its place');
    try {
      await createDirectory(dir);
      return { ...(await openWithRoom(options, reserve, inspect)), wasSetAside: true };
    } catch {
      // so it was not the database: put it back for a better day
      await removeTree(dir);
      await renameDurable(aside, dir);
      throw asFailure(cause, dir);
    }
  }
}

/** Opens without any rescue; the caller closes. `err.cause` carries LevelDB's words. */
export async function openLevel(options: DatabaseOptions): Promise<Database> {
  const { dir } = options;
  const db: Database = new Level(dir, {
    cacheSize: options.cacheBytes,
    writeBufferSize: options.writeBufferBytes,
    blockSize: options.blockBytes,
    maxFileSize: options.fileBytes,
    compression: true,
    // without CURRENT LevelDB would begin afresh and delete the tables it then finds in its way
    createIfMissing: !(await hasContent(dir)),
  });
  await db.open();
  try {
    // LevelDB renames CURRENT without syncing the directory
    await syncDirectory(dir);
    return db;
  } catch (cause) {
    await db.close();
    throw cause;
  }
}

async function openWithRoom<T>(
  options: DatabaseOptions,
  reserve: Reserve,
  inspect: (db: Database) => Promise<T>,
): Promise<Omit<Opened<T>, 'wasSetAside'>> {
  try {
    return await openInspected(options, inspect);
  } catch (cause) {
    if (!noSpace.test(reasonOf(cause)) || !(await reserve.release())) throw cause;
    return openInspected(options, inspect);
  }
}

async function openInspected<T>(
  options: DatabaseOptions,
  inspect: (db: Database) => Promise<T>,
): Promise<Omit<Opened<T>, 'wasSetAside'>> {
  const { dir, log } = options;
  const broken = await findBrokenTables(dir);
  if (broken.length > 0) {
    await throwIfLocked(dir); // another process may be writing them
    log.warn({ dir, tables: broken }, 'tables are not whole: taken away, in case no commit needs them');
    for (const name of broken) await rename(join(dir, name), join(dir, name + brokenSuffix));
  }
  const db = await openLevel(options);
  try {
    const found = await inspect(db);
    for (const name of await readdir(dir)) if (name.endsWith(brokenSuffix)) await rm(join(dir, name));
    return { db, found, droppedCommits: await readDropped(dir) };
  } catch (cause) {
    await db.close();
    throw cause;
  }
}

/**
 * Tables with which LevelDB must not be trusted. A compaction that a power cut stopped leaves such a one that nothing
 * needs; without one that is needed LevelDB does not open. Reading them here has a second use: LevelDB maps its tables,
 * so a page that the flash cannot give back would kill the process with SIGBUS, at every start anew.
 */
async function findBrokenTables(dir: string): Promise<string[]> {
  const broken: string[] = [];
  for (const name of await readdir(dir)) {
    if (!/\.(ldb|sst)$/.test(name)) continue;
    try {
      if (isWholeTable(await readFile(join(dir, name)))) continue;
    } catch (cause) {
      if (!isDamage(cause)) throw cause;
    }
    broken.push(name);
  }
  return broken;
}

/** Asks LevelDB for its lock and nothing else: it takes the lock first, then finds that it may do neither thing. */
async function throwIfLocked(dir: string): Promise<void> {
  const probe = new Level(dir, { createIfMissing: false, errorIfExists: true });
  try {
    await probe.open();
    await probe.close();
  } catch (cause) {
    if (isLocked(cause)) throw cause;
  }
}

/** The lines of LevelDB's own log, begun anew at each opening, about commits that it skipped. */
async function readDropped(dir: string): Promise<string[]> {
  const text = await readFile(join(dir, 'LOG'), 'utf8').catch(() => '');
  return text.split('\n').filter((line) => /dropping \d+ bytes|Ignoring error/.test(line));
}

async function hasContent(dir: string): Promise<boolean> {
  return (await readdir(dir)).some((name) => /\.(ldb|sst|log)$/.test(name));
}

async function createDirectory(dir: string): Promise<void> {
  const first = await mkdir(dir, { recursive: true, mode: 0o700 });
  if (first !== undefined) await syncDirectory(dirname(dir));
}

async function setAside(dir: string): Promise<string> {
  const parent = dirname(dir);
  const prefix = `${basename(dir)}.damaged-`;
  const time = new Date().toISOString().replaceAll(':', '-');
  const aside = join(parent, `${prefix}${time}`);
  await renameDurable(dir, aside);
  const older = (await readdir(parent)).filter((name) => name.startsWith(prefix) && name !== basename(aside));
  for (const name of older.sort().slice(0, 1 - keptAside)) await removeTree(join(parent, name));
  return aside;
}

const noSpace = /no space left|quota exceeded/i;
// of glibc, musl and libuv
const refused =
  /read-only file system|permission denied|operation not permitted|too many open files|file table overflow|no file descriptors|cannot allocate memory|(out of|not enough) memory/i;

/** Whether what lies there is at fault, and not the place or the moment. LevelDB tells them apart by its words alone. */
function isDamage(cause: unknown): boolean {
  if (cause instanceof Failure || isLocked(cause)) return false;
  const reason = reasonOf(cause);
  return !noSpace.test(reason) && !refused.test(reason);
}

function isLocked(cause: unknown): boolean {
  return (
    (cause instanceof Error && codeOf(cause.cause) === 'LEVEL_LOCKED') || codeOf(cause) === 'LEVEL_LOCKED'
  );
}

/** `level` wraps what LevelDB said. */
export function reasonOf(cause: unknown): string {
  return cause instanceof Error && cause.cause !== undefined ? messageOf(cause.cause) : messageOf(cause);
}

function asFailure(cause: unknown, dir: string): Failure {
  if (cause instanceof Failure) return cause;
  if (isLocked(cause)) return fail.store(`database ${dir} is in use by another process`, cause);
  return fail.store(`cannot open database ${dir}: ${reasonOf(cause)}`, cause);
}
