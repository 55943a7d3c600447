import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { capabilities, capabilitiesIn } from '../../../src/host/facts.ts';
import { type Options, OptionTable } from '../../support/option-table.ts';

/** Who a container's process is and what it may do, as /proc says from inside. */
let table: OptionTable;

before(async () => {
  table = await OptionTable.open();
});
after(() => table[Symbol.asyncDispose]());

const status = (key: string) => `grep -E '^${key}:' /proc/self/status | cut -f2`;
const capsOf = async (options: Options, key = 'CapBnd') =>
  capabilitiesIn(BigInt(`0x${await table.inside(status(key), options)}`)).map((name) => name.slice(4));

const rows: [string, string, Options, string][] = [
  ['User: root', 'id -u; id -g', {}, '0\n0'],
  [
    'User: a name',
    'id',
    { config: { User: 'alice' } },
    'uid=1000(alice) gid=1000(alice) groups=20(dialout),1000(alice)',
  ],
  [
    'User: a name and a group',
    'id',
    { config: { User: 'alice:dialout' } },
    'uid=1000(alice) gid=20(dialout) groups=20(dialout)',
  ],
  ['User: numbers', 'id -u; id -g', { config: { User: '77:88' } }, '77\n88'],
  [
    'User: a number that has a name',
    'id -un; echo $HOME',
    { config: { User: '1000' } },
    'alice\n/home/alice',
  ],
  [
    'GroupAdd',
    'id -G | tr " " "\\n" | sort -n | uniq',
    { hostConfig: { GroupAdd: ['dialout', '4242'] } },
    '0\n20\n4242',
  ],
  ['WorkingDir, that is not there', 'pwd', { config: { WorkingDir: '/a/b' } }, '/a/b'],
  ['Env', 'echo $A $HOSTNAME', { config: { Env: ['A=1'], Hostname: 'box' } }, '1 box'],
  ['OomScoreAdj', 'cat /proc/self/oom_score_adj', { hostConfig: { OomScoreAdj: 321 } }, '321'],
  [
    'Ulimits',
    'ulimit -n; ulimit -Hn',
    { hostConfig: { Ulimits: [{ Name: 'nofile', Soft: 64, Hard: 128 }] } },
    '64\n128',
  ],
  [
    'SecurityOpt: no-new-privileges',
    status('NoNewPrivs'),
    { hostConfig: { SecurityOpt: ['no-new-privileges'] } },
    '1',
  ],
  [
    'SecurityOpt: no-new-privileges=false',
    status('NoNewPrivs'),
    { hostConfig: { SecurityOpt: ['no-new-privileges=false'] } },
    '0',
  ],
  ['SecurityOpt: the filter by default', status('Seccomp'), {}, '2'],
  [
    'SecurityOpt: seccomp=unconfined',
    status('Seccomp'),
    { hostConfig: { SecurityOpt: ['seccomp=unconfined'] } },
    '0',
  ],
  [
    'SecurityOpt: a profile',
    'mkdir /x 2>/dev/null || echo refused',
    {
      hostConfig: {
        SecurityOpt: [
          `seccomp=${JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO' }] })}`,
        ],
      },
    },
    'refused',
  ],
  ['SecurityOpt: labels mean nothing', 'echo ran', { hostConfig: { SecurityOpt: ['label=disable'] } }, 'ran'],
  ['Privileged: no filter', status('Seccomp'), { hostConfig: { Privileged: true } }, '0'],
  [
    'ReadonlyRootfs',
    'touch /x 2>/dev/null || echo refused',
    { hostConfig: { ReadonlyRootfs: true } },
    'refused',
  ],
  ['MaskedPaths: by default', 'wc -c < /proc/keys', {}, '0'],
  [
    'MaskedPaths: its own',
    'wc -c < /etc/os-release',
    { hostConfig: { MaskedPaths: ['/etc/os-release'] } },
    '0',
  ],
  [
    'ReadonlyPaths: its own, and in privileged ones too',
    'touch /tmp/x 2>/dev/null || echo refused',
    { hostConfig: { Privileged: true, ReadonlyPaths: ['/tmp'] } },
    'refused',
  ],
  [
    'ReadonlyPaths: none',
    'grep -c " /proc/sys " /proc/self/mountinfo || true',
    { hostConfig: { ReadonlyPaths: [], MaskedPaths: [] } },
    '0',
  ],
  ['Init', 'cat /proc/1/comm; ls /sbin', { hostConfig: { Init: true } }, 'docker-init\ndocker-init'],
  ['Init: not', 'cat /proc/1/comm; true', { hostConfig: { Init: false } }, 'sh'],
  [
    'Init: not where there is one already',
    'tr "\\0" " " < /proc/self/cmdline | cut -d" " -f1',
    { hostConfig: { Init: true, PidMode: 'host' } },
    'tr',
  ],
  ['Runtime', 'echo ran', { hostConfig: { Runtime: 'runc' } }, 'ran'],
  ['Annotations', 'echo ran', { hostConfig: { Annotations: { 'org.example.a': 'b' } } }, 'ran'],
  ['CpuCount, which is not ours', 'echo ran', { hostConfig: { CpuCount: 1 } }, 'ran'],
  ['Isolation', 'echo ran', { hostConfig: { Isolation: 'default' } }, 'ran'],
];
for (const [name, script, options, expected] of rows) {
  test(name, async () => {
    assert.equal(await table.inside(script, options), expected);
  });
}

