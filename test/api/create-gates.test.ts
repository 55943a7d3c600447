import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import type { CreateRequest } from '../../src/api/containers.ts';
import { ID } from './fake-engine.ts';
import { world } from './world.ts';

interface Made {
  status: number;
  message: string | undefined;
  warnings: string[] | undefined;
  request: CreateRequest | undefined;
}

/** Creates a container through the API of a ceiling, in a request of a version; what the engine was asked for. */
async function create(
  t: TestContext,
  [ceiling, version]: readonly [ceiling: string, version?: string],
  body: object,
  o: { query?: string; engineWarnings?: string[] } = {},
): Promise<Made> {
  let request: CreateRequest | undefined;
  const w = await world(t, {
    ceiling,
    engine: {
      containers: {
        create: async (asked) => {
          request = asked;
          return { id: ID, warnings: o.engineWarnings ?? [] };
        },
      },
    },
  });
  const prefix = version === undefined ? '' : `/v${version}`;
  const answer = await w.call(`POST ${prefix}/containers/create${o.query ?? ''}`, {
    body: JSON.stringify({ Image: 'debian', ...body }),
  });
  const json = answer.json as { message?: string; Warnings?: string[] };
  return { status: answer.status, message: json.message, warnings: json.Warnings, request };
}

const host = (hostConfig: object) => ({ HostConfig: hostConfig });
const mount = (options: object) =>
  host({ Mounts: [{ Type: 'bind', Source: '/a', Target: '/b', ...options }] });

test('B125: AutoRemove is the client’s work below 1.25', async (t) => {
  const body = host({ AutoRemove: true });
  assert.equal((await create(t, ['1.45', '1.24'], body)).request?.hostConfig.autoRemove, false);
  assert.equal((await create(t, ['1.45', '1.25'], body)).request?.hostConfig.autoRemove, true);
});

test('G007: an empty IpcMode is shareable below 1.40', async (t) => {
  assert.equal((await create(t, ['1.45', '1.39'], {})).request?.hostConfig.ipcMode, 'shareable');
  assert.equal((await create(t, ['1.45', '1.40'], {})).request?.hostConfig.ipcMode, '');
});

test('G008: BindOptions.NonRecursive is dropped below 1.40', async (t) => {
  const body = mount({ BindOptions: { NonRecursive: true } });
  const optionsOf = ({ request }: Made) => request?.hostConfig.mounts?.[0]?.bindOptions;
  assert.deepEqual(optionsOf(await create(t, ['1.45', '1.39'], body)), {});
  assert.deepEqual(optionsOf(await create(t, ['1.45', '1.40'], body)), { nonRecursive: true });
});

test('G009: KernelMemoryTCP is dropped below 1.40', async (t) => {
  const body = host({ KernelMemoryTCP: 5 });
  assert.equal((await create(t, ['1.45', '1.39'], body)).request?.hostConfig.kernelMemoryTCP, undefined);
  assert.equal((await create(t, ['1.45', '1.40'], body)).request?.hostConfig.kernelMemoryTCP, 5);
});

test('G011: DeviceRequests is unknown to ceiling 1.39, and not gated by the request', async (t) => {
  const body = host({ DeviceRequests: [{ Count: -1, Capabilities: [['gpu']] }] });
  const whole = { driver: '', count: -1, deviceIDs: null, capabilities: [['gpu']], options: null };
  assert.equal((await create(t, ['1.39'], body)).request?.hostConfig.deviceRequests, null);
  assert.deepEqual((await create(t, ['1.40', '1.39'], body)).request?.hostConfig.deviceRequests, [whole]);
});

test('G012: a PidsLimit of 0 or less is stored as null', async (t) => {
  for (const limit of [0, -1, -7, null]) {
    const made = await create(t, ['1.40', '1.39'], host({ PidsLimit: limit }));
    assert.equal(made.request?.hostConfig.pidsLimit, null);
  }
  assert.equal((await create(t, ['1.39'], host({ PidsLimit: 9 }))).request?.hostConfig.pidsLimit, 9);
});

