import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { withResolvers } from '../../../src/lib/promises.ts';
import { formatNanos } from '../../../src/lib/time.ts';
import { type LogLine, type LogQuery, readLog } from '../../../src/runtime/logs.ts';

const START = 1_795_208_105_000_000_000n;
const both = { stdout: true, stderr: true };

/** One read(2) of conmon's from one of its pipes. */
type Chunk = readonly [stream: 1 | 2, text: string];

/** What conmon writes for it: each line a record, the same time for all; `at` counts seconds. */
function recordsOf([stream, text]: Chunk, at: number): string {
  const head = `${formatNanos(START + BigInt(at) * 1_000_000_000n)} ${stream === 1 ? 'stdout' : 'stderr'}`;
  return text
    .split(/(?<=\n)/)
    .filter((line) => line !== '')
    .map((line) => (line.endsWith('\n') ? `${head} F ${line}` : `${head} P ${line}\n`))
    .join('');
}

const fileOf = (chunks: readonly Chunk[]) => chunks.map(recordsOf).join('');

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'skt-logs-'));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

async function read(path: string, query: Partial<LogQuery> = {}): Promise<LogLine[]> {
  const lines: LogLine[] = [];
  for await (const line of readLog(path, { ...both, ...query })) lines.push(line);
  return lines;
}

const textOf = (lines: readonly LogLine[], stream?: 1 | 2) =>
  lines
    .filter((line) => stream === undefined || line.stream === stream)
    .map(({ data }) => data.toString())
    .join('');

const chunkArbitrary: fc.Arbitrary<Chunk> = fc.tuple(
  fc.constantFrom(1 as const, 2 as const),
  fc
    .array(fc.constantFrom('a', '\n', ' ', 'F ', 'P ', 'long'.repeat(700), 'ü'), {
      minLength: 1,
      maxLength: 12,
    })
    .map((words) => words.join('')),
);

test('whatever a process writes is read back as it was, in lines', async (t) => {
  const place = directory(t);
  let run = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(chunkArbitrary, { maxLength: 30 }), async (chunks) => {
      const path = join(place, `log-${run++}`);
      writeFileSync(path, fileOf(chunks));
      const lines = await read(path);
      for (const stream of [1, 2] as const) {
        const written = chunks.filter(([of]) => of === stream).map(([, text]) => text);
        assert.equal(textOf(lines, stream), written.join(''));
      }
      for (const { data } of lines) {
        assert.ok(data.indexOf('\n') === -1 || data.indexOf('\n') === data.length - 1);
        assert.ok(data.length < 16384 + 8192 * 12);
      }
    }),
    { numRuns: 150 },
  );
});

test('the tail is the end of the whole, over all generations, packed and plain', async (t) => {
  const place = directory(t);
  let run = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(chunkArbitrary, { maxLength: 20 }),
      fc.array(fc.nat(20), { maxLength: 3 }),
      fc.nat(30),
      async (chunks, cuts, tail) => {
        const path = join(place, `log-${run++}`);
        // one stream: with two, a line's parts may be on both sides of any cut
        const lines = chunks.map(([, text]): Chunk => [1, text.endsWith('\n') ? text : `${text}\n`]);
        let from = 0;
        for (const [at, cut] of cuts.sort((a, b) => a - b).entries()) {
          const bytes = Buffer.from(fileOf(lines.slice(from, cut)));
          if (at % 2 === 0) writeFileSync(`${path}.${at + 1}.gz`, gzipSync(bytes));
          else writeFileSync(`${path}.${at + 1}`, bytes);
          from = cut;
        }
        writeFileSync(path, fileOf(lines.slice(from)));
        const all = lines
          .map(([, text]) => text)
          .join('')
          .split(/(?<=\n)/);
        const expected = tail === 0 ? [] : all.slice(-tail);
        assert.equal(textOf(await read(path, { tail })), expected.join(''));
      },
    ),
    { numRuns: 150 },
  );
});

test('the tail of a large file with records across block ends', async (t) => {
  const path = join(directory(t), 'log');
  const lines = Array.from(
    { length: 5000 },
    (_, n): Chunk => [n % 3 === 0 ? 2 : 1, `${n} ${'x'.repeat(n % 97)}\n`],
  );
  writeFileSync(path, fileOf(lines));
  for (const tail of [1, 2, 500, 4999, 5000, 6000])
    assert.equal(
      textOf(await read(path, { tail })),
      lines
        .slice(-tail)
        .map(([, text]) => text)
        .join(''),
    );
});

test('an unfinished last line is a line', async (t) => {
  const path = join(directory(t), 'log');
  writeFileSync(
    path,
    fileOf([
      [1, 'one\ntwo\nthr'],
      [1, 'ee'],
    ]),
  );
  assert.equal(textOf(await read(path, { tail: 1 })), 'three');
  assert.equal(textOf(await read(path, { tail: 2 })), 'two\nthree');
});

