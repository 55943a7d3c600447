import type { ChildProcess } from 'node:child_process';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { fail } from '../errors.ts';
import {
  type ChildProgram,
  type ChildReport,
  complaintOf,
  endOfChild,
  failureOfChild,
  startChild,
} from './layer-child.ts';
import type { TreeTarJob } from './tree-tar.ts';

type Child = ChildProcess & { readonly stdout: Readable; readonly stderr: Readable };

/**
 * A tree's tar, packed by a child that lives as long as the stream is read. A tar that is not whole never ends: the
 * stream fails instead, with what went wrong or with the signal's reason.
 */
export function packedTree(
  program: ChildProgram,
  job: TreeTarJob,
  { signal }: { signal: AbortSignal },
): Readable {
  const output = childOutput(program, job, { what: `packing ${job.root}`, signal });
  const tar = Readable.from(output, { objectMode: false });
  // one whose reader holds a piece, and takes no further, would not hear of it otherwise
  const abort = () => tar.destroy(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  tar.once('close', () => signal.removeEventListener('abort', abort));
  return tar;
}

/**
 * What a child writes on its stdout; it fails where the child does, and never ends without the child's last word.
 * The child lives as long as this is read. `what` names the work in messages, `input` is what it has as descriptor 0.
 */
export async function* childOutput(
  program: ChildProgram,
  job: object,
  { what, input = 'ignore', signal }: { what: string; input?: 'ignore' | number; signal: AbortSignal },
): AsyncGenerator<Buffer, void, void> {
  signal.throwIfAborted();
  const child = (await startChild(program, job, [input, 'pipe', 'pipe', 'pipe'])) as Child;
  const ended = endOfChild(child);
  const kill = () => child.kill('SIGKILL');
  signal.addEventListener('abort', kill, { once: true });
  if (signal.aborted) kill();
  const lastWords = Promise.all([text(child.stdio[3] as Readable), complaintOf(child.stderr)]);
  lastWords.catch(() => {}); // told below, unless the reader has left
  try {
    yield* child.stdout as AsyncIterable<Buffer>;
    const [line, complaint] = await lastWords;
    const ending = await ended;
    signal.throwIfAborted();
    if (line === '') throw fail.host(`${what} ended with ${ending}: ${complaint}`);
    const report = JSON.parse(line) as ChildReport<true>;
    if ('failure' in report) throw failureOfChild(report.failure);
  } finally {
    signal.removeEventListener('abort', kill);
    kill();
    child.stdout.destroy();
    await ended;
  }
}
