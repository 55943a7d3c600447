import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { after, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestOf } from '../../../src/lib/digest.ts';
import { parseReference } from '../../../src/lib/reference.ts';
import type { RegistryAuth } from '../../../src/registry/registry.ts';
import { makeCertificate } from '../../support/certificate.ts';
import { FakeRepositories } from '../../support/fake-repositories.ts';
import { type FaultRule, startFaultyProxy } from '../../support/faulty-proxy.ts';
import { registryUser, startRegistry } from '../../support/registry.ts';
import { makeImage, mediaTypes } from '../../support/registry-images.ts';
import { startTokenServer } from '../../support/token-server.ts';
import { testClient } from './pull-suite.ts';
import { pushSuite, type Way } from './push-suite.ts';

// One storage with an open door, by which everything that was pushed is looked at.
const stack = new AsyncDisposableStack();
const open = stack.use(await startRegistry());
const proxy = stack.use(await startFaultyProxy(open.host));
const client = stack.use(testClient());
after(() => stack.disposeAsync());

function wayTo(host: string, auth?: RegistryAuth, by = client): Way {
  const accept = Object.values(mediaTypes)
    .map(({ manifest }) => manifest)
    .join(', ');
  const read = async (path: string) => {
    const response = await fetch(`http://${open.host}/v2/${path}`, { headers: { accept } });
    const bytes = Buffer.from(await response.arrayBuffer());
    return response.ok ? { bytes, mediaType: response.headers.get('content-type') ?? '' } : undefined;
  };
  const signal = AbortSignal.timeout(60_000);
  return {
    target: (repository) =>
      by.destination(parseReference(`${host}/${repository}:1`), { ...(auth && { auth }), signal }),
    blob: async (repository, digest) => (await read(`${repository}/blobs/${digest}`))?.bytes,
    manifest: (repository, tag) => read(`${repository}/manifests/${tag}`),
  };
}

async function guarded(options: Parameters<typeof startRegistry>[0]): Promise<string> {
  return stack.use(await startRegistry({ ...options, storage: open.storage })).host;
}

async function faulty(...faults: FaultRule[]): Promise<Way> {
  const inFront = stack.use(await startFaultyProxy(open.host));
  for (const fault of faults) inFront.fault(fault);
  return wayTo(inFront.host);
}

pushSuite('to the fake of the unit tests', async () => {
  const fake = new FakeRepositories();
  const name = (repository: string) => `127.0.0.1/${repository}`;
  return {
    target: async (repository) => fake.target(parseReference(name(repository))),
    blob: async (repository, digest) => fake.get(name(repository)).blobs.get(digestOrThrow(digest)),
    manifest: async (repository, tag) => fake.get(name(repository)).manifests.get(tag),
  };
});
pushSuite('straight', async () => wayTo(open.host));
pushSuite('with a password', async () => wayTo(await guarded({ isPasswordWanted: true }), registryUser));
pushSuite('over TLS with a certificate that nobody knows, on loopback', async () =>
  wayTo(await guarded({ certificate: await makeCertificate() })),
);
pushSuite('with tokens for a user', async () => {
  const tokenServer = stack.use(await startTokenServer({ users: { bob: 'secret' } }));
  return wayTo(await guarded({ tokenServer }), { username: 'bob', password: 'secret' });
});
pushSuite('with tokens for the identity token of a login', async () => {
  const tokenServer = stack.use(await startTokenServer({ users: { bob: 'secret' } }));
  return wayTo(await guarded({ tokenServer }), { identityToken: tokenServer.identityToken('bob') });
});
pushSuite('with connections that hang up now and then', () =>
  faulty(
    { path: /uploads/, method: 'POST', times: 1, do: { kind: 'hang up' } },
    { path: /uploads/, method: 'PATCH', times: 2, do: { kind: 'hang up' } },
    { path: /uploads/, method: 'PUT', after: 1, times: 1, do: { kind: 'hang up' } },
    { path: /manifests/, times: 1, do: { kind: 'hang up' } },
  ),
);
pushSuite('with uploads that are cut', () =>
  faulty(
    { path: /uploads/, method: 'PATCH', times: 2, do: { kind: 'cut upload', afterBytes: 100_000 } },
    { path: /uploads/, method: 'PATCH', after: 1, times: 2, do: { kind: 'cut upload', afterBytes: 1 } },
  ),
);
pushSuite('with a server that is busy at first', () =>
  faulty(
    { path: /uploads/, times: 1, do: { kind: 'status', status: 429, headers: { 'retry-after': '0' } } },
    { path: /uploads/, method: 'PATCH', times: 1, do: { kind: 'status', status: 503 } },
    { path: /uploads/, method: 'PUT', times: 1, do: { kind: 'status', status: 500 } },
    { path: /blobs/, method: 'HEAD', times: 2, do: { kind: 'status', status: 502 } },
    { path: /manifests/, times: 2, do: { kind: 'status', status: 502 } },
  ),
);
pushSuite('with a server that forgets uploads', () =>
  faulty(
    { path: /uploads\/./, method: 'PATCH', times: 1, do: { kind: 'status', status: 404 } },
    { path: /uploads\/./, method: 'PUT', after: 1, times: 1, do: { kind: 'status', status: 416 } },
  ),
);
pushSuite('with one stall', async () => {
  const inFront = stack.use(await startFaultyProxy(open.host));
  // all of it fits into the sockets' buffers: what is missing is the answer, for which there is ten times the patience
  const impatient = stack.use(testClient({ stallMs: 200 }));
  inFront.fault({
    path: /uploads/,
    method: 'PATCH',
    times: 1,
    do: { kind: 'stall upload', afterBytes: 1000 },
  });
  return wayTo(inFront.host, undefined, impatient);
});
pushSuite('with uploads that are sent on to another host', () =>
  faulty({ path: /uploads\/./, method: 'PATCH', do: { kind: 'redirect', to: open.host } }),
);

