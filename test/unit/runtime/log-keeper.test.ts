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
import { LogGenerations, type LogPlan } from '../../../src/runtime/log-generations.ts';
import { LogKeeper } from '../../../src/runtime/log-keeper.ts';
import { readLog } from '../../../src/runtime/logs.ts';

function planIn(t: TestContext, changes: Partial<LogPlan> = {}): LogPlan {
  const directory = mkdtempSync(join(tmpdir(), 'skt-keeper-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return {
    path: join(directory, 'log'),
    generationBytes: 1000,
    limitBytes: 5000,
    compresses: false,
    ...changes,
  };
}

const line = (n: number) => `2026-11-20T20:55:05.000000000+00:00 stdout F line ${n}\n`;

/** Writes as conmon does: into the present file until the next line does not fit; then a new one takes its place. */
class Writer {
  readonly #path: string;
  #roomBytes: number;
  readonly #generationBytes: number;

  constructor(plan: LogPlan) {
    this.#path = plan.path;
    this.#generationBytes = plan.generationBytes;
    this.#roomBytes = new LogGenerations(plan.path).begin(plan);
  }

  write(n: number): void {
    const text = line(n);
    if (text.length > this.#roomBytes) {
      writeFileSync(`${this.#path}.tmp`, '');
      renameSync(`${this.#path}.tmp`, this.#path);
      this.#roomBytes = this.#generationBytes;
    }
    appendFileSync(this.#path, text);
    this.#roomBytes -= text.length;
  }
}

async function numbersIn({ path }: LogPlan): Promise<number[]> {
  const numbers: number[] = [];
  for await (const { data } of readLog(path, { stdout: true, stderr: true }))
    numbers.push(Number(data.toString().split(' ')[1]));
  return numbers;
}

/** On the disk: a file with two names once. */
function bytesOf({ path }: LogPlan): number {
  const sizes = new Map<number, number>();
  for (const name of readdirSync(join(path, '..'))) {
    const { ino, size } = statSync(join(path, '..', name));
    sizes.set(ino, size);
  }
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}

async function until(isSo: () => boolean): Promise<void> {
  for (let tries = 0; !isSo(); tries++) {
    if (tries > 500) throw new Error('never came to be');
    await sleep(5);
  }
}

test('over many generations and runs: never more than the limit, never a hole, most of the limit used', async (t) => {
  const plan = planIn(t);
  let n = 0;
  for (let run = 0; run < 12; run++) {
    const writer = new Writer(plan);
    await using _keeper = LogKeeper.keep(plan, silentLog);
    for (let lines = (run * 7) % 40; lines >= 0; lines--) {
      writer.write(n++);
      assert.ok(bytesOf(plan) <= plan.limitBytes);
      if (n % 5 === 0) await sleep(5);
    }
    await sleep(10);
    assert.ok(bytesOf(plan) <= plan.limitBytes);
  }
  const kept = await numbersIn(plan);
  const [first = -1] = kept;
  assert.deepEqual(
    kept,
    Array.from({ length: n - first }, (_, at) => first + at),
  );
  assert.ok(kept.length * line(100).length > plan.limitBytes / 2);
});

test('what is written while no daemon looks: the file that it last saw is kept, and the last one', async (t) => {
  const plan = planIn(t);
  const writer = new Writer(plan);
  {
    await using _keeper = LogKeeper.keep(plan, silentLog);
    for (let n = 0; n < 5; n++) writer.write(n);
  }
  for (let n = 5; n < 25; n++) writer.write(n); // over one end of a file
  await using _next = LogKeeper.keep(plan, silentLog);
  assert.deepEqual(
    await numbersIn(plan),
    Array.from({ length: 25 }, (_, n) => n),
  );
  for (let n = 25; n < 500; n++) writer.write(n);
  assert.ok(bytesOf(plan) <= plan.limitBytes);
});

test('full generations are packed, read as before, and the unfinished work of a dead daemon is swept', async (t) => {
  const plan = planIn(t, { compresses: true, limitBytes: 20_000 });
  writeFileSync(`${plan.path}.1.gz.new`, 'torn');
  const writer = new Writer(plan);
  await using _keeper = LogKeeper.keep(plan, silentLog);
  for (let n = 0; n < 200; n++) {
    writer.write(n);
    await sleep(1);
  }
  const list = () => new LogGenerations(plan.path).list();
  await until(() => list().every(({ isPacked }, at, all) => isPacked || at === all.length - 1));
  assert.ok(list().length > 5);
  assert.ok(!readdirSync(join(plan.path, '..')).some((name) => name.endsWith('.new')));
  assert.deepEqual(
    await numbersIn(plan),
    Array.from({ length: 200 }, (_, n) => n),
  );
});

test('a packed generation wins over what it was made of, where a daemon died in between', async (t) => {
  const plan = planIn(t, { compresses: true });
  writeFileSync(`${plan.path}.1`, line(1));
  const { gzipSync } = await import('node:zlib');
  writeFileSync(`${plan.path}.1.gz`, gzipSync(line(1)));
  writeFileSync(plan.path, line(2));
  assert.deepEqual(await numbersIn(plan), [1, 2]);
});

test('a reader that has a dropped generation open does not keep its bytes', async (t) => {
  const plan = planIn(t);
  const writer = new Writer(plan);
  for (let n = 0; n < 15; n++) writer.write(n);
  const reader = readLog(plan.path, { stdout: true, stderr: true, ended: new Promise(() => {}) });
  await reader.next();
  await using _keeper = LogKeeper.keep(plan, silentLog);
  for (let n = 15; n < 120; n++) {
    writer.write(n);
    await sleep(1);
  }
  const numbers: number[] = [];
  for await (const { data } of reader) {
    numbers.push(Number(data.toString().split(' ')[1]));
    if (numbers.at(-1) === 119) break;
  }
  assert.deepEqual(
    numbers.toSorted((a, b) => a - b),
    numbers,
    'in order, each once',
  );
});
