import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { brotliCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { formatHeader, PREFIX_BYTES, parsePrefix } from '../../../src/delta/delta-header.ts';
import { DeltaReader, type LayerTar } from '../../../src/delta/delta-reader.ts';
import { encodeDelta } from '../../../src/delta/encoder.ts';
import { digestOf } from '../../../src/lib/digest.ts';
import { layerOf, layerTar, noise, text } from '../../support/delta-tars.ts';
import { base256, type Member } from '../../support/tar-archive.ts';

const config = '{"os":"linux"}';
const manifest = '{"schemaVersion":2}';

async function encode(
  base: readonly LayerTar[],
  layers: readonly LayerTar[],
  quality = 4,
  mostEffortBytes?: number,
): Promise<Buffer> {
  const frames: Buffer[] = [];
  const header = await encodeDelta({
    base,
    target: { layers, config, manifest, manifestDigest: digestOf(Buffer.from(manifest)), mediaType: 'x/y' },
    quality,
    mostEffortBytes,
    jobs: 2,
    keep: (frame) => void frames.push(frame),
    signal: new AbortController().signal,
  });
  return Buffer.concat([header, ...frames]);
}

async function* piecesOf(bytes: Buffer, pieceBytes = 1000): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

/** The layers that a delta makes, by diff ID; read in chunks of this size. */
async function decode(
  delta: Buffer,
  base: readonly LayerTar[],
  chunkBytes = 1000,
): Promise<Map<string, Buffer>> {
  const reader = await DeltaReader.open(piecesOf(delta, chunkBytes));
  const made = new Map<string, Buffer>();
  for (const layer of reader.header.layers) {
    const pieces: Buffer[] = [];
    await reader.layer(layer, base, (bytes) => void pieces.push(Buffer.from(bytes)));
    made.set(layer.diffId, Buffer.concat(pieces));
  }
  await reader.end();
  return made;
}

const gzip = (content: Buffer, ...flags: string[]) =>
  execFileSync('gzip', ['-n', '-c', ...flags], { input: content, maxBuffer: 1 << 26 });

/** Every fourth address of a program that was linked anew. */
function relinked(program: Buffer): Buffer {
  const moved = Buffer.concat([program.subarray(0, 5000), noise(321, 9), program.subarray(5000)]);
  for (let at = 64; at + 4 < moved.length; at += 48)
    moved.writeInt32LE((moved.readInt32LE(at) + 0x140) | 0, at);
  return moved;
}

const program = noise(200_000);
const changelog = text(60_000, 3000);
const base = layerOf([
  { name: 'usr/', type: '5' },
  { name: 'usr/lib/libx.so.1.2.3', content: program, mode: 0o755 },
  { name: 'usr/doc/changelog.gz', content: gzip(changelog, '-9') },
  { name: 'usr/doc/plain.gz', content: gzip(text(3000, 50)) },
  { name: 'usr/etc/a.conf', content: text(5000, 90) },
  { name: 'usr/etc/b.conf', content: text(700, 9) },
  { name: 'usr/link', type: '2', linkName: 'lib' },
  { name: 'usr/big', content: noise(70_000, 3), pax: { mtime: '1700000000.5' } },
]);
const later = { mtime: 1_700_100_000 };
const changed = layerOf([
  { name: 'usr/', type: '5', ...later },
  { name: 'usr/lib/libx.so.1.2.4', content: relinked(program), mode: 0o755, ...later },
  { name: 'usr/doc/changelog.gz', content: gzip(Buffer.concat([text(500, 77), changelog]), '-9'), ...later },
  { name: 'usr/doc/plain.gz', content: gzip(text(3100, 50)), ...later },
  { name: 'usr/doc/new.gz', content: gzip(text(9000, 500)), ...later },
  { name: 'usr/etc/a.conf', content: text(5000, 91), ...later },
  { name: 'usr/etc/b.conf', content: text(700, 9), ...later },
  { name: 'usr/etc/renamed', content: Buffer.concat([text(5000, 90), Buffer.from('# end')]) },
  { name: 'usr/link', type: '2', linkName: 'lib', ...later },
  { name: 'usr/big', content: noise(70_000, 3), pax: { mtime: '1700000001.5' } },
  { name: 'usr/odd', content: 'x', mtime: base256(2n ** 40n, 12) },
]);

test('makes the target of its base, the same bytes each time, at a fraction of the size', async () => {
  const delta = await encode([base], [changed], 9);
  assert.deepEqual(
    await decode(delta, [base]),
    new Map([[changed.diffId, changed.read(0, changed.tarBytes)]]),
  );
  assert.ok((await encode([base], [changed], 9)).equals(delta));
  // of 340 kB in all, 4,000 addresses, 321 new bytes and some lines of text are new
  assert.ok(delta.length < 16_000, `${delta.length} bytes`);
});

test('the header tells the image, and which layers are to be made; those of the base are not', async () => {
  const delta = await encode([base], [base, changed, changed]);
  const { bytes, parse } = parsePrefix(delta.subarray(0, PREFIX_BYTES));
  const header = parse(delta.subarray(PREFIX_BYTES, PREFIX_BYTES + bytes));
  assert.deepEqual(header.base, [{ diffId: base.diffId, tarBytes: base.tarBytes }]);
  assert.deepEqual(
    header.layers.map(({ diffId }) => diffId),
    [changed.diffId],
  );
  assert.equal(header.target.config, config);
  assert.equal(header.target.manifest, manifest);
});

test('a header may tell names, and what this version does not know; it tells no layer twice', async () => {
  const delta = await encode([base], [changed]);
  const { bytes, parse } = parsePrefix(delta.subarray(0, PREFIX_BYTES));
  const header = parse(delta.subarray(PREFIX_BYTES, PREFIX_BYTES + bytes));
  const frames = delta.subarray(PREFIX_BYTES + bytes);
  const from = { id: base.diffId, tags: ['docker.io/library/app:1'] };
  const target = { ...header.target, tags: ['docker.io/library/app:2'] };
  const later = { ...header, from, target, later: { and: 'more' } };
  const named = await DeltaReader.open(piecesOf(await formatHeader(later)));
  assert.deepEqual(named.header, { ...header, from, target });
  assert.equal((await decode(Buffer.concat([await formatHeader(later), frames]), [base])).size, 1);
  const twice = { ...header, layers: [...header.layers, ...header.layers] };
  await assert.rejects(decode(Buffer.concat([await formatHeader(twice), frames, frames]), [base]), {
    code: 'CORRUPT',
    message: 'delta: it makes a layer twice',
  });
});

test('a header is bounded, in bytes and in frames, before each frame is looked at', async () => {
  const delta = await encode([base], [changed]);
  const { bytes, parse } = parsePrefix(delta.subarray(0, PREFIX_BYTES));
  const header = parse(delta.subarray(PREFIX_BYTES, PREFIX_BYTES + bytes));
  const frame = [1, 8 << 20, 'A'.repeat(22)] as const;
  const layers = Array.from({ length: 5 }, () => ({ ...changed, frames: Array(4000).fill(frame) }));
  await assert.rejects(formatHeader({ ...header, layers }), /too large/);
  const config = 'c'.repeat(4 << 20);
  await assert.rejects(formatHeader({ ...header, target: { ...header.target, config } }), /too large/);
  // one that somebody else made
  const plain = Buffer.from(JSON.stringify({ ...header, layers }));
  const packed = brotliCompressSync(plain);
  const prefix = Buffer.concat([
    delta.subarray(0, 8),
    ...[plain.length, packed.length].map((length) => Buffer.from(Uint32Array.of(length).buffer)),
    createHash('sha256').update(packed).digest(),
  ]);
  assert.throws(() => parsePrefix(prefix).parse(packed), /its header is malformed/);
});

const content = fc.oneof(
  fc.uint8Array({ maxLength: 2000 }).map((bytes) => Buffer.from(bytes)),
  fc.tuple(fc.nat(40_000), fc.integer({ min: 1, max: 500 })).map(([size, variety]) => text(size, variety)),
  fc.tuple(fc.nat(20_000), fc.nat(5)).map(([size, seed]) => noise(size, seed)),
);
const file = fc.record({
  name: fc.constantFrom('a', 'b', 'dir/c.1', 'dir/c.2', 'd.gz', 'e'),
  content,
  mtime: fc.constantFrom(0, 1_700_000_000, 1_700_000_777),
  isZipped: fc.boolean(),
  pax: fc.constantFrom(undefined, { comment: 'x' }, { size: '' }),
});
const members = fc.array(file, { maxLength: 6 }).map((files) =>
  files.map(({ name, content, mtime, isZipped, pax }): Member => {
    const stored = isZipped ? gzip(content, '-9') : content;
    return { name, content: stored, mtime, ...(pax && { pax }) };
  }),
);
const end = fc.constantFrom(
  Buffer.alloc(1024),
  Buffer.alloc(10_240),
  Buffer.alloc(0),
  Buffer.alloc(1024 + 77, 1).fill(0, 0, 1024),
);

test('whatever base and target are, the target comes back', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(members, { maxLength: 3 }), members, end, async (bases, target, tail) => {
      const tars = bases.map((one) => layerOf(one));
      const wanted = layerOf(target, tail);
      const made = await decode(await encode(tars, [wanted], 1), tars, 333);
      if (tars.some(({ diffId }) => diffId === wanted.diffId)) assert.equal(made.size, 0);
      else assert.ok(made.get(wanted.diffId)?.equals(wanted.read(0, wanted.tarBytes)));
    }),
    { numRuns: 40 },
  );
});

