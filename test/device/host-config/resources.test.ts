import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { OptionTable } from '../../support/option-table.ts';

/** Every limit of a container, as the kernel has it. */
let table: OptionTable;

before(async () => {
  table = await OptionTable.open();
});
after(() => table[Symbol.asyncDispose]());

const MB = 1 << 20;
const hasV1 = existsSync('/sys/fs/cgroup/memory/memory.limit_in_bytes');
const hasWeights = existsSync('/sys/fs/cgroup/blkio/blkio.weight');
const needsV1 = hasV1 ? false : 'reads the files of cgroup v1';
/** A disk of this machine, and its number. */
const disk = existsSync('/sys/block')
  ? readdirSync('/sys/block').find((name) => existsSync(`/dev/${name}`) && !name.startsWith('ram'))
  : undefined;
const number = disk === undefined ? '' : readFileSync(`/sys/block/${disk}/dev`, 'utf8').trim();
const needsDisk = disk === undefined ? 'needs a block device' : needsV1;
const path = `/dev/${disk}`;

const limits: [string, object, Record<string, string>, (string | false)?][] = [
  ['Memory', { Memory: 64 * MB }, { 'memory/memory.limit_in_bytes': `${64 * MB}` }],
  [
    'MemorySwap: twice the memory unless said',
    { Memory: 64 * MB },
    { 'memory/memory.memsw.limit_in_bytes': `${128 * MB}` },
  ],
  [
    'MemorySwap',
    { Memory: 64 * MB, MemorySwap: 96 * MB },
    { 'memory/memory.memsw.limit_in_bytes': `${96 * MB}` },
  ],
  [
    'MemorySwap: none',
    { Memory: 64 * MB, MemorySwap: -1 },
    { 'memory/memory.memsw.limit_in_bytes': '9223372036854771712' },
  ],
  [
    'MemoryReservation',
    { MemoryReservation: 32 * MB },
    { 'memory/memory.soft_limit_in_bytes': `${32 * MB}` },
  ],
  ['MemorySwappiness', { MemorySwappiness: 7 }, { 'memory/memory.swappiness': '7' }],
  ['MemorySwappiness: not said', { MemorySwappiness: -1 }, { 'memory/memory.swappiness': '60' }],
  [
    'OomKillDisable',
    { Memory: 64 * MB, OomKillDisable: true },
    { 'memory/memory.oom_control': 'oom_kill_disable 1\nunder_oom 0\noom_kill 0' },
  ],
  ['CpuShares', { CpuShares: 512 }, { 'cpu/cpu.shares': '512' }],
  [
    'CpuPeriod, CpuQuota',
    { CpuPeriod: 50_000, CpuQuota: 20_000 },
    { 'cpu/cpu.cfs_period_us': '50000', 'cpu/cpu.cfs_quota_us': '20000' },
  ],
  ['CpuQuota: none', { CpuQuota: -1 }, { 'cpu/cpu.cfs_quota_us': '-1' }],
  ['NanoCpus', { NanoCpus: 5e8 }, { 'cpu/cpu.cfs_period_us': '100000', 'cpu/cpu.cfs_quota_us': '50000' }],
  [
    'CpusetCpus, CpusetMems',
    { CpusetCpus: '0', CpusetMems: '0' },
    { 'cpuset/cpuset.cpus': '0', 'cpuset/cpuset.mems': '0' },
  ],
  ['PidsLimit', { PidsLimit: 33 }, { 'pids/pids.max': '33' }],
  ['PidsLimit: none', { PidsLimit: -1 }, { 'pids/pids.max': 'max' }],
  [
    'BlkioWeight',
    { BlkioWeight: 300 },
    { 'blkio/blkio.weight': '300' },
    hasWeights ? false : 'the kernel has no blkio.weight',
  ],
  [
    'BlkioWeightDevice',
    { BlkioWeightDevice: [{ Path: path, Weight: 200 }] },
    { 'blkio/blkio.weight_device': `${number} 200` },
    hasWeights ? needsDisk : 'the kernel has no blkio.weight_device',
  ],
  ...(
    [
      ['BlkioDeviceReadBps', 'read_bps'],
      ['BlkioDeviceWriteBps', 'write_bps'],
      ['BlkioDeviceReadIOps', 'read_iops'],
      ['BlkioDeviceWriteIOps', 'write_iops'],
    ] as const
  ).map(([field, file]): [string, object, Record<string, string>, string | false] => [
    field,
    { [field]: [{ Path: path, Rate: 4096 }] },
    { [`blkio/blkio.throttle.${file}_device`]: `${number} 4096` },
    needsDisk,
  ]),
];

