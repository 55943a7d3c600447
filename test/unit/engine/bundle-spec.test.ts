import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BundlePlaces, bundleSpec, environmentOf } from '../../../src/engine/bundle-spec.ts';
import { containerRecord } from '../../support/container-records.ts';

const places: BundlePlaces = {
  rootfs: '/r',
  user: { uid: 1, gid: 2, additionalGids: [2], home: '/home/app' },
  capabilities: ['CAP_KILL'],
  mounts: [],
  log: { kind: 'none' } as const,
  cgroupParent: '/skerry',
  security: { noNewPrivileges: false, seccomp: 'default' } as const,
  ulimits: [],
};
const spec = (o: Parameters<typeof containerRecord>[0] = {}) => bundleSpec(containerRecord(o), places);

test('a plain container', () => {
  const { process, namespaces, resources, cgroupParent, seccomp, maskedPaths } = spec({
    config: { entrypoint: ['/e'], cmd: ['c'], tty: true },
  });
  assert.deepEqual(process.args, ['/e', 'c']);
  assert.equal(process.cwd, '/');
  assert.deepEqual([process.terminal, process.hasStdin, process.noNewPrivileges], [true, false, false]);
  assert.deepEqual(namespaces, {
    pid: 'private',
    ipc: 'private',
    uts: 'private',
    network: 'private',
    cgroup: 'host',
  });
  assert.deepEqual([resources, cgroupParent, seccomp], [{}, '/skerry', 'default']);
  assert.ok(maskedPaths.includes('/proc/kcore'));
});

test('limits that are set, and none that are not', () => {
  const { resources } = spec({
    hostConfig: {
      memory: 10,
      memorySwap: -1,
      nanoCpus: 1.5e9,
      cpusetCpus: '0',
      pidsLimit: 7,
      oomKillDisable: false,
    },
  });
  assert.deepEqual(resources, {
    memoryBytes: 10,
    memorySwapBytes: -1,
    cpuQuota: 150_000,
    cpuPeriod: 100_000,
    cpusetCpus: '0',
    pidsLimit: 7,
  });
  assert.deepEqual(spec({ hostConfig: { cpuQuota: 50_000, cpuPeriod: 20_000 } }).resources, {
    cpuQuota: 50_000,
    cpuPeriod: 20_000,
  });
});

test('the environment: preset, own, later wins, a bare name unsets', () => {
  const env = (env: string[], more: string[] = []) =>
    environmentOf({ config: containerRecord({ config: { env } }).config }, { home: '/h', tty: true, more });
  const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  assert.deepEqual(env([]), [path, 'HOSTNAME=cccccccccccc', 'TERM=xterm', 'HOME=/h']);
  assert.deepEqual(env(['PATH=/x', 'TERM', 'A=b=c', 'HOME=/own']), [
    'PATH=/x',
    'HOSTNAME=cccccccccccc',
    'A=b=c',
    'HOME=/own',
  ]);
  assert.deepEqual(
    env(['A=1', 'B=1'], ['A=2', 'B']).filter((text) => /^[AB]/.test(text)),
    ['A=2'],
  );
});

test('security options', () => {
  const options = (...securityOpt: string[]) => {
    const { seccomp, process } = spec({ hostConfig: { securityOpt } });
    return [seccomp, process.noNewPrivileges];
  };
  assert.deepEqual(options('no-new-privileges'), ['default', true]);
  assert.deepEqual(options('no-new-privileges:false', 'apparmor=unconfined'), ['default', false]);
  assert.deepEqual(options('seccomp:unconfined'), ['unconfined', false]);
  assert.deepEqual(options('seccomp={"a":"b=c"}'), [{ profile: '{"a":"b=c"}' }, false]);
  assert.deepEqual(options('seccomp=unconfined', 'seccomp=builtin'), ['default', false]);
  assert.throws(() => options('label=disable', 'bogus'), {
    status: 500,
    message: 'invalid --security-opt 1: "bogus"',
  });
});

test('a privileged container has no filter, and nothing masked but what it asks for', () => {
  const { seccomp, maskedPaths, readonlyPaths, process } = spec({
    hostConfig: { privileged: true, maskedPaths: ['/x'], securityOpt: ['seccomp=builtin'] },
  });
  assert.deepEqual([seccomp, maskedPaths, readonlyPaths], ['unconfined', ['/x'], []]);
  assert.equal(process.apparmor, 'unconfined');
  assert.equal(spec().process.apparmor, 'docker-default');
  assert.equal(spec({ hostConfig: { securityOpt: ['apparmor=mine'] } }).process.apparmor, 'mine');
  assert.deepEqual(spec({ hostConfig: { maskedPaths: [], readonlyPaths: ['/y'] } }).maskedPaths, []);
});

test('what requested devices do to a container', () => {
  const edits = {
    env: ['A=device', 'B=1'],
    devices: [],
    mounts: [{ source: '/h', destination: '/etc/hosts', type: 'bind', options: ['ro'] }],
    hooks: { createContainer: [{ path: '/hook' }] },
    additionalGids: [44],
  };
  const mounts = ['/etc/hosts', '/etc/hostname'].map((destination) => ({
    destination,
    type: 'bind',
    source: '/x',
    options: [],
  }));
  const made = bundleSpec(containerRecord({ config: { env: ['A=own'] } }), { ...places, mounts, edits });
  assert.deepEqual(
    made.process.env.filter((text) => /^[AB]=/.test(text)),
    ['A=device', 'B=1'],
  );
  assert.deepEqual(made.process.user.additionalGids, [2, 44]);
  assert.deepEqual(made.hooks, edits.hooks);
  assert.deepEqual(
    made.mounts.map(({ source }) => source),
    ['/x', '/h'],
  );
});

test('namespaces', () => {
  const shared = spec({
    hostConfig: {
      pidMode: 'host',
      ipcMode: 'shareable',
      utsMode: 'host',
      networkMode: 'host',
      cgroupnsMode: 'private',
    },
  });
  assert.deepEqual(shared.namespaces, {
    pid: 'host',
    ipc: 'private',
    uts: 'host',
    network: 'host',
    cgroup: 'private',
  });
  const donor = containerRecord({ state: { status: 'running', pid: 77 } });
  const record = containerRecord({ hostConfig: { networkMode: `container:${donor.id}`, ipcMode: 'none' } });
  const joining = bundleSpec(record, { ...places, donors: { network: donor, pid: donor }, shm: 'none' });
  assert.deepEqual(joining.namespaces, {
    pid: { path: '/proc/77/ns/pid' },
    ipc: 'private',
    uts: 'private',
    network: { path: '/proc/77/ns/net' },
    cgroup: 'host',
  });
  assert.equal(joining.shm, 'none');
});
