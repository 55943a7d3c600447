import type { ChildProcess, StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Failure, fail, messageOf } from '../errors.ts';
import { spawnSealed } from '../host/spawn.ts';
import { withResolvers } from '../lib/promises.ts';

/** A line that a child writes. The last one is a result or a failure. */
export type ChildReport<T> =
  | { readonly bytes: number }
  /** What there is to be known before the output comes. */
  | { readonly facts: object }
  | { readonly result: T }
  | { readonly failure: ChildFailure };

/** A failure on its way out of a child. */
export interface ChildFailure {
  readonly code: string;
  /** What the client is answered with, if not 500. */
  readonly status?: number;
  readonly message: string;
  readonly facts?: Readonly<Record<string, string>>;
}

/** How to start a child: one of the programs beside this one. */
export interface ChildProgram {
  readonly path: string;
  readonly nodeFlags: readonly string[];
}

/**
 * Node flags for a child that stays small: no optimizing compiler, whose own code is most of what it would add, no
 * helper threads of V8, and the collector at hand (see child-job.ts). Measured on layers of 440 and 500 MB: 61 to
 * 67 MB of RSS against 103 to 136, in no more CPU time; Node alone takes 45.
 */
export const childNodeFlags: readonly string[] = [
  '--expose-gc',
  '--max-semi-space-size=1',
  '--optimize-for-size',
  '--no-opt',
  '--single-threaded',
];

/** The same for a child that looks at each byte: with the optimizing compiler, which is worth its memory there. */
export function withCompiler(flags: readonly string[]): readonly string[] {
  return flags.filter((flag) => flag !== '--no-opt');
}

/** What is kept of the child's stderr: V8's last words, if it comes to that. */
const MAX_COMPLAINT_BYTES = 4096;

/**
 * Runs a child to its end: a short-lived process for work on one layer, so that neither its memory nor its CPU time
 * stays with the daemon. If its input fails, so does this, with the input's own error as it is; if the signal is
 * aborted, with its reason. Either way the child is gone. `what` names the work in messages.
 */
export async function runChild<T>(
  program: ChildProgram,
  job: object,
  o: {
    what: string;
    input?: Readable;
    /** What it has as descriptor 4. */
    inherits?: number | undefined;
    onProgress?: ((bytes: number) => void) | undefined;
    signal?: AbortSignal | undefined;
  },
): Promise<T> {
  o.signal?.throwIfAborted();
  const inherited = o.inherits === undefined ? [] : [o.inherits];
  const child = (await startChild(program, job, ['pipe', 'ignore', 'pipe', 'pipe', ...inherited])) as Child;
  const ended = endOfChild(child);
  const kill = () => child.kill('SIGKILL');
  o.signal?.addEventListener('abort', kill, { once: true });
  if (o.signal?.aborted) kill();
  try {
    const [inputError, report, complaint, ending] = await Promise.all([
      feed(o.input ?? Readable.from([]), child),
      // the last report is the child's last deed; its own exit may never come (see child-job.ts)
      lastReport<T>(child.stdio[3] as Readable, o.onProgress).finally(kill),
      complaintOf(child.stderr),
      ended,
    ]);
    o.signal?.throwIfAborted();
    if (inputError !== undefined) throw inputError;
    if (report !== undefined && 'failure' in report) throw failureOfChild(report.failure);
    if (report !== undefined && 'result' in report) return report.result;
    throw fail.host(`${o.what} ended with ${ending}: ${complaint}`);
  } finally {
    o.signal?.removeEventListener('abort', kill);
    kill();
    await ended;
  }
}

type Child = ChildProcess & { readonly stdin: Writable; readonly stderr: Readable };

/** Starts a child on a job; what it reports comes on its descriptor 3. */
export async function startChild(
  { path, nodeFlags }: ChildProgram,
  job: object,
  stdio: StdioOptions,
): Promise<ChildProcess> {
  try {
    const child = spawnSealed(process.execPath, [...nodeFlags, path, JSON.stringify(job)], {
      stdio,
      // nothing that is meant for the daemon, NODE_OPTIONS least of all
      env: { PATH: process.env['PATH'] ?? '', MALLOC_ARENA_MAX: '1' },
    });
    await once(child, 'spawn');
    return child;
  } catch (cause) {
    throw fail.host(`cannot start ${process.execPath}: ${messageOf(cause)}`, cause);
  }
}

/**
 * Pipes the input into the child. Resolves to the input's error if the input was the first to fail: the child then
 * only saw its end. That the child stopped reading is told by the child itself, and better.
 */
async function feed(input: Readable, child: Child): Promise<unknown> {
  let inputError: unknown = input.errored ?? undefined;
  input.once('error', (cause) => {
    // if the child's end broke first, this is only its echo
    if (!child.stdin.destroyed) inputError = cause;
  });
  try {
    await pipeline(input, child.stdin);
    return undefined;
  } catch {
    // what has come so far must not be taken for the whole
    if (inputError !== undefined) child.kill('SIGKILL');
    return inputError;
  }
}

/** The one that says how it ended; undefined if the child ended without a word. */
async function lastReport<T>(
  lines: Readable,
  onProgress: ((bytes: number) => void) | undefined,
): Promise<ChildReport<T> | undefined> {
  let rest = '';
  for await (const bytes of lines) {
    const parts = `${rest}${bytes}`.split('\n');
    rest = parts.pop() ?? '';
    for (const part of parts) {
      const report = JSON.parse(part) as ChildReport<T>;
      if ('bytes' in report) onProgress?.(report.bytes);
      else return report;
    }
  }
  return undefined;
}

/** The end of what a child complained of. */
export async function complaintOf(stderr: Readable): Promise<string> {
  let text = '';
  for await (const bytes of stderr) text = `${text}${bytes}`.slice(-MAX_COMPLAINT_BYTES);
  return text.trim();
}

/** The exit code, or the name of the signal, once all that the child wrote has arrived. */
export async function endOfChild(child: ChildProcess): Promise<number | string> {
  const { promise, resolve } = withResolvers<number | string>();
  child.once('close', (code, signal) => resolve(code ?? signal ?? 'nothing'));
  return promise;
}

/** A child's failure as its own. */
export function failureOfChild({ code, status, message, facts = {} }: ChildFailure): Error {
  return code === 'BUG' ? new Error(message) : new Failure(code, status ?? 500, message, { facts });
}
