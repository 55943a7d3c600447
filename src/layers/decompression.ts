import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import zlib from 'node:zlib';
import { codeOf, fail, messageOf } from '../errors.ts';
import { peek } from '../lib/peek.ts';
import { ZstdFrames } from '../lib/zstd-frames.ts';

/** How bytes are packed; `auto` looks at the first of them. */
export type Compression = PackedBy | 'none' | 'auto';

type PackedBy = 'gzip' | 'zstd' | 'xz' | 'bzip2';

/** Every piece costs a round through the thread pool and a few objects; larger ones gain no more. */
const PIECE_BYTES = 128 << 10;

/** As many of the first bytes as tell how the rest is packed. */
const HEAD_BYTES = 10;

/** The end of a pipeline: takes the pieces one by one. */
export type Sink = (pieces: AsyncIterable<Buffer>) => Promise<void>;

/** Unpacks `input` into `take`. Input that is cut or damaged throws `CORRUPT`, at the latest at its end. */
export async function decompress(
  input: AsyncIterable<Buffer>,
  compression: Compression,
  take: (bytes: Buffer) => void,
): Promise<void> {
  await decompressInto(input, compression, async (pieces) => {
    for await (const piece of pieces) take(piece);
  });
}

/** As {@link decompress}, at the pace of the one who takes. */
export async function decompressInto(
  input: AsyncIterable<Buffer>,
  compression: Compression,
  sink: Sink,
): Promise<void> {
  const [kind, source] = compression === 'auto' ? await detect(input) : [compression, input];
  try {
    if (kind === 'none') await pipeline(source, sink);
    else if (kind === 'gzip') await pipeline(source, zlib.createGunzip({ chunkSize: PIECE_BYTES }), sink);
    else if (kind === 'zstd' && hasZstd()) await zstdByNode(source, sink);
    else await unpackByProgram(kind, source, sink);
  } catch (cause) {
    const isZlib = /^(?:Z_|ZSTD_|ERR_ZLIB|ERR_ZSTD)/.test(codeOf(cause) ?? '');
    throw isZlib ? fail.corrupt(`invalid ${kind} data: ${messageOf(cause)}`, cause) : cause;
  }
}

/** Tells by its first {@link HEAD_BYTES} bytes how something is packed; what shows no known mark is not packed. */
export function compressionOf(head: Buffer): PackedBy | 'none' {
  const hex = head.toString('hex', 0, HEAD_BYTES);
  for (const [kind, mark] of marks) if (mark.test(hex)) return kind;
  return 'none';
}

const marks: readonly (readonly [PackedBy, RegExp])[] = [
  ['gzip', /^1f8b/],
  ['zstd', /^(?:28b52ffd|5.2a4d18)/], // a frame, or one to be skipped
  ['xz', /^fd377a585a00/],
  ['bzip2', /^425a683[1-9](?:314159265359|177245385090)/], // BZh, and the mark of a block or of the end
];

/** What is neither of these is a plain tar, or will show that it is not. */
async function detect(input: AsyncIterable<Buffer>): Promise<[PackedBy | 'none', AsyncIterable<Buffer>]> {
  const { head, whole } = await peek(input, HEAD_BYTES);
  return [compressionOf(head), whole];
}

/** Node has zstd since 22.15; 32-bit ARM runs 20.11. */
function hasZstd(): boolean {
  return typeof zlib.createZstdDecompress === 'function';
}

async function zstdByNode(source: AsyncIterable<Buffer>, sink: Sink): Promise<void> {
  const frames = new ZstdFrames();
  const cut = async function* (pieces: AsyncIterable<Buffer>) {
    for await (const piece of pieces) yield* frames.push(piece);
    frames.end();
  };
  await pipeline(source, cut, zlib.createZstdDecompress({ chunkSize: PIECE_BYTES }), sink);
}

/**
 * Debian's programs for what Node cannot unpack, and their packages. Memory: `xz -9` needs 65 MiB to be unpacked, and
 * what asks for more than half as much again is refused; bzip2 never takes more than 4 MB.
 */
const programs = {
  zstd: { package: 'zstd', args: [] },
  xz: { package: 'xz-utils', args: ['--memlimit-decompress=96MiB', '--threads=1'] },
  bzip2: { package: 'bzip2', args: [] },
} as const;

/** Unpacks by a program of that name. Exported for its test. */
export async function unpackByProgram(
  kind: keyof typeof programs,
  source: AsyncIterable<Buffer>,
  sink: Sink,
): Promise<void> {
  // rarely needed, and dear in a process that counts its memory
  const { spawnSealed } = await import('../host/spawn.ts');
  const program = programs[kind];
  const args = ['--decompress', '--stdout', '--quiet', ...program.args];
  const child = spawnSealed(kind, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
  }) as ChildProcessWithoutNullStreams;
  await once(child, 'spawn').catch((cause: unknown) => {
    throw codeOf(cause) === 'ENOENT'
      ? fail.host(
          `this is compressed with ${kind}, which is not installed: install the package ${program.package}`,
          cause,
        )
      : fail.host(`cannot run ${kind}: ${messageOf(cause)}`, cause);
  });
  const closed = once(child, 'close') as Promise<[code: number | null]>;
  const complaint = text(child.stderr);
  try {
    const [fed, taken] = await Promise.allSettled([
      pipeline(source, child.stdin),
      pipeline(child.stdout, sink),
    ]);
    if (taken.status === 'rejected') throw taken.reason;
    const [code] = await closed;
    if (fed.status === 'rejected' && codeOf(fed.reason) !== 'EPIPE') throw fed.reason;
    if (code !== 0) throw fail.corrupt(`invalid ${kind} data: ${(await complaint).trim()}`);
  } finally {
    child.kill('SIGKILL');
  }
}
