import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, signalProcess, startTicksOf } from '../../../src/host/processes.ts';

const NOBODY = 2 ** 22 - 1; // the largest pid there can be, practically never taken

function pidOf(child: ChildProcess): number {
  assert.ok(child.pid !== undefined);
  return child.pid;
}

test('this process is alive, and is the one that began when it began', () => {
  const ticks = startTicksOf(process.pid);
  assert.ok(ticks !== undefined && ticks > 0);
  const uptime = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
  assert.ok(Math.abs(uptime - process.uptime() - ticks / 100) < 2); // 100 ticks a second, on all of Linux
  assert.equal(isAlive(process.pid), true);
  assert.equal(isAlive(process.pid, ticks), true);
  assert.equal(isAlive(process.pid, ticks - 1), false);
});

test('a name full of parentheses and spaces does not shift the fields', async (t) => {
  const child = spawn(process.execPath, [
    '-e',
    'process.title = "a) Z 1 ("; console.log(); setTimeout(() => {}, 60000)',
  ]);
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  const pid = pidOf(child);
  assert.match(readFileSync(`/proc/${pid}/stat`, 'latin1'), /\(a\) Z 1 \(\)/);
  const ticks = startTicksOf(pid);
  assert.ok(ticks !== undefined && ticks >= (startTicksOf(process.pid) ?? Number.NaN));
  assert.equal(isAlive(pid, ticks), true);
});

test('a zombie counts as dead', async (t) => {
  // sleep takes the place of the shell and never asks for the shell's child
  const child = spawn('sh', ['-c', 'sleep 0.1 & echo $!; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const zombie = Number(String(line));
  for (let tries = 0; isAlive(zombie) && tries < 100; tries++) await sleep(10);
  assert.equal(isAlive(zombie), false);
  assert.match(readFileSync(`/proc/${zombie}/stat`, 'latin1'), / Z /);
  assert.ok(startTicksOf(zombie) !== undefined);
});

test('signals reach only the process that is meant', async (t) => {
  const child = spawn('sleep', ['60']);
  t.after(() => child.kill('SIGKILL'));
  const pid = pidOf(child);
  const ticks = startTicksOf(pid) ?? Number.NaN;
  assert.equal(signalProcess(pid, 'SIGTERM', ticks + 1), false);
  assert.equal(isAlive(pid, ticks), true);
  assert.equal(signalProcess(pid, 15, ticks), true);
  const [, signal] = await once(child, 'exit');
  assert.equal(signal, 'SIGTERM');
  assert.equal(signalProcess(pid, 'SIGTERM'), false);
  assert.equal(startTicksOf(pid), undefined);
});

test('nobody: no start, not alive, no signal; groups are never signalled', () => {
  assert.equal(startTicksOf(NOBODY), undefined);
  assert.equal(isAlive(NOBODY), false);
  assert.equal(signalProcess(NOBODY, 0), false);
  for (const pid of [0, -1, 1.5, Number.NaN]) assert.throws(() => signalProcess(pid, 0), RangeError);
});