test('a line without end is given in pieces', async (t) => {
  const path = join(directory(t), 'log');
  const piece = 'y'.repeat(8192);
  writeFileSync(path, fileOf(Array.from({ length: 9 }, (): Chunk => [1, piece])));
  const lines = await read(path);
  assert.deepEqual(
    lines.map(({ data }) => data.length),
    [16384, 16384, 16384, 16384, 8192],
  );
});

test('streams and times choose', async (t) => {
  const path = join(directory(t), 'log');
  writeFileSync(
    path,
    fileOf([
      [1, 'a\n'],
      [2, 'b\n'],
      [1, 'c\n'],
      [2, 'd\n'],
    ]),
  );
  const second = (n: number) => START + BigInt(n) * 1_000_000_000n;
  assert.equal(textOf(await read(path, { stdout: false })), 'b\nd\n');
  assert.equal(textOf(await read(path, { stderr: false })), 'a\nc\n');
  assert.equal(textOf(await read(path, { since: second(1), until: second(2) })), 'b\nc\n');
  assert.deepEqual((await read(path))[3]?.timeNanos, second(3));
  // as dockerd: the tail counts lines of both streams
  assert.equal(textOf(await read(path, { tail: 1, stderr: false })), '');
});

test('junk, a torn record and no file at all', async (t) => {
  const path = join(directory(t), 'log');
  assert.deepEqual(await read(path), []);
  assert.deepEqual(await read(join(path, 'x')).catch(() => 'failed'), []);
  writeFileSync(
    path,
    `junk\n\n${fileOf([[1, 'a\n']])}${'z'.repeat(600_000)}\n${fileOf([[1, 'b\n']])}2026-11-20T20:55`,
  );
  assert.equal(textOf(await read(path)), 'a\nb\n');
});

/** Reads along in the background. */
function follow(t: TestContext, path: string, query: Partial<LogQuery> = {}) {
  const { promise: ended, resolve: end } = withResolvers<void>();
  const abort = new AbortController();
  t.after(() => abort.abort());
  let text = '';
  const done = (async () => {
    for await (const { data } of readLog(path, { ...both, ended, signal: abort.signal, ...query }))
      text += data;
  })();
  const reaches = async (wanted: string) => {
    for (let tries = 0; text !== wanted && tries < 200; tries++) await sleep(10);
    assert.equal(text, wanted);
  };
  return { end, abort: () => abort.abort(), done, reaches };
}

test('following: later lines, a file that comes later, the end', async (t) => {
  const path = join(directory(t), 'log');
  const reader = follow(t, path);
  await sleep(30);
  writeFileSync(path, fileOf([[1, 'one\n']]));
  await reader.reaches('one\n');
  const [head = '', rest = ''] = fileOf([[1, 'two\n']]).split(/(?<=stdout)/);
  appendFileSync(path, head);
  await sleep(20);
  await reader.reaches('one\n');
  appendFileSync(path, rest);
  await reader.reaches('one\ntwo\n');
  appendFileSync(path, fileOf([[1, 'last, without newline']]));
  reader.end();
  await reader.done;
  await reader.reaches('one\ntwo\nlast, without newline');
});

test('following: over a rotation, a file put in its place and a truncation', async (t) => {
  const path = join(directory(t), 'log');
  writeFileSync(path, fileOf([[1, '1\n']]));
  const reader = follow(t, path, { tail: 0 });
  await sleep(50);
  appendFileSync(path, fileOf([[1, '2\n']]));
  rmSync(path); // its other name stays
  writeFileSync(path, fileOf([[1, '3\n']]));
  await reader.reaches('2\n3\n');
  writeFileSync(`${path}.tmp`, fileOf([[1, '4\n']])); // as conmon does when the file is full
  renameSync(`${path}.tmp`, path);
  await reader.reaches('2\n3\n4\n');
  truncateSync(path);
  await sleep(50);
  appendFileSync(path, fileOf([[1, '5\n']]));
  await reader.reaches('2\n3\n4\n5\n');
  reader.end();
  await reader.done;
});

test('following: a client that leaves ends the reading', async (t) => {
  const path = join(directory(t), 'log');
  writeFileSync(path, fileOf([[1, '1\n']]));
  const reader = follow(t, path);
  await reader.reaches('1\n');
  reader.abort();
  await reader.done;
});

test('following: ends at once where everything has ended', async (t) => {
  const path = join(directory(t), 'log');
  writeFileSync(path, fileOf([[1, '1\n']]));
  const lines = await read(path, { ended: Promise.resolve() });
  assert.equal(textOf(lines), '1\n');
});

test('a part of a line in one generation and the rest in the next: one line, and one of the tail', async (t) => {
  const path = join(directory(t), 'log');
  writeFileSync(
    `${path}.1`,
    fileOf([
      [1, 'a\n'],
      [1, 'begun '],
    ]),
  );
  writeFileSync(path, fileOf([[1, 'and ended\nc\n']]));
  assert.equal(textOf(await read(path, { tail: 2 })), 'begun and ended\nc\n');
  assert.equal(textOf(await read(path, { tail: 3 })), 'a\nbegun and ended\nc\n');
});