function digestOrThrow(text: string) {
  const digest = parseReference(`x@${text}`).digest;
  assert.ok(digest);
  return digest;
}

function errors(code: string, message: string): string {
  return JSON.stringify({ errors: [{ code, message }] });
}

/** Uploads that were begun through the proxy and neither finished nor taken back. */
function openUploads(): string[] {
  const begun = new Set<string>();
  for (const { method, path } of proxy.seen(/uploads\/./)) {
    const [upload = ''] = path.split('?');
    if (method === 'PATCH') begun.add(upload);
    else if (method === 'DELETE') begun.delete(upload);
  }
  return [...begun];
}

describe('a push that is refused', () => {
  beforeEach(() => proxy.reset());
  const bytes = randomBytes(200_000);
  const push = async (o: { onRetry?: () => void } = {}) => {
    const target = await wayTo(proxy.host).target('refused/image');
    return target.upload(() => Readable.from([bytes]), { signal: AbortSignal.timeout(20_000), ...o });
  };
  const answer = (method: string, status: number, body = ''): FaultRule => ({
    path: /uploads/,
    method,
    do: { kind: 'status', status, body },
  });
  const refusals: [string, FaultRule, { message: string | RegExp; tries: number }][] = [
    [
      'access denied',
      answer('POST', 403, errors('DENIED', '')),
      { message: 'denied: requested access to the resource is denied', tries: 1 },
    ],
    [
      'unauthorized',
      answer('POST', 401, errors('UNAUTHORIZED', '')),
      { message: 'unauthorized: authentication required', tries: 1 },
    ],
    [
      'in the middle',
      answer('PATCH', 403, errors('DENIED', 'no more of this')),
      { message: 'denied: no more of this', tries: 1 },
    ],
    [
      'too large',
      answer('PATCH', 413, '<html>'),
      { message: /^error parsing HTTP 413 response body: invalid character '<'/, tries: 1 },
    ],
    [
      'a server that stays broken',
      answer('PATCH', 500),
      { message: 'received unexpected HTTP status: 500 Internal Server Error', tries: 5 },
    ],
    [
      'bytes that always change on the way',
      answer('PUT', 400, errors('DIGEST_INVALID', 'provided digest did not match uploaded content')),
      { message: 'digest invalid: provided digest did not match uploaded content', tries: 5 },
    ],
    [
      'a connection that always breaks',
      { path: /uploads/, method: 'PATCH', do: { kind: 'cut upload', afterBytes: 70_000 } },
      { message: /^Patch "http:.*": (EOF|read: connection reset by peer|write: broken pipe)$/, tries: 5 },
    ],
  ];
  for (const [name, fault, { message, tries }] of refusals) {
    test(name, async () => {
      proxy.fault(fault);
      await assert.rejects(push(), { message });
      assert.equal(proxy.requests.filter(({ method }) => method === fault.method).length, tries);
      assert.deepEqual(openUploads(), []);
    });
  }

  test('no credentials', async () => {
    const target = await wayTo(await guarded({ isPasswordWanted: true })).target('refused/image');
    const upload = target.upload(() => Readable.from([bytes]), { signal: AbortSignal.timeout(5000) });
    await assert.rejects(upload, { message: 'no basic auth credentials' });
  });

  test('a manifest without its blobs', async () => {
    const target = await wayTo(proxy.host).target('refused/image');
    const image = makeImage({ layers: [], configFile: { comment: 'nowhere' } });
    const put = target.putManifest('1', image, { signal: AbortSignal.timeout(5000) });
    await assert.rejects(put, { message: /^manifest blob unknown: blob unknown to registry$/ });
  });

  test('nobody listens', async () => {
    await using gone = await startFaultyProxy('');
    await gone[Symbol.asyncDispose]();
    await assert.rejects(wayTo(gone.host).target('x'), {
      message: `Get "http://${gone.host}/v2/": dial tcp ${gone.host}: connect: connection refused`,
    });
  });
});