test('G024: platform is ignored below 1.41, even a bad one, and parsed from there on', async (t) => {
  const o = { query: '?platform=linux/arm/v6' };
  assert.equal((await create(t, ['1.45', '1.40'], {}, o)).request?.platform, undefined);
  const { request } = await create(t, ['1.45', '1.41'], {}, o);
  assert.deepEqual(request?.platform, { os: 'linux', architecture: 'arm', variant: 'v6' });
  assert.equal((await create(t, ['1.45', '1.40'], {}, { query: '?platform=a/b/c/d' })).status, 201);
  const bad = await create(t, ['1.45', '1.41'], {}, { query: '?platform=a/b/c/d' });
  assert.equal(bad.status, 400);
  assert.equal(bad.message, '"a/b/c/d": cannot parse platform specifier: invalid argument');
});

test('G025: no warning of a foreign image up to ceiling 1.40', async (t) => {
  const engineWarnings = ["The requested image's platform (linux/arm) does not match the …", 'another'];
  assert.deepEqual((await create(t, ['1.40'], {}, { engineWarnings })).warnings, ['another']);
  assert.deepEqual((await create(t, ['1.41', '1.24'], {}, { engineWarnings })).warnings, engineWarnings);
});

test('G027: CgroupnsMode is unknown up to ceiling 1.40, and not gated by the request', async (t) => {
  const body = host({ CgroupnsMode: 'private' });
  assert.equal((await create(t, ['1.40'], body)).request?.hostConfig.cgroupnsMode, '');
  assert.equal((await create(t, ['1.41', '1.24'], body)).request?.hostConfig.cgroupnsMode, 'private');
});

test('G046: ConsoleSize is reset below 1.42', async (t) => {
  const body = host({ ConsoleSize: [24, 80] });
  assert.deepEqual((await create(t, ['1.45', '1.41'], body)).request?.hostConfig.consoleSize, [0, 0]);
  assert.deepEqual((await create(t, ['1.45', '1.42'], body)).request?.hostConfig.consoleSize, [24, 80]);
});

test('G049: BindOptions.CreateMountpoint is dropped below 1.42', async (t) => {
  const body = mount({ BindOptions: { CreateMountpoint: true } });
  const optionsOf = ({ request }: Made) => request?.hostConfig.mounts?.[0]?.bindOptions;
  assert.deepEqual(optionsOf(await create(t, ['1.45', '1.41'], body)), {});
  assert.deepEqual(optionsOf(await create(t, ['1.45', '1.42'], body)), { createMountpoint: true });
});

test('G050: options of another mount type, in three ways', async (t) => {
  const onBind = mount({ VolumeOptions: { NoCopy: true }, TmpfsOptions: { SizeBytes: 1 } });
  const onVolume = mount({ Type: 'volume', Source: 'v', BindOptions: {} });
  const oldWords = 'invalid mount config for type "volume": field BindOptions must not be specified';
  for (const [versions, body, message] of [
    [['1.42', '1.42'], onBind, 'VolumeOptions must not be specified on mount type "bind"'],
    [['1.42', '1.42'], onVolume, 'BindOptions must not be specified on mount type "volume"'],
    [['1.42', '1.41'], onVolume, oldWords],
    [['1.41', '1.41'], onVolume, oldWords],
    [['1.41'], onBind, 'invalid mount config for type "bind": field VolumeOptions must not be specified'],
  ] as const) {
    const made = await create(t, versions, body);
    assert.equal(made.status, 400);
    assert.equal(made.message, message);
  }
  const { request } = await create(t, ['1.42', '1.41'], onBind);
  assert.deepEqual(request?.hostConfig.mounts, [{ type: 'bind', source: '/a', target: '/b' }]);
});

test('G051: KernelMemory is ignored from 1.42 on', async (t) => {
  const body = host({ KernelMemory: 5 });
  assert.equal((await create(t, ['1.45', '1.41'], body)).request?.hostConfig.kernelMemory, 5);
  assert.equal((await create(t, ['1.45', '1.42'], body)).request?.hostConfig.kernelMemory, undefined);
});

