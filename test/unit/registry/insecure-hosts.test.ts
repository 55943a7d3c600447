import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InsecureHosts } from '../../../src/registry/insecure-hosts.ts';

async function which(entries: string[], hosts: string[]): Promise<string[]> {
  const insecure = new InsecureHosts(entries);
  const found: string[] = [];
  for (const host of hosts) if (await insecure.has(host)) found.push(host);
  return found;
}

test('this machine always, nobody else by default', async () => {
  const own = ['127.0.0.1', '127.9.9.9:5000', 'localhost', 'LocalHost:5000', '[::1]:5000', '[::1]'];
  assert.deepEqual(await which([], [...own, '10.0.0.1:5000', 'quay.io', '[2001:db8::1]:443']), own);
});

test('a host counts as it is written: with its port or without', async () => {
  const entries = ['reg.local:5000', 'http://plain.local', 'Upper.local'];
  const hosts = ['reg.local:5000', 'reg.local', 'plain.local', 'plain.local:80', 'upper.local'];
  assert.deepEqual(await which(entries, hosts), ['reg.local:5000', 'plain.local', 'upper.local']);
});

test('a network counts for addresses, and for names that lead into it', async () => {
  const hosts = ['10.1.2.3:5000', '10.2.0.1', '[fd00::7]:5000', '[fe80::1]'];
  assert.deepEqual(await which(['10.1.0.0/16', 'fd00::/8'], hosts), ['10.1.2.3:5000', '[fd00::7]:5000']);
});

test('what is neither is told by name', () => {
  for (const entry of ['10.0.0.0/33', 'host/8', '10.0.0.0/', '10.0.0.0/8/8x', 'fd00::/129']) {
    assert.throws(() => new InsecureHosts([entry]), { code: 'CONFIG' }, entry);
  }
});
