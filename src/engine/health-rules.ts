import type { ContainerConfig, Healthcheck } from './model.ts';

/** How a container is, as far as its check can tell. */
export interface Health {
  readonly status: 'starting' | 'healthy' | 'unhealthy';
  /** Failures since the last success, those of the start period not counted. */
  readonly failingStreak: number;
  /** The last five, the oldest first. */
  readonly log: readonly HealthResult[];
}

export interface HealthResult {
  /** RFC 3339 with nanoseconds, as `end`. */
  readonly start: string;
  readonly end: string;
  /** -1 for a probe that could not be run, or took too long. */
  readonly exitCode: number;
  readonly output: string;
}

// dockerd: daemon/health.go
const INTERVAL_MS = 30_000;
const START_INTERVAL_MS = 5000;
const TIMEOUT_MS = 30_000;
const RETRIES = 3;
const KEPT = 5;
/** Timers of Node that are longer than this fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** What is run to ask a container how it is; undefined if nothing is to be asked. */
export function commandOfCheck({
  healthcheck,
  shell,
}: Pick<ContainerConfig, 'healthcheck' | 'shell'>): string[] | undefined {
  const [kind, ...words] = healthcheck?.test ?? [];
  if (kind === 'CMD') return words;
  if (kind === 'CMD-SHELL') return [...(shell?.length ? shell : ['/bin/sh', '-c']), ...words];
  return undefined; // NONE, and what nobody knows
}

/** How long after the last probe, or the start, the next one comes. `ageMs` is the time since the start. */
export function nextProbeMs(check: Healthcheck, status: Health['status'], ageMs: number): number {
  const isInStart = status === 'starting' && ageMs < msOf(check.startPeriod, 0);
  return isInStart ? msOf(check.startInterval, START_INTERVAL_MS) : msOf(check.interval, INTERVAL_MS);
}

export function probeTimeoutMs(check: Healthcheck | undefined): number {
  return msOf(check?.timeout, TIMEOUT_MS);
}

/** What a result makes of what was known. `ageMs` is the time from the container's start to that of the probe. */
export function afterProbe(before: Health, result: HealthResult, check: Healthcheck, ageMs: number): Health {
  const log = [...before.log, result].slice(-KEPT);
  if (result.exitCode === 0) return { status: 'healthy', failingStreak: 0, log };
  // one that was never well is given time for it
  if (before.status === 'starting' && ageMs < msOf(check.startPeriod, 0)) return { ...before, log };
  const failingStreak = before.failingStreak + 1;
  const isOut = failingStreak >= (check.retries || RETRIES);
  return { status: isOut ? 'unhealthy' : before.status, failingStreak, log };
}

/** From nanoseconds; 0 means the default. */
function msOf(nanos: number | undefined, defaultMs: number): number {
  return Math.min(nanos ? nanos / 1e6 : defaultMs, MAX_TIMER_MS);
}
