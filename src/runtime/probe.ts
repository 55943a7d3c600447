import type { ChildProcess } from 'node:child_process';
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf, fail, messageOf } from '../errors.ts';
import { removeTree } from '../host/files.ts';
import { familyOf, sessionOf, signalProcess } from '../host/processes.ts';
import { spawnSealed } from '../host/spawn.ts';
import { withResolvers } from '../lib/promises.ts';
import { type Bundle, type RunFacts, readText } from './bundle.ts';
import { type ExecProcess, execProcess } from './exec.ts';
import { ociFailure } from './failure.ts';
import type { OciRuntime } from './runtimes.ts';

/** What a probe is allowed. */
export interface ProbeLimits {
  /** From the moment its process is there; then it is killed with all that it began. */
  readonly timeoutMs: number;
  /** Of both streams together; the rest is read and thrown away. */
  readonly maxOutputBytes: number;
  /** Ends it early. */
  readonly signal: AbortSignal;
}

/** How a probe ended. */
export interface ProbeResult {
  /** 128 + n for one that signal n killed; 137 for one that ran out of time. */
  readonly exitCode: number;
  readonly output: Buffer;
  readonly isTruncated: boolean;
  readonly isTimedOut: boolean;
}

/** The one container that a probe is for; `pids` are those in its cgroup. */
export interface ProbedContainer {
  readonly bundle: Bundle;
  readonly facts: RunFacts;
  readonly runtime: OciRuntime;
  pids(): Promise<readonly number[]>;
}

/** One at a time in a container: its files have one place, where the next one finds what a dead daemon left. */
const PLACE = 'probe';
/** dockerd's patience with a runtime that does not get the process up. */
const START_MS = 30_000;
/** A killed process is gone long before. */
const KILL_MS = 5000;
const LOOK_MS = 5;
/** How long output may stay open after the end: a process that was left behind may hold it. */
const LINGER_MS = 200;

/**
 * Runs a short process in a container and hears what it says. Without a monitor: nobody else attaches to it, and if
 * this daemon dies the next one probes anew. Throws a {@link StartFailure} in dockerd's words if it cannot be run.
 */
export async function runProbe(
  container: ProbedContainer,
  spec: ExecProcess,
  limits: ProbeLimits,
): Promise<ProbeResult> {
  await clearProbe(container);
  const { bundle, runtime } = container;
  const directory = bundle.execDirectory(PLACE);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const [processPath, logPath] = [join(directory, 'process.json'), join(directory, 'oci.log')];
  writeFileSync(processPath, JSON.stringify(execProcess(bundle, spec)), { mode: 0o600 });
  const child = spawnSealed(
    runtime.path,
    [...runtime.args(logPath), 'exec', '--process', processPath, '--pid-file', pidPath(bundle), bundle.id],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NOTIFY_SOCKET: undefined } },
  );
  try {
    const output = new Output(limits.maxOutputBytes, [child.stdout, child.stderr]);
    const { exitCode, isTimedOut } = await endOf(child, container, limits);
    const complaint = exitCode === 0 ? undefined : readText(logPath);
    if (complaint && !isTimedOut && !limits.signal.aborted)
      throw ociFailure('exec', complaint, spec.args[0] ?? '');
    return { exitCode, isTimedOut, ...output.end() };
  } finally {
    await removeTree(directory);
  }
}

/** Kills what is left of the last probe, if its daemon died with it under way. */
export async function clearProbe(container: ProbedContainer): Promise<void> {
  const directory = container.bundle.execDirectory(PLACE);
  if (readText(join(directory, 'process.json')) === undefined) return;
  await killFamily(container);
  await removeTree(directory);
}

