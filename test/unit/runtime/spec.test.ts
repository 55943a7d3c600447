import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type BundleSpec,
  cgroupOf,
  type OciDevice,
  type OciSpec,
  ociProcess,
  ociSpec,
  type SpecHost,
} from '../../../src/runtime/spec.ts';

const bundle: BundleSpec = {
  id: 'c1',
  runtime: 'runc',
  rootfs: '/data/merged',
  isRootfsReadonly: false,
  process: {
    args: ['sh', '-c', 'true'],
    env: ['A=1'],
    cwd: '/w',
    user: { uid: 0, gid: 0, additionalGids: [0] },
    terminal: false,
    consoleSize: [25, 80],
    hasStdin: false,
    isStdinOnce: false,
    capabilities: ['CAP_KILL'],
    noNewPrivileges: false,
    rlimits: [{ name: 'nofile', hard: 20, soft: 10 }],
  },
  hostname: 'box',
  domainname: '',
  namespaces: { pid: 'private', ipc: 'private', uts: 'private', network: 'private', cgroup: 'private' },
  mounts: [],
  shmBytes: 64 << 20,
  resources: {},
  devices: [],
  isPrivileged: false,
  seccomp: 'default',
  maskedPaths: ['/proc/kcore'],
  readonlyPaths: ['/proc/sys'],
  sysctls: {},
  annotations: { 'org.example': 'x' },
  cgroupParent: '',
  log: { kind: 'file', path: '/data/log', generationBytes: 0, limitBytes: 0, compresses: false },
};

const host: SpecHost = {
  architecture: 'arm64',
  kernel: '6.1.0',
  hasSeccomp: true,
  hasAppArmor: false,
  cgroupVersion: 2,
  networkSysctls: { 'net.ipv4.ping_group_range': '0 2147483647' },
};

const specOf = (changes: Partial<BundleSpec> = {}, devices: OciDevice[] = []): OciSpec =>
  ociSpec({ ...bundle, ...changes }, devices, host);
const optionsAt = (spec: OciSpec, path: string) =>
  spec.mounts.find(({ destination }) => destination === path)?.options;