test('an init process reaps what is orphaned', async () => {
  const script = '(sleep 0.01 & ) ; sleep 0.2; ps -o stat,comm | grep -c "^Z" || true';
  assert.equal(await table.inside(script, { hostConfig: { Init: true } }), '0');
});

test('capabilities', async () => {
  const all = capabilities().map((name) => name.slice(4));
  const usual = await capsOf({});
  assert.equal(usual.includes('CHOWN') && !usual.includes('SYS_ADMIN'), true);
  assert.deepEqual(await capsOf({ hostConfig: { CapDrop: ['ALL'] } }), []);
  assert.deepEqual(await capsOf({ hostConfig: { CapDrop: ['all'], CapAdd: ['net_admin'] } }), ['NET_ADMIN']);
  const added = await capsOf({ hostConfig: { CapAdd: ['CAP_SYS_TIME'], CapDrop: ['CHOWN'] } }, 'CapEff');
  assert.deepEqual(added.sort(), [...usual.filter((name) => name !== 'CHOWN'), 'SYS_TIME'].sort());
  assert.deepEqual(await capsOf({ hostConfig: { CapAdd: ['ALL'] } }), all);
  assert.deepEqual(await capsOf({ hostConfig: { Privileged: true } }, 'CapEff'), all);
  assert.deepEqual(await capsOf({ config: { User: 'alice' } }, 'CapEff'), []);
});

test('a group of the cgroups, by path and by slice', async (t) => {
  if (!existsSync('/sys/fs/cgroup/pids')) return t.skip('reads the hierarchies of cgroup v1');
  const parent = `${table.engine.cgroupParent}/deeper`;
  const [limit] = await table.cgroup(
    ['pids/pids.max'],
    { hostConfig: { CgroupParent: parent, PidsLimit: 9 } },
    parent,
  );
  assert.equal(limit, '9');
  await removeGroups(parent);
  const look = 'grep -o ":pids:.*" /proc/self/cgroup | cut -d: -f3';
  const slice = `skt${process.pid}-inner.slice`;
  const seen = await table.inside(look, { hostConfig: { CgroupParent: slice } });
  assert.match(seen, new RegExp(`^/skt${process.pid}\\.slice/skt${process.pid}-inner\\.slice/[0-9a-f]{64}$`));
  await removeGroups(`/skt${process.pid}.slice/skt${process.pid}-inner.slice`);
  await removeGroups(`/skt${process.pid}.slice`);
});

/** The engine leaves alone what a user names: there may be limits on it. */
async function removeGroups(path: string): Promise<void> {
  for (const hierarchy of await readdir('/sys/fs/cgroup')) {
    const group = `/sys/fs/cgroup/${hierarchy}${path}`;
    if (existsSync(group)) await rmdir(group);
  }
}

test('what is refused at creation', async () => {
  const cases: [Options, string][] = [
    [{ hostConfig: { SecurityOpt: ['bogus'] } }, '500 invalid --security-opt 1: "bogus"'],
    [{ hostConfig: { SecurityOpt: ['bogus=1'] } }, '500 invalid --security-opt 2: "bogus=1"'],
    [
      { hostConfig: { SecurityOpt: ['no-new-privileges=perhaps'] } },
      '500 invalid --security-opt 2: "no-new-privileges=perhaps"',
    ],
    [{ hostConfig: { CapAdd: ['BOGUS'] } }, '400 invalid CapAdd: unknown capability: "CAP_BOGUS"'],
    [
      { hostConfig: { OomScoreAdj: 1001 } },
      '400 Invalid value 1001, range for oom score adj is [-1000, 1000]',
    ],
    [{ hostConfig: { ShmSize: -1 } }, '400 SHM size can not be less than 0'],
    [{ hostConfig: { Runtime: 'bogus' } }, '400 unknown or invalid runtime name: bogus'],
    [
      { hostConfig: { Isolation: 'hyperv' } },
      `500 Invalid isolation: "hyperv" - linux only supports 'default'`,
    ],
    [
      { hostConfig: { StorageOpt: { size: '1g' } } },
      "500 --storage-opt is supported only for overlay over xfs with 'pquota' mount option",
    ],
    [
      { hostConfig: { Annotations: { '': 'x' } } },
      '400 invalid Annotations: the empty string is not permitted as an annotation key',
    ],
    [
      { config: { WorkingDir: 'a' } },
      "400 the working directory 'a' is invalid, it needs to be an absolute path",
    ],
  ];
  for (const [options, expected] of cases) assert.equal(await table.refusal(options), expected);
});

