import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { Base } from '../../../src/delta/base.ts';
import { BlockIndex } from '../../../src/delta/block-index.ts';
import { applyPatch } from '../../../src/delta/librsync-patch.ts';
import { LibrsyncWriter } from '../../../src/delta/librsync-writer.ts';
import { layerTar, noise, text } from '../../support/delta-tars.ts';

const OLD = Buffer.concat([text(40_000, 500), noise(30_000), text(20_000, 90)]);
const NEW = Buffer.concat([OLD.subarray(30_000, 60_000), noise(5000, 3), OLD.subarray(0, 50_000)]);
const END = 0x00;
const MAGIC = [0x72, 0x73, 0x02, 0x36];

let directory = '';
before(() => {
  directory = mkdtempSync(join(tmpdir(), 'skerry-librsync-'));
});
after(() => rmSync(directory, { recursive: true }));

/** A delta by Debian's rdiff. */
function rdiffDelta(old: Buffer, target: Buffer, ...flags: string[]): Buffer {
  const [oldFile, targetFile, signature] = ['old', 'new', 'signature'].map((name) => join(directory, name));
  writeFileSync(oldFile as string, old);
  writeFileSync(targetFile as string, target);
  execFileSync('rdiff', ['-f', ...flags, 'signature', oldFile as string, signature as string]);
  const options = { maxBuffer: 1 << 28 };
  return execFileSync('rdiff', ['delta', signature as string, targetFile as string, '-'], options);
}

async function* piecesOf(bytes: Buffer, size: number) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function patch(delta: Buffer, old: Buffer = OLD, { pieceBytes = 1000, maxBytes = 1 << 20 } = {}) {
  // two layers, and a base that is one run of bytes
  const base = new Base([layerTar(old.subarray(0, 33_333)), layerTar(old.subarray(33_333))]);
  const made: Buffer[] = [];
  for await (const piece of applyPatch(piecesOf(delta, pieceBytes), base, { maxBytes })) made.push(piece);
  return Buffer.concat(made);
}

function indexOf(old: Buffer, pieceBytes: number): BlockIndex {
  const index = new BlockIndex(old.length);
  for (let at = 0; at < old.length; at += pieceBytes) index.push(old.subarray(at, at + pieceBytes));
  return index;
}

/** A delta by our own hand. */
function ourDelta(old: Buffer, target: Buffer, { pieceBytes = 4321 } = {}): Buffer {
  const base = new Base([layerTar(old)]);
  const made: Buffer[] = [];
  const sink = (bytes: Buffer) => void made.push(Buffer.from(bytes));
  const writer = new LibrsyncWriter({ base, index: indexOf(old, pieceBytes), sink });
  for (let at = 0; at < target.length; at += pieceBytes) writer.push(target.subarray(at, at + pieceBytes));
  writer.end();
  return Buffer.concat(made);
}

/** What Debian's rdiff makes of a base and a delta. */
function rdiffPatch(old: Buffer, delta: Buffer): Buffer {
  const [oldFile, deltaFile] = ['old', 'delta'].map((name) => join(directory, name)) as [string, string];
  writeFileSync(oldFile, old);
  writeFileSync(deltaFile, delta);
  return execFileSync('rdiff', ['patch', oldFile, deltaFile, '-'], { maxBuffer: 1 << 28 });
}

for (const flags of [
  [],
  ['-R', 'rollsum', '-H', 'md4'],
  ['-b', '512', '-S', '32', '-R', 'rollsum', '-H', 'blake2'],
])
  test(`a delta of rdiff ${flags.join(' ')} makes its target`, async () => {
    const delta = rdiffDelta(OLD, NEW, ...flags);
    assert.ok(delta.length < 20_000, `${delta.length} bytes`);
    for (const pieceBytes of [1, 7, 100_000])
      assert.ok((await patch(delta, OLD, { pieceBytes })).equals(NEW));
    assert.ok((await patch(rdiffDelta(OLD, Buffer.alloc(0), ...flags))).equals(Buffer.alloc(0)));
    assert.ok((await patch(rdiffDelta(Buffer.alloc(0), NEW, ...flags), Buffer.alloc(0))).equals(NEW));
  });

