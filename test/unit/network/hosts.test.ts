import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostsFile } from '../../../src/network/hosts.ts';

const loopback =
  '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n' +
  'ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n';
const plain = { hostname: 'c1', domainname: '', extraHosts: [] };

test('hosts: loopback, the user’s lines, then the container itself', () => {
  assert.equal(hostsFile({ ...plain, ipAddress: '172.17.0.2' }), `${loopback}172.17.0.2\tc1\n`);
  const whole = hostsFile({ ...plain, hostname: 'c1.lan', ipAddress: '172.17.0.2' });
  assert.equal(whole, `${loopback}172.17.0.2\tc1.lan c1\n`);
  const extraHosts = ['db:10.0.0.5', 'six:2001:db8::1'];
  const text = hostsFile({ hostname: 'c1', domainname: 'lan', ipAddress: '172.17.0.2', extraHosts });
  assert.equal(text, `${loopback}10.0.0.5\tdb\n2001:db8::1\tsix\n172.17.0.2\tc1.lan c1\n`);
});

test('hosts: host-gateway stands for the gateway, and needs one', () => {
  const o = { ...plain, extraHosts: ['host.docker.internal:host-gateway'] };
  assert.equal(hostsFile({ ...o, gateway: '172.17.0.1' }), `${loopback}172.17.0.1\thost.docker.internal\n`);
  assert.equal(hostsFile(o), loopback);
});

test('hosts: in the host’s network, its own file with the user’s lines', () => {
  const o = { ...plain, extraHosts: ['db:10.0.0.5'] };
  for (const hostText of ['127.0.0.1 localhost board', '127.0.0.1 localhost board\n'])
    assert.equal(hostsFile({ ...o, hostText }), '127.0.0.1 localhost board\n10.0.0.5\tdb\n');
});
