import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { boxLayer } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { Hijacked } from '../support/hijacked.ts';
import { enterOwnNetwork } from '../support/network.ts';

/** Short runs that must lose nothing, eight at a time. */
const RUNS = process.env['SKERRY_SOAK'] ? 1000 : 40;
const AT_ONCE = 8;

/** 64 KiB in 8192 numbered lines of eight bytes. */
const numbered = Array.from({ length: 8192 }, (_, n) => `${1_000_000 + n}\n`).join('');
const talk = ['seq', '1000000', '1008191'];

let engine: TestEngine;

before(async () => {
  await enterOwnNetwork();
  engine = await TestEngine.start();
  const directory = await mkdtemp(join(tmpdir(), 'skt-streams-'));
  await writeFile(join(directory, 'box.tar'), (await boxLayer()).tar);
  await engine.ok(['import', join(directory, 'box.tar'), 'box']);
  await rm(directory, { recursive: true });
  await engine.ok(['run', '-d', '--net', 'none', '--name', 'target', 'box', 'sleep', '10000']);
});

after(async () => engine[Symbol.asyncDispose]());

const hijack = (path: string, body?: string) => new Hijacked(engine.socket, path, body);

async function create(name: string, config: object): Promise<void> {
  const HostConfig = { NetworkMode: 'none' };
  await engine.json(`/containers/create?name=${name}`, {
    method: 'POST',
    body: { Image: 'box', HostConfig, ...config },
  });
}

const start = (name: string) => engine.json(`/containers/${name}/start`, { method: 'POST' });
const remove = (name: string) => engine.get(`/containers/${name}?force=1`, { method: 'DELETE' });

async function inTurns(work: (n: number) => Promise<void>): Promise<void> {
  for (let begun = 0; begun < RUNS; begun += AT_ONCE) {
    const count = Math.min(AT_ONCE, RUNS - begun);
    await Promise.all(Array.from({ length: count }, (_, n) => work(begun + n)));
  }
}

test(`${RUNS} short runs, attached before the start: every byte`, async () => {
  await inTurns(async (n) => {
    await create(`run-${n}`, { Cmd: talk, AttachStdout: true });
    const attached = hijack(`/containers/run-${n}/attach?stream=1&stdout=1&stderr=1`);
    await attached.open;
    await start(`run-${n}`);
    await attached.ended;
    assert.equal(attached.text(), numbered, `run ${n}`);
    await remove(`run-${n}`);
  });
});

test(`${RUNS} short execs: every byte, and the exit code when the stream ends`, async () => {
  await inTurns(async (n) => {
    const { Id } = await engine.json('/containers/target/exec', {
      method: 'POST',
      body: { AttachStdout: true, AttachStderr: true, Cmd: ['sh', '-c', `${talk.join(' ')}; exit 5`] },
    });
    const attached = hijack(`/exec/${Id}/start`, '{}');
    await attached.ended;
    assert.equal(attached.text(), numbered, `exec ${n}`);
    const { ExitCode, Running } = await engine.json(`/exec/${Id}/json`);
    assert.deepEqual([ExitCode, Running], [5, false]);
  });
});

test('docker run: every byte', async () => {
  for (let n = 0; n < RUNS / 10; n++)
    assert.equal(await engine.ok(['run', '--rm', '--net', 'none', 'box', ...talk]), numbered.trimEnd());
});

test('docker run -i and exec -i take megabytes, and a process that ends early', async () => {
  const input = numbered.repeat(64);
  for (const command of [
    ['run', '--rm', '-i', '--net', 'none', 'box'],
    ['exec', '-i', 'target'],
  ]) {
    const counted = await engine.ok([...command, 'wc', '-c'], { input });
    assert.equal(Number(counted), input.length);
    assert.equal(await engine.ok([...command, 'head', '-n', '1'], { input }), '1000000');
  }
});

test('the log that attach gives ends where it was, however fast the container writes on', async () => {
  const endless = 'i=0; while true; do i=$((i+1)); echo $i; done';
  const id = await engine.ok(['run', '-d', '--net', 'none', 'box', 'sh', '-c', endless]);
  for (let lines = 0; lines < 2000; ) lines = (await engine.ok(['logs', id])).split('\n').length; // so that there is something to be read
  const attached = hijack(`/containers/${id}/attach?logs=1&stdout=1`);
  await attached.ended;
  const numbers = attached.text().trimEnd().split('\n').map(Number);
  assert.ok(numbers.length >= 2000);
  assert.deepEqual(
    numbers,
    numbers.map((_, at) => at + 1),
  );
  await engine.ok(['rm', '-f', id]);
});
