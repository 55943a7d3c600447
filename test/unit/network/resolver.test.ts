import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nameServers, ownResolvConf, resolvConf } from '../../../src/network/resolver.ts';

const none = { dns: [], dnsSearch: [], dnsOptions: [] };
const host =
  '# written by hand\nnameserver 127.0.0.53\nnameserver 192.168.1.1 ; the router\nnameserver fe80::1%eth0\nsearch lan home\noptions edns0\n';

test('resolver: a container has the host’s file without the servers that it cannot reach', () => {
  const onBridge = '# written by hand\nnameserver 192.168.1.1 ; the router\nsearch lan home\noptions edns0\n';
  assert.equal(resolvConf(host, none, 'bridge'), onBridge);
  const onNone = onBridge.replace('search', 'nameserver fe80::1%eth0\nsearch');
  assert.equal(resolvConf(host, none, 'none'), onNone);
  assert.equal(resolvConf(host, none, 'host'), host);
});

test('resolver: one that would be left without any gets the public ones', () => {
  const google = 'nameserver 8.8.8.8\nnameserver 8.8.4.4\n';
  assert.equal(resolvConf('', none, 'bridge'), google);
  assert.equal(
    resolvConf('nameserver 127.0.0.1\nnameserver ::1\nsearch lan', none, 'bridge'),
    `search lan\n${google}`,
  );
  assert.equal(resolvConf('nameserver 2001:db8::1\n', none, 'bridge'), google);
});

test('resolver: each wish replaces the host’s value, the others stay', () => {
  const build = (wishes: Partial<typeof none>, network: 'bridge' | 'host' = 'bridge') =>
    resolvConf(host, { ...none, ...wishes }, network);
  const dns = ['127.0.0.1', '9.9.9.9'] as never[];
  assert.equal(build({ dns }), 'search lan home\nnameserver 127.0.0.1\nnameserver 9.9.9.9\noptions edns0\n');
  const dnsSearch = ['example.org'] as never[];
  assert.equal(build({ dnsSearch }), 'search example.org\nnameserver 192.168.1.1\noptions edns0\n');
  const dnsOptions = ['ndots:2', 'rotate'] as never[];
  assert.equal(build({ dnsOptions }), 'search lan home\nnameserver 192.168.1.1\noptions ndots:2 rotate\n');
  assert.equal(build({ dnsSearch: ['.'] as never[] }), 'nameserver 192.168.1.1\noptions edns0\n');
  assert.match(build({ dnsSearch }, 'host'), /nameserver 127\.0\.0\.53\nnameserver 192/);
});

test('resolver: comments, blank lines and other statements are no name servers', () => {
  assert.deepEqual(
    nameServers('#nameserver 1.1.1.1\n\n ;x\n  nameserver\t2.2.2.2  # two\nsortlist 3.3.3.3\nnameserver\n'),
    ['2.2.2.2'],
  );
});

test('resolver: on a network with names there is one server, and dots are not counted', () => {
  const build = (wishes: Partial<typeof none>, text = host) => ownResolvConf(text, { ...none, ...wishes });
  assert.deepEqual(build({}), {
    text: 'search lan home\nnameserver 127.0.0.11\noptions edns0 ndots:0\n',
    dns: [],
    isNdotsSet: false,
  });
  assert.deepEqual(build({}, ''), {
    text: 'nameserver 127.0.0.11\noptions ndots:0\n',
    dns: [],
    isNdotsSet: false,
  });
  const wishes = { dns: ['9.9.9.9'], dnsSearch: ['example.org'], dnsOptions: ['ndots:2'] };
  assert.deepEqual(build(wishes as never), {
    text: 'search example.org\nnameserver 127.0.0.11\noptions ndots:2\n',
    dns: ['9.9.9.9'],
    isNdotsSet: true,
  });
  assert.match(build({}, 'options ndots:x timeout:1\n').text, /^options timeout:1 ndots:0$/m);
});
