import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkIpam, checkSubnets } from '../../../src/network/ipam-checks.ts';
import type { IpamConfig } from '../../../src/network/model.ts';

const said = (configs: IpamConfig[], isIpv6 = false) => checkIpam(configs, isIpv6)?.message;

test('ipam checks: one complaint stands alone, several in a list, all in dockerd’s words', () => {
  const subnet = '10.0.0.0/24';
  const single: [IpamConfig, string][] = [
    [{}, 'invalid subnet : invalid CIDR block notation'],
    [{ subnet: 'bad' }, 'invalid subnet bad: invalid CIDR block notation'],
    [{ subnet: '10.0.0.1/24' }, 'invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24'],
    [{ subnet, ipRange: 'x' }, 'invalid ip-range x: invalid CIDR block notation'],
    [{ subnet, ipRange: 'fd00::/64' }, 'invalid ip-range fd00::/64: parent subnet is an IPv4 block'],
    [{ subnet, ipRange: '10.0.0.9/28' }, 'invalid ip-range 10.0.0.9/28: it should be 10.0.0.0/28'],
    [
      { subnet, ipRange: '10.0.0.0/8' },
      'invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.0.0.0/24',
    ],
    [
      { subnet, ipRange: '10.0.1.0/25' },
      "invalid ip-range 10.0.1.0/25: parent subnet 10.0.0.0/24 doesn't contain ip-range",
    ],
    [{ subnet, gateway: 'x' }, 'invalid gateway x: invalid address'],
    [{ subnet, gateway: 'fd00::1' }, 'invalid gateway fd00::1: parent subnet is an IPv4 block'],
    [
      { subnet, gateway: '10.0.1.1' },
      "invalid gateway 10.0.1.1: parent subnet 10.0.0.0/24 doesn't contain this address",
    ],
    [
      { subnet, auxAddresses: { printer: '10.0.1.1' } },
      "invalid auxiliary address printer: parent subnet 10.0.0.0/24 doesn't contain this address",
    ],
  ];
  for (const [config, message] of single) {
    const failure = checkIpam([config], false);
    assert.equal(failure?.message, `invalid network config:\n${message}`);
    assert.equal(failure?.status, 400);
  }
  assert.equal(
    said([{ subnet: '10.0.0.1/24', gateway: 'x' }, { subnet: 'y' }]),
    'invalid network config:\n* invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24\n* invalid gateway x: invalid address\n* invalid subnet y: invalid CIDR block notation',
  );
});

test('ipam checks: IPv6 counts only in a network that has it', () => {
  assert.equal(said([{ subnet: 'fd00::1/64' }]), undefined);
  assert.match(said([{ subnet: 'fd00::1/64' }], true) ?? '', /it should be fd00::\/64$/);
  assert.equal(said([{ subnet: 'fd00::/64', gateway: 'fd00::1', ipRange: 'fd00::/80' }], true), undefined);
  assert.equal(said([]), undefined);
});

test('ipam checks: older engines looked at the subnet alone', () => {
  assert.equal(checkSubnets([{ subnet: '10.0.0.1/24', gateway: 'x' }]), undefined);
  const failure = checkSubnets([{ subnet: 'bad' }]);
  assert.deepEqual(
    [failure?.status, failure?.message],
    [500, 'Invalid subnet bad : invalid CIDR address: bad'],
  );
});