test('G080: Annotations are cleared below 1.43, and checked from there on', async (t) => {
  const body = host({ Annotations: { a: 'b' } });
  assert.equal((await create(t, ['1.45', '1.42'], body)).request?.hostConfig.annotations, undefined);
  assert.deepEqual((await create(t, ['1.45', '1.43'], body)).request?.hostConfig.annotations, { a: 'b' });
  const bad = await create(t, ['1.45', '1.43'], host({ Annotations: { '': 'b' } }));
  assert.equal(bad.message, 'invalid Annotations: the empty string is not permitted as an annotation key');
});

test('G092: more than one endpoint needs 1.44; the words are the ceiling’s', async (t) => {
  const body = { NetworkingConfig: { EndpointsConfig: { a: {}, b: {} } } };
  for (const [versions, message] of [
    [['1.44', '1.43'], 'Container cannot be created with multiple network endpoints: a, b'],
    [['1.43'], 'Container cannot be connected to network endpoints: a, b'],
  ] as const) {
    const made = await create(t, versions, body);
    assert.equal(made.status, 400);
    assert.equal(made.message, message);
  }
  const { request } = await create(t, ['1.44'], body);
  assert.deepEqual(Object.keys(request?.endpoints ?? {}), ['a', 'b']);
});

test('G093: an endpoint’s MAC address counts from 1.44 on', async (t) => {
  const body = { NetworkingConfig: { EndpointsConfig: { bridge: { MacAddress: '02:00:00:00:00:01' } } } };
  const macOf = ({ request }: Made) => request?.endpoints['bridge']?.macAddress;
  assert.equal(macOf(await create(t, ['1.45', '1.43'], body)), '');
  assert.equal(macOf(await create(t, ['1.45', '1.44'], body)), '02:00:00:00:00:01');
  const wide = { ...body, MacAddress: '02:00:00:00:00:02' };
  assert.equal(macOf(await create(t, ['1.45', '1.43'], wide)), '02:00:00:00:00:02');
});

test('G109: how a container is on its networks is looked at when it starts, below ceiling 1.44', async (t) => {
  assert.equal((await create(t, ['1.43'], {})).request?.hasLateEndpoints, true);
  assert.equal((await create(t, ['1.44', '1.43'], {})).request?.hasLateEndpoints, undefined);
});

test('G094: a MAC address with the host’s network is a conflict below 1.44, and ignored from there on', async (t) => {
  const body = { MacAddress: '02:00:00:00:00:01', ...host({ NetworkMode: 'host' }) };
  const old = await create(t, ['1.45', '1.43'], body);
  assert.equal(old.status, 400);
  assert.equal(old.message, 'conflicting options: mac-address and the network mode');
  const made = await create(t, ['1.45', '1.44'], body);
  assert.equal(made.request?.config.macAddress, undefined);
  assert.equal(made.warnings?.length, 1);
});

test('G095: the container-wide MAC address moves to its endpoint, with a warning from 1.44 on', async (t) => {
  const mac = '02:00:00:00:00:01';
  const warning =
    'The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.';
  for (const [version, warnings] of [
    ['1.43', []],
    ['1.44', [warning]],
  ] as const) {
    const made = await create(t, ['1.45', version], { MacAddress: mac });
    assert.equal(made.request?.endpoints['bridge']?.macAddress, mac);
    assert.equal(made.request?.config.macAddress, mac, 'where inspect shows it');
    assert.deepEqual(made.warnings, warnings);
  }
  const elsewhere = { MacAddress: mac, NetworkingConfig: { EndpointsConfig: { other: {} } } };
  assert.equal((await create(t, ['1.45', '1.43'], elsewhere)).request?.endpoints['other']?.macAddress, mac);
  assert.match((await create(t, ['1.45'], elsewhere)).message ?? '', /^if a container-wide MAC address/);
  const different = {
    MacAddress: mac,
    NetworkingConfig: { EndpointsConfig: { bridge: { MacAddress: '02:00:00:00:00:09' } } },
  };
  assert.match((await create(t, ['1.45'], different)).message ?? '', /^the container-wide MAC address must/);
});

test('G097: Healthcheck.StartInterval is dropped below 1.44', async (t) => {
  const body = { Healthcheck: { Test: ['NONE'], StartInterval: 5 } };
  const healthOf = ({ request }: Made) => request?.config.healthcheck;
  assert.deepEqual(healthOf(await create(t, ['1.45', '1.43'], body)), { test: ['NONE'] });
  assert.deepEqual(healthOf(await create(t, ['1.45', '1.44'], body)), { test: ['NONE'], startInterval: 5 });
});

