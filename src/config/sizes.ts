const powers: Readonly<Record<string, number>> = { '': 0, b: 0, k: 1, m: 2, g: 3, t: 4 };

/** Bytes of a size as Docker writes it: `10m`, `512k`, `1.5g`, `10MB`, in powers of 1024; undefined for anything else. */
export function parseSize(text: string): number | undefined {
  const parts = /^(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?$/i.exec(text.trim());
  const power = powers[parts?.[2]?.toLowerCase() ?? '-'];
  return parts === null || power === undefined ? undefined : Math.floor(Number(parts[1]) * 1024 ** power);
}
