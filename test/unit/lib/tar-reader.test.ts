import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readTar } from '../../../src/lib/tar-reader.ts';
import { archive, type Member, paxRecords } from '../../support/tar-archive.ts';

const members: Member[] = [
  { name: 'dir/', type: '5' },
  { name: 'dir/a', content: 'first' },
  { name: 'empty' },
  { name: 'link', type: '2', linkName: 'dir/a' },
  { name: 'big', content: Buffer.alloc(100_000, 'x') },
];

async function* pieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function textOf(content: AsyncIterable<Buffer>): Promise<string> {
  let text = '';
  for await (const bytes of content) text += bytes.toString();
  return text;
}

test('members come in order, in pieces of any size', async () => {
  for (const size of [1, 511, 512, 513, 4096, 1 << 20]) {
    const found: [string, string, string][] = [];
    for await (const { entry, content } of readTar(pieces(archive(members), size)))
      found.push([entry.type, entry.name, await textOf(content)]);
    assert.deepEqual(found, [
      ['directory', 'dir/', ''],
      ['file', 'dir/a', 'first'],
      ['file', 'empty', ''],
      ['symlink', 'link', ''],
      ['file', 'big', 'x'.repeat(100_000)],
    ]);
  }
});

test('what nobody takes is passed over, wholly or in part', async () => {
  const names: string[] = [];
  for await (const { entry, content } of readTar(pieces(archive(members), 1000))) {
    names.push(entry.name);
    if (entry.name === 'big') for await (const _ of content) break;
  }
  assert.deepEqual(names, ['dir/', 'dir/a', 'empty', 'link', 'big']);
});

test('a taker that leaves ends the input', async () => {
  let isEnded = false;
  const input = async function* () {
    try {
      yield* pieces(archive(members), 512);
    } finally {
      isEnded = true;
    }
  };
  for await (const { entry } of readTar(input())) if (entry.name === 'dir/a') break;
  assert.ok(isEnded);
});

test('a taker that leaves does not wait for a piece that may never come', async () => {
  const input = async function* () {
    yield archive(members).subarray(0, 100_000);
    await new Promise(() => {});
  };
  for await (const { entry, content } of readTar(input())) {
    if (entry.name !== 'big') continue;
    const pieces = content[Symbol.asyncIterator]();
    await pieces.next();
    pieces.next().catch(() => {});
    break;
  }
});

test('no tar, a cut one and a sparse file are refused', async () => {
  const whole = archive(members);
  const sparse = archive([
    {
      name: 'PaxHeaders/x',
      type: 'x',
      content: paxRecords({
        'GNU.sparse.major': '0',
        'GNU.sparse.minor': '1',
        'GNU.sparse.map': '4,1',
        'GNU.sparse.size': '1000',
      }),
    },
    { name: 'holes', content: 'x' },
  ]);
  for (const bytes of [
    Buffer.alloc(600, 'no tar'),
    whole.subarray(0, 3000),
    whole.subarray(0, 700),
    sparse,
  ]) {
    const reading = (async () => {
      for await (const _ of readTar(pieces(bytes, 512)));
    })();
    await assert.rejects(reading, { code: 'CORRUPT', message: /^invalid tar: / });
  }
});
