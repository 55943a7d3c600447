import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { type Membership, Names } from '../../../src/network/names.ts';

function place(containerId: string, more: Partial<Membership> = {}): Membership {
  return {
    networkId: 'n1',
    networkName: 'front',
    isInternal: false,
    containerId,
    ipAddress: `10.0.0.${containerId.slice(1)}`,
    ipv6Address: '',
    names: [`name-${containerId}`],
    links: {},
    ...more,
  };
}

test('names, aliases and short IDs, in any case, alone and with the network', () => {
  const names = new Names();
  names.join(place('c1'));
  names.join(place('c2', { names: ['Web', 'www', '0123456789ab', 'a.b'] }));
  for (const asked of [
    'Web',
    'web',
    'WEB',
    'www',
    '0123456789ab',
    'web.front',
    'www.front',
    'a.b',
    'a.b.front',
  ])
    assert.deepEqual(names.addressesOf('c1', asked, 4), ['10.0.0.2'], asked);
  for (const asked of ['', '.', 'front', 'web.back', 'b', 'a', 'web.front.front'])
    assert.equal(names.addressesOf('c1', asked, 4), undefined, asked);
  assert.deepEqual(names.addressesOf('c1', 'name-c1', 4), ['10.0.0.1'], 'itself');
  assert.equal(names.addressesOf('c9', 'web', 4), undefined, 'who is on no network');
});

test('a name without an address of that family is known all the same', () => {
  const names = new Names();
  names.join(place('c1', { ipv6Address: 'fd00::1' }));
  names.join(place('c2'));
  assert.deepEqual(names.addressesOf('c2', 'name-c1', 6), ['fd00::1']);
  assert.deepEqual(names.addressesOf('c1', 'name-c2', 6), []);
});

test('only networks that are shared; of several the first in order', () => {
  const names = new Names();
  const back = { networkId: 'n2', networkName: 'back' };
  const inner = { networkId: 'n3', networkName: 'a-inner', isInternal: true };
  names.join(place('c1'));
  names.join(place('c1', { ...back, ipAddress: '10.1.0.1' }));
  names.join(place('c1', { ...inner, ipAddress: '10.2.0.1' }));
  names.join(place('c2', { names: ['db'] }));
  names.join(place('c3', { ...back, ipAddress: '10.1.0.3', names: ['db'] }));
  names.join(place('c4', { ...inner, ipAddress: '10.2.0.4', names: ['db', 'vault'] }));
  assert.deepEqual(
    names.placesOf('c1').map(({ networkName }) => networkName),
    ['back', 'front', 'a-inner'],
  );
  assert.deepEqual(names.addressesOf('c1', 'db', 4), ['10.1.0.3']);
  assert.deepEqual(names.addressesOf('c1', 'db.front', 4), ['10.0.0.2']);
  assert.deepEqual(names.addressesOf('c1', 'vault', 4), ['10.2.0.4']);
  assert.equal(names.addressesOf('c2', 'vault', 4), undefined);
  assert.equal(names.addressesOf('c2', 'db.back', 4), undefined);
});

test('several that share a name are all found, each address once', () => {
  const names = new Names();
  for (const id of ['c1', 'c2', 'c3']) names.join(place(id, { names: [id, 'pool'] }));
  assert.deepEqual(names.addressesOf('c1', 'pool', 4)?.sort(), ['10.0.0.1', '10.0.0.2', '10.0.0.3']);
  names.leave('n1', 'c2');
  assert.deepEqual(names.addressesOf('c1', 'pool', 4)?.sort(), ['10.0.0.1', '10.0.0.3']);
});

test('a link is the container’s own, follows the name, and hides who is called so', () => {
  const names = new Names();
  names.join(place('c1', { links: { Store: 'db', web: 'db' } }));
  names.join(place('c2', { names: ['db'] }));
  names.join(place('c3', { names: ['web'] }));
  assert.deepEqual(names.addressesOf('c1', 'store', 4), ['10.0.0.2']);
  assert.deepEqual(names.addressesOf('c1', 'store.front', 4), ['10.0.0.2']);
  assert.deepEqual(names.addressesOf('c1', 'web', 4), ['10.0.0.2']);
  assert.equal(names.addressesOf('c2', 'store', 4), undefined);
  names.leave('n1', 'c2');
  assert.equal(names.addressesOf('c1', 'web', 4), undefined);
  names.join(place('c2', { names: ['db'], ipAddress: '10.0.0.9' }));
  assert.deepEqual(names.addressesOf('c1', 'web', 4), ['10.0.0.9']);
});

test('an address is called by the first name, on a network that is shared', () => {
  const names = new Names();
  names.join(place('c1'));
  names.join(place('c2', { names: ['web', 'www'], ipv6Address: 'fd00:0::2' }));
  names.join(place('c3', { networkId: 'n2', networkName: 'back' }));
  assert.equal(names.nameOf('c1', Buffer.of(10, 0, 0, 2)), 'web.front');
  assert.equal(names.nameOf('c1', Buffer.from('fd000000000000000000000000000002', 'hex')), 'web.front');
  assert.equal(names.nameOf('c1', Buffer.of(10, 0, 0, 3)), undefined);
});

test('whoever comes and goes, what is found is who is there', () => {
  const step = fc.record({
    isJoining: fc.boolean(),
    container: fc.integer({ min: 1, max: 4 }),
    network: fc.integer({ min: 1, max: 2 }),
    name: fc.constantFrom('a', 'b', 'A'),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const names = new Names();
      const there = new Map<string, Membership>();
      for (const { isJoining, container, network, name } of steps) {
        const id = `c${container}`;
        const own = place(id, { networkId: `n${network}`, networkName: `net${network}`, names: [name] });
        if (isJoining) names.join(own);
        else names.leave(own.networkId, id);
        if (isJoining) there.set(`${id}/${network}`, own);
        else there.delete(`${id}/${network}`);
      }
      for (const { containerId, networkName, networkId } of there.values()) {
        const wanted = [...there.values()]
          .filter((other) => other.networkId === networkId && other.names[0]?.toLowerCase() === 'a')
          .map(({ ipAddress }) => ipAddress);
        const found = names.addressesOf(containerId, `a.${networkName}`, 4) ?? [];
        assert.deepEqual(found.sort(), wanted.sort());
      }
    }),
  );
});