test('whatever they are, no frame costs more than its budget', async () => {
  const budget = 2 << 20;
  await fc.assert(
    fc.asyncProperty(
      fc.array(members, { maxLength: 3 }),
      fc.array(members, { maxLength: 9 }),
      async (old, young) => {
        const tars = old.map((one) => layerOf(one));
        const wanted = layerOf(young.flat());
        // what is made is tried under the same budget, and throws if it takes more
        const made = await decode(await encode(tars, [wanted], 1, budget), tars);
        if (made.size > 0) assert.ok(made.get(wanted.diffId)?.equals(wanted.read(0, wanted.tarBytes)));
      },
    ),
    { numRuns: 20, endOnFailure: true },
  );
});

test('a file put together from far apart parts of its base is made within the budget', async () => {
  const old = Buffer.concat(Array.from({ length: 180 }, (_, seed) => noise(65_536, seed + 1)));
  const parts = Array.from({ length: 4000 }, (_, n) => {
    const at = ((n * 37) % 180) * 65_536 + ((n * 300) % 60_000);
    return old.subarray(at, at + 3000);
  });
  const [one, other] = [
    layerOf([{ name: 'x', content: old }]),
    layerOf([{ name: 'x', content: Buffer.concat(parts) }]),
  ];
  const cheap = await encode([one], [other], 1, 32 << 20);
  const full = await encode([one], [other], 1);
  assert.ok((await decode(cheap, [one], 1 << 16)).get(other.diffId)?.equals(other.read(0, other.tarBytes)));
  assert.ok(full.length < cheap.length, `${full.length} of ${cheap.length} bytes`);
});

