import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type HostSubnets, Ipam } from '../../../src/network/ipam.ts';
import type { IpamConfig, NetworkDriver } from '../../../src/network/model.ts';
import { type PoolRange, poolRanges } from '../../../src/network/pools.ts';
import { contains, parseAddress, parseCidr, type Subnet } from '../../../src/network/subnets.ts';

function subnet(text: string): Subnet {
  const parsed = parseCidr(text);
  assert.ok(parsed, text);
  return parsed.subnet;
}

/** Networks are called n1, n2 and so on. */
class World {
  readonly ipam: Ipam;
  #count = 0;

  constructor(o: { ranges?: PoolRange[]; direct?: string[]; routed?: string[]; servers?: string[] } = {}) {
    const host: HostSubnets = {
      routes: [
        ...(o.direct ?? []).map((text) => ({ subnet: subnet(text), isDirect: true })),
        ...(o.routed ?? []).map((text) => ({ subnet: subnet(text), isDirect: false })),
      ],
      nameServers: o.servers ?? [],
    };
    this.ipam = new Ipam({ ranges: o.ranges, readHost: async () => host });
  }

  async settle(
    ipam: IpamConfig[],
    { isIpv6 = false, driver = 'bridge' }: { isIpv6?: boolean; driver?: NetworkDriver } = {},
  ): Promise<{ id: string; settled: IpamConfig[] }> {
    const id = `n${++this.#count}`;
    return { id, settled: await this.ipam.settle({ id, name: `name-${id}`, driver, isIpv6, ipam }) };
  }

  /** The subnet of a network that asks for none. */
  async any(isIpv6 = false): Promise<string | undefined> {
    const { settled } = await this.settle([], { isIpv6 });
    return settled.at(-1)?.subnet;
  }
}

const addresses = (world: World, id: string, count: number) =>
  Array.from({ length: count }, () => world.ipam.take(id, 4).address);

test('ipam: a network without a subnet gets the next one of the defaults, with its gateway', async () => {
  const world = new World();
  const { id, settled } = await world.settle([]);
  assert.deepEqual(settled, [{ subnet: '172.17.0.0/16', gateway: '172.17.0.1' }]);
  assert.equal(await world.any(), '172.18.0.0/16');
  world.ipam.forget(id);
  assert.equal(await world.any(), '172.19.0.0/16', 'what was just given back comes last');
  for (let at = 20; at <= 31; at++) assert.equal(await world.any(), `172.${at}.0.0/16`);
  for (let at = 0; at < 256; at += 16) assert.equal(await world.any(), `192.168.${at}.0/20`);
  assert.equal(await world.any(), '172.17.0.0/16');
  await assert.rejects(world.any(), {
    status: 404,
    message:
      'could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network',
  });
});

test('ipam: nothing is hidden that the host reaches, where that can be helped', async () => {
  const first = (o: ConstructorParameters<typeof World>[0]) => new World(o).any();
  assert.equal(await first({ direct: ['172.17.9.0/24'], routed: ['172.18.0.0/16'] }), '172.19.0.0/16');
  assert.equal(await first({ servers: ['172.17.0.53', 'fe80::1', '8.8.8.8', 'what'] }), '172.18.0.0/16');
  assert.equal(await first({ direct: ['172.16.0.0/12', '192.168.1.0/24'] }), '192.168.16.0/20');
  const tunnel = ['0.0.0.0/1', '128.0.0.0/1'];
  assert.equal(await first({ direct: ['172.17.0.0/16'], routed: tunnel }), '172.18.0.0/16');
  await assert.rejects(first({ direct: tunnel }), /non-overlapping IPv4/);
});

