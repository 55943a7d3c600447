import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AddressPool, chooseSubnet, hardwareAddress } from '../../../src/network/addresses.ts';
import {
  contains,
  formatSubnet,
  parseAddress,
  parseCidr,
  type Subnet,
} from '../../../src/network/subnets.ts';

function subnet(text: string): Subnet {
  const parsed = parseCidr(text);
  assert.ok(parsed, text);
  return parsed.subnet;
}

test('addresses: a subnet hides no route and no name server of the host', () => {
  const choose = (routes: string[], servers: string[] = []) =>
    formatSubnet(chooseSubnet(routes.map(subnet), servers));
  assert.equal(choose([]), '172.17.0.0/16');
  assert.equal(choose(['172.17.0.0/16', '10.0.0.0/8']), '172.18.0.0/16');
  assert.equal(choose(['172.17.9.0/24'], ['172.18.0.53', 'fe80::1', '8.8.8.8']), '172.19.0.0/16');
  assert.equal(choose(['172.16.0.0/12']), '192.168.0.0/20');
  assert.equal(choose(['172.16.0.0/12', '192.168.1.0/24', '192.168.20.0/24']), '192.168.32.0/20');
  assert.throws(() => choose(['0.0.0.0/1', '128.0.0.0/1']), /non-overlapping IPv4 address pool/);
});

test('addresses: the MAC address follows from the address', () => {
  assert.equal(hardwareAddress('172.17.0.2'), '02:42:ac:11:00:02');
});

test('addresses: the lowest free one is given, of the range if there is one', () => {
  const pool = new AddressPool({ subnet: subnet('10.0.0.0/29'), gateway: '10.0.0.1' });
  assert.deepEqual([pool.take(), pool.take('10.0.0.5'), pool.take()], ['10.0.0.2', '10.0.0.5', '10.0.0.3']);
  pool.release('10.0.0.2');
  assert.deepEqual([pool.take(), pool.take(), pool.take()], ['10.0.0.2', '10.0.0.4', '10.0.0.6']);
  assert.throws(() => pool.take(), /no available IPv4 addresses/);
  const range = subnet('10.0.0.4/31');
  const ranged = new AddressPool({ subnet: subnet('10.0.0.0/24'), range, gateway: '10.0.0.4' });
  assert.equal(ranged.take(), '10.0.0.5');
  assert.throws(() => ranged.take(), /no available IPv4 addresses/);
  assert.equal(ranged.take('10.0.0.99'), '10.0.0.99', 'asked for, it may lie outside the range');
});

test('addresses: one that cannot be had is refused', () => {
  const pool = new AddressPool({ subnet: subnet('10.0.0.0/24'), gateway: '10.0.0.1' });
  pool.take('10.0.0.7');
  for (const taken of ['10.0.0.0', '10.0.0.1', '10.0.0.7', '10.0.0.255'])
    assert.throws(() => pool.take(taken), { status: 403, message: 'Address already in use' });
  assert.throws(() => pool.take('10.0.1.1'), { status: 400, message: 'Requested address is out of range' });
  pool.release('10.0.0.1');
  assert.throws(() => pool.take('10.0.0.1'), { status: 403 }, 'the gateway is never free');
});

test('addresses: nobody gets what another one has, whatever the order of taking and giving back', () => {
  const step = fc.oneof(fc.constant('take'), fc.nat(20));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const within = subnet('10.0.0.0/26');
      const pool = new AddressPool({ subnet: within, gateway: '10.0.0.1' });
      const held: string[] = [];
      for (const what of steps) {
        if (what === 'take') {
          const address = pool.take();
          assert.ok(!held.includes(address) && contains(within, parseAddress(address)));
          held.push(address);
        } else for (const address of held.splice(what, 1)) pool.release(address);
      }
    }),
  );
});
