import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { Failure } from '../errors.ts';
import type { Digest } from '../lib/digest.ts';
import { Discarded } from '../lib/discarded.ts';
import { countDown, pauseMs } from './backoff.ts';
import { brokenOff, flowing } from './flow.ts';
import { failureOf, Setback } from './setback.ts';

/** A body that holds a blob from some byte on. */
export interface BlobPart {
  readonly body: Readable;
  /** The offset that was asked for, or 0 from a server that knows no ranges: what is already here is skipped. */
  readonly startsAt: number;
}

/** The beginning of a blob that the caller has from an earlier try; the digest will tell whether it is right. */
export interface KeptPart {
  readonly bytes: number;
  read(): AsyncIterable<Buffer>;
}

/** What to fetch, from where, and how hard to try. */
export interface BlobRequest {
  readonly digest: Digest;
  readonly size: number;
  /** Given first; what it lacks is fetched, all of it if it cannot be read. */
  readonly kept?: KeptPart | undefined;
  /** Opens the blob at an offset, at one of `sourceCount` sources. Throws a {@link Setback}. */
  open(offset: number, source: number, o: { signal: AbortSignal }): Promise<BlobPart>;
  readonly sourceCount: number;
  /** The source to begin with. */
  readonly firstSource: number;
  /** Tries in a row that may bring nothing before a source is given up. */
  readonly maxAttempts: number;
  readonly backoffMs: number;
  readonly stallMs: number;
  readonly onRetry?: ((attempt: number, secondsLeft: number) => void) | undefined;
  /** Told once if the bytes are not what the digest says; `source` gave the last of them. */
  readonly onMismatch: (source: number) => Failure;
  readonly signal: AbortSignal;
}

/** Bytes that make a broken connection a success so far. Less is nothing: who drips a byte a try is not fed for ever. */
const WORTHWHILE_BYTES = 64 * 1024;
/** A server that wants us to wait longer is taken to have refused. */
const LONGEST_WAIT_MS = 120_000;
/** What the stream holds at most, besides one chunk (64 KiB) of its own and what the socket has buffered. */
const HIGH_WATER_BYTES = 128 * 1024;
/** Measured on a pull of 195 MB: the daemon peaks at 77 MiB of RSS, at 81 with 2 MiB or 4, and at 89 if left alone. */
const COLLECT_BYTES = 1 << 20;
/** How long a server may take to end a body that has brought all that was wanted. */
const END_GRACE_MS = 1000;

/**
 * A blob as one stream, over as many connections as it takes. It ends only if length and digest are right: the last
 * chunk is held back until they are known to be. Everything else destroys it with the failure.
 */
export function blobStream(request: BlobRequest): Readable {
  const closing = new AbortController();
  const chunks = verified(request, closing.signal);
  const onAbort = () => stream.destroy(failureOf(request.signal.reason));
  const stream = new Readable({
    highWaterMark: HIGH_WATER_BYTES,
    read() {
      chunks.next().then(
        ({ done, value }) => stream.push(done ? null : value),
        (cause: unknown) => stream.destroy(failureOf(cause)),
      );
    },
    destroy(error, done) {
      request.signal.removeEventListener('abort', onAbort);
      closing.abort(error ?? new Error('the reader left'));
      chunks.return().catch(() => {}); // closes a body that nobody reads; the abort ends one that is being read
      done(error);
    },
  });
  if (request.signal.aborted) onAbort();
  else request.signal.addEventListener('abort', onAbort, { once: true });
  return stream;
}

async function* verified(request: BlobRequest, signal: AbortSignal): AsyncGenerator<Buffer, void> {
  const hash = createHash('sha256');
  const discarded = new Discarded({ everyBytes: COLLECT_BYTES });
  const progress = { offset: 0, source: request.firstSource };
  let last: Buffer | undefined;
  for await (const chunk of whole(request, progress, signal)) {
    hash.update(chunk);
    discarded.add(chunk.length);
    if (progress.offset < request.size) yield chunk;
    else last = chunk;
  }
  if (`sha256:${hash.digest('hex')}` !== request.digest) throw request.onMismatch(progress.source);
  if (last !== undefined) yield last;
}

async function* whole(
  request: BlobRequest,
  progress: { offset: number; source: number },
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  if (request.kept !== undefined) yield* readKept(request.kept, request, progress, signal);
  yield* persistent(request, progress, signal);
}

/** What can be read of it: whatever stops that, the rest comes from where everything else does. */
async function* readKept(
  kept: KeptPart,
  { size }: BlobRequest,
  progress: { offset: number },
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const chunks = kept.read()[Symbol.asyncIterator]();
  try {
    while (progress.offset < size) {
      const next = await chunks.next().catch(() => undefined);
      signal.throwIfAborted();
      if (next === undefined || next.done === true) return;
      const chunk = next.value.subarray(0, size - progress.offset);
      progress.offset += chunk.length;
      yield chunk;
    }
  } finally {
    await chunks.return?.();
  }
}

/** Exactly `size` bytes in order: resumes after each setback, waits, changes the source, and gives up in the end. */
async function* persistent(
  request: BlobRequest,
  progress: { offset: number; source: number },
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  let sourcesLeft = request.sourceCount - 1;
  let failures = 0;
  while (progress.offset < request.size) {
    const before = progress.offset;
    try {
      const part = await request.open(before, progress.source, { signal });
      yield* rest(part, request, progress);
    } catch (cause) {
      signal.throwIfAborted();
      if (!(cause instanceof Setback)) throw cause;
      failures = progress.offset - before >= WORTHWHILE_BYTES ? 0 : failures + 1;
      if (failures > 0 && sourcesLeft > 0) {
        sourcesLeft--;
        failures = 0;
        progress.source = (progress.source + 1) % request.sourceCount;
        continue;
      }
      const waitMs = Math.max(pauseMs(failures, request.backoffMs), cause.waitMs ?? 0);
      if (!cause.isPassing || failures >= request.maxAttempts || waitMs > LONGEST_WAIT_MS) throw cause;
      const attempt = failures + 1;
      await countDown(waitMs, { onTick: (left) => request.onRetry?.(attempt, left), signal });
    }
  }
}

/** The bytes of a body that are still missing. Throws a {@link Setback} if it ends before they do. */
async function* rest(
  part: BlobPart,
  { size, stallMs }: BlobRequest,
  progress: { offset: number },
): AsyncGenerator<Buffer> {
  let position = part.startsAt;
  let grace: NodeJS.Timeout | undefined;
  try {
    for await (const chunk of flowing(part.body, stallMs)) {
      const wanted = chunk.subarray(Math.max(0, progress.offset - position), Math.max(0, size - position));
      position += chunk.length;
      if (wanted.length > 0) {
        progress.offset += wanted.length;
        yield wanted;
      }
      if (position > size) break; // more than was announced: the digest settles whether what we have is right
      if (position === size) grace = setTimeout(() => part.body.destroy(), END_GRACE_MS);
    }
  } catch (cause) {
    if (progress.offset < size) throw brokenOff(cause);
  } finally {
    clearTimeout(grace);
  }
  if (progress.offset < size) throw brokenOff();
}
