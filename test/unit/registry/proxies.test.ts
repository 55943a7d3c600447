import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  ProxyAddressError,
  parseProxy,
  proxyAuthorization,
  withoutCredentials,
} from '../../../src/lib/proxy-address.ts';
import { Proxies } from '../../../src/registry/proxies.ts';

const PROXY = 'http://proxy.example:3128';

/** Which of these are reached straight. */
function straight(no: string, urls: string[]): string[] {
  const proxies = new Proxies({ http: PROXY, https: PROXY, no });
  return urls.filter((url) => proxies.for(new URL(url)) === undefined);
}

test('http and https have a proxy each; without one the way is straight', () => {
  const proxies = new Proxies({ http: 'http://plain:1', https: 'secure:2', no: '' });
  assert.equal(proxies.for(new URL('http://a.b/'))?.host, 'plain:1');
  assert.equal(proxies.for(new URL('https://a.b/'))?.host, 'secure:2');
  assert.equal(new Proxies({ http: '', https: '', no: '' }).for(new URL('http://a.b/')), undefined);
});

test('this machine never is reached through a proxy', () => {
  const own = ['http://localhost:5000/', 'https://127.0.0.1/', 'http://127.9.8.7/', 'http://[::1]:80/'];
  assert.deepEqual(straight('', [...own, 'http://128.0.0.1/', 'http://localhost.example/']), own);
});

// golang.org/x/net/http/httpproxy: Config.NoProxy
for (const [no, reachedStraight, proxied] of [
  ['a.b', ['http://a.b/', 'https://a.b:99/', 'http://x.a.b/', 'http://A.B/'], ['http://xa.b/', 'http://b/']],
  ['.a.b', ['http://x.a.b/', 'http://x.y.a.b/'], ['http://a.b/', 'http://xa.b/']],
  ['*.a.b', ['http://x.a.b/'], ['http://a.b/']],
  ['a.b:8080', ['http://a.b:8080/', 'http://x.a.b:8080/'], ['http://a.b/']],
  ['a.b:443, c.d:80', ['https://a.b/', 'http://c.d/'], ['http://a.b/', 'https://c.d/']],
  ['10.0.0.7', ['http://10.0.0.7:5000/'], ['http://10.0.0.70/', 'http://x.10.0.0.7.example/']],
  ['10.0.0.7:5000', ['http://10.0.0.7:5000/'], ['http://10.0.0.7/']],
  [
    '10.0.0.0/8,fd00::/8',
    ['http://10.9.8.7/', 'https://[fd00::7]:5000/'],
    ['http://11.0.0.1/', 'http://ten/'],
  ],
  ['[fd00::7]:5000', ['http://[fd00::7]:5000/'], ['http://[fd00::7]/']],
  ['fd00::7', ['http://[fd00::7]/'], ['http://[fd00::8]/']],
  ['bücher.example', ['http://xn--bcher-kva.example/'], []],
  [' , a.b ,, ', ['http://a.b/'], ['http://c.d/']],
  ['*', ['http://a.b/', 'https://10.1.1.1/'], []],
  ['a.b,*', ['http://c.d/'], []],
  [':80', [], ['http://a.b/']],
  ['10.0.0.0/33', [], ['http://10.0.0.1/']],
] as const) {
  test(`NO_PROXY=${no}`, () => {
    assert.deepEqual(straight(no, [...reachedStraight, ...proxied]), reachedStraight);
  });
}

test("a proxy's address: the scheme may be left out, others than http and https are refused", () => {
  assert.equal(parseProxy('proxy:3128').href, 'http://proxy:3128/');
  assert.equal(parseProxy('user:p%40ss@proxy:3128').password, 'p%40ss');
  for (const [address, message] of [
    ['socks5://proxy:1080', 'unsupported proxy scheme "socks5"'],
    ['http://', 'invalid proxy address "http://"'],
    ['http://user:secret@a b', 'invalid proxy address "http://xxxxx:xxxxx@a b"'],
  ] as const) {
    assert.throws(() => parseProxy(address), { name: 'ProxyAddressError', message });
  }
  const bad = new Proxies({ http: 'socks5://p', https: '', no: 'a.b' });
  assert.equal(bad.for(new URL('http://a.b/')), undefined);
  assert.throws(() => bad.for(new URL('http://c.d/')), ProxyAddressError);
});

test('credentials: given to the proxy, and never shown', () => {
  const header = (address: string) => proxyAuthorization(parseProxy(address));
  assert.equal(header('http://proxy'), undefined);
  assert.equal(header('http://u:p%40%3A@proxy'), `Basic ${Buffer.from('u:p@:').toString('base64')}`);
  assert.equal(header('http://u:%zz@proxy'), `Basic ${Buffer.from('u:%zz').toString('base64')}`);
  assert.equal(withoutCredentials('http://u:p@proxy:1'), 'http://xxxxx:xxxxx@proxy:1');
  assert.equal(withoutCredentials('u:p@proxy:1'), 'xxxxx:xxxxx@proxy:1');
  assert.equal(withoutCredentials('http://u:p@ss@proxy:1'), 'http://xxxxx:xxxxx@proxy:1');
  assert.equal(withoutCredentials('http://proxy:1'), 'http://proxy:1');
});

test('property: whatever NO_PROXY says, reading it and asking never fails', () => {
  fc.assert(
    fc.property(fc.string(), fc.webUrl(), (no, url) => {
      const found = new Proxies({ http: PROXY, https: PROXY, no }).for(new URL(url));
      assert.ok(found === undefined || found.host === 'proxy.example:3128');
    }),
  );
});
