import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import type { IncomingHttpHeaders } from 'node:http';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { boxLayer } from '../support/box-image.ts';
import { type CliResult, TestEngine } from '../support/engine.ts';
import { type Fault, type FaultRule, type FaultyProxy, startFaultyProxy } from '../support/faulty-proxy.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeBigLayer, makeImage, makeIndex, push, type TestImage } from '../support/registry-images.ts';
import { startTokenServer, type TokenServer } from '../support/token-server.ts';

/** Each fault of a network or registry ends in a whole image, or in Docker's words and an unchanged store. */
const SIZE = 6_000_000;
let registry: TestRegistry;
let proxy: FaultyProxy;
/** Where redirects lead. */
let elsewhere: FaultyProxy;
let tokens: TokenServer;
let garbage: Server;
let engine: TestEngine;
let image: TestImage;

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  proxy = await startFaultyProxy(registry.host);
  elsewhere = await startFaultyProxy(registry.host);
  tokens = await startTokenServer({ isAnonymousAllowed: true });
  garbage = createServer((socket) => {
    socket.on('error', () => {}).end('\x15\x03\x00 neither TLS nor HTTP, whatever is said\r\n\r\n');
  }).listen(0, '127.0.0.1');
  await once(garbage, 'listening');
  image = makeImage({ layers: [await boxLayer(), await makeBigLayer(SIZE)] });
  await push(registry.host, 'box', ['1'], image);
  await push(registry.host, 'box', ['all'], makeIndex([image]));
  // a board that unpacks several layers at once: where one stands still, others need not wait
  const flags = ['--max-download-attempts', '3', '--pull-lease-seconds', '1', '--board', 'intel-nuc'];
  engine = await TestEngine.start({ flags });
});

after(async () => {
  await engine[Symbol.asyncDispose]();
  garbage.close();
  for (const each of [tokens, elsewhere, proxy, registry]) await each[Symbol.asyncDispose]();
});

beforeEach(() => {
  proxy.reset();
  elsewhere.reset();
});

const blob = /\/blobs\//;
const manifest = /\/manifests\//;
const isResumed = ({ range }: IncomingHttpHeaders) => range !== undefined;
const isAnonymous = ({ authorization }: IncomingHttpHeaders) => authorization === undefined;
const cutOnce: FaultRule = { path: blob, times: 1, after: 1, do: { kind: 'cut', afterBytes: 500_000 } };

/** A registry's own words (distribution-spec, Error Codes). */
function answer(status: number, code: string, message: string): Fault {
  return { kind: 'status', status, body: JSON.stringify({ errors: [{ code, message }] }) };
}

/** A token is wanted, which anybody may have. */
function challenge(): Fault {
  const { realm, service } = tokens;
  const words = `Bearer realm="${realm}",service="${service}",scope="repository:box:pull"`;
  return { kind: 'status', status: 401, headers: { 'www-authenticate': words } };
}

/** A range that nobody asked for. */
const wrongRange: Fault = {
  kind: 'status',
  status: 206,
  headers: { 'content-range': `bytes 5999000-5999001/${SIZE}` },
  body: 'xx',
};

interface Row {
  /** What is wrong. */
  fault: string;
  rules?: () => FaultRule[];
  /** What is pulled, if it is not box:1 through the proxy. */
  from?: () => string;
  /** A whole image, or these words. */
  ends: 'whole' | RegExp;
  check?: () => void;
}

/** The first blob of each pull is the config; a fault of blobs is meant for the layers. */
const firstOf = (path: RegExp) => (path === blob ? 1 : 0);
const always = (path: RegExp, fault: Fault) => () => [{ path, after: firstOf(path), do: fault }];
const times = (count: number, path: RegExp, fault: Fault) => () => [
  { path, after: firstOf(path), times: count, do: fault },
];

