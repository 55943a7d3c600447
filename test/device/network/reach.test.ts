import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ask, serve } from './talk.ts';
import { connectPeer, filterBridges, inOwnNetwork, openBridge, Peer, startOutside } from './world.ts';

/** Who reaches whom, on either packet filter, whether or not that sees bridged frames. */

const anywhere = { protocol: 'tcp', containerPort: 80, hostIp: '', hostPort: 8080 } as const;
const onLoopback = { protocol: 'tcp', containerPort: 80, hostIp: '127.0.0.1', hostPort: 8081 } as const;
const onUplink = { protocol: 'tcp', containerPort: 80, hostIp: '192.0.2.1', hostPort: 8082 } as const;
const datagrams = { protocol: 'udp', containerPort: 53, hostIp: '', hostPort: 5353 } as const;
const tcp = (host: string, port: number) => ({ protocol: 'tcp', host, port }) as const;
const udp = (host: string, port: number) => ({ protocol: 'udp', host, port }) as const;

async function allOf<K extends string>(asked: Record<K, Promise<string>>): Promise<Record<K, string>> {
  const answers = Object.entries<Promise<string>>(asked).map(async ([key, value]) => [key, await value]);
  return Object.fromEntries(await Promise.all(answers));
}

inOwnNetwork(import.meta.url, () => {
  for (const firewallBackend of ['nftables', 'iptables'] as const)
    for (const isIcc of [true, false])
      for (const isBridgeFiltered of [false, true]) {
        const where = `${firewallBackend}, icc=${isIcc}, bridge-nf-call-iptables=${isBridgeFiltered}`;
        test(`who reaches whom: ${where}`, async (t) => {
          filterBridges(isBridgeFiltered);
          const bridge = await openBridge({ firewallBackend, isIcc });
          t.after(() => bridge.tearDown());
          await using outside = await startOutside();
          await using web = await Peer.start('web');
          await using other = await Peer.start('other');
          const ports = [anywhere, onLoopback, onUplink, datagrams];
          const { ipAddress } = await connectPeer(bridge, web, { ports });
          const { ipAddress: otherIp } = await connectPeer(bridge, other);
          await web.serve('tcp', 80);
          await web.serve('tcp', 81);
          await web.serve('udp', 53);
          await outside.serve('tcp', 7);
          await using _onHost = await serve('host', { protocol: 'tcp', port: 9, host: '0.0.0.0' });
          await using _private = await serve('loopback', { protocol: 'tcp', port: 10, host: '127.0.0.1' });
          const { gateway } = bridge;

          const host = { ask };
          const answers = await allOf({
            'host → container': host.ask(tcp(ipAddress, 80)),
            'host → port on loopback': host.ask(tcp('127.0.0.1', 8080)),
            'host → port that is on loopback only': host.ask(tcp('127.0.0.1', 8081)),
            'host → port on its own address': host.ask(tcp('192.0.2.1', 8080)),
            'host → port on that address only': host.ask(tcp('192.0.2.1', 8082)),
            'host → that port on another address': host.ask(tcp('127.0.0.1', 8082)),
            'host → udp port on loopback': host.ask(udp('127.0.0.1', 5353)),
            'outside → port': outside.ask(tcp('192.0.2.1', 8080)),
            'outside → port on that address': outside.ask(tcp('192.0.2.1', 8082)),
            'outside → port that is on loopback only': outside.ask(tcp('192.0.2.1', 8081)),
            'outside → udp port': outside.ask(udp('192.0.2.1', 5353)),
            'container → itself by the published port': web.ask(tcp('192.0.2.1', 8080)),
            'container → itself by the gateway': web.ask(tcp(gateway, 8080)),
            'container → another by the published port': other.ask(tcp('192.0.2.1', 8080)),
            'container → another by the gateway, udp': other.ask(udp(gateway, 5353)),
            'container → another': other.ask(tcp(ipAddress, 81)),
            'container → host': other.ask(tcp(gateway, 9)),
            'container → outside': other.ask(tcp('192.0.2.2', 7)),
          });
          const blocked = isIcc ? `web sees ${otherIp}` : 'silence';
          assert.deepEqual(answers, {
            'host → container': `web sees ${gateway}`,
            'host → port on loopback': `web sees ${gateway}`,
            'host → port that is on loopback only': `web sees ${gateway}`,
            'host → port on its own address': 'web sees 192.0.2.1',
            'host → port on that address only': 'web sees 192.0.2.1',
            'host → that port on another address': 'ECONNREFUSED',
            'host → udp port on loopback': `web sees ${gateway}`,
            'outside → port': 'web sees 192.0.2.2',
            'outside → port on that address': 'web sees 192.0.2.2',
            'outside → port that is on loopback only': 'ECONNREFUSED',
            'outside → udp port': 'web sees 192.0.2.2',
            'container → itself by the published port': `web sees ${gateway}`,
            'container → itself by the gateway': `web sees ${gateway}`,
            'container → another by the published port': `web sees ${gateway}`,
            'container → another by the gateway, udp': `web sees ${gateway}`,
            'container → another': blocked,
            'container → host': `host sees ${otherIp}`,
            'container → outside': 'outside sees 192.0.2.1',
          });

          await outside.inside('ip', 'route', 'add', bridge.subnet, 'via', '192.0.2.1');
          const direct = await Promise.all([80, 81].map((port) => outside.ask(tcp(ipAddress, port))));
          assert.deepEqual(direct, ['silence', 'silence'], 'a route to the bridge does not open containers');

          // even a container that routes loopback's addresses to the host, or a neighbour that does, gets nowhere
          for (const [peer, via] of [
            [other, gateway],
            [outside, '192.0.2.1'],
          ] as const) {
            await peer.inside('sysctl', '-q', '-w', 'net.ipv4.conf.eth0.route_localnet=1');
            await peer.inside('ip', 'address', 'flush', 'dev', 'lo');
            await peer.inside('ip', 'route', 'flush', 'table', 'local', '127.0.0.0/8');
            await peer.inside('ip', 'route', 'add', '127.0.0.0/8', 'via', via);
            const asked = [10, 8081].map((port) => peer.ask(tcp('127.0.0.1', port)));
            const loopback = await Promise.all(asked);
            assert.deepEqual(loopback, ['silence', 'silence'], `${peer.name} cannot use the host's loopback`);
          }
        });
      }
});
