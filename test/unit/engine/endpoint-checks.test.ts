import assert from 'node:assert/strict';
import { test } from 'node:test';
import { emptyEndpoint } from '../../../src/engine/container-creation.ts';
import { checkEndpoint, checkNewEndpoints, isMacAddress } from '../../../src/engine/endpoint-checks.ts';
import type { NetworkRecord } from '../../../src/engine/network-records.ts';
import type { IpamConfig } from '../../../src/network/model.ts';

function network(config: IpamConfig[], isIpv6 = false): NetworkRecord {
  return {
    ...{
      id: 'ab'.repeat(32),
      name: 'front',
      createdAt: '',
      driver: 'bridge',
      scope: 'local',
      configFrom: '',
    },
    ...{ isIpv6, isInternal: false, isAttachable: false, isIngress: false, isConfigOnly: false },
    ...{ ipam: { driver: 'default', options: null, config }, pools: [], options: {}, labels: {} },
  };
}

const endpoint = (ipv4Address: string, more: object = {}) => ({
  ...emptyEndpoint(),
  ipamConfig: { ipv4Address },
  ...more,
});
const onlyOwnSubnets =
  'user specified IP address is supported only when connecting to networks with user configured subnets';

test('addresses of one’s own choice lie in subnets of the user’s own choice', () => {
  const check = (config: IpamConfig[], address: string) =>
    checkEndpoint('front', network(config), endpoint(address));
  assert.throws(() => check([], '10.1.0.5'), {
    status: 400,
    message: `invalid endpoint settings:\n${onlyOwnSubnets}`,
  });
  const subnet = '10.1.0.0/24';
  check([{ subnet }], '10.1.0.5');
  check([{ subnet: '10.2.0.0/24' }, { subnet }], '10.1.0.5');
  const outside = { message: /no configured subnet or ip-range contain the IP address 10\.1\.0\.5$/ };
  assert.throws(() => check([{ subnet: '10.2.0.0/24' }], '10.1.0.5'), outside);
  check([{ subnet, ipRange: '10.1.0.128/25' }], '10.1.0.5'); // beside the range, as under dockerd but for 25.0.0
});

test('an IPv6 subnet counts only where the network has IPv6', () => {
  const wanted = { ...emptyEndpoint(), ipamConfig: { ipv6Address: 'fd00:1::5' } };
  const config = [{ subnet: 'fd00:1::/64' }];
  checkEndpoint('front', network(config, true), wanted);
  assert.throws(() => checkEndpoint('front', network(config), wanted), {
    message: /user configured subnets$/,
  });
});

test('all faults are told at once, and as daemons of old told the first', () => {
  const bad = endpoint('10.1.0.5', { aliases: ['a'] });
  bad.ipamConfig = { ...bad.ipamConfig, ...{ ipv6Address: '10.1.0.1', linkLocalIPs: ['x'] } };
  assert.throws(
    () => checkEndpoint('bridge', undefined, bad),
    (failure: Error & { facts?: object }) => {
      assert.equal(
        failure.message,
        [
          'invalid endpoint settings:',
          '* user specified IP address is supported on user defined networks only',
          '* network-scoped alias is supported only for containers in user defined networks',
          '* invalid IPv6 address: 10.1.0.1',
          '* invalid link-local IP address: x',
        ].join('\n'),
      );
      assert.deepEqual(failure.facts, {
        earlier: 'user specified IP address is supported on user defined networks only',
      });
      return true;
    },
  );
});

test('late addresses are not looked at yet, what a network does not give is', () => {
  const late = { areAddressesLate: true };
  checkEndpoint('front', network([{ subnet: '10.1.0.0/24' }]), endpoint('zz'), late);
  checkEndpoint('front', network([{ subnet: '10.1.0.0/24' }]), endpoint('10.9.9.9'), late);
  assert.throws(() => checkEndpoint('front', network([]), endpoint('zz'), late), {
    message: /user configured/,
  });
});

test('of a new container each network is named', () => {
  assert.throws(
    () =>
      checkNewEndpoints({ a: endpoint('x'), b: { ...emptyEndpoint(), macAddress: 'y' } }, () => undefined),
    {
      message: [
        '* invalid config for network a: invalid endpoint settings:',
        '\tinvalid IPv4 address: x',
        '* invalid config for network b: invalid MAC address y',
      ].join('\n'),
    },
  );
});

test('MAC addresses', () => {
  for (const good of ['02:42:ac:11:00:02', '02-42-AC-11-00-02', '0242.ac11.0002'])
    assert.ok(isMacAddress(good));
  for (const bad of ['', '02:42:ac:11:00', '02:42-ac:11:00:02', '02:42:ac:11:00:0g', '0242ac110002'])
    assert.ok(!isMacAddress(bad), bad);
});