test('a plain container: namespaces, mounts, paths, cgroup', () => {
  const spec = specOf();
  assert.deepEqual(
    spec.linux.namespaces.map(({ type }) => type),
    ['mount', 'pid', 'ipc', 'uts', 'network', 'cgroup'],
  );
  assert.deepEqual(
    spec.mounts.map(({ destination }) => destination),
    ['/proc', '/dev', '/dev/pts', '/sys', '/sys/fs/cgroup', '/dev/mqueue', '/dev/shm'],
  );
  assert.ok(optionsAt(spec, '/sys')?.includes('ro'));
  assert.ok(optionsAt(spec, '/sys/fs/cgroup')?.includes('ro'));
  assert.ok(optionsAt(spec, '/dev/shm')?.includes(`size=${64 << 20}`));
  assert.deepEqual(spec.root, { path: '/data/merged', readonly: false });
  assert.equal(spec.hostname, 'box');
  assert.equal(spec.linux.cgroupsPath, '/skerry/c1');
  assert.deepEqual(spec.linux.maskedPaths, ['/proc/kcore']);
  assert.deepEqual(spec.linux.readonlyPaths, ['/proc/sys']);
  assert.deepEqual(spec.linux.sysctl, host.networkSysctls);
  assert.deepEqual(spec.linux.resources, { devices: [{ allow: false, access: 'rwm' }] });
  assert.deepEqual(spec.linux.seccomp?.architectures, ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM']);
});

test('the namespaces of the host are left alone', () => {
  const spec = specOf({
    namespaces: { pid: 'host', ipc: 'host', uts: 'host', network: 'host', cgroup: 'host' },
    domainname: 'example.org',
  });
  assert.deepEqual(spec.linux.namespaces, [{ type: 'mount' }]);
  assert.equal(spec.hostname, undefined);
  assert.deepEqual(spec.linux.sysctl, {});
  assert.equal(spec.mounts.find(({ destination }) => destination === '/dev/shm')?.type, 'bind');
});

test('names and sysctls', () => {
  const spec = specOf({ domainname: 'example.org', sysctls: { 'net.ipv4.ping_group_range': '0 0' } });
  assert.deepEqual(spec.linux.sysctl, {
    'net.ipv4.ping_group_range': '0 0',
    'kernel.domainname': 'example.org',
  });
  assert.deepEqual(spec.linux.namespaces.at(-1), { type: 'cgroup' });
});

test('own mounts: outer before inner, in place of a default, the whole of /dev', () => {
  const mount = (destination: string) => ({ destination, type: 'bind', source: '/s', options: ['rbind'] });
  const spec = specOf({ mounts: [mount('/a/b/c'), mount('/a'), mount('/dev/shm/'), mount('/a/b')] });
  assert.deepEqual(
    spec.mounts.slice(-4).map(({ destination }) => destination),
    ['/a', '/dev/shm', '/a/b', '/a/b/c'],
  );
  assert.equal(spec.mounts.filter(({ destination }) => destination.startsWith('/dev/shm')).length, 1);
  const withDev = specOf({ mounts: [mount('/dev')] });
  assert.deepEqual(
    withDev.mounts.filter(({ destination }) => destination.startsWith('/dev')).map(({ source }) => source),
    ['/s'],
  );
});

test('the root passes on what is mounted below, as far as a mount asks for it', () => {
  const rootOf = (...propagations: string[]) => {
    const bind = { type: 'bind', source: '/s' };
    const mounts = propagations.map((word) => ({
      ...bind,
      destination: `/${word}`,
      options: ['rbind', word],
    }));
    return specOf({ mounts }).linux.rootfsPropagation;
  };
  assert.equal(rootOf('rprivate'), undefined);
  assert.equal(rootOf('rprivate', 'rslave'), 'rslave');
  assert.equal(rootOf('slave', 'rshared'), 'shared');
});

test('a read-only root makes read-only what a process may do without', () => {
  const spec = specOf({ isRootfsReadonly: true });
  assert.equal(spec.root.readonly, true);
  for (const path of ['/proc', '/dev', '/dev/pts', '/dev/shm', '/dev/mqueue'])
    assert.ok(!optionsAt(spec, path)?.includes('ro'), path);
  assert.equal(optionsAt(spec, '/sys')?.filter((option) => option === 'ro').length, 1);
  // dockerd: who is privileged may write there nevertheless
  const privileged = specOf({ isRootfsReadonly: true, isPrivileged: true });
  for (const path of ['/sys', '/sys/fs/cgroup'])
    assert.ok(!optionsAt(privileged, path)?.includes('ro'), path);
});

const device: OciDevice = {
  path: '/dev/x',
  type: 'c',
  major: 10,
  minor: 200,
  fileMode: 0o660,
  uid: 0,
  gid: 20,
  permissions: 'rw',
};

test('devices are made, and allowed as far as asked', () => {
  const spec = specOf({}, [device]);
  const { permissions: _, ...node } = device;
  assert.deepEqual(spec.linux.devices, [node]);
  assert.deepEqual(spec.linux.resources, {
    devices: [
      { allow: false, access: 'rwm' },
      { allow: true, type: 'c', major: 10, minor: 200, access: 'rw' },
    ],
  });
});

test('privileged: every device, /sys and cgroups writable', () => {
  const spec = specOf({ isPrivileged: true, seccomp: 'unconfined' }, [device]);
  assert.deepEqual(spec.linux.resources, { devices: [{ allow: true, access: 'rwm' }] });
  assert.ok(!optionsAt(spec, '/sys')?.includes('ro'));
  assert.ok(!optionsAt(spec, '/sys/fs/cgroup')?.includes('ro'));
  assert.equal(spec.linux.seccomp, undefined);
});

test('resources', () => {
  const resources = {
    memoryBytes: 1,
    memoryReservationBytes: 2,
    memorySwapBytes: -1,
    cpuShares: 3,
    cpuQuota: 4,
    cpuPeriod: 5,
    cpusetCpus: '0',
    cpusetMems: '0',
    pidsLimit: 6,
    oomKillDisable: true,
  };
  const expected = {
    devices: [{ allow: false, access: 'rwm' }],
    memory: { limit: 1, reservation: 2, swap: -1 },
    cpu: { shares: 3, quota: 4, period: 5, cpus: '0', mems: '0' },
    pids: { limit: 6 },
  };
  assert.deepEqual(specOf({ resources }).linux.resources, expected);
  const old = ociSpec({ ...bundle, resources }, [], { ...host, cgroupVersion: 1 });
  assert.deepEqual(old.linux.resources, {
    ...expected,
    memory: { ...expected.memory, disableOOMKiller: true },
  });
});

test('the process: capabilities as execve(2) leaves them, limits, terminal', () => {
  const { process } = bundle;
  assert.deepEqual(ociProcess(process).capabilities, {
    bounding: ['CAP_KILL'],
    effective: ['CAP_KILL'],
    permitted: ['CAP_KILL'],
  });
  const user = { uid: 5, gid: 6, additionalGids: [6, 7] };
  const other = ociProcess({ ...process, user, terminal: true, oomScoreAdj: -5 });
  assert.deepEqual(other.capabilities, { bounding: ['CAP_KILL'] });
  assert.deepEqual(other.user, user);
  assert.deepEqual(other.consoleSize, { height: 25, width: 80 });
  assert.equal(other.oomScoreAdj, -5);
  assert.equal(ociProcess(process).consoleSize, undefined);
  assert.ok(!('oomScoreAdj' in ociProcess(process)));
  assert.deepEqual(other.rlimits, [{ type: 'RLIMIT_NOFILE', hard: 20, soft: 10 }]);
});

test('seccomp: none, from a file, none in the kernel', () => {
  assert.equal(specOf({ seccomp: 'unconfined' }).linux.seccomp, undefined);
  const profile = '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}';
  assert.deepEqual(specOf({ seccomp: { profile } }).linux.seccomp, {
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [],
  });
  assert.equal(ociSpec(bundle, [], { ...host, hasSeccomp: false }).linux.seccomp, undefined);
});

test('the cgroup stays below the root, whatever its parent is called', () => {
  assert.equal(cgroupOf({ id: 'i', cgroupParent: '' }), '/skerry/i');
  assert.equal(cgroupOf({ id: 'i', cgroupParent: 'a/b' }), '/a/b/i');
  assert.equal(cgroupOf({ id: 'i', cgroupParent: '/../x' }), '/x/i');
});

test('limits for runtimes that know them: kernel memory, real time, swappiness of nothing', () => {
  const resources = {
    kernelMemoryBytes: 8 << 20,
    kernelMemoryTcpBytes: 9 << 20,
    memorySwappiness: 0,
    cpuRealtimePeriod: 1000,
    cpuRealtimeRuntime: 500,
  };
  const { memory, cpu } = specOf({ resources }).linux.resources as Record<string, object>;
  assert.deepEqual(memory, { kernel: 8 << 20, kernelTCP: 9 << 20, swappiness: 0 });
  assert.deepEqual(cpu, { realtimePeriod: 1000, realtimeRuntime: 500 });
});

test('a profile of AppArmor, where the kernel has it', () => {
  const confined = { ...bundle, process: { ...bundle.process, apparmor: 'mine' } };
  assert.equal(ociSpec(confined, [], host).process.apparmorProfile, undefined);
  assert.equal(ociSpec(confined, [], { ...host, hasAppArmor: true }).process.apparmorProfile, 'mine');
});

test('slices of systemd lie in each other', () => {
  const at = (cgroupParent: string) => cgroupOf({ id: 'c', cgroupParent });
  assert.equal(at('a-b.slice'), '/a.slice/a-b.slice/c');
  assert.equal(at('/a-b.slice'), '/a-b.slice/c');
  assert.equal(at('../../x'), '/x/c');
});
