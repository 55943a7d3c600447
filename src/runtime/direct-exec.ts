import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fail, messageOf } from '../errors.ts';
import { adoptOrphans, exitOfOrphan, forgetOrphan } from '../host/orphans.ts';
import { ProcessPipes } from '../host/pipes.ts';
import { spawnSealed } from '../host/spawn.ts';
import { withResolvers } from '../lib/promises.ts';
import { Attachment } from './attach.ts';
import { processId, readText } from './bundle.ts';
import { type ExecPlace, type ExecSpec, type RunningExec, removeExec } from './exec.ts';
import { isRunning, UNKNOWN_EXIT_CODE } from './exits.ts';
import { ociFailure } from './failure.ts';
import type { OciRuntime } from './runtimes.ts';

/** How often a process is looked at whose end might not be told to us. */
const POLL_MS = 1000;

/**
 * Starts a process without a terminal, and without a monitor: it has its streams from us, and is left to us by the OCI
 * runtime that made it (docs/adr/0021). Throws a {@link StartFailure} in dockerd's words if that cannot be.
 */
export async function startDirectly(
  runtime: OciRuntime,
  spec: ExecSpec,
  place: ExecPlace,
): Promise<RunningExec> {
  const { hasStdin, isDetached } = spec;
  const pipes = isDetached ? undefined : new ProcessPipes({ hasStdin });
  const attachment = new Attachment(pipes, {
    hasStdin: hasStdin && !isDetached,
    keepsStdinOpen: false,
    mustBeRead: true,
  });
  adoptOrphans();
  try {
    const pid = await launch(runtime, spec, place, pipes);
    const exit = ending(pid).finally(() => {
      removeExec(place.directory);
      if (pipes === undefined) attachment.close();
      else pipes.finish();
    });
    return { pid, exit, attachment, resize: () => {} };
  } catch (cause) {
    attachment.close();
    removeExec(place.directory);
    throw cause;
  }
}

/** Has the OCI runtime make the process; answers its pid once it runs. */
async function launch(
  runtime: OciRuntime,
  { containerId, args }: ExecSpec,
  { directory, processPath }: ExecPlace,
  pipes: ProcessPipes | undefined,
): Promise<number> {
  const pidPath = join(directory, 'pid');
  const logPath = join(directory, 'oci.log');
  const command = ['exec', '--detach', '--process', processPath, '--pid-file', pidPath, containerId];
  try {
    await endOf(() =>
      spawnSealed(runtime.path, [...runtime.args(logPath), ...command], {
        cwd: directory,
        env: { PATH: process.env['PATH'] ?? '', LC_ALL: 'C.UTF-8', ...runtime.environment },
        stdio: pipes === undefined ? 'ignore' : [...pipes.childEnds],
        detached: true, // signals to our process group are not for it
      }),
    );
  } finally {
    pipes?.releaseChildEnds();
  }
  const pid = Number.parseInt(readText(pidPath) ?? '', 10);
  if (!(pid > 0)) throw ociFailure('exec', readText(logPath) ?? '', args[0] ?? '');
  return pid;
}

/** The exit code; 137 for a process that was not left to us after all, once it is gone. */
async function ending(pid: number): Promise<number> {
  const process = processId(pid);
  const giveUp = new AbortController();
  const gone = async () => {
    while (isRunning(process)) await sleep(POLL_MS, undefined, { ref: false, signal: giveUp.signal });
    await sleep(POLL_MS, undefined, { signal: giveUp.signal }); // its end may be on its way
    return UNKNOWN_EXIT_CODE;
  };
  try {
    return await Promise.race([exitOfOrphan(pid), gone()]);
  } finally {
    giveUp.abort();
    forgetOrphan(pid);
  }
}

/** Runs a command to its end; throws 500 if it cannot be run at all. */
async function endOf(begin: () => ChildProcess): Promise<void> {
  const { promise, resolve, reject } = withResolvers<void>();
  const cannotRun = (cause: unknown) => reject(fail.host(`cannot run: ${messageOf(cause)}`, cause));
  try {
    begin()
      .once('error', cannotRun)
      .once('exit', () => resolve());
  } catch (cause) {
    cannotRun(cause);
  }
  return promise;
}