test('ipam: IPv6 has pools only where they are configured, however large', async () => {
  await assert.rejects(new World().any(true), { status: 404, message: /non-overlapping IPv6 address pool/ });
  const ranges = poolRanges([
    { base: '10.0.0.0/8', size: 24 },
    { base: 'fd00::/8', size: 64 },
    { base: '10.99.0.0/16', size: 28 },
  ]);
  const world = new World({ ranges, direct: ['fd00::/9', '10.0.0.0/9'] });
  const { id, settled } = await world.settle([], { isIpv6: true });
  assert.deepEqual(settled, [
    { subnet: '10.128.0.0/24', gateway: '10.128.0.1' },
    { subnet: 'fd80::/64', gateway: 'fd80::1' },
  ]);
  assert.equal(await world.any(true), 'fd80:0:0:1::/64');
  assert.deepEqual(world.ipam.take(id, 6), { address: 'fd80::2', prefixLength: 64, gateway: 'fd80::1' });
  assert.equal(world.ipam.take(id, 6, 'FD80::0:Ffff').address, 'fd80::ffff');
  assert.throws(() => world.ipam.take(id, 6, '1.2.3.4'), {
    status: 400,
    message: 'invalid IPv6 address: 1.2.3.4',
  });
});

test('ipam: a network that does not get all its pools has none of them', async () => {
  const world = new World();
  await assert.rejects(world.settle([{ subnet: '10.0.0.0/24' }], { isIpv6: true }), /IPv6/);
  const twice = [{ subnet: '10.0.0.0/24' }, { subnet: '10.0.0.128/25' }];
  await assert.rejects(world.settle(twice), { status: 403, message: /^Pool overlaps with other one/ });
  assert.equal((await world.settle([{ subnet: '10.0.0.0/24' }])).settled.length, 1);
});

test('ipam: IPv6 pools of a network without IPv6 are left out', async () => {
  const { settled } = await new World().settle([{ subnet: 'fd00::/64' }]);
  assert.deepEqual(settled, [{ subnet: '172.17.0.0/16', gateway: '172.17.0.1' }]);
});

test('ipam: what overlaps another network is refused, unless each has a range of its own', async () => {
  const world = new World();
  const refused = { status: 403, message: 'Pool overlaps with other one on this address space' };
  const { id } = await world.settle([{ subnet: '10.1.0.0/16' }]);
  for (const text of ['10.1.0.0/16', '10.0.0.0/8', '10.1.2.0/24'])
    await assert.rejects(world.settle([{ subnet: text }]), refused);
  world.ipam.forget(id);
  world.ipam.forget(id);
  const driver = 'macvlan';
  const low = await world.settle([{ subnet: '10.1.0.0/24', ipRange: '10.1.0.0/25' }], { driver });
  const high = await world.settle([{ subnet: '10.1.0.0/24', ipRange: '10.1.0.128/25' }], { driver });
  assert.equal(low.settled[0]?.gateway, '10.1.0.1');
  assert.equal(high.settled[0]?.gateway, '10.1.0.128', 'of the range, as with dockerd');
  assert.equal(world.ipam.take(low.id, 4, '10.1.0.200').address, '10.1.0.200');
  assert.throws(() => world.ipam.take(high.id, 4, '10.1.0.200'), { status: 403 });
  await assert.rejects(
    world.settle([{ subnet: '10.1.0.0/24', ipRange: '10.1.0.0/25' }], { driver }),
    refused,
  );
  await assert.rejects(world.settle([{ subnet: '10.1.0.0/24' }], { driver }), refused);
  await assert.rejects(
    world.settle([{ subnet: '10.1.0.0/16', ipRange: '10.1.9.0/24' }], { driver }),
    refused,
  );
  world.ipam.forget(low.id);
  assert.equal(world.ipam.take(high.id, 4, '10.1.0.200').address, '10.1.0.200');
  const bridges = [{ subnet: '10.2.0.0/24', ipRange: '10.2.0.0/25' }];
  await world.settle(bridges);
  await assert.rejects(world.settle([{ subnet: '10.2.0.0/24', ipRange: '10.2.0.128/25' }]), refused);
});

