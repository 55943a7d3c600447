import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { constants } from 'node:os';
import { basename } from 'node:path';
import type { Readable } from 'node:stream';
import { codeOf, type Failure, fail, messageOf } from '../errors.ts';
import { withResolvers } from '../lib/promises.ts';
import { spawnSealed } from './spawn.ts';

/** What a program printed and how it ended; killed by signal n counts as 128 + n, as in a shell. */
export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Each stream of output is kept up to this size; the rest is read and thrown away. */
const MAX_OUTPUT_BYTES = 8 << 20;

/** From SIGTERM to SIGKILL, for one that was aborted or took too long. */
const GRACE_MS = 2000;

/**
 * How long output may stay open after the end of the program itself: a process that it left behind may hold
 * it.
 */
const LINGER_MS = 500;

/** Debian's package where it is not named like the program. */
const packages: Readonly<Record<string, string>> = {
  ip: 'iproute2',
  ps: 'procps',
  nft: 'nftables',
  nsenter: 'util-linux',
};

/**
 * Runs a program to its end. Any exit code is a result. It throws a Failure if the program is missing, cannot
 * be run or takes longer than `timeoutMs`, and the signal's reason if aborted, both once the program is gone.
 * Output is in English (`LC_ALL=C`); `env` adds to this process's own; undefined takes away.
 *
 * Not execa: loading that takes 20 MB of RSS and 70 ms, this takes 2 MB.
 */
export async function run(
  command: string,
  args: readonly string[],
  o: {
    input?: string | Uint8Array;
    signal?: AbortSignal;
    timeoutMs?: number;
    env?: Readonly<Record<string, string | undefined>>;
    cwd?: string;
  } = {},
): Promise<Finished> {
  o.signal?.throwIfAborted();
  const child = begin(command, args, {
    stdio: [o.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C', ...o.env },
    ...(o.cwd !== undefined && { cwd: o.cwd }),
  });
  child.stdin?.on('error', () => {}); // it need not read its input
  child.stdin?.end(o.input);
  const stop = stopper(child);
  const deadline = o.timeoutMs === undefined ? undefined : setTimeout(stop, o.timeoutMs);
  o.signal?.addEventListener('abort', stop, { once: true });
  try {
    const ended = endOf(child, command);
    const [stdout, stderr, code] = await Promise.all([textOf(child.stdout), textOf(child.stderr), ended]);
    o.signal?.throwIfAborted();
    if (child.killed) throw fail.host(`${command} took longer than ${o.timeoutMs} ms`);
    return { code, stdout, stderr };
  } finally {
    clearTimeout(deadline);
    o.signal?.removeEventListener('abort', stop);
  }
}

/** Some errors are thrown here, others come as an event. */
function begin(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  try {
    return spawnSealed(command, args, options);
  } catch (cause) {
    throw cannotRun(command, cause);
  }
}

/** Ends a program: politely at first. */
function stopper(child: ChildProcess): () => void {
  return () => {
    child.kill('SIGTERM');
    const insist = setTimeout(() => child.kill('SIGKILL'), GRACE_MS);
    child.once('exit', () => clearTimeout(insist));
  };
}

async function endOf(child: ChildProcess, command: string): Promise<number> {
  const { promise, resolve, reject } = withResolvers<number>();
  child.once('error', (cause) => reject(cannotRun(command, cause)));
  child.once('exit', (code, signal) =>
    resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
  );
  const code = await promise;
  const letGo = setTimeout(() => {
    child.stdout?.destroy();
    child.stderr?.destroy();
  }, LINGER_MS);
  child.once('close', () => clearTimeout(letGo));
  return code;
}

function cannotRun(command: string, cause: unknown): Failure {
  const name = basename(command);
  return codeOf(cause) === 'ENOENT'
    ? fail.host(`${command} not found: install ${packages[name] ?? name}`, cause)
    : fail.host(`cannot run ${command}: ${messageOf(cause)}`, cause);
}

async function textOf(stream: Readable | null): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of (stream ?? []) as AsyncIterable<Buffer>) {
      if (size < MAX_OUTPUT_BYTES) chunks.push(chunk.subarray(0, MAX_OUTPUT_BYTES - size));
      size += chunk.length;
    }
  } catch (cause) {
    if (codeOf(cause) !== 'ERR_STREAM_PREMATURE_CLOSE') throw cause; // let go of after LINGER_MS
  }
  return Buffer.concat(chunks).toString();
}
