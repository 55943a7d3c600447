const units = ['B', 'kB', 'MB', 'GB', 'TB'];

/** Bytes as people read them, to four digits and powers of 1000: `28.23MB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${Number(value.toPrecision(4))}${units[unit]}`;
}

/** The bar that Docker's clients of old print as it comes: `[=====>     ]  12.3MB/28.23MB`. */
export function progressBar(current: number, total: number): string {
  if (current <= 0 && total <= 0) return '';
  const text = formatBytes(current);
  if (total <= 0 || current > total) return text.padStart(8);
  const done = Math.floor((current * 50) / total);
  const bar = `${'='.repeat(done)}>${' '.repeat(Math.max(0, 50 - done))}`;
  return `[${bar}] ${text.padStart(8)}/${formatBytes(total)}`;
}
