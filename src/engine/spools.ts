import { constants, createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rm, rmdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline, type Readable, Transform } from 'node:stream';
import { fail, messageOf } from '../errors.ts';
import { isAbsence, syncDirectory } from '../host/files.ts';
import { type Digest, hexOf } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';

/** The beginning of a blob, left by an earlier try. Nobody has looked whether it is right. */
export interface KeptPart {
  readonly bytes: number;
  read(): AsyncIterable<Buffer>;
}

/** A blob that may be worth spooling, and the layer that it becomes. */
export interface SpoolableBlob {
  readonly diffId: Digest;
  readonly blob: Digest;
  readonly sizeBytes: number;
  /** A delta is small beside the layers that it makes, of which `diffId` is the one that comes last. */
  readonly kind: 'layer' | 'delta';
}

/** A blob on its way. */
export interface SpooledBlob {
  readonly input: Readable;
  /** What an earlier try left of it, which need not be fetched. */
  readonly keptBytes: number;
}

/** Says how much may be written. */
interface Room {
  hasRoomFor(bytes: number): Promise<boolean>;
}

/** A spool needs room for itself and for the layer beside it, which is some two or three times as large. */
const WANTED_ROOM = 4;
/** How often it is looked whether there still is room. */
const LOOK_BYTES = 4 << 20;
/** More than pulls that died will leave; besides, each has a quarter of the room that is left, at most. */
const MOST_SPOOLS = 32;
/** What a power cut may cost a delta: what came since the last sync, which was so long ago or so little. */
const SYNC_MS = 5000;
const SYNC_BYTES = 64 << 10;
const DELTA = '.delta';

/**
 * Copies of blobs, written while they stream into extraction, so that a pull that dies need not begin them anew. Owns
 * `spool/` in the data root. What lies there is not trusted: the blob's digest shows whether it is right.
 *
 * Of layers only large ones are spooled, and none unless configured: each byte costs the flash a second one. They are
 * not synced. Deltas are always spooled. A download that takes seconds leaves them in the page cache alone, which
 * outlives the daemon, and {@link unpacked} unlinks them there; one that takes longer is synced from time to time.
 */
export class Spools {
  readonly #directory: string;
  readonly #aboveBytes: number;
  readonly #room: Room;
  readonly #syncMs: number;
  readonly #log: Log;
  readonly #names: Set<string>;
  /** Those that may have reached the disk, so that nothing is saved by removing them early. */
  readonly #synced: Set<string>;
  /** Those that somebody writes: one at a time. */
  readonly #busy = new Set<string>();

  private constructor(o: {
    directory: string;
    aboveBytes: number;
    room: Room;
    syncMs: number;
    log: Log;
    names: Iterable<string>;
  }) {
    this.#directory = o.directory;
    this.#aboveBytes = o.aboveBytes;
    this.#room = o.room;
    this.#syncMs = o.syncMs;
    this.#log = o.log;
    this.#names = new Set(o.names);
    this.#synced = new Set(o.names);
  }

