import type { Base, TarBytes } from './base.ts';
import { Sketches } from './sketches.ts';
import { type Member, membersOf } from './tar-index.ts';

/** A member of a layer of the base; its places count from the beginning of the whole base. */
export type BaseMember = Member;

/** Finds in the base what a member of the target may be made of. */
export class BaseIndex {
  readonly #base: Base;
  readonly #byPath = new Map<string, BaseMember>();
  readonly #byPattern = new Map<string, BaseMember>();
  readonly #byContent = new Map<string, BaseMember>();
  readonly #files: BaseMember[] = [];
  #sketches: Sketches | undefined;

  /** Reads all of the base once. */
  constructor(base: Base, tars: readonly TarBytes[]) {
    this.#base = base;
    let offset = 0;
    for (const tar of tars) {
      for (const member of membersOf(tar)) this.#add(shifted(member, offset));
      offset += tar.tarBytes;
    }
  }

  samePath(name: string): BaseMember | undefined {
    return this.#byPath.get(name);
  }

  /** The same path but for numbers in it: `libssl.so.3.0.15` for `libssl.so.3.0.16`. */
  alike(name: string): BaseMember | undefined {
    return this.#byPattern.get(patternOf(name));
  }

  sameContent(contentHash: string): BaseMember | undefined {
    return this.#byContent.get(contentHash);
  }

  /** The file with which this content has most in common, if any. The first question reads the base once more. */
  similar(content: Buffer): BaseMember | undefined {
    this.#sketches ??= new Sketches(this.#files, ({ contentStart, contentBytes }) =>
      this.#base.read(contentStart, contentBytes),
    );
    return this.#sketches.find(content);
  }

  #add(member: BaseMember): void {
    // what lies in an upper layer hides what lies below: later ones count
    this.#byPath.set(member.name, member);
    this.#byPattern.set(patternOf(member.name), member);
    if (member.contentBytes === 0) return;
    if (!this.#byContent.has(member.contentHash)) this.#byContent.set(member.contentHash, member);
    this.#files.push(member);
  }
}

function shifted(member: Member, offset: number): BaseMember {
  return {
    ...member,
    start: member.start + offset,
    contentStart: member.contentStart + offset,
    end: member.end + offset,
  };
}

function patternOf(name: string): string {
  return name.replace(/\d+/g, '0');
}
