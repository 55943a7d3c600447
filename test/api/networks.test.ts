import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { endpointSettings } from '../../src/api/container-wire.ts';
import type { ConnectDraft } from '../../src/api/network-gates.ts';
import type { NetworkRequest } from '../../src/engine/network-checks.ts';
import type { NetworkRecord } from '../../src/engine/network-records.ts';
import { fail } from '../../src/errors.ts';
import { ID } from './fake-engine.ts';
import { world } from './world.ts';

type Json = Record<string, unknown>;
type Versions = readonly [ceiling: string, version?: string];

const NETWORK_ID = 'ab'.repeat(32);

function aNetwork(change: Partial<NetworkRecord> = {}): NetworkRecord {
  return {
    id: NETWORK_ID,
    name: 'front',
    createdAt: '2026-01-02T03:04:05.123456789Z',
    driver: 'bridge',
    scope: 'local',
    isIpv6: false,
    isInternal: true,
    isAttachable: true,
    isIngress: false,
    isConfigOnly: false,
    configFrom: '',
    ipam: { driver: 'default', options: null, config: [] },
    pools: [{ subnet: '172.18.0.0/16', gateway: '172.18.0.1' }],
    options: { 'com.docker.network.driver.mtu': '1400' },
    labels: { a: 'b' },
    ...change,
  };
}

async function create(t: TestContext, [ceiling, version = ceiling]: Versions, body: object) {
  let request: NetworkRequest | undefined;
  const w = await world(t, {
    ceiling,
    engine: {
      networks: {
        create: async (asked) => {
          request = asked;
          return { id: NETWORK_ID, warning: '' };
        },
      },
    },
  });
  const answer = await w.call(`POST /v${version}/networks/create`, { body: JSON.stringify(body) });
  return { ...answer, request };
}

async function shown(t: TestContext, record: NetworkRecord, ceiling = '1.45'): Promise<Json> {
  const w = await world(t, {
    ceiling,
    engine: { networks: { inspect: () => ({ record, attachments: [] }) } },
  });
  return (await w.call('GET /networks/front')).json as Json;
}

test('every field of a request reaches the engine', async (t) => {
  const { status, json, request } = await create(t, ['1.45'], {
    Name: 'n',
    CheckDuplicate: true,
    Driver: 'macvlan',
    Scope: 'local',
    EnableIPv6: true,
    IPAM: {
      Driver: 'default',
      Options: { x: 'y' },
      Config: [
        {
          Subnet: '10.1.0.0/24',
          IPRange: '10.1.0.128/25',
          Gateway: '10.1.0.1',
          AuxiliaryAddresses: { h: '10.1.0.9' },
        },
        { Subnet: 'fd00::/64', AuxiliaryAddresses: null },
      ],
    },
    Internal: true,
    Attachable: true,
    Ingress: true,
    ConfigOnly: true,
    ConfigFrom: { Network: 'c' },
    Options: { parent: 'eth0' },
    Labels: { l: '1' },
  });
  assert.equal(status, 201);
  assert.deepEqual(json, { Id: NETWORK_ID, Warning: '' });
  assert.deepEqual(request, {
    name: 'n',
    driver: 'macvlan',
    scope: 'local',
    isIpv6: true,
    ipam: {
      driver: 'default',
      options: { x: 'y' },
      config: [
        {
          subnet: '10.1.0.0/24',
          ipRange: '10.1.0.128/25',
          gateway: '10.1.0.1',
          auxAddresses: { h: '10.1.0.9' },
        },
        { subnet: 'fd00::/64' },
      ],
    },
    isInternal: true,
    isAttachable: true,
    isIngress: true,
    isConfigOnly: true,
    configFrom: 'c',
    options: { parent: 'eth0' },
    labels: { l: '1' },
  });
});

test('what a request does not say is empty', async (t) => {
  const { request } = await create(t, ['1.45'], { Name: 'n', IPAM: null, ConfigFrom: null, Options: null });
  assert.deepEqual(
    [request?.driver, request?.ipam, request?.configFrom, request?.options, request?.labels],
    ['', undefined, '', {}, {}],
  );
});

test('G107: CheckDuplicate counts below ceiling 1.44', async (t) => {
  const may = async (versions: Versions, body: object) =>
    (await create(t, versions, { Name: 'n', ...body })).request?.mayDuplicate;
  assert.equal(await may(['1.43'], {}), true);
  assert.equal(await may(['1.43'], { CheckDuplicate: true }), false);
  assert.equal(await may(['1.44', '1.39'], {}), undefined);
});

