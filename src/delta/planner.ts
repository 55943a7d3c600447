import { BLOCK_BYTES } from '../lib/tar.ts';
import type { Base, TarBytes } from './base.ts';
import type { BaseIndex, BaseMember } from './base-index.ts';
import type { FrameWriter } from './frame-writer.ts';
import { takeApart } from './gzip.ts';
import { writeLike } from './likeness.ts';
import { MAX_GZIP_BYTES } from './program.ts';
import { fieldsOf, findHeader, patchHeader } from './tar-header.ts';
import { type Member, membersOf } from './tar-index.ts';
import type { WindowCodec } from './vcdiff.ts';

/** Below this a file is not worth looking for its like by content. */
const WORTH_SKETCHING_BYTES = 512;
const PIECE_BYTES = 1 << 20;

/**
 * Says how one layer's tar is made from the base: member by member, each the cheapest way that is known. Holds one file
 * of the target and one of the base in memory.
 */
export class Planner {
  readonly #base: Base;
  readonly #index: BaseIndex;
  readonly #target: TarBytes;
  readonly #writer: FrameWriter;
  readonly #windows: WindowCodec;
  /** Whose header the next one without a like is probably like. */
  #lastHeader: BaseMember | undefined;

  constructor(o: {
    base: Base;
    index: BaseIndex;
    target: TarBytes;
    writer: FrameWriter;
    windows: WindowCodec;
  }) {
    this.#windows = o.windows;
    this.#base = o.base;
    this.#index = o.index;
    this.#target = o.target;
    this.#writer = o.writer;
  }

