import { fail } from '../errors.ts';
import { type Filters, hasLabels, namesMeant, passes } from './filters.ts';
import { LOCAL_DRIVER } from './volume-options.ts';

const known = ['dangling', 'driver', 'label', 'name'];

/** The volumes that a list shows. Throws 400 in dockerd's words for filters that make no sense. */
export function selectVolumes<T extends { name: string; labels: Record<string, string> | null }>(
  all: readonly T[],
  filters: Filters,
  isUsed: (name: string) => boolean,
): T[] {
  for (const key of filters.keys())
    if (!known.includes(key)) throw fail.badRequest(`invalid filter '${key}'`);
  const isDangling = danglingOf(filters);
  const names = namesMeant(
    filters,
    'name',
    all.map(({ name }) => name),
  );
  return all.filter(
    ({ name, labels }) =>
      passes(filters, 'driver', (wanted) => wanted === LOCAL_DRIVER) &&
      (names === undefined || names.has(name)) &&
      hasLabels(filters, labels) &&
      (isDangling === undefined || isDangling !== isUsed(name)),
  );
}

function danglingOf(filters: Filters): boolean | undefined {
  const values = filters.get('dangling');
  if (values === undefined) return undefined;
  if (values.length === 0) throw fail.badRequest("invalid filter 'dangling'");
  const [isTrue, isFalse] = [
    ['1', 'true'],
    ['0', 'false'],
  ].map((words) => words.some((word) => values.includes(word)));
  if (isTrue === isFalse) throw fail.badRequest(`invalid filter 'dangling=[${values.join(' ')}]'`);
  return isTrue;
}
