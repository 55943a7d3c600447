import { setTimeout as sleep } from 'node:timers/promises';

const LONGEST_PAUSE_MS = 30_000;

/**
 * The pause before a new try, after `failures` in a row that brought nothing: none after 0, then `baseMs`, doubled
 * each time up to 30 s. Half of it is chance, so that a fleet that was cut off together does not come back together.
 */
export function pauseMs(failures: number, baseMs: number, chance: number = Math.random()): number {
  if (failures <= 0) return 0;
  const full = Math.min(baseMs * 2 ** (failures - 1), LONGEST_PAUSE_MS);
  return Math.round(full * (0.5 + chance / 2));
}

/** Milliseconds that a `Retry-After` asks for, as seconds or as a date (RFC 9110, 10.2.3); undefined if it is neither. */
export function parseRetryAfter(text: string | undefined, nowMs: number = Date.now()): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.max(0, at - nowMs);
}

/** Waits, and tells once a second how many seconds are left. */
export async function countDown(
  ms: number,
  o: { onTick?: ((secondsLeft: number) => void) | undefined; signal: AbortSignal },
): Promise<void> {
  for (let left = ms; left > 0; left -= 1000) {
    o.onTick?.(Math.ceil(left / 1000));
    await sleep(Math.min(left, 1000), undefined, { signal: o.signal });
  }
}
