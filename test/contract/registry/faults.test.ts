import assert from 'node:assert/strict';
import { once } from 'node:events';
import { buffer } from 'node:stream/consumers';
import { after, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestOf } from '../../../src/lib/digest.ts';
import { parseReference } from '../../../src/lib/reference.ts';
import type { RemoteImage } from '../../../src/registry/registry.ts';
import { type FaultRule, startFaultyProxy } from '../../support/faulty-proxy.ts';
import { startRegistry } from '../../support/registry.ts';
import { makeBigLayer, makeImage, mediaTypes, push } from '../../support/registry-images.ts';
import { amd64, testClient } from './pull-suite.ts';

const stack = new AsyncDisposableStack();
const registry = stack.use(await startRegistry());
const proxy = stack.use(await startFaultyProxy(registry.host));
const client = stack.use(testClient({ stallMs: 300 }));
const layer = await makeBigLayer(400_000);
const image = makeImage({ layers: [layer] });
await push(registry.host, 'app/web', ['1'], image);
const ref = parseReference(`${proxy.host}/app/web:1`);
const blob = { digest: layer.digest, size: layer.blob.length };
const configPath = new RegExp(image.configDigest);
const layerPath = new RegExp(layer.digest);

after(() => stack.disposeAsync());
beforeEach(() => proxy.reset());

function resolve(signal = new AbortController().signal): Promise<RemoteImage> {
  return client.resolve(ref, { platform: amd64, signal });
}

function fetchLayer(o: { onRetry?: (attempt: number, secondsLeft: number) => void } = {}): Promise<Buffer> {
  return buffer(client.blob(ref, blob, { signal: new AbortController().signal, ...o }));
}

function errors(code: string, message: string): string {
  return JSON.stringify({ errors: [{ code, message }] });
}

function answers(status: number, body: string, headers: Record<string, string> = {}): FaultRule {
  return { path: /manifests/, do: { kind: 'status', status, body, headers } };
}

