import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { emptyEndpoint } from '../../../src/engine/container-creation.ts';
import type { EngineEvent } from '../../../src/engine/events.ts';
import type { NetworkRequest } from '../../../src/engine/network-checks.ts';
import type { NetworkRecord } from '../../../src/engine/network-records.ts';
import { World } from '../../support/engine-world.ts';

/** As a client asks for it that says nothing else. */
function wish(name: string, change: Partial<NetworkRequest> = {}): NetworkRequest {
  return {
    ...{ name, driver: '', scope: '', configFrom: '', options: {}, labels: {} },
    ...{ isIpv6: false, isInternal: false, isAttachable: false, isIngress: false, isConfigOnly: false },
    ...change,
  };
}

/** A daemon with an image, a container `c1`, and whatever networks the test wants. */
async function withContainer(t: TestContext, ...networks: string[]): Promise<World> {
  const world = await World.open();
  t.after(() => world[Symbol.asyncDispose]());
  world.registry.put('app:latest', ['base']);
  await world.pull('app');
  await world.create('c1');
  for (const name of networks) await world.engine.networks.create(wish(name));
  return world;
}

const connect = (world: World, network: string, change: object = {}) =>
  world.engine.connections.connect(network, {
    container: 'c1',
    endpoint: { ...emptyEndpoint(), ...change },
  });
const disconnect = (world: World, network: string, o: { container?: string; force?: boolean } = {}) =>
  world.engine.connections.disconnect(network, { container: 'c1', force: false, ...o });
const namesOf = (world: World, filters: [string, string[]][] = []) =>
  world.engine.networks
    .list({ filters: new Map(filters), withAttachments: false })
    .map(({ record }) => record.name);
const endpointsOf = (world: World, name = 'c1') => world.container(name)?.endpoints ?? {};

/** What is told from now on of networks. */
function listen(world: World): string[] {
  const told: string[] = [];
  const { events } = world.engine;
  const emit = events.emit.bind(events);
  events.emit = (type: EngineEvent['type'], action, id, attributes = {}) => {
    if (type === 'network') told.push([action, attributes['name'], attributes['type']].join(' ').trim());
    emit(type, action, id, attributes);
  };
  return told;
}

test('the predefined ones are there, and the same after a restart', async (t) => {
  const world = await withContainer(t);
  const before = world.engine.networks.list({ filters: new Map(), withAttachments: false });
  assert.deepEqual(
    before.map(({ record }) => [record.name, record.driver]),
    [
      ['bridge', 'bridge'],
      ['host', 'host'],
      ['none', 'null'],
    ],
  );
  await world.die('power cut');
  await world.boot();
  assert.deepEqual(world.engine.networks.list({ filters: new Map(), withAttachments: false }), before);
});

test('a network that the kernel does not take leaves nothing behind', async (t) => {
  const world = await withContainer(t);
  const { networks } = world.life;
  networks.add = async () => {
    throw new Error('no');
  };
  await assert.rejects(world.engine.networks.create(wish('front')), /no/);
  assert.deepEqual(namesOf(world), ['bridge', 'host', 'none']);
  const stored = await world.records<NetworkRecord>('networks');
  assert.equal(stored.filter(({ name }) => name === 'front').length, 0);
});

test('of two that want one name at once, one gets it; and clients of old both', async (t) => {
  const world = await withContainer(t);
  const both = (change: Partial<NetworkRequest>) =>
    Promise.allSettled([1, 2].map(() => world.engine.networks.create(wish('one', change))));
  const [first, second] = await both({});
  assert.equal(first?.status, 'fulfilled');
  assert.equal(second?.status, 'rejected');
  assert.equal(second?.reason.message, 'network with name one already exists');
  const { id, warning } = await world.engine.networks.create(wish('one', { mayDuplicate: true }));
  assert.match(warning, /^Network with name one \(id : [0-9a-f]{64}\) already exists$/);
  assert.throws(() => world.engine.networks.inspect('one'), {
    message: '2 matches found based on name: network one is ambiguous',
  });
  await assert.rejects(world.engine.networks.remove('one'), {
    message: 'network one is ambiguous (2 matches found based on name)',
  });
  await assert.rejects(
    connect(world, 'one').then(() => world.engine.containers.start('c1')),
    {
      message: 'network one is ambiguous (2 matches found on name)',
    },
  );
  await world.engine.networks.remove(id.slice(0, 12));
  assert.equal(world.engine.networks.inspect('one').record.name, 'one');
});

