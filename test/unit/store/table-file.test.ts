import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import fc from 'fast-check';
import { Level } from 'level';
import { isWholeTable } from '../../../src/store/table-file.ts';
import { temporaryDirectory } from './fixtures.ts';

const footerBytes = 48;

/** The one table that LevelDB makes of these records. */
async function makeTable(t: TestContext, entries: [string, string][], o: object = {}): Promise<Buffer> {
  const dir = join(await temporaryDirectory(t), 'db');
  for (let round = 0; round < 2; round++) {
    const db = new Level<string, string>(dir, { blockSize: 1024, ...o });
    await db.open(); // the second time, its log becomes a table
    if (round === 0) await db.batch(entries.map(([key, value]) => ({ type: 'put', key, value })));
    await db.close();
  }
  const [name = ''] = (await readdir(dir)).filter((file) => file.endsWith('.ldb'));
  return readFile(join(dir, name));
}

const entries = Array.from({ length: 200 }, (_, n): [string, string] => [
  // long and alike, so that the index is worth compressing
  `containers!${'ab12'.repeat(30)}${String(n).padStart(6, '0')}`,
  JSON.stringify({ n, text: `${n} `.repeat(n) }),
]);

for (const [name, o] of [
  ['compressed', {}],
  ['plain', { compression: false }],
] as const) {
  test(`a ${name} table is whole, and no longer with one byte changed or the end missing`, async (t) => {
    const table = await makeTable(t, entries, o);
    assert.equal(isWholeTable(table), true);
    for (let at = 0; at < table.length - footerBytes; at += 7) {
      const byte = table.readUInt8(at);
      table.writeUInt8(byte ^ (1 << (at % 8)), at);
      assert.equal(isWholeTable(table), false, `at ${at}`);
      table.writeUInt8(byte, at);
    }
    for (let length = 0; length < table.length; length += 13)
      assert.equal(isWholeTable(table.subarray(0, length)), false, `cut at ${length}`);
    assert.equal(isWholeTable(Buffer.concat([table, table])), false);
    assert.equal(isWholeTable(table), true);
  });
}

test('a table of one record is whole', async (t) => {
  assert.equal(isWholeTable(await makeTable(t, [['a', 'b']])), true);
});

test('noise is no table', async (t) => {
  const footer = (await makeTable(t, entries)).subarray(-footerBytes);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (noise, isFooterTrue) => {
      assert.equal(isWholeTable(Buffer.concat(isFooterTrue ? [noise, footer] : [noise])), false);
    }),
  );
});