test('ipam: gateway and auxiliary addresses are nobody else’s, and are refused in dockerd’s words', async () => {
  const world = new World();
  const config = { subnet: '10.0.0.0/29', gateway: '10.0.0.3', auxAddresses: { router: '10.0.0.1' } };
  const { id, settled } = await world.settle([config]);
  assert.deepEqual(settled, [config]);
  assert.deepEqual(addresses(world, id, 4), ['10.0.0.2', '10.0.0.4', '10.0.0.5', '10.0.0.6']);
  assert.throws(() => world.ipam.take(id, 4), {
    status: 500,
    message: "no available IPv4 addresses on this network's address pools: name-n1 (n1)",
  });
  for (const address of ['10.0.0.3', '10.0.0.1', '10.0.0.0']) world.ipam.release(id, address);
  for (const wanted of ['10.0.0.0', '10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.7'])
    assert.throws(() => world.ipam.take(id, 4, wanted), { status: 403, message: 'Address already in use' });
  const refusals: [IpamConfig, number, string][] = [
    [{ gateway: 'x' }, 400, 'invalid gateway address x in Ipam configuration'],
    [
      { gateway: '10.2.0.1' },
      500,
      'failed to allocate gateway (10.2.0.1): requested address is out of range',
    ],
    [{ gateway: '10.1.0.0' }, 500, 'failed to allocate gateway (10.1.0.0): Address already in use'],
    [
      { auxAddresses: { a: 'zz' } },
      400,
      'non parsable secondary ip address (a:zz) passed for network name-nN',
    ],
    [
      { auxAddresses: { a: '10.2.0.1' } },
      403,
      'auxiliary address: (a:10.2.0.1) must belong to the master pool: 10.1.0.0/24',
    ],
    [
      { auxAddresses: { a: '10.1.0.1' } },
      500,
      'failed to allocate secondary ip address (a:10.1.0.1): Address already in use',
    ],
    [
      { ipRange: 'zz' },
      500,
      'failed to parse pool request for address space "LocalDefault" pool "10.1.0.0/24" subpool "zz": invalid address subpool',
    ],
    [{ ipRange: 'fd00::/64' }, 500, 'pool and subpool are of incompatible address families'],
  ];
  for (const [more, status, message] of refusals)
    await assert.rejects(world.settle([{ subnet: '10.1.0.0/24', ...more }]), (err: Error) => {
      assert.equal(err.message.replace(/name-n\d+/, 'name-nN'), message);
      return Reflect.get(err, 'status') === status;
    });
  await world.settle([{ subnet: '10.1.0.0/24' }]); // nothing of the failed ones is left
});

test('ipam: addresses come from the range; one that is asked for may lie beside it', async () => {
  const world = new World();
  const { id, settled } = await world.settle([{ subnet: '10.0.0.0/24', ipRange: '10.0.0.64/31' }]);
  assert.equal(settled[0]?.gateway, '10.0.0.64');
  assert.deepEqual(addresses(world, id, 1), ['10.0.0.65']);
  assert.throws(() => world.ipam.take(id, 4), /no available IPv4/);
  assert.equal(world.ipam.take(id, 4, '10.0.0.9').address, '10.0.0.9');
  const outside = "invalid address 10.0.1.1: It does not belong to any of this network's subnets";
  assert.throws(() => world.ipam.take(id, 4, '10.0.1.1'), { status: 400, message: outside });
  assert.throws(() => world.ipam.take(id, 4, 'zz'), { status: 400, message: 'invalid IPv4 address: zz' });
});

test('ipam: the smallest subnets, and several of a family', async () => {
  const world = new World();
  const { id } = await world.settle([{ subnet: '10.0.0.0/31' }, { subnet: '10.0.1.0/30' }], {
    driver: 'macvlan',
  });
  assert.deepEqual(world.ipam.take(id, 4), { address: '10.0.0.1', prefixLength: 31, gateway: '10.0.0.0' });
  assert.deepEqual(world.ipam.take(id, 4), { address: '10.0.1.2', prefixLength: 30, gateway: '10.0.1.1' });
  assert.throws(() => world.ipam.take(id, 4), /no available/);
  world.ipam.release(id, '10.0.1.2');
  assert.equal(world.ipam.take(id, 4).address, '10.0.1.2');
  await assert.rejects(
    world.settle([{ subnet: 'fd00::/128' }], { isIpv6: true }),
    /failed to allocate gateway \(\): no available addresses on this pool/,
  );
});

