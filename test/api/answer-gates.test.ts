import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { endpointSettings } from '../../src/api/container-wire.ts';
import type { ImageSummary, SystemView } from '../../src/api/engine-views.ts';
import type { ContainerRecord } from '../../src/engine/model.ts';
import { fail } from '../../src/errors.ts';
import { parseImageConfig } from '../../src/lib/image-config.ts';
import { aContainer, anImage, aSystem, aView, ID } from './fake-engine.ts';
import { world } from './world.ts';

type Json = Record<string, unknown>;

/** What `GET /containers/web/json` of a ceiling answers to a request of a version. */
async function inspect(
  t: TestContext,
  record: ContainerRecord,
  [ceiling, version = ceiling]: readonly [string, string?],
): Promise<{ HostConfig: Json; Config: Json; NetworkSettings: { Networks: Record<string, Json> } } & Json> {
  const w = await world(t, { ceiling, engine: { containers: { inspect: async () => aView(record) } } });
  return (await w.call(`GET /v${version}/containers/web/json`)).json as never;
}

async function image(
  t: TestContext,
  view: ImageSummary,
  [ceiling, version = ceiling]: readonly [string, string?],
): Promise<Json> {
  const w = await world(t, { ceiling, engine: { images: { inspect: async () => view } } });
  return (await w.call(`GET /v${version}/images/x/json`)).json as Json;
}

async function images(
  t: TestContext,
  view: ImageSummary,
  [ceiling, version = ceiling]: readonly [string, string?],
  query = '',
): Promise<Json> {
  const w = await world(t, { ceiling, engine: { images: { list: async () => [view] } } });
  return ((await w.call(`GET /v${version}/images/json${query}`)).json as Json[])[0] ?? {};
}

async function info(
  t: TestContext,
  [ceiling, version = ceiling]: readonly [string, string?],
  change: Partial<SystemView> = {},
): Promise<Json> {
  const system = { info: async () => ({ ...aSystem, ...change }) };
  const w = await world(t, { ceiling, floor: '1.24', engine: { system } });
  return (await w.call(`GET /v${version}/info`)).json as Json;
}

const has = (object: object, ...keys: string[]) => keys.map((key) => key in object);

test('G012: no PidsLimit is 0 at ceiling 1.39 and null above', async (t) => {
  const record = aContainer();
  assert.equal((await inspect(t, record, ['1.39'])).HostConfig['PidsLimit'], 0);
  assert.equal((await inspect(t, record, ['1.40', '1.39'])).HostConfig['PidsLimit'], null);
});

test('G014: DiskQuota at ceiling 1.39; DeviceRequests and KernelMemoryTCP above, for every request', async (t) => {
  const keys = ['DiskQuota', 'DeviceRequests', 'KernelMemoryTCP'];
  const record = aContainer();
  const of = async (versions: readonly [string, string?]) =>
    has((await inspect(t, record, versions)).HostConfig, ...keys);
  assert.deepEqual(await of(['1.39']), [true, false, false]);
  assert.deepEqual(await of(['1.40', '1.24']), [false, true, true]);
});

test('G010: HostConfig.Capabilities is a key of ceiling 1.40 alone', async (t) => {
  for (const [ceiling, isThere] of [
    ['1.39', false],
    ['1.40', true],
    ['1.41', false],
  ] as const) {
    const { HostConfig } = await inspect(t, aContainer(), [ceiling, '1.24']);
    assert.deepEqual(has(HostConfig, 'Capabilities'), [isThere]);
  }
});

test('G028: CgroupnsMode from ceiling 1.41 on', async (t) => {
  const of = async (ceiling: string) =>
    has((await inspect(t, aContainer(), [ceiling, '1.24'])).HostConfig, 'CgroupnsMode');
  assert.deepEqual(await of('1.40'), [false]);
  assert.deepEqual(await of('1.41'), [true]);
});

test('G052: kernel memory of 0 is printed up to ceiling 1.41', async (t) => {
  const keys = ['KernelMemory', 'KernelMemoryTCP'];
  const of = async (ceiling: string) =>
    has((await inspect(t, aContainer(), [ceiling, '1.24'])).HostConfig, ...keys);
  assert.deepEqual(await of('1.41'), [true, true]);
  assert.deepEqual(await of('1.42'), [false, false]);
});

test('G096: the MAC address that was asked for is in Config', async (t) => {
  const record = aContainer({ config: { macAddress: '02:00:00:00:00:01' } });
  assert.equal((await inspect(t, record, ['1.44'])).Config['MacAddress'], '02:00:00:00:00:01');
  assert.equal('MacAddress' in (await inspect(t, aContainer(), ['1.44'])).Config, false);
});