const refusals: [string, FaultRule, { message: string | RegExp; status: number; tries?: number }][] = [
  [
    'a repository that is not there',
    answers(404, errors('NAME_UNKNOWN', 'repository name not known to registry')),
    {
      status: 404,
      message: `repository ${proxy.host}/app/web not found: name unknown: repository name not known to registry`,
    },
  ],
  [
    'access denied',
    answers(403, errors('DENIED', '')),
    {
      status: 404,
      message: `pull access denied for ${proxy.host}/app/web, repository does not exist or may require 'docker login': denied: requested access to the resource is denied`,
    },
  ],
  [
    'unauthorized',
    answers(401, errors('UNAUTHORIZED', 'authentication required')),
    { status: 500, message: 'unauthorized: authentication required' },
  ],
  [
    'a challenge that cannot be met',
    answers(401, '', { 'www-authenticate': 'Basic realm="x"' }),
    { status: 500, message: `Get "http://${proxy.host}/v2/app/web/manifests/1": no basic auth credentials` },
  ],
  [
    'a server that stays broken',
    answers(500, 'oops'),
    { status: 500, message: 'received unexpected HTTP status: 500 Internal Server Error', tries: 3 },
  ],
  [
    'a rate limit that ends soon, and comes again',
    answers(429, errors('TOOMANYREQUESTS', 'You have reached your pull rate limit.'), { 'retry-after': '0' }),
    { status: 500, message: 'toomanyrequests: You have reached your pull rate limit.', tries: 3 },
  ],
  [
    'a rate limit that ends in an hour',
    answers(429, errors('TOOMANYREQUESTS', ''), { 'retry-after': '3600' }),
    { status: 500, message: 'toomanyrequests: too many requests', tries: 1 },
  ],
  [
    'a page of some other server',
    answers(404, '<html>nope</html>'),
    {
      status: 500,
      message: `error parsing HTTP 404 response body: invalid character '<' looking for beginning of value: "<html>nope</html>"`,
    },
  ],
  [
    'a page of some other server that calls it success',
    answers(200, '<html>log in first</html>', { 'content-type': 'text/html' }),
    { status: 500, message: `invalid manifest of ${proxy.host}/app/web:1: not JSON` },
  ],
  [
    'a schema 1 manifest',
    answers(200, '{"schemaVersion":1}', {
      'content-type': 'application/vnd.docker.distribution.manifest.v1+prettyjws',
    }),
    { status: 400, message: /schema 1 support has been removed\. Suggest the author of 127/ },
  ],
  [
    'an artifact manifest',
    answers(200, '{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[]}'),
    { status: 400, message: 'unsupported media type "application/vnd.oci.artifact.manifest.v1+json"' },
  ],
  [
    'something that is no image',
    answers(
      200,
      makeImage({
        layers: [],
        manifest: {
          config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf('{}'), size: 2 },
        },
      }).bytes.toString(),
    ),
    { status: 400, message: 'Encountered remote "application/vnd.oci.empty.v1+json"(unknown) when fetching' },
  ],
  [
    'a layer that is elsewhere',
    answers(
      200,
      makeImage({
        layers: [],
        dialect: 'docker',
        manifest: {
          layers: [
            {
              mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
              digest: digestOf(''),
              size: 0,
              urls: ['https://elsewhere.example/layer'],
            },
          ],
        },
      }).bytes.toString(),
    ),
    { status: 400, message: /with urls\): such layers are not supported$/ },
  ],
  [
    'a manifest without end',
    { path: /manifests/, do: { kind: 'status', status: 200, body: ' '.repeat(4 * 1024 * 1024 + 1) } },
    { status: 500, message: `manifest of ${proxy.host}/app/web:1 is larger than 4194304 bytes` },
  ],
  [
    'a refusal that is longer than anybody reads',
    answers(403, errors('DENIED', 'x'.repeat(100_000))),
    { status: 500, message: 'error parsing HTTP 403 response body: unexpected end of JSON input: ""' },
  ],
  [
    'a manifest that is always damaged',
    { path: /manifests/, do: { kind: 'flip', atByte: 30 } },
    { status: 500, message: `manifest verification failed for digest ${image.digest}`, tries: 3 },
  ],
  [
    'redirects in a circle',
    { path: /manifests/, do: { kind: 'redirect', to: proxy.host } },
    { status: 500, message: /stopped after 10 redirects$/, tries: 11 },
  ],
  [
    'a redirect to something else than HTTP',
    { path: /manifests/, do: { kind: 'redirect', to: 'file:///etc/passwd' } },
    { status: 500, message: /unsupported protocol scheme: "file:/ },
  ],
];

describe('resolve fails in dockerd’s words', () => {
  for (const [name, fault, expected] of refusals) {
    test(name, async () => {
      proxy.fault(fault);
      const { tries = 1, ...failure } = expected;
      await assert.rejects(resolve(), failure);
      assert.equal(proxy.seen(/manifests/).length, tries);
    });
  }

  test('nobody listens: told at once', async () => {
    await using gone = await startFaultyProxy('');
    await gone[Symbol.asyncDispose]();
    await assert.rejects(
      client.resolve(parseReference(`${gone.host}/x:1`), {
        platform: amd64,
        signal: new AbortController().signal,
      }),
      {
        code: 'REGISTRY_UNREACHABLE',
        status: 500,
        message: `Get "http://${gone.host}/v2/": dial tcp ${gone.host}: connect: connection refused`,
      },
    );
  });
});

describe('what is damaged once is asked for once more', () => {
  test('the manifest', async () => {
    proxy.fault({ path: /manifests/, times: 1, do: { kind: 'flip', atByte: 30 } });
    assert.equal((await resolve()).digest, image.digest);
  });

  test('the config', async () => {
    proxy.fault({ path: configPath, times: 1, do: { kind: 'flip', atByte: 30 } });
    assert.ok((await resolve()).config.equals(image.config));
  });

  test('the config, and no more than once', async () => {
    proxy.fault({ path: configPath, do: { kind: 'flip', atByte: 30 } });
    const message = `image config verification failed for digest ${image.configDigest}`;
    await assert.rejects(resolve(), { code: 'CORRUPT', message });
    assert.equal(proxy.seen(configPath).length, 2);
  });
});