const table: readonly Row[] = [
  {
    fault: 'a connection cut every 1 MB',
    rules: always(blob, { kind: 'cut', afterBytes: 1e6 }),
    ends: 'whole',
  },
  {
    fault: 'connections cut before they bring anything worth it',
    rules: always(blob, { kind: 'cut', afterBytes: 5000 }),
    ends: /unexpected EOF/,
  },
  {
    fault: 'a blob truncated once',
    rules: times(1, blob, { kind: 'truncate', afterBytes: 200_000 }),
    ends: 'whole',
  },
  {
    fault: 'blobs truncated to nothing',
    rules: always(blob, { kind: 'truncate', afterBytes: 0 }),
    ends: /unexpected EOF|EOF/,
  },
  { fault: 'a byte flipped once', rules: times(1, blob, { kind: 'flip', atByte: 100 }), ends: 'whole' },
  {
    fault: 'a byte flipped always',
    rules: always(blob, { kind: 'flip', atByte: 1000 }),
    ends: /filesystem layer verification failed for digest sha256:/,
  },
  {
    fault: 'a manifest damaged once',
    rules: times(1, manifest, { kind: 'flip', atByte: 30 }),
    ends: 'whole',
  },
  {
    fault: 'a digest header that is wrong once',
    rules: times(1, manifest, {
      kind: 'header',
      name: 'docker-content-digest',
      value: `sha256:${'0'.repeat(64)}`,
    }),
    ends: 'whole',
  },
  {
    fault: 'a digest header that is wrong always',
    rules: always(manifest, {
      kind: 'header',
      name: 'docker-content-digest',
      value: `sha256:${'0'.repeat(64)}`,
    }),
    ends: /manifest verification failed for digest sha256:0000/,
  },
  {
    fault: 'a manifest that is another one when it is asked for by its digest',
    from: () => `${proxy.host}/box:all`,
    rules: () => [
      {
        path: /manifests\/sha256/,
        do: { kind: 'status', status: 200, body: '{}', headers: { 'content-type': image.mediaType } },
      },
    ],
    ends: /manifest verification failed for digest sha256:/,
  },
  {
    fault: 'a length that is too large once',
    rules: times(1, blob, { kind: 'length', by: 100 }),
    ends: 'whole',
  },
  {
    fault: 'a length that is too small once',
    rules: times(1, blob, { kind: 'length', by: -100 }),
    ends: 'whole',
  },
  {
    fault: 'lengths that are always wrong',
    rules: always(blob, { kind: 'length', by: 100 }),
    ends: /the server sent \d+ bytes from 0 on of a blob of \d+ bytes/,
  },
  {
    fault: 'chunks, and no length',
    rules: always(blob, { kind: 'header', name: 'content-length' }),
    ends: 'whole',
  },
  {
    fault: 'ranges that are not known, after a cut',
    rules: () => [cutOnce, { path: blob, when: isResumed, do: { kind: 'no ranges' } }],
    ends: 'whole',
  },
  {
    fault: 'a range answered wrongly once, after a cut',
    rules: () => [cutOnce, { path: blob, when: isResumed, times: 1, do: wrongRange }],
    ends: 'whole',
  },
  {
    fault: 'ranges answered wrongly always',
    rules: () => [cutOnce, { path: blob, when: isResumed, do: wrongRange }],
    ends: /the server sent 2 bytes from 5999000 on/,
  },
  {
    fault: 'ranges refused, after a cut',
    rules: () => [cutOnce, { path: blob, when: isResumed, do: { kind: 'status', status: 416 } }],
    ends: 'whole',
  },
  {
    fault: '401 in mid-pull, with a challenge that can be met',
    rules: () => [cutOnce, { path: blob, when: (h) => isResumed(h) && isAnonymous(h), do: challenge() }],
    ends: 'whole',
    check: () => assert.ok(tokens.requests.length > 0),
  },
  {
    fault: '401 without a challenge',
    rules: always(blob, { kind: 'status', status: 401 }),
    ends: /unauthorized|denied/,
  },
  {
    fault: '429 once, with Retry-After',
    rules: times(1, blob, { kind: 'status', status: 429, headers: { 'retry-after': '1' } }),
    ends: 'whole',
  },
  {
    fault: '429 for ever',
    rules: always(blob, { kind: 'status', status: 429 }),
    ends: /toomanyrequests|429/,
  },
  {
    fault: '429, and Retry-After in an hour',
    rules: always(blob, { kind: 'status', status: 429, headers: { 'retry-after': '3600' } }),
    ends: /toomanyrequests|429/,
  },
  { fault: '500 twice', rules: times(2, blob, { kind: 'status', status: 500 }), ends: 'whole' },
  {
    fault: 'a storm of 500s that passes',
    rules: () => [
      { path: manifest, times: 2, do: { kind: 'status', status: 503 } },
      { path: blob, times: 2, do: { kind: 'status', status: 502 } }, // the config, then a layer
      { path: blob, after: 1, times: 2, do: { kind: 'status', status: 502 } },
    ],
    ends: 'whole',
  },
  {
    fault: '500 for ever',
    rules: always(blob, { kind: 'status', status: 500 }),
    ends: /received unexpected HTTP status: 500 Internal Server Error/,
  },
  {
    fault: '500 for the manifest',
    rules: always(manifest, { kind: 'status', status: 500 }),
    ends: /received unexpected HTTP status: 500 Internal Server Error/,
  },
  {
    fault: '404 for a blob',
    rules: always(blob, answer(404, 'BLOB_UNKNOWN', 'blob unknown to registry')),
    ends: /unknown blob/,
  },
  {
    fault: '404 for the manifest',
    rules: always(manifest, answer(404, 'MANIFEST_UNKNOWN', 'manifest unknown')),
    ends: /manifest for .*box:1 not found: manifest unknown: manifest unknown/,
  },
  {
    fault: 'a redirect to another host, which gets no credentials',
    rules: () => [
      { path: blob, when: isAnonymous, do: challenge() },
      { path: blob, do: { kind: 'redirect', to: elsewhere.host } },
    ],
    ends: 'whole',
    check: () => {
      assert.ok(proxy.seen(blob).some(({ headers }) => headers.authorization?.startsWith('Bearer ')));
      assert.ok(elsewhere.seen(blob).length >= 2);
      assert.ok(elsewhere.requests.every(({ headers }) => headers.authorization === undefined));
    },
  },
  {
    fault: 'a redirect to where nobody listens',
    rules: always(blob, { kind: 'redirect', to: '127.0.0.1:1' }),
    ends: /127\.0\.0\.1:1: connect: connection refused/,
  },
  {
    fault: 'redirects in a circle',
    rules: () => [{ path: blob, do: { kind: 'redirect', to: proxy.host } }],
    ends: /stopped after 10 redirects/,
  },
  { fault: 'a registry that hangs up once', rules: times(1, blob, { kind: 'hang up' }), ends: 'whole' },
  { fault: 'a registry that always hangs up', rules: always(blob, { kind: 'hang up' }), ends: /EOF/ },
  {
    fault: 'nobody listens',
    from: () => '127.0.0.1:1/box:1',
    ends: /Get "http:\/\/127\.0\.0\.1:1\/v2\/": dial tcp 127\.0\.0\.1:1: connect: connection refused/,
  },
  {
    fault: 'a server that speaks neither TLS nor HTTP',
    from: () => `127.0.0.1:${(garbage.address() as AddressInfo).port}/box:1`,
    ends: /malformed HTTP response/,
  },
];

