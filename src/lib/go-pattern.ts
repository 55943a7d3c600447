import { runInNewContext } from 'node:vm';

const MAX_MATCHING_MS = 100;
/** Words, dots and anchors: such a pattern takes no longer than its subject is long. */
const harmless = /^[\w./^$-]*$/;

/**
 * The names that a client's pattern, written for Go, is found in. It runs apart and against the clock: some take longer
 * than the sun has left. Throws for a pattern that is none, or takes too long.
 */
export function matching(pattern: string, names: readonly string[]): string[] {
  if (harmless.test(pattern)) {
    const plain = new RegExp(pattern);
    return names.filter((name) => plain.test(name));
  }
  const [, flags = '', rest = ''] = /^(?:\(\?([ims]+)\))?(.*)$/s.exec(pattern) ?? []; // Go's way to give flags
  const source = rest.replaceAll('(?P<', '(?<');
  const bits = runInNewContext(
    'const pattern = new RegExp(source, flags); names.map((name) => (pattern.test(name) ? "1" : "0")).join("")',
    { names, source, flags },
    { timeout: MAX_MATCHING_MS },
  );
  return names.filter((_, at) => String(bits)[at] === '1');
}