test('G099, G101: read-only binds are not recursively so below 1.44, nor below that ceiling', async (t) => {
  const optionsOf = ({ request }: Made) => request?.hostConfig.mounts?.[0]?.bindOptions;
  const body = mount({ ReadOnly: true });
  assert.deepEqual(optionsOf(await create(t, ['1.44', '1.43'], body)), { readOnlyNonRecursive: true });
  assert.equal(optionsOf(await create(t, ['1.44', '1.44'], body)), undefined);
  assert.equal(optionsOf(await create(t, ['1.43'], body)), undefined);
  assert.equal(optionsOf(await create(t, ['1.44', '1.43'], mount({}))), undefined);
  const asked = mount({ BindOptions: { ReadOnlyNonRecursive: true } });
  assert.deepEqual(optionsOf(await create(t, ['1.43'], asked)), {});
  assert.deepEqual(optionsOf(await create(t, ['1.44', '1.43'], asked)), { readOnlyNonRecursive: true });
});

test('G100: ReadOnlyForceRecursive: unknown, then refused, then honoured', async (t) => {
  const body = mount({ BindOptions: { ReadOnlyForceRecursive: true } });
  const optionsOf = ({ request }: Made) => request?.hostConfig.mounts?.[0]?.bindOptions;
  assert.deepEqual(optionsOf(await create(t, ['1.43'], body)), {});
  const refused = await create(t, ['1.44', '1.43'], body);
  assert.equal(refused.message, 'BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer');
  assert.deepEqual(optionsOf(await create(t, ['1.44'], body)), { readOnlyForceRecursive: true });
});

test('G112: an empty restart policy is stored as no from ceiling 1.44 on', async (t) => {
  assert.equal((await create(t, ['1.43'], {})).request?.hostConfig.restartPolicy.name, '');
  const counted = host({ RestartPolicy: { Name: '', MaximumRetryCount: 3 } });
  for (const body of [{}, counted]) {
    const { request } = await create(t, ['1.44', '1.24'], body);
    assert.deepEqual(request?.hostConfig.restartPolicy, { name: 'no', maximumRetryCount: 0 });
  }
});

test('G119: VolumeOptions.Subpath: unknown, then refused, then honoured', async (t) => {
  const body = mount({ Type: 'volume', Source: 'v', VolumeOptions: { Subpath: 'a/b' } });
  const optionsOf = ({ request }: Made) => request?.hostConfig.mounts?.[0]?.volumeOptions;
  assert.deepEqual(optionsOf(await create(t, ['1.44'], body)), {});
  const refused = await create(t, ['1.45', '1.44'], body);
  assert.equal(refused.message, 'VolumeOptions.Subpath needs API v1.45 or newer');
  assert.deepEqual(optionsOf(await create(t, ['1.45'], body)), { subpath: 'a/b' });
});

test('G123: the default network mode is stored as bridge from ceiling 1.45 on', async (t) => {
  for (const mode of ['', 'default']) {
    const body = {
      ...host({ NetworkMode: mode }),
      NetworkingConfig: { EndpointsConfig: { default: { Aliases: ['a'] } } },
    };
    const old = (await create(t, ['1.44'], body)).request;
    assert.equal(old?.hostConfig.networkMode, 'default');
    assert.deepEqual(Object.keys(old.endpoints), ['default']);
    const made = (await create(t, ['1.45', '1.24'], body)).request;
    assert.equal(made?.hostConfig.networkMode, 'bridge');
    assert.deepEqual(made.endpoints['bridge']?.aliases, ['a']);
    assert.deepEqual(Object.keys(made.endpoints), ['bridge']);
  }
});

test('create answers 201 with the ID and no warnings, and passes the name on', async (t) => {
  const made = await create(t, ['1.45'], {}, { query: '?name=web' });
  assert.equal(made.status, 201);
  assert.deepEqual(made.warnings, []);
  assert.equal(made.request?.name, 'web');
  assert.equal((await create(t, ['1.45'], {})).request?.name, undefined);
});
