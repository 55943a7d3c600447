import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { cgroupPids, readCgroupLayout, removeCgroup } from '../../../src/host/cgroup.ts';
import { isRoot } from '../../../src/host/facts.ts';

test("this machine's layout agrees with what the kernel says of this process", async (t) => {
  const layout = await readCgroupLayout();
  if (layout.mounts.size === 0) return t.skip('no control groups are mounted here');
  const mine = readFileSync('/proc/self/cgroup', 'utf8').trim().split('\n');
  const old = mine.flatMap((line) => line.split(':')[1]?.split(',') ?? []).filter((name) => name !== '');
  for (const name of old) assert.equal(layout.mounts.has(name), true, name);
  assert.equal(layout.version, old.some((name) => !name.startsWith('name=')) ? 1 : 2);
  for (const at of layout.mounts.values()) assert.equal(existsSync(join(at, 'cgroup.procs')), true, at);
});

test('a cgroup is removed with those below it once its processes have left', async (t) => {
  const layout = await readCgroupLayout();
  if (!isRoot()) return t.skip('needs root');
  const hierarchies = [...new Set(layout.mounts.values())];
  const [first] = hierarchies;
  if (first === undefined) return t.skip('no control groups are mounted here');
  const path = `/skt-host-${process.pid}`;
  try {
    for (const at of hierarchies) mkdirSync(join(at, path, 'below'), { recursive: true });
  } catch (cause) {
    await removeCgroup(layout, path);
    return t.skip(`cannot make control groups here: ${cause}`);
  }
  const child = spawn('sleep', ['60']);
  try {
    const pid = child.pid ?? 0;
    writeFileSync(join(first, path, 'below/cgroup.procs'), String(pid));
    assert.deepEqual(await cgroupPids(layout, path), [pid]);
    assert.deepEqual(await cgroupPids(layout, `${path}/below`), [pid]);
    const busy = removeCgroup(layout, path);
    await assert.rejects(busy, { code: 'HOST', message: /cannot remove cgroup/ });
    const removed = removeCgroup(layout, path); // begins while the process is there, ends after it left
    await sleep(50);
    child.kill('SIGKILL');
    await removed;
    for (const at of hierarchies) assert.equal(existsSync(join(at, path)), false, at);
    assert.deepEqual(await cgroupPids(layout, path), []);
  } finally {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    await removeCgroup(layout, path);
  }
});