test('G102: DNSNames from ceiling 1.44 on, for every request; null on the default networks', async (t) => {
  const endpoints = {
    bridge: endpointSettings.zero(),
    mine: { ...endpointSettings.zero(), aliases: ['db', 'web'] },
  };
  const record = aContainer({ endpoints });
  const of = async (versions: readonly [string, string?]) => {
    const { Networks } = (await inspect(t, record, versions)).NetworkSettings;
    return [Networks['bridge']?.['DNSNames'], Networks['mine']?.['DNSNames']];
  };
  assert.deepEqual(await of(['1.43']), [undefined, undefined]);
  assert.deepEqual(await of(['1.44', '1.24']), [null, ['web', 'db', ID.slice(0, 12)]]);
});

test('G121: aliases are what the client sent from 1.45 on; before, ID and host name stand beside', async (t) => {
  const own = { ...endpointSettings.zero(), aliases: ['db'] };
  const record = aContainer({ config: { hostname: 'h' }, endpoints: { bridge: own, mine: own } });
  const of = async (versions: readonly [string, string?]) => {
    const { Networks } = (await inspect(t, record, versions)).NetworkSettings;
    return [Networks['bridge']?.['Aliases'], Networks['mine']?.['Aliases']];
  };
  const more = [['db'], ['db', ID.slice(0, 12), 'h']];
  assert.deepEqual(await of(['1.45', '1.45']), [['db'], ['db']]);
  assert.deepEqual(await of(['1.45', '1.44']), more);
  assert.deepEqual(await of(['1.44']), more);
  assert.deepEqual(await of(['1.43']), [['db'], ['db']], 'before its first start');
  record.endpoints['mine'] = { ...own, networkId: 'ab'.repeat(32) };
  assert.deepEqual(await of(['1.43']), more);
});

test('G034: the CPU variant from ceiling 1.41 on', async (t) => {
  assert.equal((await image(t, anImage(), ['1.40']))['Variant'], undefined);
  assert.equal((await image(t, anImage(), ['1.41', '1.24']))['Variant'], 'v8');
});

test('G057: shared sizes and container counts on demand, from 1.42 on', async (t) => {
  const of = async (version: string, query: string) => {
    const { SharedSize, Containers } = await images(t, anImage(), ['1.45', version], query);
    return [SharedSize, Containers];
  };
  assert.deepEqual(await of('1.41', '?shared-size=1'), [-1, -1]);
  assert.deepEqual(await of('1.42', ''), [-1, -1]);
  assert.deepEqual(await of('1.42', '?shared-size=1'), [99, 2]);
});

test('G081: an image without names has <none> below 1.43', async (t) => {
  const nameless = anImage({ repoTags: [], repoDigests: [] });
  const old = await images(t, nameless, ['1.45', '1.42']);
  assert.deepEqual([old['RepoTags'], old['RepoDigests']], [['<none>:<none>'], ['<none>@<none>']]);
  const now = await images(t, nameless, ['1.45', '1.43']);
  assert.deepEqual([now['RepoTags'], now['RepoDigests']], [[], []]);
});

test('G082: one list of names that is empty is null below 1.43', async (t) => {
  const view = anImage({ repoDigests: [] });
  assert.equal((await images(t, view, ['1.45', '1.42']))['RepoDigests'], null);
  assert.deepEqual((await images(t, view, ['1.45', '1.43']))['RepoDigests'], []);
});

test('G090: VirtualSize below 1.44', async (t) => {
  for (const ask of [image, images]) {
    assert.equal((await ask(t, anImage(), ['1.45', '1.43']))['VirtualSize'], 1234);
    assert.equal((await ask(t, anImage(), ['1.45', '1.44']))['VirtualSize'], undefined);
  }
});

test('G091: an image that does not say when it was made', async (t) => {
  const view = anImage({ config: parseImageConfig('{}') });
  assert.equal((await image(t, view, ['1.45', '1.43']))['Created'], '0001-01-01T00:00:00Z');
  assert.equal((await image(t, view, ['1.45', '1.44']))['Created'], undefined);
});

test('G120: Container and ContainerConfig below 1.45; an empty Container only up to ceiling 1.44', async (t) => {
  const keys = ['Container', 'ContainerConfig'];
  const named = anImage({ config: parseImageConfig('{"container":"c1"}') });
  assert.deepEqual(has(await image(t, anImage(), ['1.45', '1.45']), ...keys), [false, false]);
  assert.deepEqual(has(await image(t, anImage(), ['1.45', '1.44']), ...keys), [false, true]);
  assert.deepEqual(has(await image(t, named, ['1.45', '1.44']), ...keys), [true, true]);
  assert.equal((await image(t, anImage(), ['1.44']))['Container'], '');
});

