import assert from 'node:assert/strict';
import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { silentLog } from '../../../src/lib/log.ts';
import { JournalSender, makeJournalSpool } from '../../../src/runtime/journal-sender.ts';
import { DatagramSink } from '../../support/datagram-sink.ts';

const epoch = 'e'.repeat(64);
const fields = { CONTAINER_ID_FULL: 'c'.repeat(64), SITE: 'a\nb' };

/** A run whose conmon the test is. */
class Run {
  readonly directory: string;
  readonly path: string;
  readonly socketPath: string;
  #lines = 0;

  constructor(t: TestContext) {
    this.directory = mkdtempSync(join(tmpdir(), 'skt-journal-'));
    t.after(() => rmSync(this.directory, { recursive: true, force: true }));
    this.path = makeJournalSpool(this.directory).path;
    this.socketPath = join(this.directory, 'socket');
  }

  begin(): JournalSender {
    return JournalSender.begin(this.directory, { fields, epoch, socketPath: this.socketPath }, silentLog);
  }

  write(stream: 'stdout' | 'stderr', tag: 'F' | 'P', text: string): void {
    const time = `2026-11-20T20:55:05.${100 + (this.#lines++ % 900)}000000+00:00`;
    appendFileSync(this.path, `${time} ${stream} ${tag} ${text}\n`);
  }

  /** As conmon when its file is full. */
  rotate(): void {
    writeFileSync(`${this.path}.tmp`, '');
    renameSync(`${this.path}.tmp`, this.path);
  }
}

const texts = (entries: Map<string, string>[]) => entries.map((entry) => entry.get('MESSAGE'));

test('an entry has its line, where it is from, when it was written and what all have', async (t) => {
  const run = new Run(t);
  using sink = new DatagramSink(run.socketPath);
  await using _sender = run.begin();
  run.write('stdout', 'F', 'first = one');
  run.write('stderr', 'F', '');
  const [first, second] = await sink.take(2);
  assert.deepEqual(Object.fromEntries(first ?? []), {
    ...fields,
    CONTAINER_LOG_EPOCH: epoch,
    CONTAINER_LOG_ORDINAL: '1',
    MESSAGE: 'first = one',
    PRIORITY: '6',
    SYSLOG_TIMESTAMP: '2026-11-20T20:55:05.1Z',
  });
  assert.deepEqual([second?.get('MESSAGE'), second?.get('PRIORITY')], ['', '3']);
});

test('parts are joined for each stream on its own; a line of more than 16 KiB goes in pieces that say so', async (t) => {
  const run = new Run(t);
  using sink = new DatagramSink(run.socketPath);
  await using sender = run.begin();
  run.write('stdout', 'P', 'a');
  run.write('stderr', 'F', 'between');
  run.write('stdout', 'F', 'b');
  for (let part = 0; part < 5; part++) run.write('stdout', 'P', 'x'.repeat(8192));
  run.write('stdout', 'F', 'end');
  run.write('stderr', 'P', 'never ended');
  const entries = await sink.take(5);
  assert.deepEqual(texts(entries.slice(0, 2)), ['between', 'ab']);
  const pieces = entries.slice(2);
  assert.deepEqual(
    pieces.map((piece) => piece.get('MESSAGE')?.length),
    [16384, 16384, 8195],
  );
  const named = (name: string) => pieces.map((piece) => piece.get(`CONTAINER_PARTIAL_${name}`));
  assert.deepEqual(named('ORDINAL'), ['1', '2', '3']);
  assert.deepEqual(named('LAST'), ['false', 'false', 'true']);
  assert.deepEqual(named('MESSAGE'), ['true', 'true', undefined]);
  assert.equal(new Set(named('ID')).size, 1);
  assert.match(named('ID')[0] ?? '', /^[0-9a-f]{64}$/);
  await sender.finish();
  const [last] = await sink.take(1);
  assert.deepEqual([last?.get('MESSAGE'), last?.has('CONTAINER_PARTIAL_ID')], ['never ended', false]);
  assert.equal(sender.mark.ordinal, 6);
});

test('a daemon that is stopped anywhere, over rotations too: each line once, parts put together', async (t) => {
  const run = new Run(t);
  using sink = new DatagramSink(run.socketPath);
  const expected: string[] = [];
  const got: Map<string, string>[] = [];
  for (let round = 0; round < 12; round++) {
    const sender = run.begin();
    const lines = [`out ${round}`, `err ${round}`, `long ${round}`];
    run.write('stdout', 'F', lines[0] ?? '');
    run.write('stdout', 'P', `long `);
    if (round % 3 === 0) {
      got.push(...(await sink.take(1)));
      await sender[Symbol.asyncDispose]();
    }
    run.write('stderr', 'F', lines[1] ?? '');
    const next = round % 3 === 0 ? run.begin() : sender;
    if (round % 2 === 0) {
      got.push(...(await sink.take(round % 3 === 0 ? 1 : 2)));
      run.rotate();
    }
    run.write('stdout', 'F', `${round}`);
    expected.push(...lines);
    got.push(...(await sink.take(expected.length - got.length)));
    await next[Symbol.asyncDispose]();
  }
  assert.equal(sink.poll(), undefined);
  assert.deepEqual(texts(got).sort(), expected.sort());
  const ordinals = got.map((entry) => Number(entry.get('CONTAINER_LOG_ORDINAL')));
  assert.deepEqual(
    ordinals,
    ordinals.map((_, at) => at + 1),
  );
  assert.ok(readdirSync(join(run.directory, 'spool')).length <= 3, 'files that were passed on are gone');
});

test('a journal that takes nothing: the spool keeps within its bound; what is in it comes when there is room', async (t) => {
  const run = new Run(t);
  using sink = new DatagramSink(run.socketPath);
  const sender = run.begin();
  const line = 'x'.repeat(8000);
  let most = 0;
  for (let file = 0; file < 8; file++) {
    for (let n = 0; n < 128; n++) run.write('stdout', 'F', line);
    await sleep(30);
    const sizes = readdirSync(join(run.directory, 'spool')).map((name) =>
      statSync(join(run.directory, 'spool', name), { throwIfNoEntry: false }),
    );
    const byInode = new Map(sizes.map((stats) => [stats?.ino, stats?.size ?? 0]));
    most = Math.max(
      most,
      [...byInode.values()].reduce((sum, size) => sum + size, 0),
    );
    run.rotate();
  }
  assert.ok(most <= 4 << 20, `${most} bytes`);
  run.write('stdout', 'F', 'the last one');
  let entry: Map<string, string> | undefined;
  for (let count = 0; entry?.get('MESSAGE') !== 'the last one'; count++) {
    assert.ok(count < 1024);
    [entry] = await sink.take(1);
  }
  await sender.finish();
});

test('a journal that is restarted: what it did not take goes to the new one', async (t) => {
  const run = new Run(t);
  const first = new DatagramSink(run.socketPath);
  await using _sender = run.begin();
  run.write('stdout', 'F', '1');
  assert.deepEqual(texts(await first.take(1)), ['1']);
  first[Symbol.dispose]();
  run.write('stdout', 'F', '2');
  run.write('stdout', 'F', '3');
  await sleep(50);
  using second = new DatagramSink(run.socketPath);
  assert.deepEqual(texts(await second.take(2)), ['2', '3']);
});
