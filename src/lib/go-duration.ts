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
