import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  contains,
  formatAddress,
  formatSubnet,
  isOverlapping,
  lastOf,
  parseAddress,
  parseCidr,
  subnetOf,
} from '../../../src/network/subnets.ts';

const address = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const subnet = fc.tuple(address, fc.integer({ min: 0, max: 32 })).map(([a, length]) => subnetOf(a, length));

test('subnets: a CIDR names an address and its subnet', () => {
  const parsed = parseCidr('172.17.3.4/16');
  assert.ok(parsed);
  assert.equal(formatAddress(parsed.address), '172.17.3.4');
  assert.equal(formatSubnet(parsed.subnet), '172.17.0.0/16');
  assert.equal(formatAddress(lastOf(parsed.subnet)), '172.17.255.255');
  assert.equal(formatSubnet(parseCidr('255.255.255.255/0')?.subnet ?? parsed.subnet), '0.0.0.0/0');
  for (const text of [
    '',
    '1.2.3.4',
    '1.2.3/8',
    '1.2.3.4/33',
    '1.2.3.4/',
    '1.2.3.4/x',
    '1.2.3.4/8/8',
    '::1/64',
  ])
    assert.equal(parseCidr(text), undefined, text);
});

test('subnets: an address that is none is refused in dockerd’s words', () => {
  assert.throws(() => parseAddress('zz'), { status: 400, message: 'invalid IPv4 address: zz' });
});

test('subnets: what is written is read back', () => {
  fc.assert(fc.property(address, (a) => assert.equal(parseAddress(formatAddress(a)), a)));
  fc.assert(fc.property(subnet, (s) => assert.deepEqual(parseCidr(formatSubnet(s))?.subnet, s)));
});

test('subnets: two overlap if and only if one lies within the other', () => {
  fc.assert(
    fc.property(subnet, subnet, (one, other) => {
      const isWithin = contains(one, other.base)
        ? lastOf(other) <= lastOf(one) || contains(other, one.base)
        : false;
      assert.equal(isOverlapping(one, other), isWithin || contains(other, one.base));
      assert.equal(isOverlapping(one, other), isOverlapping(other, one));
    }),
  );
});
