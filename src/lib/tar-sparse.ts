import {
  BLOCK_BYTES,
  decimal,
  type Fragment,
  invalidTar,
  MAX_EXTENSION_BYTES,
  number,
  paxNumber,
  paxText,
} from './tar.ts';

/** Sparse files: where the stored runs of a file belong. Three layouts of the map exist, in four versions. */

/** Which layout a pax header announces; undefined where the file is not sparse, or in a version that nobody knows. */
export function paxSparseKind(pax: ReadonlyMap<string, Buffer>): 'in header' | 'in content' | undefined {
  const major = paxText(pax, 'GNU.sparse.major');
  const minor = paxText(pax, 'GNU.sparse.minor');
  if (major === '0' && (minor === '0' || minor === '1')) return 'in header';
  if (major === '1' && minor === '0') return 'in content';
  if (major !== undefined || minor !== undefined) return undefined;
  return paxText(pax, 'GNU.sparse.map') === undefined ? undefined : 'in header';
}

/** The size of the whole file, which the pax versions spell in two ways. */
export function paxSparseSize(pax: ReadonlyMap<string, Buffer>): number | undefined {
  return paxNumber(pax, 'GNU.sparse.size') ?? paxNumber(pax, 'GNU.sparse.realsize');
}

/** Versions 0.0 and 0.1: the map is a pax value, `offset,length,offset,length…`. */
export function parsePaxMap(pax: ReadonlyMap<string, Buffer>): Fragment[] {
  const numbers = (paxText(pax, 'GNU.sparse.map') ?? '').split(',').map(decimal);
  if (numbers.length % 2 !== 0) throw invalidTar('a sparse map is incomplete');
  const count = paxNumber(pax, 'GNU.sparse.numblocks');
  if (count !== undefined && count !== numbers.length / 2)
    throw invalidTar('a sparse map is not as long as it says');
  return pairs(numbers);
}

/**
 * Version 1.0: the map is text before the content, a number per line, the count of fragments first, filled up to
 * whole blocks. Takes one block after the other.
 */
export class ContentMap {
  readonly #blocks: Buffer[] = [];
  #lines = 0;
  #wantedLines = 0;

  /** The fragments, once the block that ends the map is in. */
  add(block: Buffer): Fragment[] | undefined {
    if (this.#blocks.length * BLOCK_BYTES >= MAX_EXTENSION_BYTES)
      throw invalidTar('a sparse map is too large');
    if (this.#blocks.length === 0) {
      const count = decimal(block.toString('latin1', 0, Math.max(0, block.indexOf(0x0a))));
      if (count < 0) throw invalidTar('a sparse map is incomplete');
      this.#wantedLines = 1 + 2 * count;
    }
    this.#blocks.push(Buffer.from(block));
    for (let at = block.indexOf(0x0a); at >= 0; at = block.indexOf(0x0a, at + 1)) this.#lines++;
    if (this.#lines < this.#wantedLines) return undefined;
    const lines = Buffer.concat(this.#blocks).toString('latin1').split('\n', this.#wantedLines);
    return pairs(lines.slice(1).map(decimal));
  }
}

/** GNU's old format: up to four fragments in the header, more in blocks that follow while one says so. */
export function parseOldMap(block: Buffer): { size: number; fragments: Fragment[]; isContinued: boolean } {
  return {
    size: number(block, 483, 495),
    fragments: oldFragments(block, 386, 4),
    isContinued: block[482] !== 0,
  };
}

/** A block that continues such a map. */
export function parseOldMapBlock(block: Buffer): { fragments: Fragment[]; isContinued: boolean } {
  return { fragments: oldFragments(block, 0, 21), isContinued: block[504] !== 0 };
}

function oldFragments(block: Buffer, start: number, count: number): Fragment[] {
  const fragments: Fragment[] = [];
  for (let at = start; at < start + 24 * count && block[at] !== 0; at += 24)
    fragments.push({ offset: number(block, at, at + 12), length: number(block, at + 12, at + 24) });
  return fragments;
}

function pairs(numbers: readonly number[]): Fragment[] {
  const fragments: Fragment[] = [];
  for (let at = 0; at + 1 < numbers.length; at += 2)
    fragments.push({ offset: numbers[at] ?? 0, length: numbers[at + 1] ?? 0 });
  return fragments;
}

/** A map that can be trusted: rising, without overlaps, inside the file, and exactly as long as what is stored. */
export function checkFragments(
  fragments: readonly Fragment[],
  size: number,
  storedBytes: number,
): Fragment[] {
  let end = 0;
  let sum = 0;
  for (const { offset, length } of fragments) {
    if (offset < end || length < 0 || length > size - offset)
      throw invalidTar('a sparse map leaves its file or overlaps itself');
    end = offset + length;
    sum += length;
  }
  if (sum !== storedBytes) throw invalidTar('a sparse map does not match what is stored');
  return fragments.filter(({ length }) => length > 0);
}

/** Content of this length occupies this much of the archive. */
export function paddedBytes(length: number): number {
  return Math.ceil(length / BLOCK_BYTES) * BLOCK_BYTES;
}
