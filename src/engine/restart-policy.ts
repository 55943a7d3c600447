import type { ContainerRecord } from './model.ts';

// dockerd: restartmanager
const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 60_000;
/** A run this long ends a series of failures: the next delay is the first one again. */
const SETTLED_MS = 10_000;

/** True if the policy wants another run after this exit. */
export function wantsRestart({ hostConfig, isStoppedByUser, restartCount, state }: ContainerRecord): boolean {
  const { name, maximumRetryCount } = hostConfig.restartPolicy;
  if (isStoppedByUser) return false;
  if (name === 'always' || name === 'unless-stopped') return true;
  if (name !== 'on-failure' || state.exitCode === 0) return false;
  return maximumRetryCount === 0 || restartCount < maximumRetryCount;
}

/** True if the policy wants it up when the engine starts: `always` even after a stop by hand, as dockerd has it. */
export function wantsStartAtBoot(record: ContainerRecord): boolean {
  if (record.state.status === 'created') return false;
  return wantsRestart({
    ...record,
    isStoppedByUser: record.isStoppedByUser && record.hostConfig.restartPolicy.name !== 'always',
  });
}

/** The delay before the next run, doubling from run to run until one of them lasts. In milliseconds. */
export function nextDelayMs(lastDelayMs: number, ranMs: number): number {
  if (lastDelayMs === 0 || ranMs >= SETTLED_MS) return FIRST_DELAY_MS;
  return Math.min(lastDelayMs * 2, MAX_DELAY_MS);
}