/** What a base and a target are made of here: parts of three texts, one of them small and one of repetitions. */
const parts = fc.array(
  fc.record({ of: fc.nat(2), from: fc.nat(9000), bytes: fc.nat(2000), changed: fc.option(fc.nat(2000)) }),
  { maxLength: 12 },
);
const texts = [noise(12_000, 5), text(12_000, 60), Buffer.alloc(12_000, 'ab')];

function contentOf(list: typeof parts extends fc.Arbitrary<infer T> ? T : never): Buffer {
  const pieces = list.map(({ of, from, bytes, changed }) => {
    const piece = Buffer.from(texts[of]?.subarray(from, from + bytes) ?? []);
    if (changed !== null && changed < piece.length) piece[changed] = (piece[changed] ?? 0) ^ 1;
    return piece;
  });
  return Buffer.concat(pieces);
}

test('of whatever base, a delta makes the target that it was made for', async () => {
  const property = fc.asyncProperty(
    parts,
    parts,
    fc.integer({ min: 1, max: 5000 }),
    async (a, b, pieceBytes) => {
      const [old, target] = [contentOf(a), contentOf(b)];
      const delta = ourDelta(old, target, { pieceBytes });
      assert.ok((await patch(delta, old)).equals(target));
      assert.ok(delta.equals(ourDelta(old, target)), 'the same bytes, however they come');
      assert.ok(delta.length <= target.length + 5 + 10 * (target.length / 128 + 1));
    },
  );
  await fc.assert(property, { numRuns: 150 });
});

test('rdiff takes our deltas', () => {
  const targets = [
    NEW,
    OLD,
    Buffer.alloc(0),
    noise(200_000, 9),
    Buffer.concat([noise(300, 4), OLD.subarray(100, 400), noise(77, 4)]),
    Buffer.concat([OLD, OLD.subarray(70_000), Buffer.alloc(70_000), OLD]),
  ];
  for (const old of [OLD, Buffer.alloc(0), OLD.subarray(0, 100)])
    for (const target of targets) assert.ok(rdiffPatch(old, ourDelta(old, target)).equals(target));
});

test('what was moved and changed a little costs a little', () => {
  const changed = Buffer.from(NEW);
  for (let at = 100; at < changed.length; at += 1000) changed[at] = (changed[at] ?? 0) ^ 0xff;
  const ours = ourDelta(OLD, changed);
  assert.ok(ours.length < 5000 + 85 * 12 + 100, `${ours.length} bytes`);
  assert.ok(ours.length < rdiffDelta(OLD, changed, '-b', '512').length / 3);
});

test('the positions and lengths of a large base take 4 bytes, and it is never held', () => {
  const part = noise(1 << 20, 11);
  const bytes = 300 << 20;
  const base = {
    bytes,
    copy(position: number, target: Buffer) {
      target.fill(0);
      const from = bytes - part.length;
      if (position + target.length > from)
        part.copy(target, Math.max(0, from - position), Math.max(0, position - from));
    },
  };
  const index = new BlockIndex(bytes);
  const piece = Buffer.alloc(64 << 10);
  for (let at = 0; at < bytes; at += piece.length) {
    base.copy(at, piece);
    index.push(piece);
  }
  assert.equal(index.blockBytes, 256);
  const made: Buffer[] = [];
  const writer = new LibrsyncWriter({ base, index, sink: (piece) => void made.push(Buffer.from(piece)) });
  writer.push(part.subarray(1000, 900_000));
  writer.end();
  const delta = Buffer.concat(made);
  assert.deepEqual([...delta], [...MAGIC, 0x4f, ...u32(bytes - part.length + 1000), ...u32(899_000), END]);
});

test('whatever becomes of a delta, it is refused or makes something, within its bounds', async () => {
  const delta = rdiffDelta(OLD.subarray(0, 9000), OLD.subarray(1234, 8000));
  for (let at = 0; at < delta.length; at++) {
    if (at > 40 && at < delta.length - 40 && at % 17 > 0) continue; // in the midst of a literal
    for (let bit = 0; bit < 8; bit++) {
      const flipped = Buffer.from(delta);
      flipped[at] = (flipped[at] ?? 0) ^ (1 << bit);
      const made = await patch(flipped, OLD.subarray(0, 9000), { maxBytes: 20_000 }).catch(isCorrupt);
      assert.ok(made === true || made.length <= 20_000);
    }
    await assert.rejects(patch(delta.subarray(0, at), OLD), isCorrupt);
  }
  await assert.rejects(patch(Buffer.concat([delta, Buffer.of(0)]), OLD), /goes on behind its end/);
});

