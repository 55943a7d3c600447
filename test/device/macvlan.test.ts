import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { run } from '../../src/host/exec.ts';
import { startBoxEngine } from '../support/box-engine.ts';
import type { TestEngine } from '../support/engine.ts';
import { enterOwnNetwork } from '../support/network.ts';

/** macvlan networks and address pools through the docker CLI and the real daemon. */
let engine: TestEngine;
const box = 'box';
let hasMacvlan = false;

async function ip(...args: string[]): Promise<number> {
  return (await run('ip', args, {})).code;
}

before(async () => {
  await enterOwnNetwork();
  await ip('link', 'add', 'lan', 'type', 'bridge');
  await ip('link', 'set', 'lan', 'up');
  hasMacvlan = (await ip('link', 'add', 'probe', 'link', 'lan', 'type', 'macvlan')) === 0;
  await ip('link', 'del', 'probe');
  const pools = [
    '--default-address-pool',
    'base=10.200.0.0/16,size=24',
    '--ipv6',
    '--fixed-cidr-v6',
    'fd00:1::/64',
  ];
  engine = await startBoxEngine({ box: {} }, { flags: [...pools, '--default-gateway', '10.200.0.77'] });
});

after(async () => {
  const left = await engine.finish();
  await ip('link', 'del', 'lan');
  assert.deepEqual(left, []);
});

test('the default bridge lies in the configured pool, has IPv6, and its containers another router', async () => {
  const [bridge] = await engine.json('/networks?filters={"name":["bridge"]}');
  assert.equal(bridge.EnableIPv6, true);
  assert.deepEqual(
    bridge.IPAM.Config.map(({ Subnet }: { Subnet: string }) => Subnet),
    ['10.200.0.0/24', 'fd00:1::/64'],
  );
  const look = 'ip -4 route show default; ip -6 route show default; ip -6 addr show eth0 scope global';
  const inside = await engine.ok(['run', '--rm', box, 'sh', '-c', look]);
  assert.match(inside, /default via 10\.200\.0\.77 dev eth0/);
  assert.match(inside, /default via fd00:1::1 dev eth0/);
  assert.match(inside, /inet6 fd00:1::242:ac8:2\/64/);
  const { DefaultAddressPools } = await engine.json('/info');
  assert.deepEqual(DefaultAddressPools, [{ Base: '10.200.0.0/16', Size: 24 }]);
});

test('macvlan: containers meet on the parent’s network, also after the daemon’s death, and leave nothing', async (t) => {
  if (!hasMacvlan) return t.skip('no macvlan in this kernel');
  const pool = ['--subnet', '192.0.2.0/24', '--gateway', '192.0.2.1', '--ip-range', '192.0.2.64/26'];
  await engine.ok(['network', 'create', '-d', 'macvlan', ...pool, '-o', 'parent=lan', 'm']);
  const again = await engine.docker(['network', 'create', '-d', 'macvlan', '-o', 'parent=lan', 'again']);
  assert.match(again.stderr, /network dm-[0-9a-f]{12} is already using parent interface lan/);
  const taken = await engine.docker([
    'network',
    'create',
    '-d',
    'macvlan',
    '--subnet',
    '192.0.2.0/25',
    'again',
  ]);
  assert.match(taken.stderr, /Pool overlaps with other one on this address space/);
  const serve = ['sh', '-c', 'httpd -p 80 -h /www; sleep 600'];
  await engine.ok(['run', '-d', '--name', 'one', '--net', 'm', '--ip', '192.0.2.7', box, ...serve]);
  await engine.ok(['run', '-d', '--name', 'two', '--net', 'm', box, 'sleep', '600']);
  const fetched = () => engine.ok(['exec', 'two', 'wget', '-qO-', 'http://192.0.2.7/']);
  assert.equal(await fetched(), 'hello from the box');
  const { m } = (await engine.json('/containers/two/json')).NetworkSettings.Networks;
  assert.deepEqual(
    [m.IPAddress, m.IPPrefixLen, m.Gateway, m.MacAddress],
    ['192.0.2.64', 24, '192.0.2.1', '02:42:c0:00:02:40'],
  );
  await engine.kill();
  await engine.boot();
  assert.equal(await fetched(), 'hello from the box');
  const third = await engine.ok(['run', '--rm', '--net', 'm', box, 'ip', '-4', 'addr', 'show', 'eth0']);
  assert.match(third, /inet 192\.0\.2\.65\/24/, 'not one that is in use');
  await engine.ok(['network', 'disconnect', 'm', 'two']);
  assert.doesNotMatch(await engine.ok(['exec', 'two', 'ip', 'link']), /eth0/);
  await engine.ok(['network', 'connect', 'm', 'two']);
  assert.equal(await fetched(), 'hello from the box');
  const busy = await engine.docker(['network', 'rm', 'm']);
  assert.match(busy.stderr, /has active endpoints/);
  await engine.ok(['rm', '-f', 'one', 'two']);
  await engine.ok(['network', 'rm', 'm']);
  await engine.ok(['network', 'create', '-d', 'macvlan', ...pool, '-o', 'parent=lan', 'm']);
  await engine.ok(['network', 'rm', 'm']);
});

test('macvlan: a parent that comes later is found when a container needs it', async (t) => {
  if (!hasMacvlan) return t.skip('no macvlan in this kernel');
  await ip('link', 'add', 'usb0', 'type', 'bridge');
  await engine.ok(['network', 'create', '-d', 'macvlan', '-o', 'parent=usb0', 'late']);
  await engine.stop();
  await ip('link', 'del', 'usb0');
  await engine.boot();
  const start = () => engine.docker(['run', '--rm', '--net', 'late', box, 'true']);
  assert.match((await start()).stderr, /invalid subinterface vlan name usb0/);
  await ip('link', 'add', 'usb0', 'type', 'bridge');
  assert.deepEqual(await start(), { code: 0, stdout: '', stderr: '' });
  await engine.ok(['network', 'rm', 'late']);
  await ip('link', 'del', 'usb0');
});
