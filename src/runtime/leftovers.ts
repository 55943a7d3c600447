import { setTimeout as sleep } from 'node:timers/promises';
import { type CgroupLayout, cgroupPids, removeCgroup } from '../host/cgroup.ts';
import { isAlive, signalProcess } from '../host/processes.ts';
import { monitorCgroupOf, type ProcessId, type RunFacts } from './bundle.ts';
import { isRunning } from './exits.ts';

/** What a process has to end in: by itself, or once it is killed. */
const EMPTY_MS = 2000;
const LOOK_MS = 5;

/** What a runtime may leave: processes in its cgroup (where the container had no pid namespace), monitors, cgroups. */
export async function removeLeft(cgroups: CgroupLayout, { cgroup, monitor }: RunFacts): Promise<void> {
  const alive = async (group: string) =>
    (await cgroupPids(cgroups, group)).filter((pid) => isAlive(pid)).map((pid) => ({ pid }));
  await empty(() => alive(cgroup), { isKilling: true });
  const monitorCgroup = monitorCgroupOf(cgroup);
  const monitors = async () => [...(await alive(monitorCgroup)), ...(isRunning(monitor) ? [monitor] : [])];
  // they end by themselves, once they have handed on the last output and the exit code
  await empty(monitors, { isKilling: false });
  await empty(monitors, { isKilling: true });
  await removeCgroup(cgroups, cgroup);
  await removeCgroup(cgroups, monitorCgroup);
}

/** Waits until there are no more of these processes, for two seconds at most; killing takes those that are born meanwhile. */
async function empty(list: () => Promise<ProcessId[]>, { isKilling }: { isKilling: boolean }): Promise<void> {
  for (let waitedMs = 0; waitedMs < EMPTY_MS; waitedMs += LOOK_MS) {
    const processes = await list();
    if (processes.length === 0) return;
    if (isKilling) for (const { pid, startTicks } of processes) signalProcess(pid, 'SIGKILL', startTicks);
    await sleep(LOOK_MS);
  }
}