test('layers longer than a frame are cut anywhere', async () => {
  const old = noise(9 << 20, 1);
  const bases = [
    layerOf([
      { name: 'x', content: old },
      { name: 'y', content: noise(5 << 20, 2) },
    ]),
  ];
  const target = layerOf([
    { name: 'new', content: noise(6 << 20, 3) },
    { name: 'y', content: noise(5 << 20, 2), mtime: 1 },
    { name: 'x', content: relinked(old) },
    { name: 'zeros', content: Buffer.alloc(20 << 20) },
  ]);
  const delta = await encode(bases, [target], 1);
  assert.ok(
    (await decode(delta, bases, 1 << 16)).get(target.diffId)?.equals(target.read(0, target.tarBytes)),
  );
});

const small = layerOf([{ name: 'f', content: text(2000, 30) }]);
const smallTarget = layerOf([{ name: 'f', content: text(2040, 30), mtime: 9 }]);

test('a single byte that is wrong, missing or too many is noticed', async () => {
  const delta = await encode([small], [smallTarget]);
  for (let at = 0; at < delta.length; at++) {
    const flipped = Buffer.from(delta);
    flipped[at] = (flipped[at] ?? 0) ^ (1 << (at % 8));
    await assert.rejects(decode(flipped, [small]), { code: 'CORRUPT' }, `byte ${at}`);
  }
  for (const length of [0, 10, PREFIX_BYTES, delta.length - 1])
    await assert.rejects(decode(delta.subarray(0, length), [small]), { code: 'CORRUPT' });
  await assert.rejects(decode(Buffer.concat([delta, Buffer.alloc(1)]), [small]), { code: 'CORRUPT' });
});

test('a base that is missing, of another size or damaged is noticed', async () => {
  const delta = await encode([small], [smallTarget]);
  await assert.rejects(decode(delta, []), /layer sha256:\w+ of its base is missing/);
  await assert.rejects(decode(delta, [{ ...small, tarBytes: 512 }]), /has another size/);
  const damaged = small.read(0, small.tarBytes);
  damaged[700] = (damaged[700] ?? 0) ^ 1;
  await assert.rejects(decode(delta, [{ ...layerTar(damaged), diffId: small.diffId }]), { code: 'CORRUPT' });
});

test('a delta of the first version is read for ever', async () => {
  const golden = readFileSync(join(import.meta.dirname, 'golden-1.delta'));
  const made = await decode(golden, [base]);
  assert.ok(made.get(changed.diffId)?.equals(changed.read(0, changed.tarBytes)));
});
