import {
  BLOCK_BYTES,
  type Extensions,
  type Fragment,
  invalidTar,
  isZeroBlock,
  MAX_EXTENSION_BYTES,
  mergeHeader,
  parseHeader,
  parsePax,
  paxText,
  type TarEntry,
} from './tar.ts';
import {
  ContentMap,
  checkFragments,
  paddedBytes,
  parseOldMap,
  parseOldMapBlock,
  parsePaxMap,
  paxSparseKind,
  paxSparseSize,
} from './tar-sparse.ts';

/** Takes what a {@link TarWalker} finds. Bytes are lent for the length of a call. */
export interface TarSink {
  /** Bytes of the archive that are no file's content: headers, padding, the end and whatever follows it. */
  raw(bytes: Buffer): void;
  /** A member begins. False: its content is not wanted and comes as raw bytes. */
  open(entry: TarEntry): boolean;
  /** Content of the open member, for this place in the file. */
  content(bytes: Buffer, offset: number): void;
  /** The member is complete. Called after each `open` that returned true. */
  close(): void;
}

/** What the next bytes are. Those of the first kinds are gathered until they are whole. */
type Phase = 'header' | 'pax' | 'long name' | 'long link' | 'old map' | 'map' | 'content' | 'skip' | 'end';

const noExtensions: Extensions = { pax: new Map() };

/**
 * Walks an archive that arrives in pieces of any size, holding no more of it than one extended header. Every byte
 * reaches the sink exactly once, in order. Global pax headers are passed over, as dockerd does.
 */
export class TarWalker {
  readonly #sink: TarSink;
  #phase: Phase = 'header';
  /** Bytes still to come in this phase; for gathered phases, the size of the whole. */
  #left = BLOCK_BYTES;
  #gathered: Buffer | undefined;
  #gatheredBytes = 0;
  /** The part of an extension that counts; the rest of its blocks is padding. */
  #usefulBytes = 0;
  #extensions = noExtensions;
  #hasZeroBlock = false;
  #entry: TarEntry | undefined;
  #storedBytes = 0;
  #map: Fragment[] = [];
  #contentMap = new ContentMap();
  #fragment = 0;
  #fragmentDone = 0;

  constructor(sink: TarSink) {
    this.#sink = sink;
  }

