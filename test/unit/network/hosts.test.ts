import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostsFile, ownLines, withAddress, withLines } from '../../../src/network/hosts.ts';

const loopback =
  '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n' +
  'ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n';
const plain = { extraHosts: [], hostGateway: '172.17.0.1' };

test('hosts: loopback, the user’s lines, then the container itself', () => {
  const extraHosts = ['db:10.0.0.5', 'six:2001:db8::1'];
  const text = hostsFile({ ...plain, extraHosts });
  assert.equal(text, `${loopback}10.0.0.5\tdb\n2001:db8::1\tsix\n`);
  const own = (hostname: string, domainname = '', addresses = ['172.17.0.2']) =>
    ownLines({ hostname, domainname, addresses });
  assert.deepEqual(own('c1'), ['172.17.0.2\tc1']);
  assert.deepEqual(own('c1.lan'), ['172.17.0.2\tc1.lan c1']);
  assert.deepEqual(own('c1', 'lan', ['172.17.0.2', 'fd00::2']), [
    '172.17.0.2\tc1.lan c1',
    'fd00::2\tc1.lan c1',
  ]);
  assert.deepEqual(own(''), []);
});

test('hosts: addresses come and go, and what somebody wrote there stays', () => {
  const old = ['172.17.0.2\tc1'];
  const now = ['172.18.0.9\tc1'];
  const begun = withLines(loopback, { old: [], now: old });
  assert.equal(begun, `${loopback}172.17.0.2\tc1\n`);
  assert.equal(withLines(`${begun}10.0.0.5 db`, { old, now }), `${loopback}10.0.0.5 db\n172.18.0.9\tc1\n`);
});

test('hosts: host-gateway stands for the gateway, and needs one', () => {
  const o = { ...plain, extraHosts: ['host.docker.internal:host-gateway'] };
  assert.equal(hostsFile(o), `${loopback}172.17.0.1\thost.docker.internal\n`);
});

test('hosts: in the host’s network, its own file, or the user’s lines', () => {
  const hostText = '127.0.0.1 localhost board';
  assert.equal(hostsFile({ ...plain, hostText }), hostText);
  const extraHosts = ['db:10.0.0.5'];
  assert.equal(hostsFile({ ...plain, hostText, extraHosts }), `${loopback}10.0.0.5\tdb\n`);
});

test('hosts: a link leads to a new address, of its own family and by its first name alone', () => {
  const text = '172.17.0.2\thome w1 web\nfd00::2\thome w1 web\n172.17.0.2\thomely\n10.0.0.1\tweb\n';
  const moved = '172.17.0.9\thome w1 web\nfd00::2\thome w1 web\n172.17.0.2\thomely\n10.0.0.1\tweb\n';
  assert.equal(withAddress(text, 'home', '172.17.0.9'), moved);
});
