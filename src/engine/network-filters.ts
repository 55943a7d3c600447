import { fail } from '../errors.ts';
import { type Filters, hasLabels, passes } from './filters.ts';
import { isPredefined, type NetworkRecord } from './network-records.ts';

const known: ReadonlySet<string> = new Set(['dangling', 'driver', 'id', 'label', 'name', 'scope', 'type']);

/** The networks that a list shows. Throws 400, and 500 for an unknown type, as dockerd does. */
export function selectNetworks(
  all: readonly NetworkRecord[],
  filters: Filters,
  isUsed: (record: NetworkRecord) => boolean,
): NetworkRecord[] {
  for (const key of filters.keys()) if (!known.has(key)) throw fail.badRequest(`invalid filter '${key}'`);
  const isDangling = danglingOf(filters);
  const types = filters.get('type') ?? [];
  for (const type of types)
    if (type !== 'builtin' && type !== 'custom') throw fail.network(`invalid filter: 'type'='${type}'`);
  return all.filter(
    (record) =>
      passes(filters, 'driver', (wanted) => wanted === record.driver) &&
      passes(filters, 'name', (wanted) => matches(record.name, wanted)) &&
      passes(filters, 'id', (wanted) => matches(record.id, wanted)) &&
      passes(filters, 'scope', (wanted) => wanted === record.scope) &&
      hasLabels(filters, record.labels) &&
      (isDangling === undefined || isDangling !== (isPredefined(record.name) || isUsed(record))) &&
      passes(filters, 'type', (wanted) => (wanted === 'builtin') === isPredefined(record.name)),
  );
}

function danglingOf(filters: Filters): boolean | undefined {
  const [value, another] = filters.get('dangling') ?? [];
  if (another !== undefined) throw fail.badRequest('got more than one value for filter key "dangling"');
  if (value === undefined) return undefined;
  if (value === '1' || value === 'true') return true;
  if (value === '0' || value === 'false') return false;
  throw fail.badRequest(
    'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")',
  );
}

/** dockerd takes the value as it is, or as a regular expression; one that is none matches only itself. */
function matches(text: string, wanted: string): boolean {
  if (text === wanted) return true;
  try {
    return new RegExp(wanted).test(text);
  } catch {
    return false;
  }
}
