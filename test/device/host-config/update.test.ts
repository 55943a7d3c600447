import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { OptionTable } from '../../support/option-table.ts';

/** Limits and restart policies that change while the container runs: looked at in its cgroup and by what it does. */
let table: OptionTable;

before(async () => {
  table = await OptionTable.open();
});
after(() => table[Symbol.asyncDispose]());

const MB = 1 << 20;
const skip = existsSync('/sys/fs/cgroup/memory/memory.limit_in_bytes')
  ? false
  : 'reads the files of cgroup v1';

const limitOf = async (id: string, file: string) => {
  const [controller = '', name = ''] = file.split('/');
  const path = `/sys/fs/cgroup/${controller}${table.engine.cgroupParent}/${id}/${name}`;
  return (await readFile(path, 'utf8')).trim();
};

const update = async (id: string, body: object, version = '') => {
  const { status, text } = await table.engine.get(`${version}/containers/${id}/update`, {
    method: 'POST',
    body,
  });
  const answer = JSON.parse(text);
  return status === 200 ? answer : `${status} ${answer.message}`;
};

const changes: [string, object, object, Record<string, string>][] = [
  [
    'Memory and MemorySwap go up',
    { Memory: 64 * MB, MemorySwap: 64 * MB },
    { Memory: 128 * MB, MemorySwap: 160 * MB },
    {
      'memory/memory.limit_in_bytes': `${128 * MB}`,
      'memory/memory.memsw.limit_in_bytes': `${160 * MB}`,
    },
  ],
  [
    'Memory goes down, its swap stays',
    { Memory: 64 * MB },
    { Memory: 32 * MB },
    {
      'memory/memory.limit_in_bytes': `${32 * MB}`,
      'memory/memory.memsw.limit_in_bytes': `${128 * MB}`,
    },
  ],
  [
    'MemoryReservation',
    {},
    { MemoryReservation: 32 * MB },
    { 'memory/memory.soft_limit_in_bytes': `${32 * MB}` },
  ],
  [
    'CpuShares, and the quota stays',
    { CpuQuota: 20_000 },
    { CpuShares: 300 },
    { 'cpu/cpu.shares': '300', 'cpu/cpu.cfs_quota_us': '20000' },
  ],
  [
    'CpuPeriod, CpuQuota',
    {},
    { CpuPeriod: 50_000, CpuQuota: 20_000 },
    { 'cpu/cpu.cfs_period_us': '50000', 'cpu/cpu.cfs_quota_us': '20000' },
  ],
  ['NanoCpus', { NanoCpus: 1e9 }, { NanoCpus: 5e8 }, { 'cpu/cpu.cfs_quota_us': '50000' }],
  ['CpusetCpus', {}, { CpusetCpus: '0' }, { 'cpuset/cpuset.cpus': '0' }],
  ['PidsLimit', { PidsLimit: 10 }, { PidsLimit: 33 }, { 'pids/pids.max': '33' }],
  ['PidsLimit: none', { PidsLimit: 10 }, { PidsLimit: 0 }, { 'pids/pids.max': 'max' }],
  ['PidsLimit: not said', { PidsLimit: 10 }, { CpuShares: 300 }, { 'pids/pids.max': '10' }],
];

for (const [name, hostConfig, body, files] of changes) {
  test(`update: ${name}`, { skip }, async () => {
    const id = await table.running({ hostConfig: { ...hostConfig } });
    assert.deepEqual(await update(id, body), { Warnings: null });
    for (const [file, expected] of Object.entries(files))
      assert.equal(await limitOf(id, file), expected, file);
    // it is the container's from now on, also after the next start
    await table.engine.json(`/containers/${id}/restart?t=0`, { method: 'POST' });
    for (const [file, expected] of Object.entries(files))
      assert.equal(await limitOf(id, file), expected, file);
    await table.remove(id);
  });
}

test('update: a container that does not run has the limit at its start', { skip }, async () => {
  const { id } = await table.create('sleep 1000', {});
  assert.deepEqual(await update(id, { PidsLimit: 44 }), { Warnings: null });
  await table.engine.json(`/containers/${id}/start`, { method: 'POST' });
  assert.equal(await limitOf(id, 'pids/pids.max'), '44');
  await table.remove(id);
});

