import assert from 'node:assert/strict';
import { test } from 'node:test';
import { run } from '../../../src/host/exec.ts';
import { Netlink } from '../../../src/host/netlink.ts';
import { hardwareAddress } from '../../../src/network/addresses.ts';
import { ipvlan } from '../../../src/network/ipvlan.ts';
import { findLink, OUR_GROUP } from '../../../src/network/links.ts';
import { macvlan } from '../../../src/network/macvlan.ts';
import type { Endpoint, NetworkSpec } from '../../../src/network/model.ts';
import { RiderNetwork } from '../../../src/network/rider-networks.ts';
import type { Family } from '../../../src/network/subnets.ts';
import { Complaints, inOwnNetwork, must, Peer, startOutside } from './world.ts';

const log = new Complaints();
/** All networks that there are. */
const specs: NetworkSpec[] = [];

function specOf(more: Partial<NetworkSpec>): NetworkSpec {
  return {
    id: `${specs.length}`.repeat(64).slice(0, 64),
    name: 'lan',
    driver: 'macvlan',
    isIpv6: false,
    isInternal: false,
    ipam: [{ subnet: '192.0.2.0/24', gateway: '192.0.2.2' }],
    options: { parent: 'uplink' },
    ...more,
  };
}

/** Gone again at the end of its scope. */
async function openNetwork(more: Partial<NetworkSpec>): Promise<{ network: RiderNetwork } & AsyncDisposable> {
  const spec = specOf(more);
  const driver = spec.driver === 'ipvlan' ? ipvlan : macvlan;
  const network = await RiderNetwork.open(spec, { driver, all: () => specs, log });
  specs.push(spec);
  const dispose = async () => {
    specs.splice(specs.indexOf(spec), 1);
    await network.remove();
  };
  return { network, [Symbol.asyncDispose]: dispose };
}

function endpointOf(ipAddress: string, more: Partial<Endpoint> = {}): Endpoint {
  return {
    ...{ networkId: 'n', endpointId: 'e', containerId: 'c', interfaceName: 'eth0', hostInterface: '' },
    ...{ ipAddress, prefixLength: 24, gateway: '192.0.2.2', macAddress: hardwareAddress(ipAddress) },
    ...{ ipv6Address: '', ipv6PrefixLength: 0, ipv6Gateway: '', ports: [], ...more },
  };
}

const plug = (
  network: RiderNetwork,
  { pid }: Peer,
  endpoint: Endpoint,
  wayOut: readonly Family[] = [4],
  linkLocalIps: readonly string[] = [],
) => network.plug(endpoint, { pid, linkLocalIps, wayOut });

/** What somebody answers who serves there. */
const ask = (from: Peer, host: string) => from.ask({ protocol: 'tcp', host, port: 80 });

async function linkNames(...which: string[]): Promise<string[]> {
  const listed = JSON.parse((await must('ip', '-json', 'link', 'show', ...which)) || '[]');
  return (listed as { ifname?: string }[]).flatMap(({ ifname }) => ifname ?? []); // {} for what is left out
}
/** Interfaces that were made here. */
const ourLinks = () => linkNames('group', String(OUR_GROUP));

/** Whether this kernel knows such interfaces. */
async function knows(...words: string[]): Promise<boolean> {
  const { code } = await run('ip', ['link', 'add', 'probe', ...words], {});
  if (code === 0) await must('ip', 'link', 'del', 'probe');
  return code === 0;
}

/** The cable to the outside, gone at the end of its scope: the kernel would take its time. */
const cable: AsyncDisposable = {
  [Symbol.asyncDispose]: async () => void (await run('ip', ['link', 'del', 'uplink'], {})),
};

const missing = 'operation not supported';