test('B125: /info names security options without values below 1.25, and an execution driver', async (t) => {
  const old = await info(t, ['1.45', '1.24']);
  assert.deepEqual(old['SecurityOptions'], ['seccomp', 'no-new-privileges']);
  assert.equal(old['ExecutionDriver'], '<not supported>');
  const now = await info(t, ['1.45', '1.25']);
  assert.deepEqual(now['SecurityOptions'], aSystem.securityOptions);
  assert.equal(now['ExecutionDriver'], undefined);
});

test('G001: what cannot be found out is <unknown> below 1.39', async (t) => {
  const of = async (version: string) => {
    const { KernelVersion, OperatingSystem } = await info(t, ['1.45', version], {
      kernelVersion: '',
      operatingSystem: '',
    });
    return [KernelVersion, OperatingSystem];
  };
  assert.deepEqual(await of('1.38'), ['<unknown>', '<unknown>']);
  assert.deepEqual(await of('1.39'), ['', '']);
});

test('G017, G032, G104: fields that came to /info with a ceiling, for every request', async (t) => {
  const keys = [
    'PidsLimit',
    'KernelMemoryTCP',
    'CgroupVersion',
    'DefaultAddressPools',
    'OSVersion',
    'CDISpecDirs',
  ];
  const change = { limits: { ...aSystem.limits, kernelMemoryTcp: true } };
  const of = async (ceiling: string) => has(await info(t, [ceiling, '1.24'], change), ...keys);
  assert.deepEqual(await of('1.39'), [false, false, false, false, false, false]);
  assert.deepEqual(await of('1.40'), [true, true, false, false, false, false]);
  assert.deepEqual(await of('1.41'), [true, true, true, true, true, false]);
  assert.deepEqual(await of('1.44'), [true, true, true, true, true, true]);
  assert.equal('DefaultAddressPools' in (await info(t, ['1.45'], { addressPools: [] })), false);
});

test('G033: empty cluster fields and SystemStatus up to ceiling 1.40', async (t) => {
  const keys = ['SystemStatus', 'ClusterStore', 'ClusterAdvertise'];
  const old = await info(t, ['1.40']);
  assert.deepEqual(
    keys.map((key) => old[key]),
    [null, '', ''],
  );
  assert.deepEqual(has(await info(t, ['1.41', '1.24']), ...keys), [false, false, false]);
});

test('G053, G054: kernel memory in /info', async (t) => {
  const without = { limits: { ...aSystem.limits, kernelMemory: false } };
  assert.equal((await info(t, ['1.41'], without))['KernelMemory'], false);
  assert.equal((await info(t, ['1.42', '1.41']))['KernelMemory'], true);
  assert.equal((await info(t, ['1.42', '1.41'], without))['KernelMemory'], undefined);
  assert.equal((await info(t, ['1.42']))['KernelMemory'], undefined);
  assert.equal((await info(t, ['1.41']))['KernelMemoryTCP'], false);
  assert.equal((await info(t, ['1.42', '1.24']))['KernelMemoryTCP'], undefined);
});

test('emptyRegistryLists: lists of registries that are empty are null from ceiling 1.42 on', async (t) => {
  const of = async (ceiling: string) => (await info(t, [ceiling, '1.24']))['RegistryConfig'] as Json;
  assert.deepEqual((await of('1.41'))['Mirrors'], []);
  assert.equal((await of('1.42'))['Mirrors'], null);
  assert.deepEqual((await of('1.42'))['InsecureRegistryCIDRs'], ['127.0.0.0/8']);
});

test('G084: no-new-privileges among the security options from ceiling 1.43 on', async (t) => {
  const [seccomp] = aSystem.securityOptions;
  assert.deepEqual((await info(t, ['1.42']))['SecurityOptions'], [seccomp]);
  assert.deepEqual((await info(t, ['1.43', '1.25']))['SecurityOptions'], aSystem.securityOptions);
});