for (const [name, hostConfig, files, skip = needsV1] of limits) {
  test(`limit: ${name}`, { skip }, async () => {
    const found = await table.cgroup(Object.keys(files), { hostConfig: { ...hostConfig } });
    assert.deepEqual(found, Object.values(files));
  });
}

test('limit: a process that wants more memory is killed', { skip: needsV1 }, async () => {
  const eats = 'x=a; while true; do x=$x$x; done';
  const { code } = await table.run(eats, { hostConfig: { Memory: 8 * MB, MemorySwap: 8 * MB } });
  assert.equal(code, 137);
});

test('limits that make no sense', async () => {
  const cases: [object, string][] = [
    [{ Memory: 1 }, '400 Minimum memory limit allowed is 6MB'],
    [
      { MemorySwap: 64 * MB },
      '400 You should always set the Memory limit when using Memoryswap limit, see usage',
    ],
    [
      { Memory: 64 * MB, MemorySwap: 32 * MB },
      '400 Minimum memoryswap limit should be larger than memory limit, see usage',
    ],
    [{ MemoryReservation: 1 }, '400 Minimum memory reservation allowed is 6MB'],
    [
      { Memory: 8 * MB, MemoryReservation: 9 * MB },
      '400 Minimum memory limit can not be less than memory reservation limit, see usage',
    ],
    [
      { NanoCpus: 1e9, CpuQuota: 5000 },
      '400 Conflicting options: Nano CPUs and CPU Quota cannot both be set',
    ],
    [{ CpuPeriod: 1 }, /cfs period can not be less than 1ms/.source],
    [{ CpuQuota: 1 }, '400 CPU cfs quota can not be less than 1ms (i.e. 1000)'],
    [{ CpusetCpus: 'x' }, '400 Invalid value x for cpuset cpus: invalid format: x'],
    [
      { CpusetCpus: '0-9000' },
      '400 Invalid value 0-9000 for cpuset cpus: value of out range, maximum is 8192',
    ],
    [{ CpusetCpus: '4000' }, '400 Requested CPUs are not available - requested 4000, available: '],
    [{ CpusetMems: '4000' }, '400 Requested memory nodes are not available - requested 4000, available: '],
    [
      { IOMaximumBandwidth: 1 },
      '500 Invalid QoS settings: linux does not support configuration of maximum bandwidth',
    ],
    [{ IOMaximumIOps: 1 }, '500 Invalid QoS settings: linux does not support configuration of maximum IOPs'],
  ];
  for (const [hostConfig, message] of cases) {
    const told = await table.refusal({ hostConfig: { ...hostConfig } });
    assert.ok(told.includes(message), `${JSON.stringify(hostConfig)}: ${told}`);
  }
  assert.equal(
    await table.failure({ hostConfig: { CpuShares: -1 } }),
    '500 invalid CPU shares (-1): value must be a positive integer',
  );
  const nowhere = { BlkioDeviceReadBps: [{ Path: '/dev/nowhere', Rate: 1 }] };
  if (hasV1) {
    const told = await table.failure({ hostConfig: nowhere });
    assert.equal(told, '500 stat /dev/nowhere: no such file or directory');
  }
});

test('limits that the kernel does not have are discarded, and told', { skip: needsV1 }, async () => {
  const { id, warnings } = await table.create('true', {
    hostConfig: { BlkioWeight: 300, CpuPercent: 10, OomKillDisable: true },
  });
  await table.remove(id);
  assert.deepEqual(warnings, [
    'OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.',
    'linux does not support CPU percent. Percent discarded.',
    ...(hasWeights
      ? []
      : ['Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.']),
  ]);
});
