import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BridgeNetwork, BridgeOptions } from '../../../src/network/bridge.ts';
import { upLoopback } from '../../../src/network/inside.ts';
import { ask, serve } from './talk.ts';
import { Complaints, connectPeer, inOwnNetwork, must, mustRead, openBridge, Peer } from './world.ts';

/** What a container gets, what is left when it goes or when a step fails, and what a new daemon makes of it all. */

const web = { protocol: 'tcp', containerPort: 80, hostIp: '', hostPort: 8080 } as const;
const webOnLoopback = { ...web, hostIp: '127.0.0.1', hostPort: 8081 } as const;
const atHost = (port: number) => ({ protocol: 'tcp', host: '127.0.0.1', port }) as const;

async function bridgeFor(t: TestContext, o: Partial<BridgeOptions> = {}): Promise<BridgeNetwork> {
  const bridge = await openBridge(o);
  t.after(() => bridge.tearDown());
  return bridge;
}

/** What our bridge network has in the kernel, but for the bridge itself. */
async function remains(): Promise<{ cables: string[]; ports: string[] }> {
  const links = await must('ip', '-o', 'link', 'show', 'type', 'veth');
  const rules = (await must('nft', 'list', 'table', 'ip', 'skerry')) + (await must('iptables-save'));
  return { cables: links.match(/veth[0-9a-f]{7}/g) ?? [], ports: rules.match(/80\d\d[ :].*172.*/g) ?? [] };
}

/** Links are removed in the background. */
async function settled(): ReturnType<typeof remains> {
  for (let triesLeft = 100; ; triesLeft--) {
    const found = await remains();
    if (triesLeft === 0 || found.cables.length === 0) return found;
    await sleep(20);
  }
}

const nothing = { cables: [], ports: [] };