/** Waits for the end, or brings it about. */
async function endOf(
  child: ChildProcess,
  container: ProbedContainer,
  { timeoutMs, signal }: ProbeLimits,
): Promise<{ exitCode: number; isTimedOut: boolean }> {
  const { promise: exited, resolve, reject } = withResolvers<number>();
  child.once('error', (cause) =>
    reject(fail.host(`cannot run ${child.spawnfile}: ${messageOf(cause)}`, cause)),
  );
  child.once('exit', (code, name) => resolve(code ?? 128 + (name === null ? 0 : constants.signals[name])));
  const began = performance.now();
  let isTimedOut = false;
  const kill = async () => {
    await killFamily(container);
    child.kill('SIGKILL'); // a runtime that waits for more than the process
  };
  const look = () => {
    const leftMs = remainingMs(container.bundle, began, timeoutMs);
    if (leftMs > 0) {
      timer = setTimeout(look, leftMs).unref();
      return;
    }
    isTimedOut = true;
    void kill();
  };
  let timer = setTimeout(look, timeoutMs).unref();
  const onAbort = () => void kill();
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    const exitCode = await exited;
    await Promise.race([closed(child), sleep(LINGER_MS, undefined, { ref: false })]);
    return { exitCode: isTimedOut ? 137 : exitCode, isTimedOut };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

/** The runtime's own time does not count: a process that came late has its full time from then on. */
function remainingMs(bundle: Bundle, began: number, timeoutMs: number): number {
  const ageMs = ageOf(pidPath(bundle));
  if (ageMs !== undefined) return timeoutMs - ageMs;
  return performance.now() - began < START_MS ? LOOK_MS : 0;
}

function ageOf(path: string): number | undefined {
  try {
    return Date.now() - statSync(path).mtimeMs;
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return undefined;
    throw cause;
  }
}

/** The process and whatever it began, until there is none. */
async function killFamily(container: ProbedContainer): Promise<void> {
  const root = Number.parseInt(readText(pidPath(container.bundle)) ?? '', 10);
  if (!Number.isInteger(root)) return;
  let session: number | undefined;
  for (let waitedMs = 0; waitedMs < KILL_MS; waitedMs += LOOK_MS) {
    // only what is in the container's cgroup: the number may be another process's by now
    const pids = await container.pids();
    // crun's sessions are led by a process of its own, outside and gone; one that the container leads is not the probe's alone
    const leader = pids.includes(root) ? sessionOf(root) : undefined;
    if (leader !== undefined && !pids.includes(leader)) session = leader;
    const family = familyOf(root, pids, session);
    if (family.length === 0) return;
    for (const pid of family) signalProcess(pid, 'SIGKILL');
    await sleep(LOOK_MS, undefined, { ref: false });
  }
}

function pidPath(bundle: Bundle): string {
  return join(bundle.execDirectory(PLACE), 'pid');
}

async function closed(child: ChildProcess): Promise<void> {
  const { promise, resolve } = withResolvers<void>();
  child.once('close', () => resolve());
  await promise;
}

/** What both streams said, up to a bound. */
class Output {
  readonly #maxBytes: number;
  readonly #streams: Readable[];
  readonly #chunks: Buffer[] = [];
  #sizeBytes = 0;

  constructor(maxBytes: number, streams: readonly (Readable | null)[]) {
    this.#maxBytes = maxBytes;
    this.#streams = streams.filter((stream) => stream !== null);
    for (const stream of this.#streams) void this.#read(stream);
  }

  /** Stops listening. */
  end(): { output: Buffer; isTruncated: boolean } {
    for (const stream of this.#streams) stream.destroy();
    return { output: Buffer.concat(this.#chunks), isTruncated: this.#sizeBytes > this.#maxBytes };
  }

  async #read(stream: Readable): Promise<void> {
    try {
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        const room = this.#maxBytes - this.#sizeBytes;
        // a copy: the chunk may be a small part of a pool
        if (room > 0) this.#chunks.push(Buffer.from(chunk.subarray(0, room)));
        this.#sizeBytes += chunk.length;
      }
    } catch {
      // let go of by end()
    }
  }
}
