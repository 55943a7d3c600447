import { fail } from '../errors.ts';
import { type Filters, hasLabels, namesMeant, passes } from './filters.ts';
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
  const [names, ids] = (['name', 'id'] as const).map((key) =>
    namesMeant(
      filters,
      key,
      all.map((record) => record[key]),
    ),
  );
  return all.filter(
    (record) =>
      passes(filters, 'driver', (wanted) => wanted === record.driver) &&
      (names === undefined || names.has(record.name)) &&
      (ids === undefined || ids.has(record.id)) &&
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
