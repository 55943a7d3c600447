import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CgroupLayout } from '../host/cgroup.ts';
import { removeTree } from '../host/files.ts';
import type { Log } from '../lib/log.ts';
import { Attachment } from './attach.ts';
import { type Bundle, monitorCgroupOf, processId, type RunFacts, readText } from './bundle.ts';
import { Monitor } from './conmon.ts';
import { resizeTerminal } from './control.ts';
import { isRunning } from './exits.ts';
import type { OciRuntime } from './runtimes.ts';
import { type OciProcess, type OciSpec, ociProcess, type ProcessSpec } from './spec.ts';

/** What one more process in a container is told; the rest it has from the container's own. */
export type ExecProcess = Omit<ProcessSpec, 'isStdinOnce' | 'oomScoreAdj' | 'rlimits'>;

/** One more process in a running container. */
export interface ExecSpec extends ExecProcess {
  readonly containerId: string;
  readonly execId: string;
  /** Nobody will attach: what it writes goes nowhere. */
  readonly isDetached: boolean;
}

/** A process that was started by exec. It is this daemon's to watch; after a restart nobody knows of it. */
export interface RunningExec {
  readonly pid: number;
  /** Never rejects; 137 if its monitor was killed. */
  readonly exit: Promise<number>;
  /** Its streams, from the first byte if subscribed to at once. A detached one has none: it only ends. */
  readonly attachment: Attachment;
  resize(size: { rows: number; columns: number }): void;
}

/** What an exec is done with. */
export interface ExecParts {
  readonly conmonPath: string;
  readonly cgroups: CgroupLayout;
  readonly log: Log;
}

const UNKNOWN_EXIT_CODE = 137;
const POLL_MS = 200;

/** Starts a process in a container. Throws a {@link StartFailure} in dockerd's words if that cannot be. */
export async function startExec(
  parts: ExecParts,
  container: { bundle: Bundle; facts: RunFacts; runtime: OciRuntime },
  spec: ExecSpec,
): Promise<RunningExec> {
  const directory = container.bundle.execDirectory(spec.execId);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const processPath = join(directory, 'process.json');
  writeFileSync(processPath, JSON.stringify(execProcess(container.bundle, spec)), { mode: 0o600 });
  const keepsStdinOpen = spec.terminal; // its end would take the terminal's input away from later clients
  const monitor = Monitor.launch(
    parts.conmonPath,
    {
      containerId: spec.containerId,
      runtime: container.runtime,
      directory,
      cgroup: monitorCgroupOf(container.facts.cgroup),
      terminal: spec.terminal,
      hasStdin: spec.hasStdin,
      keepsStdinOpen,
      task: { kind: 'exec', processPath, isAttached: !spec.isDetached },
    },
    parts.cgroups,
    parts.log,
  );
  let attachment: Attachment | undefined;
  try {
    attachment = await attach(monitor, spec, join(directory, 'attach'), keepsStdinOpen);
    monitor.begin();
    const pid = await monitor.started('exec', spec.args[0] ?? '');
    const exit = ending(monitor, pid, directory, parts.log);
    if (spec.isDetached) void exit.then(() => attachment?.close());
    return { pid, exit, attachment, resize: (size) => resizeTerminal(join(directory, 'ctl'), size) };
  } catch (cause) {
    attachment?.close();
    monitor.close();
    await removeTree(directory);
    throw cause;
  }
}

/** Lets conmon make its socket, and connects before the process can write anything. */
async function attach(
  monitor: Monitor,
  { isDetached, hasStdin }: ExecSpec,
  path: string,
  keepsStdinOpen: boolean,
): Promise<Attachment> {
  if (isDetached) return new Attachment(undefined, { hasStdin: false, keepsStdinOpen });
  monitor.begin();
  await monitor.attachable();
  return Attachment.connect(path, { hasStdin, keepsStdinOpen });
}

/** Like the container's own process in whatever the request does not say. */
export function execProcess(bundle: Bundle, spec: ExecProcess): OciProcess {
  const config: Partial<OciSpec> = JSON.parse(readText(bundle.path('config.json')) ?? '{}');
  const { oomScoreAdj, apparmorProfile, rlimits = [] } = config.process ?? {};
  return {
    ...ociProcess({ ...spec, isStdinOnce: true, rlimits: [] }),
    rlimits,
    ...(oomScoreAdj !== undefined && { oomScoreAdj }),
    ...(apparmorProfile !== undefined && { apparmorProfile }),
  };
}

/** The exit code, once conmon has told it; then nothing is left of the exec. */
async function ending(monitor: Monitor, pid: number, directory: string, log: Log): Promise<number> {
  const process = processId(pid);
  const message = await monitor.message();
  // conmon was killed; the process lives on
  while (message === undefined && isRunning(process)) await sleep(POLL_MS, undefined, { ref: false });
  monitor.close();
  await removeTree(directory).catch((err) => log.warn({ err }, 'files of an exec could not be removed'));
  return message === undefined || message.data < 0 ? UNKNOWN_EXIT_CODE : message.data;
}