for (const [gate, failure, target, ceiling, old, now] of [
  [
    'G115',
    fail.notRunning('c1'),
    'POST /containers/x/pause',
    '1.44',
    '409 Container c1 is not running',
    '409 container c1 is not running',
  ],
  [
    'G116',
    fail.removeRunning('web', 'c1'),
    'DELETE /containers/x',
    '1.44',
    '409 You cannot remove a running container c1. Stop the container before attempting removal or force remove',
    '409 cannot remove container "/web": container is running: stop the container before removing or force remove',
  ],
  [
    'G116',
    fail.removePaused('web', 'c1'),
    'DELETE /containers/x',
    '1.44',
    '409 You cannot remove a paused container c1. Unpause and then stop the container before attempting removal or force remove',
    '409 cannot remove container "/web": container is paused and must be unpaused first',
  ],
  [
    'G124',
    fail.noSuchContainer('x'),
    'POST /containers/x/kill',
    '1.45',
    '404 Cannot kill container: x: No such container: x',
    '404 cannot kill container: x: No such container: x',
  ],
  [
    'G124',
    fail.notRunning('c1'),
    'POST /containers/$&/kill',
    '1.45',
    '409 Cannot kill container: $&: container c1 is not running',
    '409 cannot kill container: $&: container c1 is not running',
  ],
  [
    'signalName',
    fail.invalidSignal('BOGUS'),
    'POST /containers/x/kill',
    '1.42',
    '400 Invalid signal: BOGUS',
    '400 Cannot kill container: x: invalid signal: BOGUS',
  ],
  [
    'signalName',
    fail.invalidSignal('BOGUS'),
    'POST /containers/x/stop',
    '1.42',
    '400 Invalid signal: BOGUS',
    '400 invalid signal: BOGUS',
  ],
  [
    'ambiguousPrefix',
    fail.ambiguousContainer('abc'),
    'GET /containers/abc/json',
    '1.43',
    '500 Multiple IDs found with provided prefix: abc',
    '400 multiple IDs found with provided prefix: abc',
  ],
  [
    'G114',
    fail.noCommand(),
    'POST /containers/x/start',
    '1.44',
    '400 No command specified',
    '400 no command specified',
  ],
  [
    'runtimeName',
    fail.unknownRuntime('bogus'),
    'POST /containers/x/start',
    '1.42',
    '400 Unknown runtime specified bogus',
    '400 unknown or invalid runtime name: bogus',
  ],
  [
    'G113',
    fail.unknownRestartPolicy('X'),
    'POST /containers/x/start',
    '1.44',
    "400 invalid restart policy 'X'",
    "400 invalid restart policy: unknown policy 'X'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
  ],
  [
    'G113',
    fail.misplacedRetryCount('always', 3),
    'POST /containers/x/start',
    '1.44',
    "400 maximum retry count cannot be used with restart policy 'always'",
    "400 invalid restart policy: maximum retry count can only be used with 'on-failure'",
  ],
  [
    'G113',
    fail.negativeRetryCount(),
    'POST /containers/x/start',
    '1.44',
    '400 maximum retry count cannot be negative',
    '400 invalid restart policy: maximum retry count cannot be negative',
  ],
  [
    'G076',
    fail.badRequest("invalid filter 'k'"),
    'GET /containers/json',
    '1.42',
    "400 Invalid filter 'k'",
    "400 invalid filter 'k'",
  ],
  [
    'filterValues',
    fail.badRequest("invalid filter 'status=x'"),
    'GET /containers/json',
    '1.43',
    "400 Invalid filter 'status=x'",
    "400 invalid filter 'status=x'",
  ],
  [
    'filterValues',
    fail.badRequest(`invalid filter 'exited=x': strconv.Atoi: parsing "x": invalid syntax`),
    'GET /containers/json',
    '1.43',
    '500 strconv.Atoi: parsing "x": invalid syntax',
    `400 invalid filter 'exited=x': strconv.Atoi: parsing "x": invalid syntax`,
  ],
  [
    'filterValues',
    fail.noSuchContainer('x'),
    'GET /containers/json',
    '1.43',
    '500 no such container x',
    '404 No such container: x',
  ],
  [
    'G078',
    fail.noSuchImage('x:latest'),
    'GET /images/x/json',
    '1.42',
    '404 no such image: x: No such image: x:latest',
    '404 No such image: x:latest',
  ],
  [
    'G078',
    fail.noSuchImage('x:latest'),
    'GET /images/x/history',
    '1.42',
    '404 No such image: x:latest',
    '404 No such image: x:latest',
  ],
  [
    'G087',
    fail.invalidReference('invalid reference format'),
    'POST /images/debian/tag',
    '1.43',
    '500 invalid reference format',
    '400 invalid reference format',
  ],
] as const) {
  test(`${gate}: ${now.replace(/\d+ /, '')}`, async (t) => {
    const refuse = async (): Promise<never> => {
      throw failure;
    };
    const images = {
      list: refuse,
      tag: refuse,
      history: refuse,
      inspect: target.startsWith('GET') ? refuse : async () => anImage(),
    };
    const containers = {
      list: refuse,
      inspect: refuse,
      remove: refuse,
      start: refuse,
      stop: refuse,
      pause: refuse,
      kill: refuse,
    };
    const below = `1.${Number(ceiling.slice(2)) - 1}`;
    for (const [at, expected] of [
      [below, old],
      [ceiling, now],
    ] as const) {
      const w = await world(t, { ceiling: at, engine: { images, containers } });
      const answer = await w.call(target);
      assert.equal(`${answer.status} ${(answer.json as { message: string }).message}`, expected);
    }
  });
}