describe('a blob', () => {
  test('that came damaged fails, and the last chunk of it is never given', async () => {
    proxy.fault({ path: layerPath, times: 1, do: { kind: 'flip', atByte: 1000 } });
    const stream = client.blob(ref, blob, { signal: new AbortController().signal });
    let bytes = 0;
    const drained = (async () => {
      for await (const chunk of stream) bytes += (chunk as Buffer).length;
    })();
    const message = `filesystem layer verification failed for digest ${layer.digest}`;
    await assert.rejects(drained, { code: 'CORRUPT', message });
    assert.ok(bytes < blob.size);
    assert.ok((await fetchLayer()).equals(layer.blob));
  });

  test('that is not there', async () => {
    proxy.fault({ path: layerPath, do: { kind: 'status', status: 404, body: errors('BLOB_UNKNOWN', '') } });
    await assert.rejects(fetchLayer(), { message: 'unknown blob' });
    assert.equal(proxy.seen(layerPath).length, 1);
  });

  test('that is shorter on the server than the manifest says', async () => {
    proxy.fault({ path: layerPath, times: 1, do: { kind: 'truncate', afterBytes: 300_000 } });
    proxy.fault({ path: layerPath, times: 1, do: { kind: 'status', status: 416, body: 'no such range' } });
    assert.ok((await fetchLayer()).equals(layer.blob), 'a 416 is answered by asking for the whole');
    assert.equal(proxy.seen(layerPath).length, 3);
  });

  test('that stays cut is given up after the tries that were allowed', async () => {
    proxy.fault({ path: layerPath, do: { kind: 'cut', afterBytes: 10 } });
    const told: number[] = [];
    await assert.rejects(fetchLayer({ onRetry: (attempt) => told.push(attempt) }), {
      message: 'unexpected EOF',
    });
    assert.deepEqual(told, [2, 3, 4]);
    assert.equal(proxy.seen(layerPath).length, 4);
    assert.equal(proxy.seen(layerPath)[3]?.headers.range, 'bytes=30-');
  });

  test('that stands still is fetched over another connection', async () => {
    proxy.fault({ path: layerPath, times: 1, do: { kind: 'stall', afterBytes: 100_000 } });
    assert.ok((await fetchLayer()).equals(layer.blob));
    assert.equal(proxy.seen(layerPath)[1]?.headers.range, 'bytes=100000-');
  });

  test('that drips is given up in the end', async () => {
    proxy.fault({ path: layerPath, do: { kind: 'drip', bytes: 1, everyMs: 50 } });
    await assert.rejects(fetchLayer(), { message: 'net/http: timeout while reading body' });
    assert.equal(proxy.seen(layerPath).length, 4);
  });

  test('that is another document, such as a portal’s page, is not begun', async () => {
    const page = '<html>log in first</html>';
    proxy.fault({ path: layerPath, times: 1, do: { kind: 'status', status: 200, body: page } });
    assert.ok((await fetchLayer()).equals(layer.blob));
    proxy.fault({ path: layerPath, do: { kind: 'length', by: 50 } });
    await assert.rejects(fetchLayer(), /the server sent \d+ bytes from 0 on of a blob of \d+ bytes$/);
  });

  test('of a server that stays silent', async () => {
    proxy.fault({ path: layerPath, do: { kind: 'stall', afterBytes: 0 } });
    await assert.rejects(fetchLayer(), /timeout/);
  });

  test('whose range is not the one asked for', async () => {
    proxy.fault({ path: layerPath, times: 1, do: { kind: 'cut', afterBytes: 1000 } });
    const headers = { 'content-range': `bytes 2000-2001/${blob.size}` };
    proxy.fault({ path: layerPath, times: 1, do: { kind: 'status', status: 206, headers, body: 'xx' } });
    assert.ok((await fetchLayer()).equals(layer.blob));
  });

  test('of an unreachable server: a later try finds it again', async () => {
    proxy.fault({ path: /\/v2\/|blobs/, times: 2, do: { kind: 'hang up' } });
    assert.ok((await fetchLayer()).equals(layer.blob));
  });

  test('whose reader leaves lets go of the connection at once', async () => {
    proxy.fault({ path: layerPath, do: { kind: 'stall', afterBytes: 100 } });
    const stream = client.blob(ref, blob, { signal: new AbortController().signal });
    await once(stream.resume(), 'data');
    stream.destroy();
    const began = performance.now();
    await once(stream, 'close');
    assert.ok(performance.now() - began < 100);
    await sleep(400); // no retry follows
    assert.equal(proxy.seen(layerPath).length, 1);
  });

  test('whose signal is raised ends with its reason', async () => {
    const abort = new AbortController();
    proxy.fault({ path: layerPath, do: { kind: 'stall', afterBytes: 100 } });
    const stream = client.blob(ref, blob, { signal: abort.signal });
    setTimeout(() => abort.abort(new Error('the client left')), 50);
    await assert.rejects(buffer(stream), { message: 'the client left' });
    const late = client.blob(ref, blob, { signal: abort.signal });
    await assert.rejects(buffer(late), { message: 'the client left' });
  });

  test('that nobody reads takes no memory', async () => {
    const big = await makeBigLayer(8_000_000, { packing: 'none' });
    await push(registry.host, 'app/big', ['1'], makeImage({ layers: [big] }));
    const stream = client.blob(
      parseReference(`${registry.host}/app/big`),
      { digest: big.digest, size: big.blob.length },
      { signal: new AbortController().signal },
    );
    await once(stream, 'readable');
    await sleep(500); // longer than the limit on silence: a slow reader is not a slow server
    assert.ok(stream.readableLength <= 256 * 1024, `${stream.readableLength} bytes held`);
    assert.ok((await buffer(stream)).equals(big.blob));
  });
});