inOwnNetwork(
  import.meta.url,
  () => {
    test('a container gets an interface with address, route, MTU and a MAC address that follows from its address', async (t) => {
      const bridge = await bridgeFor(t, { bip: '172.30.1.1/24', mtu: 1400 });
      await using peer = await Peer.start('c');
      const endpoint = await connectPeer(bridge, peer);
      const { ipAddress, prefixLength, gateway, macAddress, networkId, endpointId, hostInterface } = endpoint;
      assert.deepEqual(
        { ipAddress, prefixLength, gateway, macAddress },
        { ipAddress: '172.30.1.2', prefixLength: 24, gateway: '172.30.1.1', macAddress: '02:42:ac:1e:01:02' },
      );
      assert.equal(networkId, bridge.id);
      assert.match(endpointId, /^[0-9a-f]{64}$/);
      assert.match(hostInterface, /^veth[0-9a-f]{7}$/);
      const [eth0] = JSON.parse(await peer.inside('ip', '-j', 'address', 'show', 'eth0'));
      assert.deepEqual([eth0.mtu, eth0.address, eth0.operstate], [1400, '02:42:ac:1e:01:02', 'UP']);
      const addresses = eth0.addr_info.map(
        (a: Record<string, string>) => `${a['local']}/${a['prefixlen']} ${a['broadcast']}`,
      );
      assert.deepEqual(addresses, ['172.30.1.2/24 172.30.1.255'], 'and no IPv6 address');
      assert.match(await peer.inside('ip', 'route'), /^default via 172\.30\.1\.1 dev eth0/);
      assert.match(await peer.inside('ip', 'link', 'show', 'lo'), /state UNKNOWN|LOWER_UP/);
    });

    test('a container without a network has its loopback', async () => {
      await using peer = await Peer.start('c');
      assert.doesNotMatch(await peer.inside('ip', 'address'), /127\.0\.0\.1/);
      await upLoopback(peer.pid);
      await peer.serve('tcp', 80);
      assert.equal(await peer.ask(atHost(80)), 'c sees 127.0.0.1');
    });

    test('address and MAC address can be asked for; what cannot be had is refused in words', async (t) => {
      const bridge = await bridgeFor(t, { bip: '172.30.0.1/16', fixedCidr: '172.30.9.0/24' });
      await using one = await Peer.start('one');
      await using two = await Peer.start('two');
      const wish = { ipAddress: '172.30.7.7', macAddress: '02:00:00:00:00:0A' };
      const { ipAddress, macAddress } = await connectPeer(bridge, one, wish);
      assert.deepEqual({ ipAddress, macAddress }, { ...wish, macAddress: '02:00:00:00:00:0a' });
      assert.match(await one.inside('ip', 'link', 'show', 'eth0'), /02:00:00:00:00:0a/);
      const refused = [
        [{ ipAddress: '172.30.7.7' }, 403, 'Address already in use'],
        [
          { ipAddress: '10.0.0.1' },
          400,
          "invalid address 10.0.0.1: It does not belong to any of this network's subnets",
        ],
        [{ ipAddress: 'zz' }, 400, 'invalid IPv4 address: zz'],
        [{ macAddress: '03:00:00:00:00:01' }, 400, 'invalid MAC address: 03:00:00:00:00:01'],
      ] as const;
      for (const [o, status, message] of refused)
        await assert.rejects(connectPeer(bridge, two, o), { status, message });
      assert.equal((await connectPeer(bridge, two)).ipAddress, '172.30.9.0', 'from the fixed part');
    });

    test('disconnecting leaves nothing and can be repeated; addresses and ports are free again', async (t) => {
      const bridge = await bridgeFor(t);
      await using peer = await Peer.start('c');
      const first = await connectPeer(bridge, peer, { ports: [web, webOnLoopback] });
      assert.deepEqual((await remains()).ports.length, 2);
      await bridge.disconnect(first.containerId);
      await bridge.disconnect(first.containerId);
      await bridge.disconnect('never connected');
      assert.deepEqual(await settled(), nothing);
      const second = await connectPeer(bridge, peer, { ports: [web, webOnLoopback] });
      assert.equal(second.ipAddress, first.ipAddress);
      await peer[Symbol.asyncDispose]();
      await bridge.disconnect(second.containerId);
      assert.deepEqual(await settled(), nothing, 'also of one whose process is gone');
    });

    test('a port in use is refused in dockerd’s words, before anything is changed', async (t) => {
      const bridge = await bridgeFor(t);
      await using one = await Peer.start('one');
      await using two = await Peer.start('two');
      await using _foreign = await serve('foreign', { protocol: 'tcp', port: 8090 });
      await connectPeer(bridge, one, { ports: [web] });
      const before = await remains();
      const where = String.raw`^driver failed programming external connectivity on endpoint two \([0-9a-f]{64}\): `;
      const refused = [
        [web, String.raw`Bind for 0\.0\.0\.0:8080 failed: port is already allocated$`],
        [
          { ...web, hostIp: '127.0.0.1' },
          String.raw`Error starting userland proxy: listen tcp4 127\.0\.0\.1:8080: bind: address already in use$`,
        ],
        [
          { ...web, hostPort: 8090 },
          String.raw`Error starting userland proxy: listen tcp4 0\.0\.0\.0:8090: bind: address already in use$`,
        ],
        [{ ...web, hostIp: '203.0.113.1' }, '.*bind: cannot assign requested address$'],
        [{ ...web, hostPortEnd: 8080 }, '.*port is already allocated$'],
      ] as const;
      for (const [port, text] of refused) {
        const free = { ...web, hostPort: 8085 };
        await assert.rejects(
          connectPeer(bridge, two, { ports: [free, port] }),
          (failure: Error & { status: number }) => {
            assert.match(failure.message, new RegExp(where + text));
            assert.equal(failure.status, 500);
            return true;
          },
        );
      }
      assert.deepEqual(await remains(), before);
      const range = { ...web, hostPort: 8080, hostPortEnd: 8082 };
      const ephemeral = { ...web, hostPort: 0 };
      const { ports } = await connectPeer(bridge, two, {
        ports: [range, { ...web, hostPort: 8085 }, ephemeral],
      });
      assert.deepEqual(
        ports.map(({ hostPort }) => hostPort),
        [8081, 8085, 49153],
      );
      await assert.rejects(serve('foreign', { protocol: 'tcp', port: 8081 }), { code: 'EADDRINUSE' });
    });

    test('what fails half-way is undone whole', async (t) => {
      const bridge = await bridgeFor(t);
      await using peer = await Peer.start('c');
      await assert.rejects(
        connectPeer(bridge, peer, { pid: 2 ** 22 - 1, ports: [web] }),
        /failed to add interface/,
      );
      await peer.inside('ip', 'link', 'add', 'eth0', 'type', 'bridge');
      await assert.rejects(
        connectPeer(bridge, peer, { ports: [web] }),
        /interface eth0 exists in the container/,
      );
      await peer.inside('ip', 'link', 'del', 'eth0');
      await peer.inside('ip', 'route', 'add', 'blackhole', 'default');
      await assert.rejects(
        connectPeer(bridge, peer, { ports: [web] }),
        /failed to set up eth0 in the container: EEXIST/,
      );
      await peer.inside('ip', 'route', 'del', 'blackhole', 'default');
      assert.deepEqual(await settled(), nothing);
      const { ipAddress, gateway } = await connectPeer(bridge, peer, { ports: [web] });
      assert.equal(ipAddress, gateway.replace(/1$/, '2'));
    });

    for (const firewallBackend of ['nftables', 'iptables'] as const)
      test(`a new daemon takes over live containers without a gap, and sweeps the rest: ${firewallBackend}`, async (t) => {
        await using alive = await Peer.start('alive');
        await using dead = await Peer.start('dead');
        await alive.serve('tcp', 80);
        const old = await openBridge({ firewallBackend });
        await old.recover([]);
        const live = await connectPeer(old, alive, { ports: [web] });
        const stray = await connectPeer(old, dead, { ports: [webOnLoopback] });
        await old[Symbol.asyncDispose]();
        await old[Symbol.asyncDispose]();
        assert.match(await ask(atHost(8080)), /^alive/, 'while no daemon runs');

        const next = await bridgeFor(t, { firewallBackend });
        assert.deepEqual([next.subnet, next.id], [old.subnet, old.id]);
        assert.match(await ask(atHost(8080)), /^alive/, 'before it knows of the container');
        await next.recover([live]);
        assert.match(await ask(atHost(8080)), /^alive/);
        assert.equal(await ask(atHost(8081)), 'ECONNREFUSED');
        await using newcomer = await Peer.start('newcomer');
        const { ipAddress } = await connectPeer(next, newcomer);
        assert.equal(ipAddress, stray.ipAddress, 'the address of the one that is gone');
        await assert.rejects(connectPeer(next, dead, { ports: [web] }), /port is already allocated/);
        await next.disconnect(live.containerId);
        assert.equal(await ask(atHost(8080)), 'ECONNREFUSED');
      });

    test('another firewall that drops what is forwarded is pointed out', async (t) => {
      const log = new Complaints();
      t.after(() => must('nft', 'delete', 'table', 'ip', 'strict'));
      const hook = 'type filter hook forward priority 0; policy drop;';
      await mustRead(`table ip strict { chain FORWARD { ${hook} }; }`, 'nft', '-f', '-');
      await bridgeFor(t, { firewallBackend: 'iptables', log });
      assert.deepEqual(log.texts, [], 'there, the rules stand in the same chain');
      await bridgeFor(t, { firewallBackend: 'nftables', log });
      assert.deepEqual(log.texts, ['another firewall drops what is forwarded to and from containers']);
    });

    for (const firewallBackend of ['nftables', 'iptables'] as const)
      test(`rules that others flushed come back, the user's own stay: ${firewallBackend}`, async (t) => {
        const log = new Complaints();
        const bridge = await bridgeFor(t, { firewallBackend, log });
        await using one = await Peer.start('one');
        await using two = await Peer.start('two');
        await one.serve('tcp', 80);
        const live = await connectPeer(bridge, one, { ports: [web] });
        const isNft = firewallBackend === 'nftables';
        const flush = () =>
          isNft
            ? must('nft', 'flush', 'ruleset')
            : must('sh', '-c', 'iptables -t nat -F; iptables -t nat -X');
        await flush();
        assert.equal(
          await ask(atHost(8080)),
          'ECONNRESET',
          'what gets to the daemon itself is told that nobody serves',
        );
        await connectPeer(bridge, two, { ports: [webOnLoopback] });
        assert.match(await ask(atHost(8080)), /^one/);
        assert.deepEqual(log.texts, ['firewall rules were changed by others: making them anew']);

        const own = '198.51.100.1';
        if (isNft) await must('nft', 'add', 'rule', 'ip', 'skerry', 'user', 'ip', 'saddr', own, 'drop');
        else await must('iptables', '-A', 'DOCKER-USER', '-s', own, '-j', 'DROP');
        const chains = isNft ? ['prerouting', 'output', 'forward'] : ['SKERRY', 'SKERRY-POSTROUTING'];
        for (const chain of chains)
          await (isNft
            ? must('nft', 'flush', 'chain', 'ip', 'skerry', chain)
            : must('iptables', '-t', 'nat', '-F', chain));
        await bridge.recover([live]);
        assert.match(await ask(atHost(8080)), /^one/);
        const rules = (await must('nft', 'list', 'ruleset')) + (await must('iptables-save'));
        assert.ok(rules.includes(own), 'the rule of the user');
      });
  },
  { variants: ['legacy', 'nft'] },
);