test("update: refused in dockerd's words, and then nothing has changed", { skip }, async () => {
  const refused = async (hostConfig: object, body: object, expected: string) => {
    const id = await table.running({ hostConfig: { ...hostConfig } });
    const { HostConfig: before } = await table.engine.json(`/containers/${id}/json`);
    assert.equal(await update(id, body), expected.replace('ID', id));
    const { HostConfig: after } = await table.engine.json(`/containers/${id}/json`);
    assert.deepEqual(after, before);
    await table.remove(id);
  };
  const already = (what: string, other: string) =>
    `409 Cannot update container ID: Conflicting options: ${what} cannot be updated as ${other} has already been set`;
  await refused(
    { Memory: 32 * MB },
    { Memory: 128 * MB },
    '409 Cannot update container ID: Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time',
  );
  await refused({ CpuPeriod: 50_000 }, { NanoCpus: 5e8 }, already('Nano CPUs', 'CPU Period'));
  await refused({ CpuQuota: 20_000 }, { NanoCpus: 5e8 }, already('Nano CPUs', 'CPU Quota'));
  await refused({ NanoCpus: 5e8 }, { CpuPeriod: 50_000 }, already('CPU Period', 'NanoCPUs'));
  await refused({ NanoCpus: 5e8 }, { CpuQuota: 20_000 }, already('CPU Quota', 'NanoCPUs'));
  await refused({}, { Memory: 1 * MB }, '400 Minimum memory limit allowed is 6MB');
  await refused(
    {},
    { RestartPolicy: { Name: 'often' } },
    "400 invalid restart policy: unknown policy 'often'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
  );
  await refused(
    { AutoRemove: true },
    { RestartPolicy: { Name: 'always' } },
    '409 Cannot update container ID: Restart policy cannot be updated because AutoRemove is enabled for the container',
  );
  assert.equal(await update('nobody', {}), '404 No such container: nobody');
  const idle = await table.running({ hostConfig: { PidsLimit: 10 } });
  // G013: what clients before 1.40 send there is not looked at
  assert.deepEqual(await update(idle, { PidsLimit: 20 }, '/v1.39'), { Warnings: null });
  assert.equal(await limitOf(idle, 'pids/pids.max'), '10');
  await table.remove(idle);
});

test('update: a failure of the runtime leaves the container as it was', { skip }, async () => {
  const id = await table.running({ hostConfig: { Memory: 64 * MB } });
  // less than it has in use, and without swap: the kernel refuses
  await table.engine.ok([
    'exec',
    id,
    'sh',
    '-c',
    'dd if=/dev/zero of=/dev/shm/held bs=1M count=30 2>/dev/null',
  ]);
  const answer = await update(id, { Memory: 8 * MB, MemorySwap: 8 * MB });
  assert.match(String(answer), new RegExp(`^500 Cannot update container ${id}: OCI runtime update failed: `));
  const { HostConfig } = await table.engine.json(`/containers/${id}/json`);
  assert.equal(HostConfig.Memory, 64 * MB);
  await table.remove(id);
});

test('update: the restart policy holds from then on, and the event is told', async () => {
  const { id } = await table.create('sleep 0.2; exit 3', {});
  const began = Math.floor(Date.now() / 1000);
  assert.deepEqual(await update(id, { RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 2 } }), {
    Warnings: null,
  });
  await table.engine.json(`/containers/${id}/start`, { method: 'POST' });
  for (;;) {
    const { RestartCount, State } = await table.engine.json(`/containers/${id}/json`);
    if (RestartCount === 2 && State.Status === 'exited') break;
    await sleep(50);
  }
  // what a supervisor sends to change nothing
  assert.deepEqual(await update(id, { RestartPolicy: {} }), { Warnings: null });
  const { HostConfig } = await table.engine.json(`/containers/${id}/json`);
  assert.deepEqual(HostConfig.RestartPolicy, { Name: 'on-failure', MaximumRetryCount: 2 });
  const filters = encodeURIComponent(JSON.stringify({ container: [id], event: ['update'] }));
  const { text } = await table.engine.get(
    `/events?since=${began}&until=${Math.ceil(Date.now() / 1000)}&filters=${filters}`,
  );
  assert.equal(text.trim().split('\n').length, 2);
  await table.remove(id);
});
