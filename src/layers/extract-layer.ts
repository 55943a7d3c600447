import { writeSync } from 'node:fs';
import { codeOf, Failure, messageOf } from '../errors.ts';
import { decompress } from './decompression.ts';
import { Extraction } from './extraction.ts';
import type { ExtractionJob, ExtractionReport } from './extractor.ts';

/**
 * The program that unpacks one layer: compressed bytes on stdin, the job as JSON in its argument, reports as lines of
 * JSON on descriptor 3. It lives for one layer, so that neither its memory nor its CPU time stays with the daemon, and
 * it holds no bytes but those in the hand. When the daemon dies, so does it, at the next piece: the next daemon sweeps
 * what it was at.
 */
const REPORTS = 3;
const PROGRESS_MS = 100;

/** V8 sees late how much memory discarded pieces hold: asked for its small collection this often, it stays low. */
const COLLECT_BYTES = 2 << 20;

function report(line: ExtractionReport): void {
  writeSync(REPORTS, `${JSON.stringify(line)}\n`);
}

async function* counted(input: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let bytes = 0;
  let reportedAt = Date.now();
  for await (const piece of input) {
    yield piece;
    bytes += piece.length;
    if (Date.now() - reportedAt < PROGRESS_MS) continue;
    reportedAt = Date.now();
    report({ compressedBytes: bytes });
  }
  report({ compressedBytes: bytes });
}

async function run(job: ExtractionJob): Promise<void> {
  process.umask(0);
  const extraction = Extraction.open(job);
  const daemon = process.ppid;
  let uncollected = 0;
  await decompress(counted(process.stdin), job.compression, (bytes) => {
    if (process.ppid !== daemon) end();
    extraction.push(bytes);
    uncollected += bytes.length;
    if (uncollected < COLLECT_BYTES) return;
    uncollected = 0;
    globalThis.gc?.({ type: 'minor' });
  });
  report({ layer: extraction.finish() });
}

async function main(): Promise<void> {
  try {
    await run(JSON.parse(process.argv[2] ?? '') as ExtractionJob);
  } catch (cause) {
    const code = cause instanceof Failure ? cause.code : 'BUG';
    const message = cause instanceof Error && code === 'BUG' ? (cause.stack ?? '') : messageOf(cause);
    // nobody reads on where the daemon has died
    if (codeOf(cause) !== 'EPIPE') report({ failure: { code, message } });
  }
  end();
}

/**
 * Not by `process.exit`, which waits for V8's helper threads: one exit in some hundred never came back from that
 * (Node 24.9, a thread waiting for a wake-up that was lost), and a child that hangs would hang its pull.
 */
function end(): void {
  process.kill(process.pid, 'SIGKILL');
}

void main();