  /** Finds what earlier runs left; of what is not spooled any more that is removed: layers without `aboveBytes`, deltas. */
  static async open(o: {
    dataRoot: string;
    aboveBytes: number | undefined;
    withDeltas: boolean;
    room: Room;
    /** How long a delta goes unsynced. */
    syncMs?: number;
    log: Log;
  }): Promise<Spools> {
    const directory = join(o.dataRoot, 'spool');
    const names = await readdir(directory).catch((cause: unknown) => {
      if (isAbsence(cause)) return [];
      throw fail.host(`cannot read ${directory}: ${messageOf(cause)}`, cause);
    });
    const { aboveBytes = Number.POSITIVE_INFINITY, syncMs = SYNC_MS, room, log } = o;
    const spools = new Spools({ directory, aboveBytes, room, syncMs, log, names });
    for (const name of names)
      if (!(name.endsWith(DELTA) ? o.withDeltas : o.aboveBytes !== undefined)) await spools.#remove(name);
    if (spools.#names.size === 0) await rmdir(directory).catch(() => {}); // as it is without any
    return spools;
  }

  /**
   * A blob, by way of its spool if it is worth one: what an earlier try left is handed to `fetch`, which is to give the
   * whole blob, and what it adds is kept. Trouble with the spool itself never fails the blob.
   */
  async through(wanted: SpoolableBlob, fetch: (kept?: KeptPart) => Readable): Promise<SpooledBlob> {
    const { sizeBytes, kind } = wanted;
    const name = nameOf(wanted);
    if ((kind === 'layer' && sizeBytes <= this.#aboveBytes) || this.#busy.has(name))
      return { input: fetch(), keptBytes: 0 };
    this.#busy.add(name);
    const keptBytes = await this.#keptBytes(name, sizeBytes);
    if (keptBytes === 0 && !(await this.#mayBegin(name, sizeBytes))) {
      this.#busy.delete(name);
      return { input: fetch(), keptBytes };
    }
    const path = join(this.#directory, name);
    const kept = { bytes: keptBytes, read: () => createReadStream(path, { end: keptBytes - 1 }) };
    const source = keptBytes > 0 ? fetch(kept) : fetch();
    if (keptBytes > 0) this.#log.info({ layer: wanted.diffId, bytes: keptBytes }, 'resuming from a spool');
    const input = new SpoolWriter({
      from: keptBytes,
      sizeBytes,
      room: this.#room,
      open: () => this.#openFile(name),
      giveUp: (err) => {
        this.#log.warn({ spool: name, err }, 'a blob is not spooled any further');
        void this.#remove(name);
      },
      ...(kind === 'delta' && { syncMs: this.#syncMs, synced: () => this.#noteSynced(name) }),
    });
    input.once('close', () => this.#busy.delete(name));
    // either's end is the other's, and its error too
    pipeline(source, input, () => {});
    return { input, keptBytes };
  }

  /** How much of a delta need not be fetched. */
  async keptOf(wanted: Omit<SpoolableBlob, 'kind'>): Promise<number> {
    const name = nameOf({ ...wanted, kind: 'delta' });
    return this.#busy.has(name) ? 0 : this.#keptBytes(name, wanted.sizeBytes);
  }

  /**
   * All of it is unpacked, and about to be synced with everything else on the file system: a spool that never was goes
   * before, so that it costs the flash nothing. One that was stays until what came of it is as safe.
   */
  async unpacked(wanted: SpoolableBlob): Promise<void> {
    const name = nameOf(wanted);
    if (this.#names.has(name) && !this.#synced.has(name)) await this.#remove(name);
  }

  /** It is not right. */
  async forget(wanted: SpoolableBlob): Promise<void> {
    const name = nameOf(wanted);
    if (this.#names.has(name)) await this.#remove(name);
  }

  /** True if something of one of these layers is kept. */
  has(diffIds: readonly Digest[]): boolean {
    return this.#names.size > 0 && diffIds.some((diffId) => this.#namesOf(diffId).length > 0);
  }

  /** The layer is here, or its spools are not right. */
  async drop(diffId: Digest): Promise<void> {
    for (const name of this.#namesOf(diffId)) await this.#remove(name);
  }

  /** Removes the spools of all layers but these. */
  async sweep(wanted: ReadonlySet<string>): Promise<void> {
    if (this.#names.size === 0) return;
    const hexes = new Set([...wanted].map((diffId) => hexOf(diffId as Digest)));
    for (const name of this.#names) if (!hexes.has(name.split('.')[0] ?? '')) await this.#remove(name);
  }

  #namesOf(diffId: Digest): string[] {
    const prefix = `${hexOf(diffId)}.`;
    return [...this.#names].filter((name) => name.startsWith(prefix));
  }

  async #keptBytes(name: string, sizeBytes: number): Promise<number> {
    if (!this.#names.has(name)) return 0;
    const { size } = await stat(join(this.#directory, name)).catch(() => ({ size: 0 }));
    if (size <= sizeBytes) return size;
    await this.#remove(name);
    return 0;
  }

  async #mayBegin(name: string, sizeBytes: number): Promise<boolean> {
    const isFew = this.#names.has(name) || this.#names.size < MOST_SPOOLS;
    return isFew && (await this.#room.hasRoomFor(WANTED_ROOM * sizeBytes).catch(() => false));
  }

  /** The file's name, and that of its directory, are to outlive a power cut as its bytes do. */
  async #noteSynced(name: string): Promise<void> {
    if (this.#synced.has(name)) return;
    await syncDirectory(this.#directory);
    await syncDirectory(dirname(this.#directory));
    this.#synced.add(name);
  }

  async #openFile(name: string): Promise<FileHandle> {
    this.#names.add(name);
    await mkdir(this.#directory, { mode: 0o700 }).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'EEXIST') throw cause;
    });
    return await open(join(this.#directory, name), constants.O_WRONLY | constants.O_CREAT, 0o600);
  }

  /** Best effort: what resists is tried again with the next sweep. */
  async #remove(name: string): Promise<void> {
    try {
      await rm(join(this.#directory, name), { force: true, recursive: true });
      this.#names.delete(name);
      this.#synced.delete(name);
      if (this.#names.size === 0) await rmdir(this.#directory);
    } catch (err) {
      this.#log.debug({ spool: name, err }, 'a spool, or its directory, could not be removed');
    }
  }
}

const nameOf = ({ diffId, blob, kind }: SpoolableBlob) =>
  `${hexOf(diffId)}.${hexOf(blob)}${kind === 'delta' ? DELTA : ''}`;

interface Writing {
  /** Where what is new begins. */
  readonly from: number;
  /** Of the whole blob. */
  readonly sizeBytes: number;
  readonly room: Room;
  /** Called with the first new byte, so that a blob of which nothing comes leaves nothing. */
  open(): Promise<FileHandle>;
  giveUp(err: unknown): void;
  /** What is older than this, and not little, is synced when more comes; never, if left out. */
  readonly syncMs?: number;
  /** The bytes so far are durable. */
  synced?(): Promise<void>;
}

/** Passes a blob on, and writes what is new of it into a file. Holds one chunk (64 KiB) besides its two queues of 64 KiB. */
class SpoolWriter extends Transform {
  readonly #o: Writing;
  #file: FileHandle | undefined;
  #at = 0;
  #lookAt = 0;
  #syncedBytes: number;
  #syncedAtMs = performance.now();
  #isWriting = true;
  /** The chunk in hand; never fails. */
  #keeping = Promise.resolve();

  constructor(o: Writing) {
    super({ highWaterMark: 64 << 10 });
    this.#o = o;
    this.#syncedBytes = o.from;
  }

  override _transform(chunk: Buffer, _encoding: string, done: (error: null, chunk: Buffer) => void): void {
    this.#keeping = this.#keep(chunk);
    void this.#keeping.then(() => done(null, chunk));
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const close = () => this.#file?.close();
    this.#keeping.then(close).then(
      () => done(error),
      () => done(error),
    );
  }

  async #keep(chunk: Buffer): Promise<void> {
    const known = Math.min(chunk.length, Math.max(0, this.#o.from - this.#at));
    const position = this.#at + known;
    this.#at += chunk.length;
    if (!this.#isWriting || known === chunk.length) return;
    try {
      if (this.#at > this.#lookAt) await this.#look();
      this.#file ??= await this.#o.open();
      for (let done = known; done < chunk.length; ) {
        const left = chunk.length - done;
        done += (await this.#file.write(chunk, done, left, position + done - known)).bytesWritten;
      }
      await this.#sync(this.#file);
    } catch (err) {
      this.#isWriting = false;
      this.#o.giveUp(err);
    }
  }

  async #sync(file: FileHandle): Promise<void> {
    const { syncMs = Number.POSITIVE_INFINITY, synced } = this.#o;
    if (performance.now() - this.#syncedAtMs < syncMs || this.#at - this.#syncedBytes < SYNC_BYTES) return;
    await file.datasync();
    await synced?.();
    [this.#syncedBytes, this.#syncedAtMs] = [this.#at, performance.now()];
  }

  /** The layer has first call on the room that is left. */
  async #look(): Promise<void> {
    this.#lookAt = this.#at + LOOK_BYTES;
    const left = Math.max(0, this.#o.sizeBytes - this.#at);
    if (!(await this.#o.room.hasRoomFor(2 * left + LOOK_BYTES)))
      throw fail.noSpace('no space left on device');
  }
}