test('resolve: raising the signal ends it with its reason', async () => {
  const abort = new AbortController();
  proxy.fault({ path: /manifests/, do: { kind: 'stall', afterBytes: 0 } });
  setTimeout(() => abort.abort(new Error('the client left')), 30);
  await assert.rejects(resolve(abort.signal), { message: 'the client left' });
});

test('resolve: a config that does not fit its manifest', async () => {
  const odd = makeImage({ layers: [layer], configFile: { rootfs: { type: 'layers', diff_ids: [] } } });
  await push(registry.host, 'app/odd', ['1'], odd);
  await assert.rejects(
    client.resolve(parseReference(`${registry.host}/app/odd:1`), {
      platform: amd64,
      signal: new AbortController().signal,
    }),
    { message: "layers from manifest don't match image configuration" },
  );
});

test('resolve: an image of another platform is taken as it is, unless that was asked for', async () => {
  const arm = makeImage({
    layers: [layer],
    platform: { os: 'linux', architecture: 'arm64' },
    dialect: 'docker',
  });
  await push(registry.host, 'app/arm', ['1'], arm);
  const name = `${registry.host}/app/arm:1`;
  const o = { platform: amd64, signal: new AbortController().signal };
  const got = await client.resolve(parseReference(name), o);
  assert.deepEqual(got.platform, { os: 'linux', architecture: 'arm64' });
  assert.equal(got.mediaType, mediaTypes.docker.manifest);
  await assert.rejects(client.resolve(parseReference(name), { ...o, isPlatformStrict: true }), {
    status: 404,
    message: `image with reference ${name} was found but does not match the specified platform: wanted linux/amd64, actual: linux/arm64`,
  });
});
