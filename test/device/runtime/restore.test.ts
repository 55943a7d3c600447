import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, signalProcess } from '../../../src/host/processes.ts';
import { listen, skip, until, World } from './world.ts';

/** Another daemon in the same world, which has brought a container up. */
async function daemonWith(
  world: World,
  args: readonly string[],
  { hasStdin = false } = {},
): Promise<{ id: string; kill: () => Promise<void> }> {
  const program = join(import.meta.dirname, 'daemon.ts');
  const daemon: ChildProcess = spawn(
    process.execPath,
    [program, world.directory, hasStdin ? 'stdin' : 'none', ...args],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const [line] = await once(daemon.stdout as Readable, 'data');
  return {
    id: String(line).trim(),
    kill: async () => {
      daemon.kill('SIGKILL');
      await once(daemon, 'exit');
    },
  };
}

const monitorOf = (world: World, id: string) =>
  Number(readFileSync(join(world.execRoot, 'bundles', id, 'conmon.pid'), 'utf8'));

const counting = ['sh', '-c', 'n=0; while [ $n -lt 40 ]; do n=$((n+1)); echo $n; sleep 0.05; done; exit 6'];
const counted = Array.from({ length: 40 }, (_, n) => `${n + 1}\n`).join('');

test('a container goes on when its daemon is killed; the next one finds it and hears its end', {
  skip,
}, async () => {
  await using home = await World.open();
  const { id, kill } = await daemonWith(home, counting);
  await until(async () => (await home.log(id)).includes('5\n'));
  await kill();
  await using world = await World.open(home.directory);
  const found = await world.runtime.find(id);
  assert.equal(found?.status, 'running');
  assert.ok(isAlive(found?.pid ?? 0));
  const heard = listen(await world.runtime.attach(id));
  const exit = await world.exit(id);
  assert.deepEqual([exit.exitCode, exit.isKnown], [6, true]);
  await heard.ended;
  assert.match(heard.text(1), /39\n40\n$/);
  assert.equal(await world.log(id), counted);
});

test('one that ended while nobody watched: its exit code is there, and its log has no hole', {
  skip,
}, async () => {
  await using home = await World.open();
  const { id, kill } = await daemonWith(home, counting);
  const monitor = monitorOf(home, id);
  await kill();
  await until(() => !isAlive(monitor));
  const began = Date.now();
  await sleep(1100);
  await using world = await World.open(home.directory);
  assert.deepEqual(await world.runtime.find(id), { status: 'stopped', pid: 0 });
  const exit = await world.runtime.exitOf(id);
  assert.deepEqual([exit?.exitCode, exit?.isKnown], [6, true]);
  assert.ok(Date.parse(exit?.at ?? '') < began + 1000, 'the time of its end, not of our asking');
  await sleep(50);
  assert.equal(world.exits.length, 0); // it is the past: told when asked
  assert.equal(await world.log(id), counted);
});

test('stdin that is to stay open survives the daemon', { skip }, async () => {
  await using home = await World.open();
  const { id, kill } = await daemonWith(home, ['cat'], { hasStdin: true });
  await kill();
  await sleep(200);
  await using world = await World.open(home.directory);
  const attachment = await world.runtime.attach(id);
  const heard = listen(attachment);
  await attachment.write(Buffer.from('still here\n'));
  await until(() => heard.text(1) === 'still here\n');
});

test('a daemon that dies between create and start leaves a container that was not started', {
  skip,
}, async () => {
  await using home = await World.open();
  const spec = home.spec(['sleep', '60']);
  const { pid } = await home.runtime.create(spec);
  await using world = await World.open(home.directory);
  assert.deepEqual(await world.runtime.find(spec.id), { status: 'created', pid });
  await world.runtime.delete(spec.id);
  assert.deepEqual(world.leftovers(), []);
});

test('a killed monitor: the container lives on, and its end is told as unknown', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sleep', '60']);
  const { pid } = (await world.runtime.find(id)) ?? { pid: 0 };
  signalProcess(monitorOf(world, id), 'SIGKILL');
  await sleep(1500);
  assert.deepEqual(await world.runtime.find(id), { status: 'running', pid });
  assert.equal(world.exits.length, 0);
  assert.equal(await world.runtime.exitOf(id), undefined);
  signalProcess(pid, 'SIGKILL');
  const exit = await world.exit(id);
  assert.deepEqual([exit.exitCode, exit.isKnown], [137, false]);
  await world.runtime.delete(id);
  assert.deepEqual(world.leftovers(), []);
});

test('a killed monitor is noticed by the next daemon too', { skip }, async () => {
  await using home = await World.open();
  const { id, kill } = await daemonWith(home, ['sleep', '60']);
  await kill();
  signalProcess(monitorOf(home, id), 'SIGKILL');
  await using world = await World.open(home.directory);
  const { pid = 0 } = (await world.runtime.find(id)) ?? {};
  assert.ok(isAlive(pid));
  signalProcess(pid, 'SIGKILL');
  assert.equal((await world.exit(id)).isKnown, false);
  assert.equal((await world.runtime.exitOf(id))?.isKnown, false);
});
