import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CgroupLayout } from '../host/cgroup.ts';
import type { Log } from '../lib/log.ts';
import { Attachment } from './attach.ts';
import { type Bundle, monitorCgroupOf, processId, type RunFacts, readText } from './bundle.ts';
import { Monitor } from './conmon.ts';
import { resizeTerminal } from './control.ts';
import { isRunning, UNKNOWN_EXIT_CODE } from './exits.ts';
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

const POLL_MS = 200;

/** The container that an exec is for. */
export interface ExecContainer {
  readonly bundle: Bundle;
  readonly facts: RunFacts;
  readonly runtime: OciRuntime;
}

/** Where an exec has its files, and the one that says what to run. */
export interface ExecPlace {
  readonly directory: string;
  readonly processPath: string;
}

/** Makes an exec's directory, with what is to be run. */
export function prepareExec({ bundle }: ExecContainer, spec: ExecSpec): ExecPlace {
  const directory = bundle.execDirectory(spec.execId);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const processPath = join(directory, 'process.json');
  writeFileSync(processPath, JSON.stringify(execProcess(bundle, spec)), { mode: 0o600 });
  return { directory, processPath };
}

/** Starts a process under a conmon, which is small, holds a terminal, and outlives us. Throws a {@link StartFailure}. */
export async function startMonitored(
  parts: ExecParts,
  container: ExecContainer,
  spec: ExecSpec,
  { directory, processPath }: ExecPlace,
): Promise<RunningExec> {
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
    await monitor.begin();
    const pid = await monitor.started('exec', spec.args[0] ?? '');
    const exit = ending(monitor, pid, directory);
    if (spec.isDetached) void exit.then(() => attachment?.close());
    return { pid, exit, attachment, resize: (size) => resizeTerminal(join(directory, 'ctl'), size) };
  } catch (cause) {
    attachment?.close();
    monitor.close();
    removeExec(directory);
    throw cause;
  }
}

/** Nothing is left of an exec: a few files in memory. */
export function removeExec(directory: string): void {
  rmSync(directory, { recursive: true, force: true });
}

/** Lets conmon make its socket, and connects before the process can write anything. */
async function attach(
  monitor: Monitor,
  { isDetached, hasStdin }: ExecSpec,
  path: string,
  keepsStdinOpen: boolean,
): Promise<Attachment> {
  if (isDetached) return new Attachment(undefined, { hasStdin: false, keepsStdinOpen });
  await monitor.begin();
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
async function ending(monitor: Monitor, pid: number, directory: string): Promise<number> {
  const process = processId(pid);
  const message = await monitor.message();
  // conmon was killed; the process lives on
  while (message === undefined && isRunning(process)) await sleep(POLL_MS, undefined, { ref: false });
  monitor.close();
  removeExec(directory);
  return message === undefined || message.data < 0 ? UNKNOWN_EXIT_CODE : message.data;
}
