import { matching } from '../lib/go-pattern.ts';

/** What a list or a stream is narrowed to: keys are ANDed, the values of one key ORed. */
export type Filters = ReadonlyMap<string, readonly string[]>;

/** True if the key is absent, or one of its values passes. */
export function passes(filters: Filters, key: string, test: (wanted: string) => boolean): boolean {
  const wanted = filters.get(key);
  return wanted === undefined || wanted.length === 0 || wanted.some(test);
}

/**
 * The names that the values of a key mean, each as it is, or as a pattern (Go's) found anywhere in a name; undefined if
 * the key is absent. What is no pattern, or takes too long, means itself alone.
 */
export function namesMeant(
  filters: Filters,
  key: string,
  names: readonly string[],
): ReadonlySet<string> | undefined {
  const wanted = filters.get(key) ?? [];
  if (wanted.length === 0) return undefined;
  const found = wanted.flatMap((pattern) => {
    try {
      return matching(pattern, names);
    } catch {
      return [];
    }
  });
  return new Set([...wanted, ...found]);
}

/** The `label` rule: `key` is there, or `key=value` is exactly so; unlike other keys, all of them must hold. */
export function hasLabels(filters: Filters, labels: Readonly<Record<string, string>> | null): boolean {
  return (filters.get('label') ?? []).every((wanted) => {
    const at = wanted.indexOf('=');
    const key = at < 0 ? wanted : wanted.slice(0, at);
    const value = labels?.[key];
    return value !== undefined && (at < 0 || value === wanted.slice(at + 1));
  });
}
