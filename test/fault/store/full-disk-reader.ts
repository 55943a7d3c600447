/** Opens the store on a disk that is full, and prints the keys that are there as one JSON line. argv: data root. */
import { openStore } from '../../unit/store/fixtures.ts';

const [dataRoot = ''] = process.argv.slice(2);
await using store = await openStore(dataRoot, { writeBufferBytes: 1 << 20 });
const keys: string[] = [];
for await (const [key] of store.table<{ text: string }>('containers').entries()) keys.push(key);
console.log(JSON.stringify({ keys, wasRebuilt: store.wasRebuilt }));
