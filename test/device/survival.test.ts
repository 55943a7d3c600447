import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { boxImage } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { push } from '../support/registry-images.ts';

/** The daemon dies without a warning; containers, their output, ports and exit codes must not notice. */
let engine: TestEngine;
let registry: TestRegistry;
let box: string;

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  await push(registry.host, 'box', ['1'], await boxImage());
  engine = await TestEngine.start();
  box = `${registry.host}/box:1`;
  await engine.ok(['pull', box]);
});

after(async () => {
  await engine.clear();
  await engine.stop();
  const left = await engine.remains();
  await engine[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  assert.deepEqual(left, []);
});

for (const end of ['kill', 'stop'] as const) {
  test(`${end}: containers run on, the log has no hole, the exit code is true`, async () => {
    const count = 'i=0; while [ $i -lt 60 ]; do echo $i; i=$((i+1)); sleep 0.05; done; exit 9';
    const id = await engine.ok([
      'run',
      '-d',
      '-p',
      '127.0.0.1:8081:80',
      box,
      'sh',
      '-c',
      `httpd -p 80 -h /www; ${count}`,
    ]);
    const before = await engine.json(`/containers/${id}/json`);
    await sleep(500);
    await engine[end]();
    await sleep(500);
    process.kill(before.State.Pid, 0); // throws if the container's process is gone
    await engine.boot();
    const now = await engine.json(`/containers/${id}/json`);
    assert.equal(now.State.Status, 'running');
    assert.equal(now.State.Pid, before.State.Pid);
    assert.equal(now.State.StartedAt, before.State.StartedAt);
    assert.equal(now.NetworkSettings.IPAddress, before.NetworkSettings.IPAddress);
    assert.equal(await (await fetch('http://127.0.0.1:8081/')).text(), 'hello from the box\n');
    assert.equal(await engine.ok(['exec', id, 'echo', 'still here']), 'still here');
    assert.equal(await engine.ok(['wait', id]), '9');
    const expected = Array.from({ length: 60 }, (_, i) => String(i)).join('\n');
    assert.equal(await engine.ok(['logs', id]), expected);
    await engine.ok(['rm', id]);
  });
}

test('a container that ended while no daemon ran: its true exit code and time, and nothing left of it', async () => {
  const id = await engine.ok(['run', '-d', box, 'sh', '-c', 'sleep 0.7; echo last words; exit 5']);
  await engine.kill();
  await sleep(1500);
  await engine.boot();
  assert.equal(await engine.ok(['wait', id]), '5');
  const { State } = await engine.json(`/containers/${id}/json`);
  assert.equal(State.Status, 'exited');
  assert.ok(
    Date.parse(State.FinishedAt) < Date.now() - 400,
    'the time is that of the end, not of the restart',
  );
  assert.equal(await engine.ok(['logs', id]), 'last words');
  assert.deepEqual(
    (await engine.remains()).filter((line) => line.includes(id)),
    [],
  );
  await engine.ok(['rm', id]);
});

test('a container that removes itself goes, although it ended while no daemon ran', async () => {
  const id = await engine.ok(['run', '-d', '--rm', box, 'sleep', '0.5']);
  await engine.kill();
  await sleep(1000);
  await engine.boot();
  assert.equal((await engine.get(`/containers/${id}/json`)).status, 404);
});

test('an address in use before the crash is not given to another container after it', async () => {
  const first = await engine.ok(['run', '-d', box, 'sleep', '1000']);
  await engine.kill();
  await engine.boot();
  const second = await engine.ok(['run', '-d', box, 'sleep', '1000']);
  const addressOf = async (id: string) =>
    (await engine.json(`/containers/${id}/json`)).NetworkSettings.IPAddress;
  assert.notEqual(await addressOf(first), await addressOf(second));
  assert.match(
    await engine.ok(['exec', second, 'ping', '-c', '1', '-W', '2', await addressOf(first)]),
    /1 packets received/,
  );
  await engine.ok(['rm', '-f', first, second]);
});

test('the restart policy brings back what should run, and leaves what a user stopped', async () => {
  const always = await engine.ok(['run', '-d', '--restart', 'always', box, 'sh', '-c', 'sleep 0.6']);
  const stopped = await engine.ok(['run', '-d', '--restart', 'unless-stopped', box, 'sleep', '1000']);
  await engine.ok(['stop', '-t', '0', stopped]);
  await engine.kill();
  await sleep(900);
  await engine.boot();
  for (let i = 0; i < 100; i++) {
    if ((await engine.json(`/containers/${always}/json`)).State.Running) break;
    await sleep(50);
  }
  assert.equal((await engine.json(`/containers/${always}/json`)).State.Running, true);
  assert.equal((await engine.json(`/containers/${stopped}/json`)).State.Status, 'exited');
  await engine.ok(['rm', '-f', always, stopped]);
});

test('a monitor that was killed is noticed: the exit is 137', async () => {
  const id = await engine.ok(['run', '-d', box, 'sh', '-c', 'sleep 1.5; exit 4']);
  const { State } = await engine.json(`/containers/${id}/json`);
  const monitor = parentOf(State.Pid);
  process.kill(monitor, 'SIGKILL');
  assert.equal(await engine.ok(['wait', id], { timeoutMs: 20_000 }), '137');
  await engine.ok(['rm', '-f', id]);
});

test('clients of a daemon that dies get an error, and what they wanted removed goes', async () => {
  const runs = Array.from({ length: 8 }, () => engine.docker(['run', '--rm', box, 'sleep', '0.3']));
  await sleep(Math.random() * 1000);
  await engine.kill();
  for (const { code, stderr } of await Promise.all(runs)) assert.ok(code === 0 || code === 125, stderr);
  await engine.boot();
  for (const end = Date.now() + 10_000; Date.now() < end; await sleep(50)) {
    if ((await engine.json<object[]>('/containers/json?all=1')).length === 0) break;
  }
  assert.deepEqual(await engine.json('/containers/json?all=1'), []);
  assert.deepEqual(await engine.leftovers(), []);
});

test('killed in the middle of starts and removals: records and kernel agree afterwards', async () => {
  const rounds = process.env['SKERRY_SOAK'] ? 60 : 12;
  for (let round = 0; round < rounds; round++) {
    const runs = [1, 2, 3].map(() => engine.docker(['run', '-d', box, 'sh', '-c', 'sleep 0.3']));
    await sleep(Math.random() * 400);
    await engine.kill();
    await Promise.all(runs);
    await engine.boot();
    for (const { Id, State } of await engine.json<{ Id: string; State: string }[]>(
      '/containers/json?all=1',
    )) {
      assert.ok(['created', 'running', 'exited'].includes(State), `round ${round}: ${Id} is ${State}`);
      await engine.get(`/containers/${Id}?force=1`, { method: 'DELETE' });
    }
    assert.deepEqual(await engine.remains(), [], `after round ${round}`);
  }
});

function parentOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
}
