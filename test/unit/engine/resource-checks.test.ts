import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HostConfig } from '../../../src/engine/model.ts';
import { checkResources, checkSchedulers } from '../../../src/engine/resource-checks.ts';
import type { CgroupLimits } from '../../../src/host/cgroup-limits.ts';
import { everyLimit, plainHostConfig } from '../../support/container-requests.ts';

const check = (hostConfig: Partial<HostConfig>, limits: Partial<CgroupLimits> = {}) =>
  checkResources({ ...plainHostConfig, ...hostConfig }, { limits: { ...everyLimit, ...limits }, cpus: 4 });

test('what a kernel cannot limit is taken out and told, one by one', () => {
  const bps = [{ path: '/dev/sda', rate: 1 }];
  const cases: [keyof CgroupLimits, Partial<HostConfig>, Partial<HostConfig>, string][] = [
    [
      'memory',
      { memory: 8 << 20 },
      { memory: 0, memorySwap: -1 },
      'memory limit capabilities or the cgroup is not mounted. Limitation discarded.',
    ],
    [
      'swap',
      { memory: 8 << 20, memorySwap: 9 << 20 },
      { memory: 8 << 20, memorySwap: -1 },
      'swap limit capabilities or the cgroup is not mounted. Memory limited without swap.',
    ],
    [
      'memorySwappiness',
      { memorySwappiness: 5 },
      { memorySwappiness: null },
      'memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.',
    ],
    [
      'memoryReservation',
      { memoryReservation: 8 << 20 },
      { memoryReservation: 0 },
      'memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.',
    ],
    [
      'pids',
      { pidsLimit: 5 },
      { pidsLimit: null },
      'PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.',
    ],
    [
      'cpuShares',
      { cpuShares: 5 },
      { cpuShares: 0 },
      'CPU shares or the cgroup is not mounted. Shares discarded.',
    ],
    ['cpuQuota', { cpuQuota: 5000 }, { cpuQuota: 0 }, 'CPU CFS scheduler. CPU period/quota discarded.'],
    [
      'cpuset',
      { cpusetCpus: '9' },
      { cpusetCpus: '' },
      'cpuset or the cgroup is not mounted. Cpuset discarded.',
    ],
    [
      'blockWeight',
      { blkioWeight: 5 },
      { blkioWeight: 0 },
      'Block I/O weight or the cgroup is not mounted. Weight discarded.',
    ],
    [
      'blockReadBps',
      { blkioDeviceReadBps: bps },
      { blkioDeviceReadBps: [] },
      'BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.',
    ],
    [
      'blockWriteIops',
      { blkioDeviceWriteIOps: bps },
      { blkioDeviceWriteIOps: [] },
      'IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.',
    ],
    [
      'oomKillDisable',
      { oomKillDisable: true },
      { oomKillDisable: null },
      'OomKillDisable. OomKillDisable discarded.',
    ],
    [
      'kernelMemory',
      { kernelMemory: 8 << 20 },
      {},
      'kernel memory limit capabilities or the cgroup is not mounted. Limitation discarded.',
    ],
  ];
  for (const [limit, given, left, words] of cases) {
    const { hostConfig, warnings } = check(given, { [limit]: false });
    assert.deepEqual(warnings, [`Your kernel does not support ${words}`], limit);
    assert.deepEqual(hostConfig, { ...plainHostConfig, ...left }, limit);
  }
});

test('nothing is said of what was not asked for', () => {
  const none = Object.fromEntries(Object.keys(everyLimit).map((name) => [name, false]));
  assert.deepEqual(check({ oomKillDisable: false }, none).warnings, []);
});

test('lists of processors', () => {
  for (const list of ['0', '0-3', '1,2', '0-1,3']) assert.deepEqual(check({ cpusetCpus: list }).warnings, []);
  for (const list of ['4', '0-4', '0,9'])
    assert.throws(() => check({ cpusetCpus: list }), /Requested CPUs are not available/, list);
  for (const list of ['a', '3-1', '1,', '-1', '1-2-3', ' 1'])
    assert.throws(() => check({ cpusetCpus: list }), {
      message: `Invalid value ${list} for cpuset cpus: invalid format: ${list}`,
    });
});

test('real time, where the kernel has a scheduler for it', () => {
  const real = (changes: Partial<HostConfig>, cpuRealtime = true) =>
    checkSchedulers({ ...plainHostConfig, ...changes }, { cpuRealtime });
  real({ cpuRealtimePeriod: 10, cpuRealtimeRuntime: 10 });
  assert.throws(() => real({ cpuRealtimePeriod: 10 }, false), {
    message: 'Your kernel does not support CPU real-time scheduler',
  });
  assert.throws(() => real({ cpuRealtimePeriod: 10, cpuRealtimeRuntime: 11 }), {
    message: 'cpu real-time runtime cannot be higher than cpu real-time period',
  });
});