test('G108: pools are checked as a whole from ceiling 1.44 on', async (t) => {
  assert.equal((await create(t, ['1.43'], { Name: 'n' })).request?.hasLooseIpam, true);
  assert.equal((await create(t, ['1.44', '1.39'], { Name: 'n' })).request?.hasLooseIpam, undefined);
});

test('the words and statuses of old', async (t) => {
  for (const [failure, ceiling, status, message] of [
    [fail.noSwarm({ status: 403 }), '1.42', 500, /^This node is not a swarm manager/],
    [fail.noSwarm({ status: 403 }), '1.43', 403, /^This node is not a swarm manager/],
    [fail.invalidNetworkName(''), '1.43', 500, /^invalid name: $/],
    [fail.invalidNetworkName(''), '1.44', 400, /^invalid name: $/],
  ] as const) {
    const create = async () => {
      throw failure;
    };
    const w = await world(t, { ceiling, engine: { networks: { create } } });
    const answer = await w.call('POST /networks/create', { body: '{"Name":"x"}' });
    assert.equal(answer.status, status);
    assert.match((answer.json as { message: string }).message, message);
  }
});

test('a value of a wrong type is told as Go does', async (t) => {
  const { status, json } = await create(t, ['1.41'], { Name: 'n', IPAM: { Config: 'x' } });
  assert.equal(status, 400);
  assert.deepEqual(json, {
    message:
      'json: cannot unmarshal string into Go struct field IPAM.IPAM.Config of type []network.IPAMConfig',
  });
});

test('a network is shown as dockerd shows it, its keys in this order', async (t) => {
  const wire = await shown(t, aNetwork());
  assert.deepEqual(wire, {
    Name: 'front',
    Id: NETWORK_ID,
    Created: '2026-01-02T03:04:05.123456789Z',
    Scope: 'local',
    Driver: 'bridge',
    EnableIPv6: false,
    IPAM: { Driver: 'default', Options: null, Config: [{ Subnet: '172.18.0.0/16', Gateway: '172.18.0.1' }] },
    Internal: true,
    Attachable: true,
    Ingress: false,
    ConfigFrom: { Network: '' },
    ConfigOnly: false,
    Containers: {},
    Options: { 'com.docker.network.driver.mtu': '1400' },
    Labels: { a: 'b' },
  });
  assert.equal(Object.keys(wire).join(), Object.keys(wire).join());
});

test('pools that were asked for come back exactly so, those of a family that was not as they are', async (t) => {
  const config = [{ subnet: '10.1.0.0/24', auxAddresses: { h: '10.1.0.9' } }];
  const pools = [
    { subnet: '10.1.0.0/24', gateway: '10.1.0.1' },
    { subnet: 'fd00::/64', gateway: 'fd00::1' },
  ];
  const wire = await shown(t, aNetwork({ ipam: { driver: 'default', options: {}, config }, pools }));
  assert.deepEqual((wire['IPAM'] as Json)['Config'], [
    { Subnet: '10.1.0.0/24', AuxiliaryAddresses: { h: '10.1.0.9' } },
    { Subnet: 'fd00::/64', Gateway: 'fd00::1' },
  ]);
});

test('no pools: an empty list below ceiling 1.44, null from there on', async (t) => {
  const none = aNetwork({ name: 'none', driver: 'null', pools: [] });
  assert.deepEqual(((await shown(t, none, '1.43'))['IPAM'] as Json)['Config'], []);
  assert.equal(((await shown(t, none, '1.44'))['IPAM'] as Json)['Config'], null);
});

test('who is on a network: in inspect, and in lists for clients from before 1.28', async (t) => {
  const endpoint = {
    ...endpointSettings.zero(),
    endpointId: 'e1',
    macAddress: '02:42:ac:12:00:02',
    ipAddress: '172.18.0.2',
    ipPrefixLen: 16,
  };
  const attachments = [{ containerId: ID, containerName: 'web', endpoint }];
  const view = { record: aNetwork(), attachments };
  const asked: boolean[] = [];
  const w = await world(t, {
    ceiling: '1.45',
    engine: {
      networks: {
        inspect: () => view,
        list: ({ withAttachments }) => {
          asked.push(withAttachments);
          return [view];
        },
      },
    },
  });
  const { Containers } = (await w.call('GET /networks/front')).json as Json;
  assert.deepEqual(Containers, {
    [ID]: {
      Name: 'web',
      EndpointID: 'e1',
      MacAddress: '02:42:ac:12:00:02',
      IPv4Address: '172.18.0.2/16',
      IPv6Address: '',
    },
  });
  for (const path of ['/v1.27/networks', '/v1.28/networks', '/networks/'])
    assert.equal((await w.call(`GET ${path}`)).status, 200);
  assert.deepEqual(asked, [true, false, false]);
});

