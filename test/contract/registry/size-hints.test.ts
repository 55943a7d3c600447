import assert from 'node:assert/strict';
import { after, beforeEach, test } from 'node:test';
import { parseReference } from '../../../src/lib/reference.ts';
import { startFaultyProxy } from '../../support/faulty-proxy.ts';
import { startRegistry } from '../../support/registry.ts';
import { makeImage, makeLayer, type Packing, push } from '../../support/registry-images.ts';
import { testClient } from './pull-suite.ts';

const stack = new AsyncDisposableStack();
const registry = stack.use(await startRegistry());
const proxy = stack.use(await startFaultyProxy(registry.host));
const client = stack.use(testClient({ stallMs: 300 }));
const packings: readonly Packing[] = ['gzip', 'zstd', 'none'];
const layers = await Promise.all(
  packings.map((packing) => makeLayer({ text: Buffer.alloc(200_000, packing) }, { packing })),
);
await push(registry.host, 'app/web', ['1'], makeImage({ layers }));
const ref = parseReference(`${proxy.host}/app/web:1`);
const blobs = /\/blobs\//;

after(() => stack.disposeAsync());
beforeEach(() => proxy.reset());

const askAll = (signal = new AbortController().signal) =>
  Promise.all(
    layers.map(({ digest, blob, packing }) =>
      client.unpackedBytes(ref, { digest, size: blob.length, compression: packing }, { signal }),
    ),
  );

test('a few bytes of a blob tell what it unpacks to', async () => {
  assert.deepEqual(
    await askAll(),
    layers.map(({ tar }) => tar.length),
  );
  const ranges = proxy.seen(blobs).map(({ headers }) => headers.range);
  assert.deepEqual(ranges.sort(), ['bytes=-4', 'bytes=0-17'], 'nobody is asked about a plain tar');
});

for (const [what, fault] of [
  ['does not know ranges', { kind: 'no ranges' }],
  ['is broken', { kind: 'status', status: 500 }],
  ['says nothing', { kind: 'stall', afterBytes: 0 }],
  ['hangs up', { kind: 'hang up' }],
] as const) {
  test(`a server that ${what}: the packed size stands`, async () => {
    proxy.fault({ path: blobs, do: fault });
    assert.deepEqual(
      await askAll(),
      layers.map(({ blob }) => blob.length),
    );
  });
}

test('the question ends with its signal', async () => {
  proxy.fault({ path: blobs, do: { kind: 'stall', afterBytes: 0 } });
  const abort = new AbortController();
  setTimeout(() => abort.abort(new Error('the client left')), 50);
  await assert.rejects(askAll(abort.signal), { message: 'the client left' });
});
