import assert from 'node:assert/strict';
import { isIP, SocketAddress } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type Address,
  addressBytes,
  addressOfBytes,
  baseOf,
  contains,
  type Family,
  formatAddress,
  formatSubnet,
  isOverlapping,
  isWithin,
  lastOf,
  parseAddress,
  parseCidr,
  readAddress,
  subnetOf,
} from '../../../src/network/subnets.ts';

const widths = { 4: 32, 6: 128 } as const;

/** Of either family; IPv6 ones with runs of zeros, as people write them. */
const address: fc.Arbitrary<Address> = fc.oneof(
  fc.bigInt({ min: 0n, max: 2n ** 32n - 1n }).map((bits) => ({ family: 4 as Family, bits })),
  fc
    .array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff })), { minLength: 8, maxLength: 8 })
    .map((groups) => groups.reduce((bits, group) => (bits << 16n) | BigInt(group), 0n))
    .filter((bits) => bits >> 32n !== 0xffffn)
    .map((bits) => ({ family: 6 as Family, bits })),
);
const subnet = fc
  .tuple(address, fc.nat(128))
  .map(([a, length]) => subnetOf(a, Math.min(length, widths[a.family])));

test('subnets: a CIDR names an address and its subnet', () => {
  const parsed = parseCidr('172.17.3.4/16');
  assert.ok(parsed);
  assert.equal(formatAddress(parsed.address), '172.17.3.4');
  assert.equal(formatSubnet(parsed.subnet), '172.17.0.0/16');
  assert.equal(formatAddress(lastOf(parsed.subnet)), '172.17.255.255');
  assert.equal(formatSubnet(parseCidr('255.255.255.255/0')?.subnet ?? parsed.subnet), '0.0.0.0/0');
  const long = parseCidr('FD00:0:0:1::0:7/64');
  assert.ok(long);
  assert.equal(formatAddress(long.address), 'fd00:0:0:1::7');
  assert.equal(formatSubnet(long.subnet), 'fd00:0:0:1::/64');
  assert.equal(formatAddress(lastOf(long.subnet)), 'fd00::1:ffff:ffff:ffff:ffff');
  for (const text of [
    '',
    '1.2.3.4',
    '1.2.3/8',
    '1.2.3.4/33',
    '1.2.3.4/',
    '1.2.3.4/x',
    '1.2.3.4/8/8',
    '::1/129',
    'fe80::1%eth0/64',
    '::ffff:1.2.3.4/24',
    'fd00::/-1',
  ])
    assert.equal(parseCidr(text), undefined, text);
});

test('subnets: an address that is none is refused in dockerd’s words', () => {
  assert.throws(() => parseAddress('zz', 4), { status: 400, message: 'invalid IPv4 address: zz' });
  assert.throws(() => parseAddress('1.2.3.4', 6), { status: 400, message: 'invalid IPv6 address: 1.2.3.4' });
  assert.throws(() => parseAddress('fe80::1%lo'), { status: 400, message: 'invalid IP address: fe80::1%lo' });
});

test('subnets: an IPv4 address in the spelling of IPv6 is an IPv4 address', () => {
  assert.deepEqual(readAddress('::ffff:10.0.0.1'), parseAddress('10.0.0.1'));
  assert.deepEqual(readAddress('::ffff:a00:1'), parseAddress('10.0.0.1'));
  assert.equal(formatAddress(parseAddress('64:ff9b::10.0.0.1')), '64:ff9b::a00:1');
});

test('subnets: addresses are read and written as others do', () => {
  fc.assert(
    fc.property(address, (a) => {
      const text = formatAddress(a);
      assert.equal(isIP(text), a.family);
      assert.deepEqual(parseAddress(text), a);
      assert.deepEqual(addressOfBytes(addressBytes(a)), a);
      assert.deepEqual(addressBytes(text), addressBytes(a));
      if (a.family === 6) assert.equal(`[${text}]`, new URL(`http://[${text}]`).hostname);
      else assert.equal(text, new SocketAddress({ address: text }).address);
    }),
  );
  fc.assert(fc.property(subnet, (s) => assert.deepEqual(parseCidr(formatSubnet(s))?.subnet, s)));
});

test('subnets: two overlap if and only if one lies within the other', () => {
  fc.assert(
    fc.property(subnet, subnet, (one, other) => {
      const isInside = contains(one, baseOf(other)) && contains(one, lastOf(other));
      assert.equal(isWithin(other, one), isInside);
      assert.equal(isOverlapping(one, other), isInside || isWithin(one, other));
      assert.equal(isOverlapping(one, other), isOverlapping(other, one));
      if (one.family !== other.family) assert.ok(!isOverlapping(one, other));
    }),
  );
});

test('subnets: a subnet holds what has its prefix, and nothing else', () => {
  fc.assert(
    fc.property(subnet, address, (s, a) => {
      assert.ok(contains(s, baseOf(s)) && contains(s, lastOf(s)));
      const isSame = a.family === s.family && subnetOf(a, s.prefixLength).base === s.base;
      assert.equal(contains(s, a), isSame);
    }),
  );
});
