import { createHash, type Hash } from 'node:crypto';
import type { TarEntry } from '../lib/tar.ts';
import { type TarSink, TarWalker } from '../lib/tar-walker.ts';
import type { TarBytes } from './base.ts';

/** Where a member of a tar lies, in bytes from the tar's beginning. */
export interface Member {
  readonly name: string;
  readonly start: number;
  /** Behind its headers: where content begins, if it has any. */
  readonly contentStart: number;
  /** As stored: without the holes of a sparse file. */
  readonly contentBytes: number;
  /** Where the next one begins. */
  readonly end: number;
  /** Of the content; of members without one, empty. */
  readonly contentHash: string;
}

const PIECE_BYTES = 1 << 20;

/** Every member of a tar, in order. Reads the whole once. Throws `CORRUPT` for what is no tar. */
export function membersOf(tar: TarBytes): Member[] {
  const sink = new MemberSink({ isHashing: true });
  const walker = new TarWalker(sink);
  for (let at = 0; at < tar.tarBytes; at += PIECE_BYTES) walker.push(tar.read(at, PIECE_BYTES));
  walker.end();
  return sink.finish();
}

/** Finds the members of a tar that is pushed through a walker. Without hashing, their hashes are empty. */
export class MemberSink implements TarSink {
  readonly #isHashing: boolean;
  readonly #members: Member[] = [];
  #at = 0;
  #start = 0;
  #open: { name: string; contentStart: number; contentBytes: number; hash: Hash | undefined } | undefined;

  constructor({ isHashing }: { isHashing: boolean }) {
    this.#isHashing = isHashing;
  }

  raw(bytes: Buffer): void {
    this.#at += bytes.length;
  }

  open(entry: TarEntry): boolean {
    this.#settle();
    const contentBytes = entry.fragments.reduce((sum, { length }) => sum + length, 0);
    const hash = this.#isHashing ? createHash('sha256') : undefined;
    this.#open = { name: entry.name, contentStart: this.#at, contentBytes, hash };
    return true;
  }

  content(bytes: Buffer): void {
    this.#at += bytes.length;
    this.#open?.hash?.update(bytes);
  }

  close(): void {}

  finish(): Member[] {
    this.#settle();
    return this.#members;
  }

  /** A member ends where its padding does: only the next header, or the end, tells that it is over. */
  #settle(): void {
    if (this.#open === undefined) return;
    const { name, contentStart, contentBytes, hash } = this.#open;
    const end = contentStart + Math.ceil(contentBytes / 512) * 512;
    const contentHash = contentBytes === 0 ? '' : (hash?.digest('base64') ?? '');
    this.#members.push({ name, start: this.#start, contentStart, contentBytes, end, contentHash });
    this.#start = end;
    this.#open = undefined;
  }
}