test('random damage is refused or makes something, within its bounds', async () => {
  const delta = ourDelta(
    OLD,
    Buffer.concat([NEW, OLD.subarray(7, 4000), noise(70, 8), OLD.subarray(9, 20_000)]),
  );
  const damage = fc.record({
    at: fc.nat(delta.length - 1),
    // mostly in the commands, which are behind the large literal too
    isNearEnd: fc.boolean(),
    removed: fc.nat(9),
    put: fc.uint8Array({ maxLength: 9 }),
  });
  const property = fc.asyncProperty(damage, fc.integer({ min: 1, max: 3000 }), async (one, pieceBytes) => {
    const at = one.isNearEnd ? delta.length - 1 - (one.at % 120) : one.at;
    const damaged = Buffer.concat([delta.subarray(0, at), one.put, delta.subarray(at + one.removed)]);
    const made = await patch(damaged, OLD, { pieceBytes, maxBytes: 150_000 }).catch(isCorrupt);
    assert.ok(made === true || made.length <= 150_000);
  });
  await fc.assert(property, { numRuns: process.env['SKERRY_SOAK'] ? 10_000 : 300 });
});

function isCorrupt(cause: unknown): true {
  assert.equal((cause as { code?: string }).code, 'CORRUPT', String(cause));
  return true;
}

const u32 = (value: number) => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
const wide = (...bytes: number[]) => [...Array<number>(8 - bytes.length).fill(0), ...bytes];
for (const [name, commands, message] of [
  ['a command that does not exist', [0x55, 1, 1, END], /no command 85/],
  ['a copy from behind the base', [0x45, 101, 1, END], /outside its base/],
  ['a copy across the base end', [0x45, 90, 11, END], /outside its base/],
  ['a copy of 2^64 - 1 bytes', [0x48, 0, ...Array<number>(8).fill(0xff), END], /number is too large/],
  ['a position of 2^63', [0x51, 0x80, ...wide().slice(1), 1, END], /number is too large/],
  [
    'a position and a length that wrap around',
    [0x54, ...wide(0x1f, 255, 255, 255, 255, 255, 255), ...wide(1)],
    /outside/,
  ],
  ['a literal of 2^50 bytes', [0x44, ...wide(4, 0, 0, 0, 0, 0, 0), END], /makes more than/],
  ['a literal of none', [0x41, 0, END], /command is empty/],
  ['a copy of none', [0x45, 0, 0, END], /command is empty/],
  [
    'more than is allowed',
    [...Array<number[]>(201).fill([0x45, 0, 100]).flat(), END],
    /makes more than 20000 bytes/,
  ],
] as const)
  test(`a delta is refused that has ${name}`, async () => {
    const delta = Buffer.from([...MAGIC, ...commands]);
    const base = OLD.subarray(0, 100);
    await assert.rejects(patch(delta, base, { maxBytes: 20_000 }), (cause) => {
      assert.match(String(cause), message);
      return isCorrupt(cause);
    });
  });

test('what is no librsync delta is refused', async () => {
  await assert.rejects(patch(Buffer.from('SKDELTA1')), /it is none/);
  await assert.rejects(patch(Buffer.alloc(0)), /it is cut/);
});

test('a copy of 256 MB passes through in pieces', async () => {
  const base = { bytes: 2 ** 28, read: (_: number, length: number) => Buffer.allocUnsafe(length) };
  const delta = Buffer.from([...MAGIC, 0x47, 0, 0x0f, 0xff, 0xff, 0xff, END]);
  let bytes = 0;
  for await (const piece of applyPatch(piecesOf(delta, 5), base, { maxBytes: 2 ** 28 })) {
    assert.ok(piece.length <= 64 << 10);
    bytes += piece.length;
  }
  assert.equal(bytes, 2 ** 28 - 1);
});