test('a configuration is lent, and its lender stays as long as somebody uses it', async (t) => {
  const world = await withContainer(t);
  const { networks } = world.engine;
  const ipam = { driver: 'default', options: null, config: [{ subnet: '10.5.0.0/24' }] };
  await networks.create(
    wish('lender', { isConfigOnly: true, ipam, labels: { a: 'b' }, options: { o: '1' } }),
  );
  await networks.create(wish('lent', { configFrom: 'lender', isInternal: true }));
  const { record } = networks.inspect('lent');
  assert.deepEqual([record.ipam, record.labels, record.options], [ipam, { a: 'b' }, { o: '1' }]);
  assert.deepEqual([record.driver, record.configFrom, record.isInternal], ['bridge', 'lender', true]);
  await assert.rejects(networks.remove('lender'), {
    status: 403,
    message: 'error while removing network: configuration network "lender" is in use',
  });
  assert.deepEqual(await networks.prune({ filters: new Map() }), ['lent']);
  await networks.remove('lender');
});

test('a container goes on networks and off them while it runs', async (t) => {
  const world = await withContainer(t, 'front');
  await world.engine.containers.start('c1');
  const told = listen(world);
  await connect(world, 'front', { aliases: ['www'] });
  const { endpointId, aliases } = endpointsOf(world)['front'] ?? {};
  assert.ok(endpointId);
  assert.deepEqual(aliases, ['www']);
  const { attachments } = world.engine.networks.inspect('front');
  assert.deepEqual(
    attachments.map(({ containerName }) => containerName),
    ['c1'],
  );
  await assert.rejects(connect(world, 'front'), {
    status: 403,
    message: 'endpoint with name c1 already exists in network front',
  });
  await assert.rejects(world.engine.networks.remove('front'), {
    status: 403,
    message: /has active endpoints$/,
  });
  assert.deepEqual(await world.engine.networks.prune({ filters: new Map() }), []);
  await disconnect(world, 'front');
  assert.deepEqual(Object.keys(endpointsOf(world)), ['bridge']);
  await assert.rejects(disconnect(world, 'front'), {
    status: 500,
    message: /is not connected to network front$/,
  });
  await world.engine.networks.remove('front');
  assert.deepEqual(told, [
    'connect front bridge',
    'prune',
    'disconnect front bridge',
    'destroy front bridge',
  ]);
  await world.assertSettled('at the end');
});

test('what a running container is on stays its own: over a stop, a start and a rename', async (t) => {
  const world = await withContainer(t, 'front');
  await world.engine.containers.start('c1');
  await connect(world, 'front', { aliases: ['www'], macAddress: '02:00:00:00:00:09' });
  await world.engine.containers.kill('c1', 'KILL');
  const down = endpointsOf(world)['front'];
  assert.deepEqual(
    [down?.endpointId, down?.ipAddress, down?.aliases, down?.wantedMacAddress],
    ['', '', ['www'], '02:00:00:00:00:09'],
  );
  assert.deepEqual(world.engine.networks.inspect('front').attachments, []);
  await world.engine.containers.rename('c1', 'c2');
  await world.engine.containers.start('c2');
  assert.deepEqual(Object.keys(endpointsOf(world, 'c2')), ['bridge', 'front']);
  assert.ok(endpointsOf(world, 'c2')['front']?.endpointId);
  await world.assertSettled('at the end');
});

test('each endpoint has its own MAC address, records of old that of the container on its main network', async (t) => {
  const world = await withContainer(t, 'front', 'back');
  await connect(world, 'back');
  await connect(world, 'front', { macAddress: '02:00:00:00:00:09' });
  const record = world.container('c1');
  assert.ok(record);
  await world.engine.records.update({
    ...record,
    config: { ...record.config, macAddress: '02:00:00:00:00:01' },
  });
  const { networks } = world.life;
  const wanted: (string | undefined)[] = [];
  const plug = networks.connect.bind(networks);
  networks.connect = (request) => {
    wanted.push(request.macAddress);
    return plug(request);
  };
  await world.engine.containers.start('c1');
  assert.deepEqual(wanted, ['02:00:00:00:00:01', undefined, '02:00:00:00:00:09']);
});

test('a container that does not run may name a network that is yet to be made', async (t) => {
  const world = await withContainer(t);
  await connect(world, 'later', { aliases: ['a'] });
  await assert.rejects(world.engine.containers.start('c1'), {
    status: 404,
    message: 'network later not found',
  });
  await world.engine.networks.create(wish('later'));
  await world.engine.containers.start('c1');
  assert.ok(endpointsOf(world)['later']?.networkId);
  await assert.rejects(world.engine.networks.remove('later'), { status: 403 });
});