  /** The next bytes of the archive. */
  push(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) at += this.#step(bytes, at);
  }

  /** The archive is over; throws if it was cut. Padding behind the last content may be missing, as some writers have it. */
  end(): void {
    if (this.#phase === 'content') throw invalidTar(`cut inside ${this.#entry?.name}`);
    if (this.#phase === 'skip' && this.#left >= BLOCK_BYTES) throw invalidTar('cut inside skipped content');
    const isBetween = this.#phase === 'header' && this.#gatheredBytes === 0;
    if (!isBetween && this.#phase !== 'skip' && this.#phase !== 'end')
      throw invalidTar('cut inside a header');
  }

  #step(bytes: Buffer, at: number): number {
    if (this.#phase === 'content') return this.#passContent(bytes, at);
    if (this.#phase === 'skip') return this.#passSkipped(bytes, at);
    if (this.#phase !== 'end') return this.#gather(bytes, at);
    this.#sink.raw(at === 0 ? bytes : bytes.subarray(at));
    return bytes.length - at;
  }

  /** Blocks are used where they lie; only one that a piece cuts in two is copied. */
  #gather(bytes: Buffer, at: number): number {
    const available = bytes.length - at;
    if (this.#gathered === undefined && available >= this.#left) {
      const size = this.#left;
      this.#onGathered(bytes.subarray(at, at + size));
      return size;
    }
    this.#gathered ??= Buffer.allocUnsafe(this.#left);
    const taken = Math.min(available, this.#left - this.#gatheredBytes);
    bytes.copy(this.#gathered, this.#gatheredBytes, at, at + taken);
    this.#gatheredBytes += taken;
    if (this.#gatheredBytes === this.#left) {
      const whole = this.#gathered;
      this.#gathered = undefined;
      this.#gatheredBytes = 0;
      this.#onGathered(whole);
    }
    return taken;
  }

  #onGathered(bytes: Buffer): void {
    this.#sink.raw(bytes);
    switch (this.#phase) {
      case 'pax':
        this.#extend({ pax: parsePax(bytes.subarray(0, this.#usefulBytes)) });
        break;
      case 'long name':
        this.#extend({ longName: this.#usefulText(bytes) });
        break;
      case 'long link':
        this.#extend({ longLink: this.#usefulText(bytes) });
        break;
      case 'old map':
        this.#continueOldMap(bytes);
        break;
      case 'map':
        this.#onMapBlock(bytes);
        break;
      default:
        this.#onHeader(bytes);
    }
  }

  #extend(extension: Partial<Extensions>): void {
    this.#extensions = { ...this.#extensions, ...extension };
    this.#expect('header', BLOCK_BYTES);
  }

  #usefulText(bytes: Buffer): string {
    const nul = bytes.indexOf(0);
    return bytes.toString('latin1', 0, nul < 0 ? this.#usefulBytes : Math.min(nul, this.#usefulBytes));
  }

  #expect(phase: Phase, bytes: number): void {
    this.#phase = phase;
    this.#left = bytes;
  }

  #onHeader(block: Buffer): void {
    if (isZeroBlock(block)) {
      if (this.#hasZeroBlock) this.#expect('end', 0);
      this.#hasZeroBlock = true;
      return;
    }
    if (this.#hasZeroBlock) throw invalidTar('a single block of zeros');
    const header = parseHeader(block);
    if (header.flag === 'x') this.#expectExtension('pax', header.size);
    else if (header.flag === 'L') this.#expectExtension('long name', header.size);
    else if (header.flag === 'K') this.#expectExtension('long link', header.size);
    else if (header.flag === 'g') {
      if (header.size < 0) throw invalidTar('a negative size');
      this.#extensions = noExtensions;
      this.#skip(paddedBytes(header.size));
    } else {
      const { entry, storedBytes } = mergeHeader(header, this.#extensions);
      const { pax } = this.#extensions;
      this.#extensions = noExtensions;
      this.#storedBytes = storedBytes;
      this.#onEntry(entry, header.flag === 'S' ? block : undefined, pax);
    }
  }

  #expectExtension(phase: Phase, size: number): void {
    if (size < 0 || size > MAX_EXTENSION_BYTES) throw invalidTar('an extended header is too large');
    this.#usefulBytes = size;
    this.#expect(phase, paddedBytes(size));
    if (size === 0) this.#onGathered(Buffer.alloc(0));
  }

  #onEntry(entry: TarEntry, oldSparse: Buffer | undefined, pax: ReadonlyMap<string, Buffer>): void {
    if (oldSparse !== undefined) {
      const { size, fragments, isContinued } = parseOldMap(oldSparse);
      this.#entry = { ...entry, size };
      this.#map = fragments;
      if (isContinued) this.#expect('old map', BLOCK_BYTES);
      else this.#openSparse(fragments);
      return;
    }
    const kind = paxSparseKind(pax);
    if (kind === undefined) {
      this.#open(entry);
      return;
    }
    if (entry.type !== 'file') throw invalidTar('only files can be sparse');
    const name = paxText(pax, 'GNU.sparse.name') ?? entry.name;
    this.#entry = { ...entry, name, size: paxSparseSize(pax) ?? entry.size };
    if (kind === 'in header') this.#openSparse(parsePaxMap(pax));
    else {
      this.#contentMap = new ContentMap();
      this.#expect('map', BLOCK_BYTES);
    }
  }

  #continueOldMap(block: Buffer): void {
    const { fragments, isContinued } = parseOldMapBlock(block);
    this.#map.push(...fragments);
    if (this.#map.length * 24 > MAX_EXTENSION_BYTES) throw invalidTar('a sparse map is too large');
    if (!isContinued) this.#openSparse(this.#map);
  }

  #onMapBlock(block: Buffer): void {
    this.#storedBytes -= block.length;
    if (this.#storedBytes < 0) throw invalidTar('a sparse map leaves its file');
    const fragments = this.#contentMap.add(block);
    if (fragments !== undefined) this.#openSparse(fragments);
  }

  #openSparse(map: readonly Fragment[]): void {
    const entry = this.#pending();
    if (entry.size < 0) throw invalidTar('a negative size');
    this.#open({ ...entry, fragments: checkFragments(map, entry.size, this.#storedBytes) });
  }

  #open(entry: TarEntry): void {
    this.#entry = entry;
    this.#fragment = 0;
    this.#fragmentDone = 0;
    if (!this.#sink.open(entry)) this.#skip(paddedBytes(this.#storedBytes));
    else if (this.#storedBytes === 0) this.#close();
    else this.#expect('content', this.#storedBytes);
  }

  #close(): void {
    this.#sink.close();
    this.#skip(paddedBytes(this.#storedBytes) - this.#storedBytes);
  }

  #skip(bytes: number): void {
    if (bytes === 0) this.#expect('header', BLOCK_BYTES);
    else this.#expect('skip', bytes);
  }

  #passContent(bytes: Buffer, at: number): number {
    const fragment = this.#pending().fragments[this.#fragment];
    if (fragment === undefined) throw new Error('content without a fragment');
    const taken = Math.min(bytes.length - at, fragment.length - this.#fragmentDone);
    const isAll = taken === bytes.length;
    this.#sink.content(isAll ? bytes : bytes.subarray(at, at + taken), fragment.offset + this.#fragmentDone);
    this.#fragmentDone += taken;
    this.#left -= taken;
    if (this.#fragmentDone === fragment.length) {
      this.#fragment++;
      this.#fragmentDone = 0;
    }
    if (this.#left === 0) this.#close();
    return taken;
  }

  #passSkipped(bytes: Buffer, at: number): number {
    const taken = Math.min(bytes.length - at, this.#left);
    this.#sink.raw(bytes.subarray(at, at + taken));
    this.#left -= taken;
    if (this.#left === 0) this.#expect('header', BLOCK_BYTES);
    return taken;
  }

  #pending(): TarEntry {
    if (this.#entry === undefined) throw new Error('no entry is pending');
    return this.#entry;
  }
}
