/** Go's zero time: what the API prints where nothing has happened yet. */
export const ZERO_TIME = '0001-01-01T00:00:00Z';

let lastNanos = 0n;

/** Wall clock in nanoseconds since 1970, strictly rising within this process so that events keep their order. */
export function nowNanos(): bigint {
  const nanos = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n;
  const wall = BigInt(Date.now()) * 1_000_000n;
  // timeOrigin does not follow steps of the clock: believe it only for the digits below a millisecond
  const drift = nanos > wall ? nanos - wall : wall - nanos;
  const best = drift < 50_000_000n ? nanos : wall;
  lastNanos = best > lastNanos ? best : lastNanos + 1n;
  return lastNanos;
}

/** RFC 3339 in UTC with nanoseconds, trailing zeros dropped, as Go's RFC3339Nano prints. */
export function formatNanos(nanos: bigint): string {
  const second = 1_000_000_000n;
  const part = ((nanos % second) + second) % second; // before 1970, too
  const fraction = part.toString().padStart(9, '0').replace(/0+$/, '');
  const seconds = new Date(Number((nanos - part) / 1_000_000n)).toISOString().slice(0, 19);
  return `${seconds}${fraction === '' ? '' : `.${fraction}`}Z`;
}

/** The present time as {@link formatNanos} prints it. */
export function nowText(): string {
  return formatNanos(nowNanos());
}

/** Nanoseconds since 1970 of an RFC 3339 text, with up to nine decimals; undefined where it is none. */
export function parseNanos(text: string): bigint | undefined {
  const parts = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(text);
  if (parts === null) return undefined;
  const ms = Date.parse(`${parts[1]}${parts[3]}`);
  if (Number.isNaN(ms)) return undefined;
  return BigInt(ms) * 1_000_000n + BigInt((parts[2] ?? '').padEnd(9, '0'));
}
