/**
 * Commits numbered batches for ever, four at a time, until it is killed: batch N writes its three parts and removes
 * those of batch N - 40. The number of each acknowledged batch goes to stdout. argv: data root, first number.
 */
import { writeSync } from 'node:fs';
import { openStore } from '../../unit/store/fixtures.ts';
import { keep, lanes, partKeys } from './batches.ts';

const [dataRoot = '', first = '0'] = process.argv.slice(2);
const store = await openStore(dataRoot);
const table = store.table<{ n: number; text: string }>('containers');
let next = Number(first);
writeSync(1, 'ready\n');

async function commitForEver(): Promise<never> {
  for (;;) {
    const n = next++;
    const text = String(n).repeat(1 + ((n * 37) % 900));
    await store.commit([
      ...partKeys(n).map((key) => table.put(key, { n, text })),
      ...partKeys(n - keep).map((key) => table.remove(key)),
    ]);
    writeSync(1, `${n}\n`);
  }
}
await Promise.all(Array.from({ length: lanes }, commitForEver));