test('a token that is refused in mid-push is renewed, and the layer sent again', async () => {
  const tokenServer = stack.use(await startTokenServer({ users: { bob: 'secret' } }));
  const host = await guarded({ tokenServer });
  const inFront = stack.use(await startFaultyProxy(host));
  const challenge = `Bearer realm="${tokenServer.realm}",service="${tokenServer.service}"`;
  const refuse = { kind: 'status', status: 401, headers: { 'www-authenticate': challenge } } as const;
  inFront.fault({ path: /uploads/, method: 'PATCH', times: 1, do: refuse });
  inFront.fault({ path: /uploads/, method: 'PUT', times: 1, do: refuse });
  const auth = { username: 'bob', password: 'secret' };
  const target = await wayTo(inFront.host, auth).target('renewed/image');
  const bytes = randomBytes(300_000);
  const blob = await target.upload(() => Readable.from([bytes]), { signal: AbortSignal.timeout(20_000) });
  assert.equal(blob.digest, digestOf(bytes));
  assert.equal(inFront.requests.filter(({ method }) => method === 'POST').length, 1, 'one upload');
  assert.deepEqual(
    tokenServer.requests.map(({ scope }) => scope),
    Array(3).fill('repository:renewed/image:pull,push'),
  );
});

test('a client that leaves takes its upload back', async () => {
  proxy.reset();
  const target = await wayTo(proxy.host).target('left/image');
  const abort = new AbortController();
  const slow = async function* () {
    for (let piece = 0; ; piece++) {
      yield randomBytes(50_000);
      if (piece < 3) continue;
      while (openUploads().length === 0) await sleep(5);
      abort.abort(new Error('left'));
    }
  };
  await assert.rejects(
    target.upload(() => Readable.from(slow()), { signal: abort.signal }),
    /left/,
  );
  assert.deepEqual(openUploads(), []);
});

test('the seconds until the next try are told', async () => {
  proxy.reset();
  const busy = { kind: 'status', status: 503, headers: { 'retry-after': '1' } } as const;
  proxy.fault({ path: /uploads/, method: 'PATCH', times: 1, do: busy });
  const target = await wayTo(proxy.host).target('told/image');
  const told: number[] = [];
  const onRetry = (seconds: number) => void told.push(seconds);
  await target.upload(() => Readable.from(['x']), { onRetry, signal: AbortSignal.timeout(5000) });
  assert.deepEqual(told, [1]);
});

describe('where an upload is to go', () => {
  /** A registry that is no more than its uploads, which it wants at some place. */
  async function place(location: (own: string) => string, seen: IncomingMessage[]) {
    const bodies: Buffer[] = [];
    const answer = async (req: IncomingMessage, res: ServerResponse) => {
      seen.push(req);
      bodies.push(await buffer(req));
      const address = { location: location(`http://${req.headers.host}`) };
      if (req.url === '/v2/') res.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
      else res.writeHead(req.method === 'PUT' ? 201 : 202, address).end();
    };
    const server = createServer((req, res) => void answer(req, res));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    stack.defer(() => {
      server.closeAllConnections();
      server.close();
    });
    return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, bodies };
  }
  const asked = (seen: IncomingMessage[]) =>
    seen.filter(({ url }) => url !== '/v2/').map(({ method, url }) => `${method} ${url}`);
  const upload = async (host: string) => {
    const target = await wayTo(host, registryUser).target('some/image');
    return target.upload(() => Readable.from(['layer']), { signal: AbortSignal.timeout(5000) });
  };
  const digest = encodeURIComponent(digestOf('layer'));

  test('a path alone, with what is signed kept as it is', async () => {
    const seen: IncomingMessage[] = [];
    const { host } = await place(() => '/up/1?sig=a%2Bb+c&x', seen);
    await upload(host);
    assert.deepEqual(asked(seen), [
      'POST /v2/some/image/blobs/uploads/',
      'PATCH /up/1?sig=a%2Bb+c&x',
      `PUT /up/1?sig=a%2Bb+c&x&digest=${digest}`,
    ]);
    assert.ok(seen.slice(1).every(({ headers }) => headers.authorization !== undefined));
  });

  test('another host, which is given no credentials', async () => {
    const there: IncomingMessage[] = [];
    const other = await place((own) => `${own}/up/2`, there);
    const { host } = await place(() => `http://${other.host}/up/1`, []);
    await upload(host);
    assert.deepEqual(asked(there), ['PATCH /up/1', `PUT /up/2?digest=${digest}`]);
    assert.ok(there.every(({ headers }) => headers.authorization === undefined));
    assert.equal(Buffer.concat(other.bodies).toString(), 'layer');
  });

  test('nowhere, or no place that we go to', async () => {
    for (const bad of ['file:///etc/passwd', 'http://[', '']) {
      const { host } = await place(() => bad, []);
      await assert.rejects(upload(host), /unsupported protocol|Location header|no address/, bad);
    }
  });
});
