import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { journalEntries, journalField, journalFieldName } from '../../../src/lib/journal-entry.ts';

/** Cut wherever: a pipe keeps no bounds. */
async function* inPieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

const name = fc.stringMatching(/^[A-Z][A-Z0-9_]{0,9}$/);
const value = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes));
const entries = fc.array(fc.dictionary(name, value, { minKeys: 1, maxKeys: 4 }), { maxLength: 4 });

test('what is written as fields is read back, whatever bytes it has and however it is cut', async () => {
  await fc.assert(
    fc.asyncProperty(entries, fc.integer({ min: 1, max: 64 }), async (all, size) => {
      const bytes = all.map((entry) =>
        Buffer.concat([
          ...Object.entries(entry).map(([key, bytes]) => journalField(key, bytes)),
          Buffer.from('\n'),
        ]),
      );
      const read: Record<string, Buffer>[] = [];
      for await (const entry of journalEntries(inPieces(Buffer.concat(bytes), size)))
        read.push(Object.fromEntries([...entry].map(([key, bytes]) => [key, Buffer.from(bytes)])));
      assert.deepEqual(
        read,
        all.map((entry) => ({ ...entry })),
      );
    }),
  );
});

test('what is cut short or no export at all ends, and a length that is meant to hurt throws', async () => {
  const consume = async (bytes: Buffer) => {
    for await (const _ of journalEntries(inPieces(bytes, 1 << 16)));
  };
  await fc.assert(
    fc.asyncProperty(fc.stringMatching(/^[A-Z=\n]{0,60}$/), (text) =>
      consume(Buffer.from(text)).catch(() => {}),
    ),
  );
  const huge = Buffer.concat([Buffer.from('MESSAGE\n'), Buffer.alloc(8, 0x7f), Buffer.from('x')]);
  await assert.rejects(consume(huge), /too long/);
  await assert.rejects(consume(Buffer.alloc(4 << 20, 'x')), /too long/);
  await assert.rejects(
    consume(Buffer.from(Array.from({ length: 2000 }, (_, at) => `F${at}=\n`).join(''))),
    /too many/,
  );
});

test('names of fields are made as dockerd makes them', () => {
  assert.equal(journalFieldName('io.balena.service-name'), 'IO_BALENA_SERVICE_NAME');
  assert.equal(journalFieldName('__x é1'), 'X__1');
  assert.equal(journalFieldName('._-'), '');
});
