import { codeOf, fail } from '../errors.ts';
import { withResolvers } from '../lib/promises.ts';
import { parseSignal } from '../lib/signals.ts';
import type { ContainerRecord } from './model.ts';

export const SIGKILL = 9;
const SIGTERM = 15;
/** After SIGKILL a process that is not stuck in the kernel is gone long before this. */
const KILL_WAIT_MS = 10_000;
/** Timers of Node that are longer than this fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** A process that is to be ended: how to signal it, and its exit, waited for since before the first signal. */
export interface Mortal {
  id: string;
  exit: Promise<unknown>;
  /** Throws `NOT_RUNNING` once it is gone. */
  send(signal: number): Promise<void>;
}

/** Signals until it is gone: with the given one, then SIGKILL after the timeout; without one it is waited for. */
export async function endProcess(
  { id, exit, send }: Mortal,
  signal: number,
  timeoutMs?: number,
  { killWaitMs = KILL_WAIT_MS }: { killWaitMs?: number } = {},
): Promise<void> {
  const gone = exit.then(() => true);
  gone.catch(() => {}); // whoever waits for it no longer has given it up
  const isGoneWithin = async (ms: number) => {
    const { promise, resolve } = withResolvers<false>();
    const timer = setTimeout(() => resolve(false), Math.min(ms, MAX_TIMER_MS)).unref();
    return Promise.race([gone, promise]).finally(() => clearTimeout(timer));
  };
  try {
    await send(signal);
    if (signal !== SIGKILL) {
      if (timeoutMs === undefined ? await gone : await isGoneWithin(timeoutMs)) return;
      await send(SIGKILL);
    }
  } catch (cause) {
    if (codeOf(cause) !== 'NOT_RUNNING') throw cause; // it has ended by itself: its exit is on the way
  }
  if (!(await isGoneWithin(killWaitMs)))
    throw fail.runtime(`container ${id} did not exit within ${killWaitMs / 1000}s of the kill`);
}

/** What asks this container to stop. An image may name any nonsense: it must be stoppable all the same. */
export function stopSignalOf({ config }: ContainerRecord): number {
  try {
    return parseSignal(config.stopSignal || 'SIGTERM');
  } catch {
    return SIGTERM;
  }
}
