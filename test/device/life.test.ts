import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startBoxEngine } from '../support/box-engine.ts';
import type { TestEngine } from '../support/engine.ts';

/** Turns in the life of real containers that have their own rules under dockerd. */
let engine: TestEngine;

before(async () => {
  engine = await startBoxEngine({ box: {} });
});

after(async () => assert.deepEqual(await engine.finish(), []));

const run = (...options: string[]) => engine.ok(['run', '-d', '--net', 'none', ...options]);
const stateOf = async (id: string) => (await engine.json(`/containers/${id}/json`)).State;

async function until(id: string, is: (state: Awaited<ReturnType<typeof stateOf>>) => boolean) {
  for (const end = Date.now() + 20_000; ; await sleep(20)) {
    const state = await stateOf(id);
    if (is(state)) return state;
    assert.ok(Date.now() < end, `state is ${JSON.stringify(state)}`);
  }
}

async function told(
  id: string,
): Promise<{ Action: string; Actor: { Attributes: Record<string, string> } }[]> {
  const filters = encodeURIComponent(JSON.stringify({ container: [id] }));
  const { text } = await engine.get(
    `/events?since=1&until=${Math.ceil(Date.now() / 1000)}&filters=${filters}`,
  );
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

test('a process killed for want of memory is told while its container goes on, and once', async () => {
  const hog = 'while :; do tail /dev/zero; sleep 0.2; done';
  const id = await run('-m', '16m', '--memory-swap', '16m', 'box', 'sh', '-c', hog);
  const state = await until(id, ({ OOMKilled }) => OOMKilled);
  assert.equal(state.Status, 'running');
  await engine.ok(['stop', '-t', '0', id]);
  assert.equal((await stateOf(id)).OOMKilled, true);
  assert.equal((await told(id)).filter(({ Action }) => Action === 'oom').length, 1);
  await engine.ok(['rm', id]);
});

test('between two runs: a start has nothing to do, a signal reaches nobody, a stop is the end of it', async () => {
  const id = await run('--restart', 'always', 'box', 'sh', '-c', 'exit 3');
  await until(id, ({ Restarting, ExitCode }) => Restarting && ExitCode === 3);
  for (let count = 0; count < 4; ) {
    const { RestartCount, State } = await engine.json(`/containers/${id}/json`);
    count = RestartCount;
    if (State.Restarting) assert.ok(count > 0, 'the run to come is counted');
    await sleep(20);
  }
  await until(id, ({ Restarting }) => Restarting);
  assert.equal((await engine.get(`/containers/${id}/start`, { method: 'POST' })).status, 304);
  assert.equal((await engine.get(`/containers/${id}/kill?signal=HUP`, { method: 'POST' })).status, 204);
  const { RestartCount } = await engine.json(`/containers/${id}/json`);
  for (;;) {
    const now = await engine.json(`/containers/${id}/json`);
    if (now.RestartCount > RestartCount) break; // the signal did not end the policy
    await sleep(50);
  }
  await until(id, ({ Restarting }) => Restarting);
  assert.equal((await engine.get(`/containers/${id}/stop`, { method: 'POST' })).status, 204);
  assert.equal((await stateOf(id)).Status, 'exited');
  const die = (await told(id)).findLast(({ Action }) => Action === 'die');
  assert.deepEqual([die?.Actor.Attributes['exitCode'], die?.Actor.Attributes['execDuration']], ['3', '0']);
  await engine.ok(['rm', id]);
});

test('a policy that is changed counts from the next exit on', async () => {
  const id = await run('box', 'sh', '-c', 'while [ ! -e /go ]; do sleep 0.05; done; rm /go; exit 1');
  await engine.ok(['update', '--restart', 'on-failure:1', id]);
  const go = () => engine.ok(['exec', id, 'touch', '/go']);
  await go();
  for (;;) {
    const { RestartCount, State } = await engine.json(`/containers/${id}/json`);
    if (RestartCount === 1 && State.Status === 'running') break;
    await sleep(20);
  }
  await go();
  assert.equal((await until(id, ({ Status }) => Status === 'exited')).ExitCode, 1);
  await engine.ok(['rm', id]);
});

test('one whose files cannot be removed is dead, says why, and can be removed when they can', async () => {
  const id = await run('box', 'true');
  await until(id, ({ Status }) => Status === 'exited');
  const stuck = join(engine.dataRoot, 'containers', id, 'stuck');
  mkdirSync(stuck);
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', stuck]);
  try {
    const { status, text } = await engine.get(`/containers/${id}`, { method: 'DELETE' });
    assert.equal(status, 500);
    assert.match(text, new RegExp(`unable to remove filesystem for ${id}: `));
    const state = await stateOf(id);
    assert.deepEqual([state.Status, state.Dead], ['dead', true]);
    assert.match(state.Error, /unable to remove filesystem/);
    assert.equal((await engine.get(`/containers/${id}/start`, { method: 'POST' })).status, 409);
  } finally {
    execFileSync('umount', [stuck]);
  }
  await engine.kill();
  await engine.boot();
  assert.equal((await engine.get(`/containers/${id}/json`)).status, 404);
});

test('a program for another machine: the failure ends as supervisors expect', async () => {
  const alien = Buffer.from(readFileSync('/proc/self/exe').subarray(0, 4096));
  alien.writeUInt16LE(0x15, 18); // ELF e_machine: PowerPC 64
  const path = join(engine.directory, 'alien');
  writeFileSync(path, alien);
  chmodSync(path, 0o755);
  const id = await engine.ok(['create', '--net', 'none', '-v', `${path}:/alien:ro`, 'box', '/alien']);
  const { code, stderr } = await engine.docker(['start', '-a', id]);
  // whichever of the two says it: a runtime that looks before it starts, or the process that could not become another
  assert.notEqual(code, 0);
  const { Error: error } = await stateOf(id);
  assert.match(`${error}${stderr}`.trim(), /exec format error$/i);
  await engine.ok(['rm', id]);
});
