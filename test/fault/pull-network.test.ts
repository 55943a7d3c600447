import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { boxLayer } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { type Fault, type FaultRule, type FaultyProxy, startFaultyProxy } from '../support/faulty-proxy.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeBigLayer, makeImage, push } from '../support/registry-images.ts';

/** Each fault of a network or registry ends in a whole image, or in Docker's words and an unchanged store. */
let registry: TestRegistry;
let proxy: FaultyProxy;
let engine: TestEngine;

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  proxy = await startFaultyProxy(registry.host);
  const layers = [await boxLayer(), await makeBigLayer(6_000_000)];
  await push(registry.host, 'box', ['1'], makeImage({ layers }));
  engine = await TestEngine.start({ flags: ['--max-download-attempts', '3', '--pull-lease-seconds', '1'] });
});

after(async () => {
  await engine[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

beforeEach(() => proxy.reset());

const blob = /\/blobs\//;
const manifest = /\/manifests\//;

const mended: [name: string, rule: FaultRule][] = [
  ['the connection is cut every 1 MB', { path: blob, do: { kind: 'cut', afterBytes: 1_000_000 } }],
  ['a blob is truncated once', { path: blob, times: 1, do: { kind: 'truncate', afterBytes: 200_000 } }],
  ['a byte is flipped once', { path: blob, times: 1, do: { kind: 'flip', atByte: 100_000 } }],
  ['a length is wrong once', { path: blob, times: 1, do: { kind: 'length', by: 100 } }],
  ['500 twice', { path: blob, times: 2, do: { kind: 'status', status: 500 } }],
  [
    '429 once, with Retry-After',
    { path: blob, times: 1, do: { kind: 'status', status: 429, headers: { 'retry-after': '1' } } },
  ],
  ['the registry hangs up once', { path: blob, times: 1, do: { kind: 'hang up' } }],
  [
    'ranges are not known, and the connection is cut once',
    { path: blob, times: 1, do: { kind: 'cut', afterBytes: 500_000 } },
  ],
];

for (const [name, rule] of mended) {
  test(`${name}: the pull goes on to the end`, async () => {
    proxy.fault(rule);
    await engine.ok(['pull', `${proxy.host}/box:1`]);
    assert.equal(
      await engine.ok(['run', '--rm', `${proxy.host}/box:1`, 'stat', '-c', '%s', '/big']),
      '6000000',
    );
    await engine.ok(['rmi', `${proxy.host}/box:1`]);
    assert.deepEqual(readdirSync(join(engine.dataRoot, 'staging'), { recursive: true }), []);
  });
}

/** A registry's own words (distribution-spec, Error Codes). */
function answer(status: number, code: string, message: string): Fault {
  return { kind: 'status', status, body: JSON.stringify({ errors: [{ code, message }] }) };
}

const fatal: [name: string, rule: FaultRule, words: RegExp][] = [
  [
    'every byte is flipped',
    { path: blob, do: { kind: 'flip', atByte: 1000 } },
    /filesystem layer verification failed for digest sha256:/,
  ],
  [
    'blobs are always truncated to nothing',
    { path: blob, do: { kind: 'truncate', afterBytes: 0 } },
    /unexpected EOF|EOF/,
  ],
  ['401 without a challenge', { path: blob, do: { kind: 'status', status: 401 } }, /unauthorized|denied/],
  [
    '404 for a blob',
    { path: blob, do: answer(404, 'BLOB_UNKNOWN', 'blob unknown to registry') },
    /unknown blob/,
  ],
  [
    '404 for the manifest',
    { path: manifest, do: answer(404, 'MANIFEST_UNKNOWN', 'manifest unknown') },
    /manifest for .*box:1 not found: manifest unknown: manifest unknown/,
  ],
  [
    '500 for ever',
    { path: blob, do: { kind: 'status', status: 500 } },
    /received unexpected HTTP status: 500 Internal Server Error/,
  ],
  [
    '500 for the manifest',
    { path: manifest, do: { kind: 'status', status: 500 } },
    /received unexpected HTTP status: 500 Internal Server Error/,
  ],
  ['429 for ever', { path: blob, do: { kind: 'status', status: 429 } }, /toomanyrequests|429/],
];

for (const [name, rule, words] of fatal) {
  test(`${name}: an error in Docker's words, and nothing has changed`, async () => {
    proxy.fault(rule);
    const { code, stdout, stderr } = await engine.docker(['pull', `${proxy.host}/box:1`], {
      timeoutMs: 120_000,
    });
    assert.equal(code, 1, stdout);
    assert.match(stderr, words);
    assert.deepEqual(await engine.json('/images/json?all=1'), []);
    assert.deepEqual(
      readdirSync(join(engine.dataRoot, 'staging'), { recursive: true }),
      [],
      await engine.log(),
    );
    assert.deepEqual(await engine.remains(), []);
  });
}

test('a client that leaves ends the pull', async () => {
  proxy.fault({ path: blob, do: { kind: 'stall', afterBytes: 100_000 } });
  const leaving = new AbortController();
  const pull = fetchPull(`/images/create?fromImage=${proxy.host}/box&tag=1`, leaving.signal);
  setTimeout(() => leaving.abort(), 700);
  await pull;
  for (let i = 0; i < 100 && readdirSync(join(engine.dataRoot, 'staging')).length > 0; i++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.deepEqual(readdirSync(join(engine.dataRoot, 'staging')), []);
  assert.deepEqual(await engine.remains(), []);
});

async function fetchPull(path: string, signal: AbortSignal): Promise<void> {
  const { request } = await import('node:http');
  return new Promise((resolve) => {
    const sent = request({ socketPath: engine.socket, path, method: 'POST', signal }, (response) => {
      response.resume().on('close', () => resolve());
    });
    sent.on('error', () => resolve());
    sent.end();
  });
}
