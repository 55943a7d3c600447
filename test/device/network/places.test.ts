import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ask } from './talk.ts';
import {
  connectPeer,
  inOwnNetwork,
  must,
  mustRead,
  openBridge,
  Peer,
  startOutside,
  startSleeper,
} from './world.ts';

/** Where a bridge network lies, what it leaves behind, and what it makes of datagrams and of crowds. */

const dns = { protocol: 'udp', containerPort: 53, hostIp: '', hostPort: 5353 } as const;

inOwnNetwork(import.meta.url, () => {
  test('the subnet avoids the host’s routes, and stays where the bridge is unless told otherwise', async (t) => {
    await must('ip', 'link', 'add', 'lan', 'type', 'bridge');
    await must('ip', 'address', 'add', '172.17.200.1/24', 'dev', 'lan');
    await must('ip', 'link', 'set', 'lan', 'up');
    await must('ip', 'route', 'add', '172.18.0.0/15', 'dev', 'lan');
    t.after(() => must('ip', 'link', 'del', 'lan'));
    const told = [
      [{}, '172.20.0.0/16', '172.20.0.1'],
      [{}, '172.20.0.0/16', '172.20.0.1'],
      [{ bip: '10.9.8.1/22', mtu: 1280 }, '10.9.8.0/22', '10.9.8.1'],
      [{}, '10.9.8.0/22', '10.9.8.1'],
    ] as const;
    for (const [o, subnet, gateway] of told) {
      await using bridge = await openBridge(o);
      assert.deepEqual([bridge.subnet, bridge.gateway], [subnet, gateway]);
    }
    const [link] = JSON.parse(await must('ip', '-j', 'address', 'show', 'skerry0'));
    assert.equal(link.addr_info.filter((a: { family: string }) => a.family === 'inet').length, 1);
    await (await openBridge()).tearDown();
    await using fresh = await openBridge({ fixedCidr: '10.1.2.0/24' });
    assert.equal(fresh.subnet, '10.1.2.0/24');
    await fresh.tearDown();
  });

  test('IPv6: an address that follows from the MAC address, a router, published ports, and back again', async () => {
    await using outside = await startOutside();
    await must('ip', 'address', 'add', '2001:db8::1/64', 'dev', 'uplink', 'nodad');
    await outside.inside('ip', 'address', 'add', '2001:db8::2/64', 'dev', 'eth0', 'nodad');
    writeFileSync('/proc/sys/net/ipv6/conf/uplink/accept_ra', '1');
    const told = { isIpv6: true, fixedCidrV6: 'fd00:1::/64', defaultGateway: '172.17.0.9' };
    const bridge = await openBridge(told);
    await using peer = await Peer.start('c');
    const web = { protocol: 'tcp', containerPort: 80, hostIp: '', hostPort: 8080 } as const;
    const endpoint = await connectPeer(bridge, peer, { ports: [web] });
    assert.deepEqual(
      [endpoint.gateway, endpoint.ipv6Address, endpoint.ipv6PrefixLength, endpoint.ipv6Gateway],
      ['172.17.0.9', 'fd00:1::242:ac11:2', 64, 'fd00:1::1'],
    );
    assert.match(await peer.inside('ip', 'route', 'show', 'default'), /via 172.17.0.9 /);
    await peer.inside('ip', 'route', 'replace', 'default', 'via', bridge.gateway);
    await peer.serve('tcp', 80);
    const reach = (host: string, port: number) => peer.ask({ protocol: 'tcp', host, port });
    assert.equal(await reach('fd00:1::1', 9), 'ECONNREFUSED', 'the host');
    assert.equal(await reach('2001:db8::2', 9), 'ECONNREFUSED', 'beyond');
    assert.deepEqual(
      endpoint.ports.map(({ hostIp }) => hostIp),
      ['0.0.0.0', '::'],
    );
    assert.equal(readFileSync('/proc/sys/net/ipv6/conf/uplink/accept_ra', 'utf8').trim(), '2');
    await assert.rejects(connectPeer(bridge, peer, { ipv6Address: endpoint.ipv6Address }), { status: 403 });
    await bridge[Symbol.asyncDispose]();
    const next = await openBridge(told);
    await next.recover([endpoint]);
    const shown = await must('ip', '-6', '-o', 'address', 'show', 'dev', 'skerry0', 'scope', 'global');
    assert.deepEqual(shown.match(/inet6 \S+/g), ['inet6 fd00:1::1/64']);
    await using other = await Peer.start('other');
    await assert.rejects(connectPeer(next, other, { ipv6Address: endpoint.ipv6Address }), {
      message: 'Address already in use',
    });
    assert.equal(
      (await connectPeer(next, other)).ipAddress,
      '172.17.0.3',
      'nothing is left of the refused one',
    );
    await next.tearDown();
    const plain = await openBridge();
    assert.equal((await connectPeer(plain, other)).ipv6Address, '');
    await plain.tearDown();
    await must('ip', 'link', 'del', 'uplink');
  });

  test('what cannot be a bridge network is refused by name', async () => {
    await must('ip', 'link', 'add', 'skerry0', 'type', 'veth', 'peer', 'name', 'other');
    await assert.rejects(openBridge({ bip: '10.9.8.1/22' }), {
      message: 'interface skerry0 exists and is not a bridge',
    });
    await must('ip', 'link', 'del', 'skerry0');
    await assert.rejects(openBridge({ bip: '10.9.8.0/22' }), {
      message: 'bip: 10.9.8.0 is no address of a host',
    });
    const outside = { bip: '10.9.8.1/24', fixedCidr: '10.9.9.0/24' };
    await assert.rejects(openBridge(outside), {
      message: 'fixed-cidr: 10.9.9.0/24 is not within the network of 10.9.8.1',
    });
  });

  for (const firewallBackend of ['nftables', 'iptables'] as const)
    test(`tearing down leaves the machine as it was: ${firewallBackend}`, async () => {
      const look = async () => {
        const links = (await must('ip', '-o', 'link')).replaceAll(/^\d+: /gm, '');
        return [
          links,
          await must('nft', 'list', 'tables', 'ip'),
          await must('iptables', '-S'),
          await must('iptables', '-t', 'nat', '-S'),
        ];
      };
      await mustRead('*filter\n-A FORWARD -s 198.51.100.1 -j DROP\nCOMMIT\n', 'iptables-restore');
      const before = await look();
      const bridge = await openBridge({ firewallBackend });
      await using peer = await Peer.start('c');
      await connectPeer(bridge, peer, { ports: [dns] });
      assert.notDeepEqual(await look(), before);
      await bridge.tearDown();
      assert.deepEqual(await look(), before);
      await must('iptables', '-F', 'FORWARD');
    });

  test('without masquerading, others see a container’s own address', async (t) => {
    const bridge = await openBridge({ isMasquerade: false });
    t.after(() => bridge.tearDown());
    await using outside = await startOutside();
    await using peer = await Peer.start('c');
    await outside.serve('tcp', 7);
    await outside.inside('ip', 'route', 'add', bridge.subnet, 'via', '192.0.2.1');
    const { ipAddress } = await connectPeer(bridge, peer);
    assert.equal(
      await peer.ask({ protocol: 'tcp', host: '192.0.2.2', port: 7 }),
      `outside sees ${ipAddress}`,
    );
  });

  test('a sender of datagrams that never pauses finds a port published later, and the next one behind it', async (t) => {
    const bridge = await openBridge();
    t.after(() => bridge.tearDown());
    await using first = await Peer.start('first');
    await using second = await Peer.start('second');
    const stop = new AbortController();
    const heard = new Set<string>();
    const sender = (async () => {
      while (!stop.signal.aborted)
        heard.add(await ask({ protocol: 'udp', host: '127.0.0.1', port: 5353 }, 40_000));
    })();
    const hears = async (text: string) => {
      for (let triesLeft = 100; triesLeft > 0 && !heard.has(text); triesLeft--) await sleep(50);
      assert.ok(heard.has(text), `heard only ${[...heard]}`);
    };
    await hears('silence');
    for (const peer of [first, second]) {
      await peer.serve('udp', 53);
      // another address than the one before, which only a forgotten connection finds
      const ipAddress = bridge.gateway.replace(/1$/, peer === first ? '7' : '8');
      const { containerId } = await connectPeer(bridge, peer, { ports: [dns], ipAddress });
      await hears(`${peer.name} sees ${bridge.gateway}`);
      await bridge.disconnect(containerId);
    }
    stop.abort();
    await sender;
  });

  test('a crowd that comes and goes at once gets distinct addresses and ports, and leaves nothing', async (t) => {
    const bridge = await openBridge();
    t.after(() => bridge.tearDown());
    const sleepers = await Promise.all(Array.from({ length: 12 }, startSleeper));
    t.after(() => {
      for (const sleeper of sleepers) sleeper.kill('SIGKILL');
    });
    const pids = sleepers.map(({ pid }) => pid ?? 0);
    for (let round = 0; round < 3; round++) {
      const connections = pids.map((pid, index) => {
        const ports = [
          { ...dns, hostPort: 0 },
          { protocol: 'tcp', containerPort: 80, hostIp: '', hostPort: 0 } as const,
        ];
        return bridge.connect({ containerId: `c${index}`, containerName: `c${index}`, pid, ports });
      });
      const endpoints = await Promise.all(connections);
      assert.equal(new Set(endpoints.map(({ ipAddress }) => ipAddress)).size, pids.length);
      const ports = endpoints.flatMap((endpoint) => endpoint.ports.map((p) => `${p.protocol}${p.hostPort}`));
      assert.equal(new Set(ports).size, 2 * pids.length);
      await Promise.all(endpoints.map(({ containerId }) => bridge.disconnect(containerId)));
      for (let triesLeft = 200; (await must('ip', 'link', 'show', 'type', 'veth')) !== ''; triesLeft--) {
        assert.ok(triesLeft > 0, 'interfaces are left');
        await sleep(20);
      }
      assert.doesNotMatch(await must('nft', 'list', 'table', 'ip', 'skerry'), /elements/);
    }
  });
});