  /** Writes the whole layer; stops after each member, so that the caller can see to what has been written. */
  *run(): Generator<undefined, void> {
    let at = 0;
    for (const member of membersOf(this.#target)) {
      if (member.start !== at) throw new Error('members do not follow each other');
      this.#member(member);
      at = member.end;
      yield;
    }
    this.#plain(at, this.#target.tarBytes - at);
    this.#writer.finish();
  }

  #member(member: Member): void {
    if (!this.#writer.mayRead()) {
      this.#plain(member.start, member.end - member.start);
      return;
    }
    const like = this.#index.samePath(member.name) ?? this.#index.alike(member.name);
    const header = this.#target.read(member.start, member.contentStart - member.start);
    const predicted = like === undefined ? undefined : this.#predict(header, like);
    if (like !== undefined && predicted?.size === undefined && this.#isWhole(member, like, predicted)) {
      this.#lastHeader = like;
      return;
    }
    this.#header(header, like, predicted);
    this.#content(member, like);
    this.#plain(
      member.contentStart + member.contentBytes,
      member.end - member.contentStart - member.contentBytes,
    );
  }

  /** True if the member is the base's own but for its time, and was written as such. */
  #isWhole(member: Member, like: BaseMember, predicted: Prediction | undefined): boolean {
    if (predicted === undefined || like.contentHash !== member.contentHash) return false;
    const padding = member.end - member.contentStart - member.contentBytes;
    const [ours, theirs] = [member, like].map(
      ({ contentStart, contentBytes }) => contentStart + contentBytes,
    );
    if (!this.#target.read(ours ?? 0, padding).equals(this.#base.read(theirs ?? 0, padding))) return false;
    const bytes = like.end - like.start;
    return this.#writer.member({ position: like.start, bytes, mtimeStep: predicted.mtimeStep });
  }

  /** How the header comes of that of its like, if time and size are all that differs. */
  #predict(header: Buffer, like: BaseMember): Prediction | undefined {
    const theirs = this.#base.read(like.start, like.contentStart - like.start);
    if (theirs.length !== header.length) return undefined;
    try {
      // a sparse file, or a size that an extension overrules: a program would not find the member's end
      const place = findHeader(this.#base, like.start);
      if (place.end !== like.contentStart || place.contentBytes !== like.contentBytes) return undefined;
      const [wanted, has] = [header, theirs].map((blocks) => fieldsOf(blocks.subarray(-BLOCK_BYTES)));
      if (wanted === undefined || has === undefined) return undefined;
      const mtimeStep = wanted.mtime - has.mtime;
      const size = wanted.size === has.size ? undefined : wanted.size;
      if (mtimeStep !== 0 || size !== undefined) patchHeader(theirs.subarray(-BLOCK_BYTES), wanted);
      return theirs.equals(header) ? { mtimeStep, size } : undefined;
    } catch {
      return undefined; // numbers that are not octal, or do not fit
    }
  }

  #header(header: Buffer, like: BaseMember | undefined, predicted: Prediction | undefined): void {
    if (like !== undefined && predicted !== undefined) {
      this.#lastHeader = like;
      this.#writer.header({ position: like.start, bytes: header.length, ...predicted });
      return;
    }
    const model = [like, this.#lastHeader].find(
      (one) => one !== undefined && one.contentStart - one.start === header.length,
    );
    if (model === undefined) this.#writer.literal(header);
    else this.#writer.copyLike(model.start, this.#base.read(model.start, header.length), header);
  }

  #content({ contentStart, contentBytes, contentHash }: Member, like: BaseMember | undefined): void {
    if (contentBytes === 0) return;
    const same = like?.contentHash === contentHash ? like : this.#index.sameContent(contentHash);
    if (same !== undefined) {
      this.#writer.copy(same.contentStart, contentBytes);
      return;
    }
    const content = this.#target.read(contentStart, contentBytes);
    const source = like !== undefined && like.contentBytes > 0 ? like : this.#similar(content);
    if (this.#gzip(content, source)) return;
    if (source === undefined) {
      this.#writer.literal(content);
      return;
    }
    const theirs = this.#base.read(source.contentStart, source.contentBytes);
    this.#like(content, theirs, source.contentStart);
  }

  #similar(content: Buffer): BaseMember | undefined {
    return content.length < WORTH_SKETCHING_BYTES ? undefined : this.#index.similar(content);
  }

  /** True if the content is a gzip member that can be told by what it inflates to. */
  #gzip(content: Buffer, source: BaseMember | undefined): boolean {
    const parts = takeApart(content, MAX_GZIP_BYTES);
    if (parts === undefined) return false;
    const member =
      source === undefined || source.contentBytes > MAX_GZIP_BYTES
        ? undefined
        : this.#base.read(source.contentStart, source.contentBytes);
    const inner = member === undefined ? undefined : inflated(member);
    const base =
      inner !== undefined && source !== undefined
        ? { position: source.contentStart, bytes: source.contentBytes, plainBytes: inner.length }
        : undefined;
    const o = {
      bytes: content.length,
      shape: parts.shape,
      head: parts.head,
      plainBytes: parts.plain.length,
      ...(base && { base }),
    };
    return this.#writer.gzip(o, () => {
      if (inner === undefined) this.#writer.literal(parts.plain);
      else this.#like(parts.plain, inner, 0);
    });
  }

  #like(content: Buffer, source: Buffer, position: number): void {
    writeLike(this.#writer, { content, source, position, windows: this.#windows });
  }

  /** Padding, and the end of the tar: zeros, as a rule. */
  #plain(start: number, length: number): void {
    for (let done = 0; done < length; done += PIECE_BYTES) {
      const bytes = this.#target.read(start + done, Math.min(PIECE_BYTES, length - done));
      if (bytes.every((byte) => byte === 0)) this.#writer.zeros(bytes.length);
      else this.#writer.literal(bytes);
    }
  }
}

interface Prediction {
  readonly mtimeStep: number;
  /** The header's own size, where it is not that of its like. */
  readonly size: number | undefined;
}

function inflated(member: Buffer): Buffer | undefined {
  return takeApart(member, MAX_GZIP_BYTES)?.plain;
}