test('ipam: after a restart what is in use is taken over once', async () => {
  const before = new World();
  const { id, settled } = await before.settle([{ subnet: '10.0.0.0/24' }]);
  const address = addresses(before, id, 2)[1] ?? '';
  const after = new World();
  assert.deepEqual((await after.settle(settled)).settled, settled);
  assert.ok(after.ipam.adopt(id, address));
  assert.ok(!after.ipam.adopt(id, address));
  assert.ok(!after.ipam.adopt(id, '10.0.0.1'), 'the gateway');
  assert.ok(!after.ipam.adopt(id, '10.0.1.1'));
  assert.ok(!after.ipam.adopt(id, ''));
  assert.deepEqual(addresses(after, id, 2), ['10.0.0.2', '10.0.0.4']);
});

type Step =
  | { kind: 'take'; family: 4 | 6; wanted: number | undefined }
  | { kind: 'release'; which: number }
  | { kind: 'restart' };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constant('take' as const),
    family: fc.constantFrom(4 as const, 6 as const),
    wanted: fc.option(fc.nat(40), { nil: undefined }),
  }),
  fc.record({ kind: fc.constant('release' as const), which: fc.nat(20) }),
  fc.record({ kind: fc.constant('restart' as const) }),
);

test('ipam: nobody gets what another one has, and the lowest free address is given', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const wishes = [{ subnet: '10.0.0.0/27', ipRange: '10.0.0.16/28' }, { subnet: 'fd00::/64' }];
      let world = new World();
      const { id, settled } = await world.settle(wishes, { isIpv6: true });
      const held: string[] = [];
      const refused = new Set([
        '10.0.0.0',
        '10.0.0.31',
        'fd00::',
        ...settled.map(({ gateway = '' }) => gateway),
      ]);
      const isFree = (address: string) => !held.includes(address) && !refused.has(address);
      for (const what of steps) {
        if (what.kind === 'restart') {
          world = new World();
          await world.settle(settled, { isIpv6: true });
          for (const address of held) assert.ok(world.ipam.adopt(id, address));
        } else if (what.kind === 'release') {
          for (const address of held.splice(what.which, 1)) world.ipam.release(id, address);
        } else {
          const name = (n: number) =>
            what.family === 4 ? `10.0.0.${n}` : `fd00::${n === 0 ? '' : n.toString(16)}`;
          const own =
            what.family === 4
              ? Array.from({ length: 16 }, (_, n) => name(16 + n))
              : Array.from({ length: 200 }, (_, n) => name(n));
          const wanted = what.wanted === undefined ? undefined : name(what.wanted);
          const expected = wanted ?? own.find(isFree);
          const canBe =
            expected !== undefined &&
            isFree(expected) &&
            contains(subnet(what.family === 4 ? '10.0.0.0/27' : 'fd00::/64'), parseAddress(expected));
          if (!canBe) assert.throws(() => world.ipam.take(id, what.family, wanted));
          else {
            assert.equal(world.ipam.take(id, what.family, wanted).address, expected);
            held.push(expected);
          }
        }
      }
    }),
  );
});

test('ipam: whatever networks come and go, no two overlap', async () => {
  const wish = fc.oneof(
    fc.constant(undefined),
    fc
      .tuple(fc.nat(7), fc.integer({ min: 24, max: 30 }))
      .map(([third, length]) => `10.0.${third}.0/${length}`),
  );
  const change = fc.oneof(fc.record({ subnet: wish }), fc.nat(10));
  await fc.assert(
    fc.asyncProperty(fc.array(change, { maxLength: 40 }), async (changes) => {
      const world = new World({ ranges: poolRanges([{ base: '10.0.0.0/21', size: 26 }]) });
      const alive: { id: string; subnet: Subnet }[] = [];
      for (const what of changes) {
        if (typeof what === 'number') for (const { id } of alive.splice(what, 1)) world.ipam.forget(id);
        else {
          const config = what.subnet === undefined ? [] : [{ subnet: what.subnet }];
          const made = await world.settle(config).catch(() => undefined);
          if (made === undefined) continue;
          const own = subnet(made.settled[0]?.subnet ?? '');
          for (const other of alive)
            assert.ok(
              !contains(own, { family: 4, bits: other.subnet.base }) &&
                !contains(other.subnet, { family: 4, bits: own.base }),
            );
          alive.push({ id: made.id, subnet: own });
        }
      }
    }),
  );
});
