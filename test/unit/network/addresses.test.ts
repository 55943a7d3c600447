import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOfMac, formatMac, hardwareAddress } from '../../../src/network/addresses.ts';
import { macBytes } from '../../../src/network/links.ts';

test('addresses: the MAC address follows from the address', () => {
  assert.equal(hardwareAddress('172.17.0.2'), '02:42:ac:11:00:02');
});

test('addresses: on dockerd’s default bridge the IPv6 address follows from the MAC address', () => {
  assert.equal(addressOfMac('fd00:1::/64', '02:42:ac:11:00:02'), 'fd00:1::242:ac11:2');
  assert.equal(addressOfMac('fd00:1::/80', 'FE-42-ac-11-00-02'), 'fd00:1::fe42:ac11:2');
  assert.equal(addressOfMac('fd00:1::/81', '02:42:ac:11:00:02'), undefined, 'no room');
  assert.equal(addressOfMac('10.0.0.0/8', '02:42:ac:11:00:02'), undefined);
});

test('MAC addresses in each of the forms that Go reads, and what is none', () => {
  for (const text of ['02:42:AC:11:00:02', '02-42-ac-11-00-02', '0242.ac11.0002'])
    assert.equal(formatMac(macBytes(text)), '02:42:ac:11:00:02', text);
  for (const text of ['', '02:42:ac:11:00', '0242ac110002', '0242.ac11.002', '03:42:ac:11:00:02'])
    assert.throws(() => macBytes(text), { status: 400 }, text);
});
