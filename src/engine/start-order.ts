import { linkedChildren } from './container-links.ts';
import type { ContainerRecords } from './container-records.ts';
import type { ContainerRecord } from './model.ts';
import { donorsOf } from './namespaces.ts';

/**
 * All containers, each behind those that must run before it: whose namespaces it joins, and to which it is linked.
 * Those that need each other in a circle come in any order.
 */
export function inStartOrder(records: Pick<ContainerRecords, 'all' | 'get' | 'find'>): ContainerRecord[] {
  const seen = new Set<string>();
  const ordered: ContainerRecord[] = [];
  const place = (record: ContainerRecord) => {
    if (seen.has(record.id)) return;
    seen.add(record.id);
    for (const needed of donorsOf(record, (ref) => records.find(ref))) place(needed);
    for (const needed of linkedChildren(record, records)) place(needed);
    ordered.push(record);
  };
  for (const record of records.all()) place(record);
  return ordered;
}
