import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOfMac, hardwareAddress } from '../../../src/network/addresses.ts';

test('addresses: the MAC address follows from the address', () => {
  assert.equal(hardwareAddress('172.17.0.2'), '02:42:ac:11:00:02');
});

test('addresses: on dockerd’s default bridge the IPv6 address follows from the MAC address', () => {
  assert.equal(addressOfMac('fd00:1::/64', '02:42:ac:11:00:02'), 'fd00:1::242:ac11:2');
  assert.equal(addressOfMac('fd00:1::/80', 'FE-42-ac-11-00-02'), 'fd00:1::fe42:ac11:2');
  assert.equal(addressOfMac('fd00:1::/81', '02:42:ac:11:00:02'), undefined, 'no room');
  assert.equal(addressOfMac('10.0.0.0/8', '02:42:ac:11:00:02'), undefined);
});