test('a network of the same name is not the one that a container was on', async (t) => {
  const world = await withContainer(t, 'front');
  await connect(world, 'front');
  await world.engine.containers.start('c1');
  const { networkId = '' } = endpointsOf(world)['front'] ?? {};
  await world.engine.containers.kill('c1', 'KILL');
  await world.engine.networks.remove('front');
  await world.engine.networks.create(wish('front'));
  await assert.rejects(world.engine.containers.start('c1'), {
    status: 404,
    message: `network ${networkId} not found`,
  });
});

test('a network goes by name, ID or prefix when a container is made', async (t) => {
  const world = await withContainer(t);
  const { id } = await world.engine.networks.create(wish('front'));
  for (const [at, ref] of [id, id.slice(0, 12), 'front'].entries()) {
    await world.create(`n${at}`, { hostConfig: { networkMode: ref } });
    assert.deepEqual(Object.keys(endpointsOf(world, `n${at}`)), ['front'], ref);
    assert.equal(world.container(`n${at}`)?.hostConfig.networkMode, ref, 'as the client said it');
  }
  const endpoints = { [id]: emptyEndpoint(), bridge: emptyEndpoint() };
  await world.create('several', { endpoints });
  assert.deepEqual(Object.keys(endpointsOf(world, 'several')), ['front', 'bridge']);
  await world.engine.containers.start('several');
  assert.ok(Object.values(endpointsOf(world, 'several')).every(({ endpointId }) => endpointId !== ''));
});

test('what cannot go together is refused at the start', async (t) => {
  const world = await withContainer(t, 'front');
  const endpoints = (...names: string[]) => Object.fromEntries(names.map((name) => [name, emptyEndpoint()]));
  for (const [name, networkMode, on, message] of [
    [
      'c-host',
      'host',
      ['host', 'front'],
      /^container sharing network namespace with another container or host/,
    ],
    ['c-none', 'none', ['none', 'front'], /^container cannot be connected to multiple networks/],
    ['c-bridge', 'bridge', ['bridge', 'host'], /^container (?:sharing|cannot be disconnected from host)/],
  ] as const) {
    await world.create(name, { hostConfig: { networkMode }, endpoints: endpoints(...on) });
    await assert.rejects(world.engine.containers.start(name), { status: 400, message });
  }
});

test('nobody removes a network that a container is about to be on', async (t) => {
  const world = await withContainer(t, 'front');
  await world.engine.containers.start('c1');
  const { networks } = world.life;
  const plug = networks.connect.bind(networks);
  let attempt: Promise<unknown> | undefined;
  networks.connect = async (request) => {
    attempt = assert.rejects(world.engine.networks.remove('front'), { status: 403 });
    await attempt;
    return plug(request);
  };
  await connect(world, 'front');
  assert.ok(attempt);
  await world.engine.containers.kill('c1', 'KILL');
  attempt = undefined;
  await world.engine.containers.start('c1');
  assert.ok(attempt, 'at a start as well');
});

test('a network that is going is found by nobody, and is back if it stays', async (t) => {
  const world = await withContainer(t, 'front');
  const { networks } = world.life;
  networks.remove = async () => {
    assert.throws(() => world.engine.networks.inspect('front'), { status: 404 });
    throw new Error('the kernel says no');
  };
  await assert.rejects(world.engine.networks.remove('front'), /the kernel says no/);
  assert.equal(world.engine.networks.inspect('front').record.name, 'front');
});

test('filters', async (t) => {
  const world = await withContainer(t, 'front', 'back');
  await world.engine.containers.start('c1');
  await connect(world, 'front');
  const is = (filters: [string, string[]][], names: string[]) =>
    assert.deepEqual(namesOf(world, filters), names);
  is([['dangling', ['true']]], ['back']);
  is([['dangling', ['0']]], ['bridge', 'host', 'none', 'front']);
  is([['type', ['custom']]], ['front', 'back']);
  is([['name', ['^b']]], ['bridge', 'back']);
  is([['name', ['front', 'back']]], ['front', 'back']);
  is([['driver', ['null', 'host']]], ['host', 'none']);
  is([['label', ['a']]], []);
});

test('with force, from a network that is not there any more', async (t) => {
  const world = await withContainer(t);
  await connect(world, 'gone');
  await disconnect(world, 'gone');
  assert.deepEqual(Object.keys(endpointsOf(world)), ['bridge']);
  await assert.rejects(disconnect(world, 'nope', { container: 'nobody' }), {
    message: 'No such container: nobody',
  });
  await assert.rejects(disconnect(world, 'nope', { container: 'nobody', force: true }), {
    message: 'network nope not found',
  });
  await assert.rejects(disconnect(world, 'bridge', { container: 'nobody', force: true }), {
    status: 404,
    message: 'endpoint nobody not found',
  });
});
