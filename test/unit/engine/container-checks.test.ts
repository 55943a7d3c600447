import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkRequest, type HostLimits } from '../../../src/engine/container-checks.ts';
import type { ContainerConfig, HostConfig } from '../../../src/engine/model.ts';
import { createRequest, everyLimit, plainDefaults } from '../../support/container-requests.ts';

const host: HostLimits = {
  cpus: 2,
  hostname: 'board',
  platform: { os: 'linux', architecture: 'amd64' },
  runtimes: ['crun', 'runc'],
  defaultRuntime: 'crun',
  limits: everyLimit,
  defaults: plainDefaults,
};

const check = (hostConfig: Partial<HostConfig>, config: Partial<ContainerConfig> = {}) =>
  checkRequest(createRequest({ hostConfig, config }), host);

test('what is fine', () => {
  check({});
  check({
    restartPolicy: { name: 'on-failure', maximumRetryCount: 3 },
    memory: 6 << 20,
    memorySwap: -1,
    nanoCpus: 2e9,
    runtime: 'runc',
    extraHosts: ['db:10.0.0.1', 'host:host-gateway', 'six:::1'],
    portBindings: { '80': null, '443/tcp': [{ hostIp: '', hostPort: '8000-8010' }] },
    capAdd: ['net_admin', 'ALL'],
    securityOpt: ['no-new-privileges', 'seccomp=unconfined'],
    cgroupnsMode: 'host',
  });
  check({ autoRemove: true, restartPolicy: { name: 'no', maximumRetryCount: 0 } });
  check({}, { healthcheck: { interval: 1_000_000 }, stopSignal: 'SIGRTMIN+3', env: ['A'] });
});

test("what is not, in dockerd's words", () => {
  const cases: [Partial<HostConfig>, Partial<ContainerConfig>, string, number?][] = [
    [
      { restartPolicy: { name: 'bogus', maximumRetryCount: 0 } },
      {},
      "invalid restart policy: unknown policy 'bogus'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
    ],
    [
      { restartPolicy: { name: 'always', maximumRetryCount: 2 } },
      {},
      "invalid restart policy: maximum retry count can only be used with 'on-failure'",
    ],
    [
      { restartPolicy: { name: 'on-failure', maximumRetryCount: -1 } },
      {},
      'invalid restart policy: maximum retry count cannot be negative',
    ],
    [
      { restartPolicy: { name: 'always', maximumRetryCount: 0 }, autoRemove: true },
      {},
      "can't create 'AutoRemove' container with restart policy",
    ],
    [{ memory: 1 }, {}, 'Minimum memory limit allowed is 6MB'],
    [{ memorySwap: 1 }, {}, 'You should always set the Memory limit when using Memoryswap limit, see usage'],
    [{ nanoCpus: 3e9 }, {}, 'Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available'],
    [{ oomScoreAdj: 5000 }, {}, 'Invalid value 5000, range for oom score adj is [-1000, 1000]'],
    [{ shmSize: -1 }, {}, 'SHM size can not be less than 0'],
    [{ capAdd: ['BOGUS'] }, {}, 'invalid CapAdd: unknown capability: "CAP_BOGUS"'],
    [{ runtime: 'bogus' }, {}, 'unknown or invalid runtime name: bogus'],
    [{ isolation: 'bogus' }, {}, `Invalid isolation: "bogus" - linux only supports 'default'`, 500],
    [{ cgroupnsMode: 'bogus' }, {}, 'invalid cgroup namespace mode: bogus'],
    [{ networkMode: 'container:' }, {}, 'Invalid network mode: invalid container format container:<name|id>'],
    [{ networkMode: 'container:x' }, { hostname: 'h' }, 'conflicting options: hostname and the network mode'],
    [{ networkMode: 'container:x', dns: ['1.1.1.1'] }, {}, 'conflicting options: dns and the network mode'],
    [
      { networkMode: 'container:x', extraHosts: ['a:1.1.1.1'] },
      {},
      'conflicting options: custom host-to-IP mapping and the network mode',
    ],
    [
      { networkMode: 'container:x', publishAllPorts: true },
      {},
      'conflicting options: port publishing and the container type network mode',
    ],
    [
      { networkMode: 'container:x' },
      { exposedPorts: { '80/tcp': {} } },
      'conflicting options: port exposing and the container type network mode',
    ],
    [{ ipcMode: 'bogus' }, {}, 'invalid IPC mode: bogus'],
    [{ pidMode: 'private' }, {}, 'invalid PID mode: private'],
    [{ utsMode: 'container:x' }, {}, 'invalid UTS mode: container:x'],
    [
      { networkMode: 'host' },
      { macAddress: '02:00:00:00:00:01' },
      'conflicting options: mac-address and the network mode',
    ],
    [{ utsMode: 'host' }, { hostname: 'x' }, 'conflicting options: hostname and the UTS mode'],
    [{}, { workingDir: 'rel' }, "the working directory 'rel' is invalid, it needs to be an absolute path"],
    [{}, { env: ['=x'] }, 'invalid environment variable: =x'],
    [{}, { stopSignal: 'BOGUS' }, 'invalid signal: BOGUS'],
    [{}, { healthcheck: { interval: 10 } }, 'Interval in Healthcheck cannot be less than 1ms'],
    [{}, { healthcheck: { startInterval: 10 } }, 'StartInterval in Healthcheck cannot be less than 1ms'],
    [{}, { exposedPorts: { '99999/tcp': {} } }, 'invalid port specification: "99999/tcp"'],
    [{ portBindings: { '99999': null } }, {}, 'invalid port specification: "99999"'],
    [
      { portBindings: { '80': [{ hostIp: '', hostPort: '99999' }] } },
      {},
      'invalid port specification: "99999"',
    ],
    [
      { portBindings: { '80': [{ hostIp: '', hostPort: '90-80' }] } },
      {},
      'invalid port specification: "90-80"',
    ],
    [{ extraHosts: ['x'] }, {}, 'bad format for add-host: "x"'],
    [{ extraHosts: ['x=1.1.1.1'] }, {}, 'bad format for add-host: "x=1.1.1.1"'],
    [{ extraHosts: ['x:[::1]'] }, {}, 'invalid IP address in add-host: "[::1]"'],
    [{ extraHosts: ['x:y'] }, {}, 'invalid IP address in add-host: "y"'],
    [
      { networkMode: 'host', links: ['db:db'] },
      {},
      "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
    ],
    [
      { logConfig: { type: 'bogus', config: {} } },
      {},
      'error looking up logging plugin bogus: plugin "bogus" not found',
    ],
    [{ tmpfs: { rel: '' } }, {}, "invalid mount path: 'rel' mount path must be absolute"],
  ];
  for (const [hostConfig, config, message, status = 400] of cases)
    assert.throws(() => check(hostConfig, config), { message, status }, message);
});

test('of several faults the first in order is told: conflicts, the container, the host', () => {
  const hostConfig = { networkMode: 'container:', memory: 1 };
  assert.throws(() => check(hostConfig, { workingDir: 'rel' }), /Invalid network mode/);
  assert.throws(() => check({ memory: 1 }, { workingDir: 'rel' }), /working directory/);
});