for (const { fault, rules, from, ends, check } of table) {
  const how = ends === 'whole' ? 'a whole image' : "an error in Docker's words, and nothing has changed";
  test(`${fault}: ${how}`, async () => {
    for (const rule of rules?.() ?? []) proxy.fault(rule);
    const name = from?.() ?? `${proxy.host}/box:1`;
    const result = await engine.docker(['pull', name], { timeoutMs: 60_000 });
    if (ends === 'whole') await assertWhole(name, result);
    else await assertUnchanged(result, ends);
    check?.();
    assert.ok(rules === undefined || proxy.requests.some((seen) => seen.fault !== undefined), 'it was met');
    assert.deepEqual(staged(), []);
    assert.deepEqual(await engine.remains(), []);
  });
}

const slow: readonly Row[] = [
  { fault: 'stands still once', rules: times(1, blob, { kind: 'stall', afterBytes: 1e6 }), ends: 'whole' },
  { fault: 'drips', rules: times(1, blob, { kind: 'drip', bytes: 1, everyMs: 50 }), ends: 'whole' },
  { fault: 'says nothing to a blob once', rules: times(1, blob, { kind: 'silence' }), ends: 'whole' },
  { fault: 'says nothing to a manifest once', rules: times(1, manifest, { kind: 'silence' }), ends: 'whole' },
];

test(`a server that ${slow.map(({ fault }) => fault).join(', ')}: given up after 30 s, and asked again`, async () => {
  const box = `${registry.host}/box:1`;
  await engine.ok(['pull', box]);
  await Promise.all(
    slow.map(async ({ rules }, at) => {
      // a layer of its own: what one has brought, another would not need to fetch
      const own = makeImage({ layers: [await boxLayer(), await makeBigLayer(SIZE + at)] });
      await push(registry.host, `slow${at}`, ['1'], own);
      for (const rule of rules?.() ?? [])
        proxy.fault({ ...rule, path: new RegExp(`/slow${at}${rule.path.source}`) });
      const began = performance.now();
      await engine.ok(['pull', `${proxy.host}/slow${at}:1`], { timeoutMs: 90_000 });
      assert.ok(performance.now() - began > 25_000, 'the fault was met');
    }),
  );
  for (const at of slow.keys()) {
    const name = `${proxy.host}/slow${at}:1`;
    assert.equal(
      await engine.ok(['run', '--rm', '--net', 'none', name, 'stat', '-c', '%s', '/big']),
      `${SIZE + at}`,
    );
    await engine.ok(['rmi', name]);
  }
  await engine.ok(['rmi', box]);
  assert.deepEqual(staged(), []);
});

test('a tag that moves in mid-pull: the image is the one that it stood for when it was asked', async () => {
  await push(registry.host, 'moving', ['1'], image);
  const name = `${proxy.host}/moving:1`;
  proxy.fault({ path: blob, do: { kind: 'drip', bytes: 65_536, everyMs: 5 } });
  const pull = engine.docker(['pull', name]);
  while (proxy.seen(blob).length < 3) await sleep(5); // the config, and both layers
  await push(registry.host, 'moving', ['1'], makeImage({ layers: [await boxLayer()] }));
  await assertWhole(name, await pull);
});

const staged = () => readdirSync(join(engine.dataRoot, 'staging'), { recursive: true });

async function assertWhole(name: string, { code, stdout, stderr }: CliResult): Promise<void> {
  assert.equal(code, 0, `${stdout}${stderr}`);
  const size = await engine.ok(['run', '--rm', '--net', 'none', name, 'stat', '-c', '%s', '/big']);
  assert.equal(size, `${SIZE}`);
  await engine.ok(['rmi', name]);
}

async function assertUnchanged({ code, stdout, stderr }: CliResult, words: RegExp): Promise<void> {
  assert.equal(code, 1, stdout);
  assert.match(stderr, words);
  assert.deepEqual(await engine.json('/images/json?all=1'), []);
}