test('G087: daemons of old look for the image before they look at the reference', async (t) => {
  for (const [ceiling, expected] of [
    ['1.42', 'No such image: nope:latest'],
    ['1.43', 'invalid reference format'],
  ] as const) {
    const tag = async (): Promise<never> => {
      throw fail.invalidReference('invalid reference format');
    };
    const w = await world(t, { ceiling, engine: { images: { tag } } });
    assert.deepEqual((await w.call('POST /images/nope/tag?repo=X')).json, { message: expected });
  }
});

test('G075: filters that are no JSON', async (t) => {
  for (const [ceiling, expected] of [
    ['1.41', "500 invalid character 'z' looking for beginning of value"],
    ['1.42', "400 invalid filter: invalid character 'z' looking for beginning of value"],
    ['1.43', '400 invalid filter'],
  ] as const) {
    const w = await world(t, { ceiling });
    for (const path of ['/containers/json', '/images/json', '/events']) {
      const answer = await w.call(`GET ${path}?filters=z`);
      assert.equal(`${answer.status} ${(answer.json as { message: string }).message}`, expected);
    }
  }
});

test('G105: the image list’s until filter is unknown up to ceiling 1.43', async (t) => {
  const filters = encodeURIComponent('{"until":["1h"]}');
  const old = await (await world(t, { ceiling: '1.43' })).call(`GET /images/json?filters=${filters}`);
  assert.equal(old.status, 400);
  assert.deepEqual(old.json, { message: "invalid filter 'until'" });
  const now = await (await world(t, { ceiling: '1.44' })).call(`GET /v1.24/images/json?filters=${filters}`);
  assert.equal(now.status, 200);
});

test('G029: the old filter parameter is a reference filter below 1.41', async (t) => {
  const asked: unknown[] = [];
  const list = async ({ filters }: { filters: ReadonlyMap<string, readonly string[]> }) => {
    asked.push(filters.get('reference'));
    return [];
  };
  const w = await world(t, { engine: { images: { list } } });
  const filters = encodeURIComponent('{"reference":{"a":true}}');
  await w.call(`GET /v1.40/images/json?filter=b&filters=${filters}`);
  await w.call(`GET /v1.41/images/json?filter=b&filters=${filters}`);
  assert.deepEqual(asked, [['a', 'b'], ['a']]);
});

test('G045: stop and restart take a signal from 1.42 on', async (t) => {
  const asked: object[] = [];
  const note = async (_: string, o: object) => {
    asked.push(o);
    return true;
  };
  const w = await world(t, {
    engine: { containers: { stop: note, restart: async (ref, o) => void note(ref, o) } },
  });
  for (const verb of ['stop', 'restart']) {
    for (const version of ['1.41', '1.42']) {
      assert.equal((await w.call(`POST /v${version}/containers/web/${verb}?signal=INT&t=5`)).status, 204);
    }
  }
  const both = [{ timeoutSeconds: 5 }, { timeoutSeconds: 5, signalName: 'INT' }];
  assert.deepEqual(asked, [...both, ...both]);
});

test('G047, G048: execs take a console size from 1.42 on, at their start only with a terminal', async (t) => {
  const asked: unknown[] = [];
  const create = async (_: string, request: { consoleSize?: unknown }) => {
    asked.push(request.consoleSize);
    return 'e1';
  };
  const start = async (_: string, o: { isTty: boolean; consoleSize?: unknown }) => {
    asked.push(o.consoleSize);
    return { isTty: o.isTty, pump: async () => {} };
  };
  const w = await world(t, { engine: { execs: { create, start } } });
  for (const version of ['1.41', '1.42']) {
    await w.call(`POST /v${version}/containers/web/exec`, { body: '{"Cmd":["a"],"ConsoleSize":[24,80]}' });
    for (const isTty of [true, false]) {
      const body = JSON.stringify({ Tty: isTty, ConsoleSize: [24, 80] });
      await w.call(`POST /v${version}/exec/e1/start`, { body });
    }
  }
  assert.deepEqual(asked, [undefined, undefined, undefined, [24, 80], [24, 80], undefined]);
});
