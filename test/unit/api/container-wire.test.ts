import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import {
  containerConfig,
  createBody,
  endpointSettings,
  hostConfig,
} from '../../../src/api/container-wire.ts';

/** What a supervisor sends and compares with inspect, field by field. */
const sent = {
  HostConfig: {
    Binds: ['/a:/b:ro', 'v:/data'],
    Mounts: [
      { Type: 'bind', Source: '/s', Target: '/t', ReadOnly: true, BindOptions: { Propagation: 'rslave' } },
      {
        Type: 'volume',
        Source: 'v',
        Target: '/v',
        VolumeOptions: {
          NoCopy: true,
          Labels: { a: 'b' },
          DriverConfig: { Name: 'local', Options: { o: 'x' } },
        },
      },
      { Type: 'tmpfs', Target: '/tmp', TmpfsOptions: { SizeBytes: 1024, Mode: 0o1777 } },
    ],
    Tmpfs: { '/run': 'size=1m' },
    PortBindings: { '80/tcp': [{ HostIp: '', HostPort: '8080' }], '53/udp': null },
    NetworkMode: 'host',
    RestartPolicy: { Name: 'always', MaximumRetryCount: 0 },
    Privileged: true,
    CapAdd: ['NET_ADMIN'],
    CapDrop: ['ALL'],
    Devices: [{ PathOnHost: '/dev/i2c-1', PathInContainer: '/dev/i2c-1', CgroupPermissions: 'rwm' }],
    DeviceRequests: [{ Driver: '', Count: 1, DeviceIDs: null, Capabilities: [['gpu']], Options: {} }],
    Memory: 67108864,
    MemoryReservation: 33554432,
    ShmSize: 1048576,
    CpuShares: 512,
    CpuQuota: 50000,
    CpusetCpus: '0-1',
    OomKillDisable: true,
    OomScoreAdj: -500,
    Dns: ['1.1.1.1'],
    DnsOptions: ['ndots:1'],
    DnsSearch: ['lan'],
    ExtraHosts: ['db:10.0.0.2'],
    Ulimits: [{ Name: 'nofile', Hard: 2048, Soft: 1024 }],
    ReadonlyRootfs: true,
    Sysctls: { 'net.core.somaxconn': '1024' },
    CgroupParent: '/apps',
    GroupAdd: ['audio'],
    PidMode: 'host',
    PidsLimit: 100,
    SecurityOpt: ['no-new-privileges'],
    UsernsMode: 'host',
    IpcMode: 'host',
    Init: false,
  },
  Hostname: 'h',
  Cmd: ['a', 'b c'],
  Entrypoint: ['/e'],
  Env: ['A=b'],
  Labels: { 'io.balena.x': '1', __proto: '' },
  Image: 'sha256:ab',
  Volumes: { '/data': {} },
  StopSignal: 'SIGINT',
  StopTimeout: 0,
  Healthcheck: { Test: ['CMD', 'x'], Interval: 1_000_000_000, Retries: 3 },
  Domainname: 'd',
  User: '1:1',
  WorkingDir: '/w',
  Tty: true,
  MacAddress: '02:00:00:00:00:01',
};

test('what a supervisor sends comes back exactly', () => {
  const { config, hostConfig: host } = createBody.decode(JSON.parse(JSON.stringify(sent)));
  assert.ok(config);
  const { HostConfig, ...own } = sent;
  assert.partialDeepStrictEqual(hostConfig.encode(host), HostConfig);
  assert.partialDeepStrictEqual(containerConfig.encode(config), own);
});

test('a request that says nothing comes back as dockerd prints its defaults', () => {
  const { hostConfig: host, config } = createBody.decode({ Image: 'x' });
  assert.deepEqual(containerConfig.encode(config ?? containerConfig.zero()), {
    Hostname: '',
    Domainname: '',
    User: '',
    AttachStdin: false,
    AttachStdout: false,
    AttachStderr: false,
    Tty: false,
    OpenStdin: false,
    StdinOnce: false,
    Env: null,
    Cmd: null,
    Image: 'x',
    Volumes: null,
    WorkingDir: '',
    Entrypoint: null,
    OnBuild: null,
    Labels: null,
  });
  const printed = hostConfig.encode(host);
  const absent = [
    'Annotations',
    'StorageOpt',
    'Tmpfs',
    'Sysctls',
    'Runtime',
    'Mounts',
    'Init',
    'KernelMemory',
  ];
  for (const key of absent) assert.equal(key in printed, false, key);
  assert.partialDeepStrictEqual(printed, {
    Binds: null,
    LogConfig: { Type: '', Config: {} },
    PortBindings: null,
    RestartPolicy: { Name: '', MaximumRetryCount: 0 },
    ConsoleSize: [0, 0],
    CapAdd: null,
    Memory: 0,
    MemorySwappiness: null,
    OomKillDisable: null,
    PidsLimit: null,
    MaskedPaths: null,
  });
});

test('endpoints come in with a create request', () => {
  const { endpoints } = createBody.decode({
    networkingconfig: {
      endpointsconfig: { mine: { Aliases: ['a'], IPAMConfig: { IPv4Address: '10.0.0.2' } }, other: null },
    },
  });
  assert.deepEqual(endpoints['mine'], {
    ...endpointSettings.zero(),
    aliases: ['a'],
    ipamConfig: { ipv4Address: '10.0.0.2' },
  });
  assert.deepEqual(endpoints['other'], endpointSettings.zero());
});

test('whatever the model can hold comes back through the wire', () => {
  const texts = fc.option(fc.array(fc.string()));
  const map = fc.option(fc.dictionary(fc.string(), fc.string()));
  const configs = fc.record({ cmd: texts, env: texts, labels: map, tty: fc.boolean(), user: fc.string() });
  const hosts = fc.record({
    binds: texts,
    dns: texts,
    memory: fc.integer(),
    pidsLimit: fc.option(fc.integer()),
    oomKillDisable: fc.option(fc.boolean()),
    portBindings: fc.option(
      fc.dictionary(
        fc.string(),
        fc.option(fc.array(fc.record({ hostIp: fc.string(), hostPort: fc.string() }))),
      ),
    ),
  });
  const over = <T>(codec: { encode(value: T): unknown; decode(json: unknown): T }, value: T) =>
    codec.decode(JSON.parse(JSON.stringify(codec.encode(value))));
  fc.assert(
    fc.property(configs, hosts, (config, host) => {
      const one = { ...containerConfig.zero(), ...config };
      const other = { ...hostConfig.zero(), ...host };
      assert.deepEqual(JSON.stringify(over(containerConfig, one)), JSON.stringify(one));
      assert.deepEqual(JSON.stringify(over(hostConfig, other)), JSON.stringify(other));
    }),
  );
});