test('G016: the filter `dangling` is unknown to ceiling 1.39', async (t) => {
  const query = `filters=${encodeURIComponent('{"dangling":["true"]}')}`;
  const statusOf = async (ceiling: string) => {
    const w = await world(t, { ceiling, engine: { networks: { list: () => [] } } });
    return w.call(`GET /networks?${query}`);
  };
  const { status, json } = await statusOf('1.39');
  assert.equal(status, 400);
  assert.deepEqual(json, { message: "Invalid filter 'dangling'" });
  assert.equal((await statusOf('1.40')).status, 200);
});

test('verbose must be a truth value', async (t) => {
  const w = await world(t, {
    engine: { networks: { inspect: () => ({ record: aNetwork(), attachments: [] }) } },
  });
  assert.equal((await w.call('GET /networks/front?verbose=T')).status, 200);
  const { status, json } = await w.call('GET /networks/front?verbose=maybe');
  assert.equal(status, 400);
  assert.deepEqual(json, {
    message: 'invalid value for verbose: maybe: strconv.ParseBool: parsing "maybe": invalid syntax',
  });
});

test('connect: MAC addresses count from 1.44 on, and checks come late below that ceiling', async (t) => {
  const wishOf = async ([ceiling, version = ceiling]: Versions) => {
    let wish: ConnectDraft | undefined;
    const connect = async (_: string, asked: ConnectDraft) => {
      wish = asked;
    };
    const w = await world(t, { ceiling, engine: { connections: { connect } } });
    const body = JSON.stringify({
      Container: 'web',
      EndpointConfig: { Aliases: ['a'], MacAddress: '02:00:00:00:00:01' },
    });
    const { status, text } = await w.call(`POST /v${version}/networks/front/connect`, { body });
    assert.deepEqual([status, text], [200, '']);
    return wish;
  };
  const old = await wishOf(['1.43']);
  assert.deepEqual(
    [old?.container, old?.endpoint.aliases, old?.endpoint.macAddress, old?.hasLateChecks],
    ['web', ['a'], '', true],
  );
  const young = await wishOf(['1.45', '1.44']);
  assert.deepEqual([young?.endpoint.macAddress, young?.hasLateChecks], ['02:00:00:00:00:01', undefined]);
});

test('connect without a word on the endpoint, and disconnect', async (t) => {
  const seen: unknown[] = [];
  const w = await world(t, {
    engine: {
      connections: {
        connect: async (...args) => void seen.push(args),
        disconnect: async (...args) => void seen.push(args),
      },
    },
  });
  await w.call('POST /networks/front/connect', { body: '{"Container":"web","EndpointConfig":null}' });
  const { status } = await w.call('POST /networks/front/disconnect', {
    body: '{"Container":"web","Force":true}',
  });
  assert.equal(status, 200);
  assert.deepEqual(seen, [
    ['front', { container: 'web', endpoint: endpointSettings.zero() }],
    ['front', { container: 'web', force: true }],
  ]);
});

test('G109: what is wrong with an endpoint is told one by one below ceiling 1.44', async (t) => {
  const failure = fail.invalidEndpoint('invalid endpoint settings:\n* a\n* b', 'a');
  const connect = async () => {
    throw failure;
  };
  for (const [ceiling, message] of [
    ['1.43', 'a'],
    ['1.44', failure.message],
  ] as const) {
    const w = await world(t, { ceiling, engine: { connections: { connect } } });
    const answer = await w.call('POST /networks/front/connect', { body: '{}' });
    assert.deepEqual([answer.status, answer.json], [400, { message }]);
  }
});

test('a prune tells the names of what is gone, or null', async (t) => {
  for (const [names, expected] of [
    [
      ['a', 'b'],
      ['a', 'b'],
    ],
    [[], null],
  ] as const) {
    const w = await world(t, { engine: { networks: { prune: async () => [...names] } } });
    const { status, json } = await w.call('POST /networks/prune');
    assert.deepEqual([status, json], [200, { NetworksDeleted: expected }]);
  }
});
