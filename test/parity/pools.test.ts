import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { run } from '../../src/host/exec.ts';
import { openPair, type Pair, type Side } from './pair.ts';

/** Pools and addresses that are asked for, good and bad, by macvlan networks beside dockerd 20.10, in this order. */
let pair: Pair | undefined;
let reason = '';
let haveAddresses = 0;

before(async () => {
  ({ pair, reason } = await openPair());
  await pair?.both(async (side) => {
    for (const parent of ['p1', 'p2', 'p3', 'p4', 'p5', 'p6'])
      await inNetworkOf(side, 'ip', 'link', 'add', parent, 'up', 'type', 'bridge');
  });
});

after(async () => {
  await pair?.engine.clear();
  await pair?.[Symbol.asyncDispose]();
});

const create = (name: string, parent: string, ...more: string[]) => [
  ...['network', 'create', '-d', 'macvlan', '-o', `parent=${parent}`],
  ...more,
  name,
];
const bridge = (...more: string[]) => ['network', 'create', ...more, 'bad'];
const address = (network: string, ...more: string[]) => [
  ...['run', '--rm', '--network', network, ...more, 'box:1', 'sh', '-c'],
  'ip -4 addr show eth0 | grep inet; ip -6 addr show eth0 scope global | grep inet; ip route; cat /sys/class/net/eth0/address',
];
const pools = (network: string) => ['network', 'inspect', '-f', '{{json .IPAM.Config}}', network];

/** Each a command of the docker CLI. */
const asked: string[][] = [
  create('a', 'p1', '--subnet', '10.1.0.0/24', '--gateway', '10.1.0.9', '--aux-address', 'x=10.1.0.1'),
  pools('a'),
  address('a'),
  address('a', '--ip', '10.1.0.200'),
  address('a', '--ip', '10.1.0.1'),
  address('a', '--ip', '10.1.0.9'),
  address('a', '--ip', '10.1.0.255'),
  address('a', '--ip', '10.2.0.1'),
  create('b', 'p2', '--subnet', '10.2.0.0/16', '--ip-range', '10.2.5.0/24'),
  pools('b'),
  address('b'),
  address('b', '--ip', '10.2.9.9'),
  create('c', 'p3', '--subnet', '10.3.0.0/30'),
  address('c'),
  ['run', '-d', '--name', 'full', '--network', 'c', 'box:1', 'sleep', '60'],
  address('c'),
  create('d', 'p4', '--ipv6', '--subnet', '10.4.0.0/24', '--subnet', 'fd00:4::/64'),
  pools('d'),
  address('d'),
  address('d', '--ip6', 'fd00:4::99'),
  address('d', '--ip6', 'fd00:5::99'),
  create('e', 'p5', '--internal', '--subnet', '10.5.0.0/24'),
  address('e'),
  create('f', 'p6', '--subnet', '10.2.0.0/16', '--ip-range', '10.2.6.0/24', '--gateway', '10.2.6.9'),
  address('f'),
  create('bad', 'p1', '--subnet', '10.9.0.0/24'),
  create('bad', 'lo', '--subnet', '10.9.0.0/24'),
  create('bad', 'nothing', '--subnet', '10.9.0.0/24'),
  create('bad', 'p1.x', '--subnet', '10.9.0.0/24'),
  create('bad', 'p1.5', '--subnet', '10.9.0.0/24'),
  create('bad', '', '--subnet', '10.9.0.0/24'),
  create('bad', 'p9', '-o', 'macvlan_mode=x', '--subnet', '10.9.0.0/24'),
  bridge('--subnet', '10.1.0.0/24'),
  bridge('--subnet', '10.0.0.0/8'),
  bridge('--subnet', '10.9.0.0/24', '--gateway', '10.9.0.0'),
  bridge('--subnet', '10.9.0.0/24', '--gateway', '10.9.0.255'),
  bridge('--subnet', '10.9.0.0/24', '--aux-address', 'x=10.9.0.1'),
  bridge('--subnet', '10.9.0.0/24', '--aux-address', 'x=10.9.0.0'),
  bridge('--ipv6'),
  ['network', 'rm', 'a'],
  create('a', 'p1', '--subnet', '10.1.0.0/24'),
  address('a'),
];

describe('the same of pools and addresses', () => {
  for (const [at, args] of asked.entries())
    test(`${at} ${args.join(' ')}`, async (t) => {
      if (pair === undefined) return t.skip(reason);
      const seen = await pair.both(async (side) => {
        const { code, stdout, stderr } = await side.docker(args);
        const ids = /\b(?:[0-9a-f]{64}|[0-9a-f]{12})\b/g;
        // what the CLI of 20.10 adds when its wait is cut short before the answer came, which is a matter of luck
        const said = stderr.replace(/^time=.*error waiting for container: context canceled.*\n/m, '');
        return { code, stdout: stdout.replace(ids, '<id>'), stderr: said.replace(ids, '<id>') };
      });
      assert.deepEqual(seen.skerry, seen.dockerd);
      if (/inet 10\./.test(seen.skerry.stdout)) haveAddresses++;
    });

  test('some of them had addresses at all', (t) => {
    if (pair === undefined) return t.skip(reason);
    assert.equal(haveAddresses, 10);
  });
});

async function inNetworkOf(side: Side, ...command: string[]): Promise<void> {
  const network = side.namespaces.get('net')?.replace(/\D/g, '');
  const { stdout } = await run(
    'sh',
    ['-c', `find /proc/[0-9]*/ns/net -follow -inum ${network} 2>/dev/null | head -1`],
    {},
  );
  const path = stdout.trim().split('\n').at(-1) ?? '';
  const { code, stderr } = await run('nsenter', [`--net=${path}`, ...command], {});
  if (code !== 0) throw new Error(`${command.join(' ')}: ${stderr}`);
}