test('what is refused at the start', async () => {
  const cases: [Options, RegExp][] = [
    [
      { config: { User: 'nobody-here' } },
      /^500 unable to find user nobody-here: no matching entries in passwd file$/,
    ],
    [{ config: { User: 'root:none' } }, /^500 unable to find group none: no matching entries in group file$/],
    [
      { hostConfig: { GroupAdd: ['none'] } },
      /^500 Unable to find group none: no matching entries in group file$/,
    ],
    [{ config: { WorkingDir: '/etc/passwd' } }, /^500 Cannot mkdir: \/etc\/passwd is not a directory$/],
    [
      { hostConfig: { Ulimits: [{ Name: 'bogus', Soft: 1, Hard: 1 }] } },
      /^500 failed to create .*RLIMIT_BOGUS/,
    ],
    [{ hostConfig: { SecurityOpt: ['seccomp={'] } }, /^500 Decoding seccomp profile failed: /],
  ];
  for (const [options, expected] of cases) assert.match(await table.failure(options), expected);
});

test('another OCI runtime, of the configuration', async () => {
  const { directory } = table.engine;
  const wrapper = `#!/bin/sh\necho "$@" >> ${directory}/calls\nexec runc "$@"\n`;
  await writeFile(join(directory, 'wrapper'), wrapper, { mode: 0o755 });
  await table.engine.stop();
  await table.engine.boot(['--add-runtime', `wrapped=${directory}/wrapper`]);
  assert.equal(await table.inside('echo ran', { hostConfig: { Runtime: 'wrapped' } }), 'ran');
  assert.match(await readFile(join(directory, 'calls'), 'utf8'), / create .*\n(.*\n)*.* start /);
});

test('defaults of the daemon', async () => {
  const flags = ['--init', '--no-new-privileges', '--default-shm-size=8m', '--default-cgroupns-mode=private'];
  await table.engine.stop();
  await table.engine.boot(flags);
  const look = `cat /proc/1/comm; ${status('NoNewPrivs')}; readlink /proc/self/ns/cgroup; grep ' /dev/shm ' /proc/self/mountinfo | grep -o 'size=[0-9]*k'`;
  const [init, privileges, cgroup, shm] = (await table.inside(look, {})).split('\n');
  assert.deepEqual([init, privileges, shm], ['docker-init', '1', 'size=8192k']);
  assert.notEqual(cgroup, `cgroup:[${statSync('/proc/self/ns/cgroup').ino}]`);
  const off = { hostConfig: { Init: false, SecurityOpt: ['no-new-privileges=false'] } };
  assert.equal(await table.inside(`cat /proc/1/comm; ${status('NoNewPrivs')}`, off), 'sh\n0');
});

test('limits of processes and a filter of system calls that the daemon gives', async () => {
  const profile = join(table.engine.directory, 'filter.json');
  const mkdirs = { names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 71 };
  await writeFile(profile, JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [mkdirs] }));
  await table.engine.stop();
  await table.engine.boot([
    '--default-ulimit=nofile=111:222',
    '--default-ulimit=core=0',
    `--seccomp-profile=${profile}`,
  ]);
  const look = 'ulimit -Sn; ulimit -Hn; ulimit -c; mkdir /new 2>&1 || true';
  const own = [{ Name: 'nofile', Soft: 33, Hard: 44 }];
  assert.deepEqual((await table.inside(look, {})).split('\n'), [
    ...['111', '222', '0'],
    "mkdir: can't create directory '/new': Protocol error",
  ]);
  const builtin = { Ulimits: own, SecurityOpt: ['seccomp=builtin'] };
  assert.equal(await table.inside(look, { hostConfig: builtin }), '33\n44\n0');
  const id = await table.running({});
  const { HostConfig } = await table.engine.json(`/containers/${id}/json`);
  assert.equal(HostConfig.Ulimits, null); // they are the daemon's
  await table.remove(id);
  const { SecurityOptions } = await table.engine.json('/info');
  assert.ok(SecurityOptions.includes(`name=seccomp,profile=${profile}`));
});
