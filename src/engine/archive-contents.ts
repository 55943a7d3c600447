import { fail } from '../errors.ts';
import { type Digest, isDigest } from '../lib/digest.ts';

/** Nobody names this many files in one archive of images: 127 layers of each of hundreds. */
const MOST_MEMBERS = 16_384;
const MOST_PATH_CHARACTERS = 512;
/** What a config or manifest may take, as in a pull, and all that are kept in memory until the archive is read. */
export const MOST_DOCUMENT_BYTES = 4 << 20;
const MOST_BYTES = 32 << 20;
/** Links to links; nobody writes even one. */
const MOST_LINKS = 16;

/** A file of an archive, as far as it matters. */
export type ArchiveMember =
  /** Text, or whatever else is small and no layer. */
  | { readonly kind: 'document'; readonly bytes: Buffer }
  /** Unpacked and on the shelf. */
  | { readonly kind: 'layer'; readonly diffId: Digest; readonly sizeBytes: number }
  /** Neither a layer nor small. */
  | { readonly kind: 'unknown' };

/** What an archive of images holds, by cleaned path. */
export class ArchiveContents {
  readonly #members = new Map<string, ArchiveMember>();
  readonly #links = new Map<string, string>();
  #bytes = 0;

  /** Takes a member in. The same path again is refused, unless it holds the same. */
  add(path: string, member: ArchiveMember): void {
    this.#checkRoom(path);
    const before = this.#members.get(path);
    if (this.#links.has(path) || (before !== undefined && !isSame(before, member))) throw duplicate(path);
    if (before !== undefined) return;
    const bytes = member.kind === 'document' ? member.bytes.length : 0;
    const hasRoom = this.#bytes + bytes <= MOST_BYTES;
    if (hasRoom) this.#bytes += bytes;
    this.#members.set(path, hasRoom ? member : { kind: 'unknown' });
  }

  /** A path that stands for another one, which may come later. */
  link(path: string, target: string): void {
    this.#checkRoom(path);
    const before = this.#links.get(path);
    if (this.#members.has(path) || (before !== undefined && before !== target)) throw duplicate(path);
    this.#links.set(path, target);
  }

  /** The member at a path as another member names it; undefined if there is none. */
  find(name: string): ArchiveMember | undefined {
    let path = memberPath(name);
    for (let links = 0; links <= MOST_LINKS; links++) {
      const target = this.#links.get(path);
      if (target === undefined) return this.#members.get(path);
      path = target;
    }
    throw fail.invalidArchive(`too many links: ${name}`);
  }

  /** A text that must be there; throws in dockerd's words, which looks for it in a directory. */
  document(name: string): Buffer {
    const member = this.find(name);
    if (member === undefined) throw absent(name);
    if (member.kind !== 'document') throw fail.invalidArchive(`${name} is no text of a reasonable size`);
    return member.bytes;
  }

  has(name: string): boolean {
    return this.find(name) !== undefined;
  }

  /** Every path, links included. */
  paths(): string[] {
    return [...this.#members.keys(), ...this.#links.keys()];
  }

  #checkRoom(path: string): void {
    if (path.length > MOST_PATH_CHARACTERS) throw fail.invalidArchive('a path in the archive is too long');
    if (this.#members.size + this.#links.size >= MOST_MEMBERS)
      throw fail.invalidArchive('the archive holds too many files');
  }
}

/** The failure for a file that an archive names and lacks. */
export function absent(name: string): Error {
  return fail.invalidArchive(`open /${memberPath(name)}: no such file or directory`);
}

/** A path within the archive, without `.`, `..` and slashes that say nothing; throws if it leads out of it. */
export function memberPath(name: string): string {
  const parts: string[] = [];
  for (const part of name.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (parts.pop() === undefined)
      throw fail.invalidArchive(`invalid path in the archive: ${JSON.stringify(name)}`);
  }
  return parts.join('/');
}

/** Where a symbolic link of the archive points to. */
export function linkTarget(path: string, target: string): string {
  return memberPath(target.startsWith('/') ? target : `${path.slice(0, path.lastIndexOf('/') + 1)}${target}`);
}

/** The digest that a path promises its content to have, as paths in an OCI layout do. */
export function promisedDigest(path: string): Digest | undefined {
  const digest = `sha256:${/^blobs\/sha256\/([^/]+)$/.exec(path)?.[1]}`;
  return isDigest(digest) ? digest : undefined;
}

function isSame(one: ArchiveMember, other: ArchiveMember): boolean {
  if (one.kind === 'document') return other.kind === 'document' && one.bytes.equals(other.bytes);
  return one.kind === 'layer' && other.kind === 'layer' && one.diffId === other.diffId;
}

function duplicate(path: string): Error {
  return fail.invalidArchive(`the archive holds two different files ${path}`);
}
