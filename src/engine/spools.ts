import { constants, createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rm, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline, type Readable, Transform } from 'node:stream';
import { fail, messageOf } from '../errors.ts';
import { isAbsence, removeTree } from '../host/files.ts';
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
}

/** Says how much may be written. */
interface Room {
  hasRoomFor(bytes: number): Promise<boolean>;
}

/** A spool needs room for itself and for the layer beside it, which is some two or three times as large. */
const WANTED_ROOM = 4;
/** How often it is looked whether there still is room. */
const LOOK_BYTES = 4 << 20;

/**
 * Copies of large blobs, written while they stream into extraction, so that a pull that dies need not begin them anew.
 * Off unless configured: each byte costs the flash a second one. Nothing is synced: what a power cut leaves may be
 * wrong, which the blob's digest shows. Owns `spool/` in the data root. One blob of a layer is spooled at a time.
 */
export class Spools {
  readonly #directory: string;
  readonly #aboveBytes: number;
  readonly #room: Room;
  readonly #log: Log;
  readonly #names: Set<string>;

  private constructor(o: {
    directory: string;
    aboveBytes: number;
    room: Room;
    log: Log;
    names: Iterable<string>;
  }) {
    this.#directory = o.directory;
    this.#aboveBytes = o.aboveBytes;
    this.#room = o.room;
    this.#log = o.log;
    this.#names = new Set(o.names);
  }

  /** Finds what earlier runs left. Without `aboveBytes` nothing is spooled, and that is removed. */
  static async open(o: {
    dataRoot: string;
    aboveBytes: number | undefined;
    room: Room;
    log: Log;
  }): Promise<Spools> {
    const directory = join(o.dataRoot, 'spool');
    if (o.aboveBytes === undefined) await removeTree(directory);
    const names = await readdir(directory).catch((cause: unknown) => {
      if (isAbsence(cause)) return [];
      throw fail.host(`cannot read ${directory}: ${messageOf(cause)}`, cause);
    });
    const aboveBytes = o.aboveBytes ?? Number.POSITIVE_INFINITY;
    return new Spools({ directory, aboveBytes, room: o.room, log: o.log, names });
  }

  /**
   * A blob, by way of its spool if it is large enough: what an earlier try left is handed to `fetch`, which is to give
   * the whole blob, and what it adds is kept. Trouble with the spool itself never fails the blob.
   */
  async through(
    wanted: SpoolableBlob,
    fetch: (kept?: KeptPart) => Readable,
  ): Promise<{ input: Readable; isResumed: boolean }> {
    const { sizeBytes } = wanted;
    if (sizeBytes <= this.#aboveBytes) return { input: fetch(), isResumed: false };
    const name = nameOf(wanted);
    const path = join(this.#directory, name);
    const keptBytes = await this.#keptBytes(name, sizeBytes);
    if (keptBytes === 0 && !(await this.#room.hasRoomFor(WANTED_ROOM * sizeBytes)))
      return { input: fetch(), isResumed: false };
    const isResumed = keptBytes > 0;
    const kept = { bytes: keptBytes, read: () => createReadStream(path, { end: keptBytes - 1 }) };
    const source = isResumed ? fetch(kept) : fetch();
    if (isResumed) this.#log.info({ layer: wanted.diffId, bytes: keptBytes }, 'resuming from a spool');
    const input = new SpoolWriter({
      from: keptBytes,
      sizeBytes,
      room: this.#room,
      open: () => this.#openFile(name),
      giveUp: (err) => {
        this.#log.warn({ spool: name, err }, 'a blob is not spooled any further');
        void this.#remove(name);
      },
    });
    // either's end is the other's, and its error too
    pipeline(source, input, () => {});
    return { input, isResumed };
  }

  /** True if something of one of these layers is kept. */
  has(diffIds: readonly Digest[]): boolean {
    return this.#names.size > 0 && diffIds.some((diffId) => this.#namesOf(diffId).length > 0);
  }

  /** The layer is here, or its spool is not right. */
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
      await rm(join(this.#directory, name), { force: true });
      this.#names.delete(name);
      if (this.#names.size === 0) await rmdir(this.#directory);
    } catch (err) {
      this.#log.debug({ spool: name, err }, 'a spool, or its directory, could not be removed');
    }
  }
}

const nameOf = ({ diffId, blob }: SpoolableBlob) => `${hexOf(diffId)}.${hexOf(blob)}`;

interface Writing {
  /** Where what is new begins. */
  readonly from: number;
  /** Of the whole blob. */
  readonly sizeBytes: number;
  readonly room: Room;
  /** Called with the first new byte, so that a blob of which nothing comes leaves nothing. */
  open(): Promise<FileHandle>;
  giveUp(err: unknown): void;
}

/** Passes a blob on, and writes what is new of it into a file. Holds one chunk (64 KiB) besides its two queues of 64 KiB. */
class SpoolWriter extends Transform {
  readonly #o: Writing;
  #file: FileHandle | undefined;
  #at = 0;
  #lookAt = 0;
  #isWriting = true;
  /** The chunk in hand; never fails. */
  #keeping = Promise.resolve();

  constructor(o: Writing) {
    super({ highWaterMark: 64 << 10 });
    this.#o = o;
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
    } catch (err) {
      this.#isWriting = false;
      this.#o.giveUp(err);
    }
  }

  /** The layer has first call on the room that is left. */
  async #look(): Promise<void> {
    this.#lookAt = this.#at + LOOK_BYTES;
    const left = Math.max(0, this.#o.sizeBytes - this.#at);
    if (!(await this.#o.room.hasRoomFor(2 * left + LOOK_BYTES)))
      throw fail.noSpace('no space left on device');
  }
}
