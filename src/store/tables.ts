/** Every table there is. */
export const tableNames = [
  'meta',
  'images',
  'refs',
  'layers',
  'containers',
  'networks',
  'volumes',
  'leases',
] as const;

/** One kind of record. */
export type TableName = (typeof tableNames)[number];

/** A write that a commit will make. The value is fixed when the change is made, not when it is committed. */
export type Change =
  | { readonly type: 'put'; readonly key: string; readonly value: string }
  | { readonly type: 'del'; readonly key: string };

/** Records of one type by key. Reading a damaged record gives the same as reading none. */
export interface Table<T> {
  get(key: string): Promise<T | undefined>;
  /** In the order of the keys, as they were when the iteration began. */
  entries(o?: { prefix?: string }): AsyncIterable<[string, T]>;
  put(key: string, value: T): Change;
  remove(key: string): Change;
}

/** All records of a table that are whole. */
export async function recordsOf<T>(table: Table<T>): Promise<T[]> {
  const records: T[] = [];
  for await (const [, record] of table.entries()) records.push(record);
  return records;
}

/** A source of tables: what a migration sees of the store. */
export interface Tables {
  table<T extends NonNullable<unknown>>(name: TableName): Table<T>;
}
