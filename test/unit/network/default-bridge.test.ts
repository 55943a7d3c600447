import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bridgeRouter, defaultBridgePools } from '../../../src/network/default-bridge.ts';

test('default bridge: it lies where it is told, else where it is, else anywhere', () => {
  const subnet = '10.1.0.0/16';
  assert.deepEqual(defaultBridgePools({}, []), [{}]);
  assert.deepEqual(defaultBridgePools({}, ['10.1.0.9/16', '10.2.0.1/16']), [{ subnet, gateway: '10.1.0.9' }]);
  assert.deepEqual(defaultBridgePools({ bip: '10.1.0.1/16' }, ['10.9.0.9/16']), [
    { subnet, gateway: '10.1.0.1' },
  ]);
  const fixedCidr = '10.1.2.0/24';
  assert.deepEqual(defaultBridgePools({ fixedCidr }, []), [{ subnet: fixedCidr, ipRange: fixedCidr }]);
  assert.deepEqual(defaultBridgePools({ fixedCidr, defaultGateway: '10.1.9.9' }, ['10.1.0.9/16']), [
    { subnet, ipRange: fixedCidr, gateway: '10.1.0.9', auxAddresses: { DefaultGatewayIPv4: '10.1.9.9' } },
  ]);
});

test('default bridge: IPv6 is a network by fixed-cidr-v6, or a part of that of bip6', () => {
  const ipv6 = (o: object, present: string[] = []) => defaultBridgePools({ isIpv6: true, ...o }, present)[1];
  assert.deepEqual(ipv6({}), {}, 'of the pools');
  assert.deepEqual(ipv6({ fixedCidrV6: 'FD00:0::/64' }), { subnet: 'fd00::/64' });
  const present = ['10.1.0.1/16', 'fe80::1/64', 'fd00::7/64'];
  assert.deepEqual(ipv6({ fixedCidrV6: 'fd00::/64' }, present), { subnet: 'fd00::/64', gateway: 'fd00::7' });
  assert.deepEqual(ipv6({ bip6: 'fd00::1/64', fixedCidrV6: 'fd00::8:0/112', defaultGatewayV6: 'fd00::9' }), {
    subnet: 'fd00::/64',
    ipRange: 'fd00::8:0/112',
    gateway: 'fd00::1',
    auxAddresses: { DefaultGatewayIPv6: 'fd00::9' },
  });
  assert.equal(defaultBridgePools({ fixedCidrV6: 'fd00::/64' }, []).length, 1, 'not without ipv6');
});

test('default bridge: what makes no sense is refused by name', () => {
  const refused = (o: Parameters<typeof defaultBridgePools>[0], message: string) =>
    assert.throws(() => defaultBridgePools({ isIpv6: true, ...o }, []), { message });
  refused({ bip: '10.1.0.0/16' }, 'bip: 10.1.0.0 is no address of a host');
  refused({ bip: '10.1.255.255/16' }, 'bip: 10.1.255.255 is no address of a host');
  refused({ bip: 'x' }, 'bip: x is not an IPv4 address with a prefix length');
  refused(
    { bip: '10.1.0.1/16', fixedCidr: '10.2.0.0/24' },
    'fixed-cidr: 10.2.0.0/24 is not within the network of 10.1.0.1',
  );
  refused({ bip6: 'fd00::/64' }, 'bip6: fd00:: is no address of a host');
  refused(
    { fixedCidrV6: '10.0.0.0/8' },
    'fixed-cidr-v6: 10.0.0.0/8 is not an IPv6 address with a prefix length',
  );
  assert.deepEqual(defaultBridgePools({ bip: '10.1.0.0/31' }, []), [
    { subnet: '10.1.0.0/31', gateway: '10.1.0.0' },
  ]);
});

test('default bridge: any bridge’s router may be an auxiliary address of its pools', () => {
  const pools = [
    { subnet: '10.1.0.0/16', auxAddresses: { printer: '10.1.0.7', DefaultGatewayIPv4: '10.1.0.8' } },
    { subnet: 'fd00::/64' },
  ];
  assert.equal(bridgeRouter(pools, 4), '10.1.0.8');
  assert.equal(bridgeRouter(pools, 6), undefined);
});