inOwnNetwork(import.meta.url, () => {
  test('macvlan: containers are machines of the parent’s network, and the host is none of their business', async (t) => {
    await using outside = await startOutside();
    await using _cable = cable;
    if (!(await knows('link', 'uplink', 'type', 'macvlan'))) return t.skip('no macvlan in this kernel');
    await outside.inside('ip', 'address', 'add', 'fd00:2::2/64', 'dev', 'eth0', 'nodad');
    await using one = await Peer.start('one');
    await using two = await Peer.start('two');
    for (const peer of [outside, one, two]) await peer.serve('tcp', 80);
    const ipam = [
      { subnet: '192.0.2.0/24', gateway: '192.0.2.2' },
      { subnet: 'fd00:2::/64', gateway: 'fd00:2::2' },
    ];
    await using made = await openNetwork({ ipam, isIpv6: true });
    const { network } = made;
    assert.ok(network.hasRouter);
    assert.deepEqual(await ourLinks(), [], 'the parent is not ours');
    const ipv6 = { ipv6PrefixLength: 64, ipv6Gateway: 'fd00:2::2' };
    const first = endpointOf('192.0.2.50', { ipv6Address: 'fd00:2::50', ...ipv6 });
    await plug(network, one, first, [4, 6], ['169.254.9.9']);
    const second = endpointOf('192.0.2.51', {
      ...ipv6,
      ipv6Address: 'fd00:2::51',
      macAddress: '02:00:00:00:00:07',
    });
    await plug(network, two, second);
    assert.equal(await ask(one, '192.0.2.51'), 'two sees 192.0.2.50');
    assert.equal(await ask(one, '192.0.2.2'), 'outside sees 192.0.2.50');
    assert.equal(await ask(outside, '192.0.2.51'), 'two sees 192.0.2.2');
    for (const host of ['fd00:2::51', 'fd00:2::2'])
      assert.equal(await one.ask({ protocol: 'tcp', host, port: 9 }), 'ECONNREFUSED', host);
    const [shown] = JSON.parse(await one.inside('ip', '-json', 'address', 'show', 'eth0'));
    assert.equal(shown.address, '02:42:c0:00:02:32');
    const addresses = shown.addr_info.map(({ local }: { local: string }) => local);
    for (const own of ['192.0.2.50', '169.254.9.9', 'fd00:2::50']) assert.ok(addresses.includes(own), own);
    assert.match(await one.inside('ip', 'route', 'show', 'default'), /default via 192.0.2.2 dev eth0/);
    assert.match(await one.inside('ip', '-6', 'route', 'show', 'default'), /default via fd00:2::2 dev eth0/);
    assert.equal(await two.inside('ip', '-6', 'route', 'show', 'default'), '');
    assert.match(await two.inside('ip', 'link', 'show', 'eth0'), /02:00:00:00:00:07/);
    await network.unplug(first, one.pid);
    await network.unplug(first, one.pid);
    await assert.rejects(one.inside('ip', 'link', 'show', 'eth0'), /does not exist/);
    await network.unplug(second, undefined);
    await plug(network, one, first);
    assert.equal(await ask(one, '192.0.2.51'), 'two sees 192.0.2.50', 'connected once more');
  });

  test('macvlan: private containers do not meet; an internal network leads nowhere', async (t) => {
    await using outside = await startOutside();
    await using _cable = cable;
    if (!(await knows('link', 'uplink', 'type', 'macvlan'))) return t.skip('no macvlan in this kernel');
    await using one = await Peer.start('one');
    await using two = await Peer.start('two');
    for (const peer of [outside, one, two]) await peer.serve('tcp', 80);
    await using made = await openNetwork({
      options: { parent: 'uplink', macvlan_mode: 'private' },
      isInternal: true,
    });
    const { network } = made;
    assert.ok(!network.hasRouter);
    await plug(network, one, endpointOf('192.0.2.50', { gateway: '' }), []);
    await plug(network, two, endpointOf('192.0.2.51', { gateway: '' }), []);
    assert.equal(await ask(one, '192.0.2.51'), 'silence');
    assert.equal(await ask(one, '192.0.2.2'), 'outside sees 192.0.2.50');
    assert.equal(await one.inside('ip', 'route', 'show', 'default'), '');
  });

  test('macvlan: what fails half-way leaves the container as it was', async (t) => {
    await using outside = await startOutside();
    await using _cable = cable;
    if (!(await knows('link', 'uplink', 'type', 'macvlan'))) return t.skip('no macvlan in this kernel');
    await using made = await openNetwork({});
    const twice = ['169.254.9.9', '169.254.9.9'];
    await assert.rejects(
      plug(made.network, outside, endpointOf('192.0.2.50', { interfaceName: 'eth1' }), [], twice),
      {
        status: 500,
        message: /^failed to set up eth1 in the container/,
      },
    );
    await assert.rejects(outside.inside('ip', 'link', 'show', 'eth1'), /does not exist/);
    await assert.rejects(plug(made.network, outside, endpointOf('192.0.2.50')), {
      message: 'failed to create the macvlan port: file exists',
    });
    assert.match(await outside.inside('ip', 'address', 'show', 'eth0'), /192\.0\.2\.2/, 'not ours');
    await must('ip', 'link', 'del', 'uplink');
    const gone = 'the requested parent interface uplink was not found on the Docker host';
    await assert.rejects(plug(made.network, outside, endpointOf('192.0.2.50')), {
      status: 500,
      message: gone,
    });
    await made.network.mend([]);
    assert.deepEqual(log.texts.splice(0), ['the parent of a network cannot be used']);
  });

  test('macvlan and ipvlan: what cannot be is refused in dockerd’s words', async () => {
    await must('ip', 'link', 'add', 'uplink', 'type', 'bridge');
    await using _made = await openNetwork({});
    const refusals: [Partial<NetworkSpec>, string][] = [
      [{}, 'network dm-000000000000 is already using parent interface uplink'],
      [{ options: { parent: 'lo' } }, 'loopback interface is not a valid macvlan parent link'],
      [
        { options: { macvlan_mode: 'x' } },
        "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default",
      ],
      [
        { driver: 'ipvlan', options: { parent: 'lo' } },
        'loopback interface is not a valid ipvlan parent link',
      ],
      [
        { driver: 'ipvlan', options: { ipvlan_mode: 'toString' } },
        "requested ipvlan mode 'toString' is not valid, 'l2' mode is the ipvlan driver default",
      ],
      [
        { driver: 'ipvlan', options: { ipvlan_flag: 'x' } },
        "requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default",
      ],
      [{ options: { parent: 'no' } }, 'invalid subinterface vlan name no, example formatting is eth0.10'],
      [
        { options: { parent: 'a.b.1' } },
        'required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received a.b.1',
      ],
      [
        { options: { parent: 'uplink.x' } },
        'unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)',
      ],
      [{ options: { parent: 'no.5' } }, '-o parent interface was not found on the host: no'],
      [{ options: { parent: 'uplink.4095' } }, 'vlan id must be between 1-4094, received: 4095'],
      [{ ipam: [{ subnet: 'fd00::/64' }] }, 'ipv4 pool is empty'],
    ];
    for (const [more, message] of refusals)
      await assert.rejects(openNetwork(more), { status: 500, message }, message);
    await must('ip', 'link', 'del', 'uplink');
  });

  test('macvlan: a VLAN of the parent is made and removed; one of somebody else’s stays', async () => {
    await must('ip', 'link', 'add', 'trunk', 'type', 'bridge');
    await must('ip', 'link', 'set', 'trunk', 'up');
    const options = { parent: 'trunk.50' };
    if (!(await knows('link', 'trunk', 'type', 'vlan', 'id', '7'))) {
      const message = `failed to create trunk.50 vlan link: ${missing}`;
      await assert.rejects(openNetwork({ options }), { status: 500, message });
    } else {
      {
        await using _made = await openNetwork({ options });
        assert.deepEqual(await ourLinks(), ['trunk.50']);
        assert.match(await must('ip', '-d', 'link', 'show', 'trunk.50'), /UP.*vlan protocol 802.1Q id 50/s);
        // another driver's network on it keeps it
        const { network } = await openNetwork({ driver: 'ipvlan', options });
        await network.remove();
        assert.ok((await linkNames()).includes('trunk.50'));
        specs.pop();
      }
      assert.ok(!(await linkNames()).includes('trunk.50'));
      await must('ip', 'link', 'add', 'link', 'trunk', 'name', 'trunk.50', 'type', 'vlan', 'id', '50');
      {
        await using _made = await openNetwork({ options });
      }
      assert.ok((await linkNames()).includes('trunk.50'));
    }
    await must('ip', 'link', 'del', 'trunk');
    assert.ok(!(await linkNames()).includes('trunk.50'));
  });

  test('macvlan and ipvlan: without a parent they ride on one that leads nowhere', async () => {
    for (const driver of ['macvlan', 'ipvlan'] as const) {
      const name = `${driver === 'macvlan' ? 'dm' : 'di'}-000000000000`;
      if (!(await knows('type', 'dummy'))) {
        await assert.rejects(openNetwork({ driver, options: {} }), { status: 500, message: missing });
        continue;
      }
      {
        await using made = await openNetwork({ driver, options: {} });
        assert.deepEqual(await ourLinks(), [name]);
        assert.ok(!made.network.hasRouter);
        await made.network.mend([]);
      }
      assert.ok(!(await linkNames()).includes(name));
    }
  });

  test('ipvlan: containers share the parent’s MAC address', async () => {
    await using outside = await startOutside();
    await using _cable = cable;
    await using one = await Peer.start('one');
    for (const peer of [outside, one]) await peer.serve('tcp', 80);
    await using made = await openNetwork({ driver: 'ipvlan' });
    await assert.rejects(
      plug(made.network, one, endpointOf('192.0.2.50', { macAddress: '02:00:00:00:00:07' })),
      {
        status: 500,
        message: 'ipvlan interfaces do not support custom mac address assignment',
      },
    );
    const endpoint = endpointOf('192.0.2.50');
    if (!(await knows('link', 'uplink', 'type', 'ipvlan'))) {
      const message = `failed to create the ipvlan port: ${missing}`;
      await assert.rejects(plug(made.network, one, endpoint), { status: 500, message });
      return;
    }
    await plug(made.network, one, endpoint);
    assert.equal(endpoint.macAddress, '');
    assert.equal(await ask(one, '192.0.2.2'), 'outside sees 192.0.2.50');
    await made.network.unplug(endpoint, one.pid);
  });

  test('nothing is left', async () => {
    await using netlink = Netlink.open('route');
    assert.equal(await findLink(netlink, 'uplink'), undefined);
    assert.deepEqual(
      (await linkNames()).filter((name) => name !== 'lo'),
      [],
    );
    assert.deepEqual([specs, log.texts], [[], []]);
  });
});
