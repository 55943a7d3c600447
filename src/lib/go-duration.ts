const unitMs: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  '\u00b5s': 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** Milliseconds of a duration as Go writes it: `1h30m`, `90s`, `-1.5h`; undefined for anything else. */
export function parseGoDuration(text: string): number | undefined {
  const parts = /^([+-]?)((?:\d+(?:\.\d*)?(?:ns|us|\u00b5s|ms|s|m|h))+)$/.exec(text);
  if (text === '0') return 0;
  if (parts === null) return undefined;
  let ms = 0;
  for (const [, number, unit = ''] of (parts[2] ?? '').matchAll(/(\d+(?:\.\d*)?)(ns|us|\u00b5s|ms|s|m|h)/g)) {
    ms += Number(number) * (unitMs[unit] ?? 0);
  }
  return parts[1] === '-' ? -ms : ms;
}

/** A span of time as Go writes it: `1m2.5s`, `12.25ms`; to the microsecond. */
export function formatGoDuration(ms: number): string {
  const rounded = Math.round(ms * 1000) / 1000;
  if (rounded === 0) return '0s';
  if (rounded < 1) return `${Math.round(rounded * 1000)}\u00b5s`;
  if (rounded < 1000) return `${rounded}ms`;
  const seconds = Math.round((rounded % 60_000) * 1000) / 1_000_000;
  const minutes = Math.floor(rounded / 60_000);
  if (minutes === 0) return `${seconds}s`;
  return minutes < 60 ? `${minutes}m${seconds}s` : `${Math.floor(minutes / 60)}h${minutes % 60}m${seconds}s`;
}
