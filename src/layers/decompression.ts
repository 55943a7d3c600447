import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import zlib from 'node:zlib';
import { codeOf, fail, messageOf } from '../errors.ts';
import { ZstdFrames } from '../lib/zstd-frames.ts';

/** How a layer's bytes are packed; `auto` looks at the first of them. */
export type Compression = 'gzip' | 'zstd' | 'none' | 'auto';

/** Every piece costs a round through the thread pool and a few objects; larger ones gain no more. */
const PIECE_BYTES = 128 << 10;

/** The end of a pipeline: takes the pieces one by one. */
type Sink = (pieces: AsyncIterable<Buffer>) => Promise<void>;

/** Unpacks `input` into `take`. Input that is cut or damaged throws `CORRUPT`, at the latest at its end. */
export async function decompress(
  input: AsyncIterable<Buffer>,
  compression: Compression,
  take: (bytes: Buffer) => void,
): Promise<void> {
  const sink: Sink = async (pieces) => {
    for await (const piece of pieces) take(piece);
  };
  const [kind, source] = compression === 'auto' ? await detect(input) : [compression, input];
  try {
    if (kind === 'none') await pipeline(source, sink);
    else if (kind === 'gzip') await pipeline(source, zlib.createGunzip({ chunkSize: PIECE_BYTES }), sink);
    else if (hasZstd()) await zstdByNode(source, sink);
    else await zstdByProgram(source, sink);
  } catch (cause) {
    const isZlib = /^(?:Z_|ZSTD_|ERR_ZLIB|ERR_ZSTD)/.test(codeOf(cause) ?? '');
    throw isZlib ? fail.corrupt(`invalid ${kind} data: ${messageOf(cause)}`, cause) : cause;
  }
}

/** By the first bytes; what is neither gzip nor zstd is a plain tar, or will show that it is not. */
async function detect(
  input: AsyncIterable<Buffer>,
): Promise<['gzip' | 'zstd' | 'none', AsyncIterable<Buffer>]> {
  const pieces = input[Symbol.asyncIterator]();
  let head = Buffer.alloc(0);
  while (head.length < 4) {
    const { value, done } = await pieces.next();
    if (done === true) break;
    head = Buffer.concat([head, value]);
  }
  const whole = async function* () {
    if (head.length > 0) yield head;
    yield* { [Symbol.asyncIterator]: () => pieces };
  };
  const isZstd = head.indexOf('28b52ffd', 0, 'hex') === 0 || /^5.2a4d18/.test(head.toString('hex', 0, 4));
  const kind = head[0] === 0x1f && head[1] === 0x8b ? 'gzip' : isZstd ? 'zstd' : 'none';
  return [kind, whole()];
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

/** Unpacks by the program `zstd`, where Node cannot. Exported for its test. */
export async function zstdByProgram(source: AsyncIterable<Buffer>, sink: Sink): Promise<void> {
  // rarely needed, and dear in a process that counts its memory
  const { spawn } = await import('node:child_process');
  const child = spawn('zstd', ['--decompress', '--stdout', '--quiet'], { stdio: ['pipe', 'pipe', 'pipe'] });
  await once(child, 'spawn').catch((cause: unknown) => {
    throw codeOf(cause) === 'ENOENT'
      ? fail.host(
          'this layer is compressed with zstd, which this Node lacks: install the package zstd',
          cause,
        )
      : fail.host(`cannot run zstd: ${messageOf(cause)}`, cause);
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
    if (code !== 0) throw fail.corrupt(`invalid zstd data: ${(await complaint).trim()}`);
  } finally {
    child.kill('SIGKILL');
  }
}
