import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { TarSplit } from '../../../src/layers/tar-split.ts';
import { TarSplitWriter } from '../../../src/layers/tar-split-writer.ts';

const scratch = mkdtempSync(join(tmpdir(), 'skerry-split-'));
after(() => rmSync(scratch, { recursive: true, force: true }));
let count = 0;

type Part = { raw: Buffer } | { file: Buffer; skipped: number };

/** Writes these parts as a layer; returns its directory and the tar that they make. */
function layerOf(parts: readonly Part[]): { directory: string; tar: Buffer } {
  const directory = join(scratch, String(count++));
  mkdirSync(join(directory, 'diff/dir'), { recursive: true });
  using writer = TarSplitWriter.create(join(directory, 'tar-split'));
  const tar: Buffer[] = [];
  for (const [index, part] of parts.entries()) {
    if ('raw' in part) {
      writer.raw(part.raw);
      tar.push(part.raw);
    } else {
      const name = `dir/caf\xe9 ${index}`;
      writeFileSync(Buffer.from(`${directory}/diff/${name}`, 'latin1'), part.file);
      const content = part.file.subarray(Math.min(part.skipped, part.file.length));
      writer.file(name, part.skipped, content.length);
      tar.push(content);
    }
  }
  writer.finish();
  return { directory, tar: Buffer.concat(tar) };
}

async function whole(split: TarSplit): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of split.stream()) pieces.push(piece);
  return Buffer.concat(pieces);
}

const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
/** Also runs that are longer than a raw segment, a chunk or a piece of a stream. */
const long = fc
  .tuple(bytes(50), fc.integer({ min: 0, max: 20_000 }))
  .map(([seed, times]) =>
    Buffer.concat(Array.from({ length: Math.min(times, 700_000 / (seed.length + 1)) }, () => seed)),
  );
const part: fc.Arbitrary<Part> = fc.oneof(
  fc.oneof(bytes(600), long).map((raw) => ({ raw })),
  fc.record({ file: fc.oneof(bytes(600), long), skipped: fc.nat(20) }),
);

test('gives back what was written, whole and from anywhere', async () => {
  const spots = fc.array(fc.tuple(fc.nat(), fc.nat(300_000)), { maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(fc.array(part, { maxLength: 12 }), spots, async (parts, reads) => {
      const { directory, tar } = layerOf(parts);
      using split = TarSplit.open(directory);
      assert.equal(split.tarBytes, tar.length);
      assert.ok((await whole(split)).equals(tar));
      for (const [spot, length] of reads) {
        const offset = spot % (tar.length + 1);
        assert.ok(split.read(offset, length).equals(tar.subarray(offset, offset + length)));
      }
    }),
    { numRuns: 60 },
  );
});

test('many small files make several chunks', async () => {
  const parts = Array.from({ length: 2000 }, (_, index): Part[] => [
    { raw: Buffer.alloc(512 + (index % 400), index) },
    { file: Buffer.from(`content of ${index}`), skipped: 0 },
  ]).flat();
  const { directory, tar } = layerOf(parts);
  assert.ok(readFileSync(join(directory, 'tar-split')).length < tar.length / 20, 'headers are compressed');
  using split = TarSplit.open(directory);
  for (let offset = tar.length - 1; offset > 0; offset -= 33_333)
    assert.ok(split.read(offset, 700).equals(tar.subarray(offset, offset + 700)), `${offset}`);
});

test('the order of segments is told as they are written', () => {
  using writer = TarSplitWriter.create(join(scratch, 'clock'));
  writer.raw(Buffer.alloc(100));
  assert.equal(writer.segments, 1);
  writer.raw(Buffer.alloc(0));
  writer.file('empty', 0, 0);
  assert.equal(writer.segments, 1, 'nothing is no segment');
  writer.file('a', 0, 5);
  writer.raw(Buffer.alloc(65_537));
  assert.equal(writer.segments, 4);
});

test('a file that is gone or cut is noticed', async () => {
  for (const harm of [(path: string) => rmSync(path), (path: string) => truncateSync(path, 3)]) {
    const { directory } = layerOf([
      { raw: Buffer.from('head') },
      { file: Buffer.from('content'), skipped: 0 },
    ]);
    harm(Buffer.from(`${directory}/diff/dir/caf\xe9 1`, 'latin1') as unknown as string);
    using split = TarSplit.open(directory);
    await assert.rejects(whole(split), { code: 'CORRUPT' });
  }
});

test('a tar-split that is cut, empty, missing or damaged is never taken for a tar', async () => {
  const { directory, tar } = layerOf([
    { raw: Buffer.from('some headers '.repeat(50)) },
    { file: Buffer.from('content'), skipped: 0 },
    { raw: Buffer.from('more headers') },
  ]);
  const path = join(directory, 'tar-split');
  const good = readFileSync(path);
  const outcome = async () => {
    try {
      using split = TarSplit.open(directory);
      return (await whole(split)).equals(tar) ? 'same' : 'other';
    } catch (cause) {
      return (cause as { code?: string }).code;
    }
  };
  assert.equal(await outcome(), 'same');
  for (let length = 0; length < good.length; length++) {
    writeFileSync(path, good.subarray(0, length));
    assert.equal(await outcome(), 'CORRUPT', `cut at ${length}`);
  }
  for (let at = 0; at < good.length; at++) {
    for (const mask of [1, 0x80, 0xff]) {
      const broken = Buffer.from(good);
      broken[at] = (broken[at] ?? 0) ^ mask;
      writeFileSync(path, broken);
      assert.ok(
        ['CORRUPT', 'other', 'same'].includes((await outcome()) ?? ''),
        `byte ${at}: ${await outcome()}`,
      );
    }
  }
  rmSync(path);
  assert.equal(await outcome(), 'CORRUPT');
});
