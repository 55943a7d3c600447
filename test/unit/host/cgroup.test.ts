import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { cgroupPids, readCgroupLayout, removeCgroup } from '../../../src/host/cgroup.ts';

const kernel = [
  '#subsys_name\thierarchy\tnum_cgroups\tenabled',
  ...['cpuset', 'cpu', 'cpuacct', 'blkio', 'memory', 'devices', 'freezer', 'net_cls', 'hugetlb', 'pids'].map(
    (name) => `${name}\t1\t1\t1`,
  ),
].join('\n');

const base = '24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw';

/** Another machine's files: its mount table, and what its unified hierarchy offers. */
function machine(t: TestContext, mounts: string[], unified?: { at: string; controllers: string }): string {
  const root = mkdtempSync(join(tmpdir(), 'skt-cgroup-'));
  t.after(() => rmSync(root, { recursive: true }));
  mkdirSync(join(root, 'proc/self'), { recursive: true });
  writeFileSync(join(root, 'proc/cgroups'), `${kernel}\n`);
  writeFileSync(join(root, 'proc/self/mountinfo'), `${[base, ...mounts].join('\n')}\n`);
  if (unified !== undefined) {
    mkdirSync(join(root, unified.at), { recursive: true });
    writeFileSync(join(root, unified.at, 'cgroup.controllers'), `${unified.controllers}\n`);
  }
  return root;
}

test('unified: Debian 12, Raspberry Pi OS 12', async (t) => {
  const root = machine(
    t,
    ['31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate'],
    {
      at: '/sys/fs/cgroup',
      controllers: 'cpuset cpu io pids', // a Pi without cgroup_enable=memory
    },
  );
  const layout = await readCgroupLayout(root);
  assert.equal(layout.version, 2);
  assert.equal(layout.isHybrid, false);
  assert.equal(layout.hasControllersInUnified, false);
  assert.deepEqual([...layout.controllers].sort(), ['cpu', 'cpuset', 'io', 'pids']);
  assert.equal(layout.mounts.get('unified'), join(root, '/sys/fs/cgroup'));
});

test('the old kind alone: controllers that share a hierarchy, options that are none', async (t) => {
  const root = machine(t, [
    '30 20 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755',
    '31 30 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/systemd/agent,name=systemd',
    '32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct',
    '33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory,clone_children',
    '90 24 0:29 /c1 /var/lib/x/merged/sys/fs/cgroup/memory rw - cgroup cgroup rw,memory',
  ]);
  const layout = await readCgroupLayout(root);
  assert.equal(layout.version, 1);
  assert.equal(layout.isHybrid, false);
  assert.deepEqual([...layout.controllers].sort(), ['cpu', 'cpuacct', 'memory']);
  assert.equal(layout.mounts.get('cpuacct'), join(root, '/sys/fs/cgroup/cpu,cpuacct'));
  assert.equal(layout.mounts.get('memory'), join(root, '/sys/fs/cgroup/memory'));
  assert.equal(layout.mounts.has('name=systemd'), true);
  assert.equal(layout.mounts.has('clone_children'), false);
});

const hybrid = [
  '31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755',
  '32 31 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
  '33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory',
  '34 31 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids',
];

test('hybrid as systemd makes it: the unified hierarchy has no controllers', async (t) => {
  const root = machine(t, hybrid, { at: '/sys/fs/cgroup/unified', controllers: '' });
  const layout = await readCgroupLayout(root);
  assert.equal(layout.version, 1);
  assert.equal(layout.isHybrid, true);
  assert.equal(layout.hasControllersInUnified, false);
});

test('hybrid with controllers left in the unified hierarchy', async (t) => {
  const root = machine(t, hybrid, { at: '/sys/fs/cgroup/unified', controllers: 'hugetlb rdma' });
  const layout = await readCgroupLayout(root);
  assert.equal(layout.version, 1);
  assert.equal(layout.hasControllersInUnified, true);
  assert.deepEqual([...layout.controllers].sort(), ['hugetlb', 'memory', 'pids', 'rdma']);
});

test('no control groups at all', async (t) => {
  const layout = await readCgroupLayout(machine(t, []));
  assert.equal(layout.version, 1);
  assert.equal(layout.controllers.size, 0);
  assert.equal(layout.mounts.size, 0);
});

test('pids come from all hierarchies and from the cgroups below, each once', async (t) => {
  const root = machine(t, hybrid);
  const layout = await readCgroupLayout(root);
  const put = (at: string, pids: string) => {
    mkdirSync(join(root, '/sys/fs/cgroup', at), { recursive: true });
    writeFileSync(join(root, '/sys/fs/cgroup', at, 'cgroup.procs'), pids);
  };
  put('memory/docker/c1', '100\n20\n');
  put('pids/docker/c1', '20\n');
  put('pids/docker/c1/below', '7\n');
  put('unified/docker/c2', '9\n');
  assert.deepEqual(await cgroupPids(layout, '/docker/c1'), [7, 20, 100]);
  assert.deepEqual(await cgroupPids(layout, 'docker/c2'), [9]);
  assert.deepEqual(await cgroupPids(layout, '/docker/c3'), []);
});

test('removal takes the cgroups below first, in each hierarchy, and leaves the neighbours', async (t) => {
  const root = machine(t, hybrid);
  const layout = await readCgroupLayout(root);
  const groups = join(root, '/sys/fs/cgroup');
  for (const at of ['memory/docker/c1/a/b', 'pids/docker/c1/a', 'pids/docker/c2'])
    mkdirSync(join(groups, at), { recursive: true });
  await removeCgroup(layout, '/docker/c1');
  assert.equal(existsSync(join(groups, 'memory/docker/c1')), false);
  assert.equal(existsSync(join(groups, 'pids/docker/c1')), false);
  assert.equal(existsSync(join(groups, 'pids/docker/c2')), true);
  await removeCgroup(layout, '/docker/c1');
});

test('a path that leads out, or to the root cgroup, is refused', async (t) => {
  const root = machine(t, hybrid);
  const layout = await readCgroupLayout(root);
  mkdirSync(join(root, 'other'));
  for (const path of ['', '/', '/docker/..']) {
    await assert.rejects(removeCgroup(layout, path), RangeError);
    await assert.rejects(cgroupPids(layout, path), RangeError);
  }
  await removeCgroup(layout, '/../../../../other');
  assert.equal(existsSync(join(root, 'other')), true);
});
