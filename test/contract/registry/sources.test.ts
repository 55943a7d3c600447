import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { IncomingHttpHeaders } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseReference } from '../../../src/lib/reference.ts';
import { InsecureHosts } from '../../../src/registry/insecure-hosts.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { discard, Transport } from '../../../src/registry/transport.ts';
import { makeCertificate } from '../../support/certificate.ts';
import { testConnections } from '../../support/connections.ts';
import { startFaultyProxy } from '../../support/faulty-proxy.ts';
import { registryUser, startRegistry } from '../../support/registry.ts';
import { makeBigLayer, makeImage, push } from '../../support/registry-images.ts';
import { startTokenServer } from '../../support/token-server.ts';
import { amd64, testClient } from './pull-suite.ts';

const stack = new AsyncDisposableStack();
const open = stack.use(await startRegistry());
const hub = stack.use(await startFaultyProxy(open.host));
const mirror = stack.use(await startFaultyProxy(open.host));
const layer = await makeBigLayer(500_000);
const image = makeImage({ layers: [layer] });
await push(open.host, 'library/web', ['1'], image);
const web = parseReference('web:1');
const blob = { digest: layer.digest, size: layer.blob.length };
const { signal } = new AbortController();

after(() => stack.disposeAsync());
beforeEach(() => {
  hub.reset();
  mirror.reset();
});

function mirrored(...mirrors: string[]): Registry {
  return testClient({ mirrors, hub: `http://${hub.host}` });
}

async function pull(client: Registry): Promise<void> {
  const got = await client.resolve(web, { auth: registryUser, platform: amd64, signal });
  assert.equal(got.digest, image.digest);
  const bytes = await buffer(client.blob(web, blob, { auth: registryUser, signal }));
  assert.ok(bytes.equals(layer.blob));
}

describe('mirrors of Docker Hub', () => {
  test('are asked first, and alone if they have it', async () => {
    await using client = mirrored(`http://${mirror.host}/`);
    await pull(client);
    assert.equal(hub.requests.length, 0);
    assert.equal(mirror.seen(/library\/web/).length, 3);
  });

  test('are given no credentials', async () => {
    mirror.fault({
      path: /./,
      do: { kind: 'status', status: 401, headers: { 'www-authenticate': 'Basic realm="give them to me"' } },
    });
    await using client = mirrored(`http://${mirror.host}`);
    await pull(client);
    assert.ok(mirror.requests.length > 0);
    assert.ok(mirror.requests.every(({ headers }) => headers.authorization === undefined));
  });

  for (const [name, fault] of [
    ['has nothing', { kind: 'status', status: 404, body: '{"errors":[{"code":"MANIFEST_UNKNOWN"}]}' }],
    ['is broken', { kind: 'status', status: 500 }],
    ['hangs up', { kind: 'hang up' }],
    ['says something else', { kind: 'status', status: 200, body: '{}' }],
  ] as const) {
    test(`are passed over: one that ${name}`, async () => {
      mirror.fault({ path: /library/, do: fault });
      await using client = mirrored(`http://${mirror.host}`);
      await pull(client);
      assert.equal(hub.seen(/library\/web/).length, 3);
    });
  }

  test('are passed over: one that is down, which is then left alone for a while', async () => {
    const gone = await startFaultyProxy(open.host);
    await gone[Symbol.asyncDispose]();
    await using client = mirrored(`http://${gone.host}`, `http://${mirror.host}`);
    const began = performance.now();
    await pull(client);
    assert.ok(performance.now() - began < 1000);
    assert.equal(mirror.seen(/library\/web/).length, 3);
  });

  test('may die in the middle of a blob: the hub continues it', async () => {
    await using client = mirrored(`http://${mirror.host}`);
    mirror.fault({ path: /blobs/, after: 1, times: 1, do: { kind: 'cut', afterBytes: 200_000 } });
    mirror.fault({ path: /blobs/, after: 1, do: { kind: 'hang up' } });
    await pull(client);
    assert.equal(hub.seen(/blobs/)[0]?.headers.range, 'bytes=200000-');
  });

  test('may give damaged blobs: the second try is the hub’s', async () => {
    await using client = mirrored(`http://${mirror.host}`);
    mirror.fault({ path: new RegExp(layer.digest), do: { kind: 'flip', atByte: 5 } });
    await assert.rejects(buffer(client.blob(web, blob, { signal })), { code: 'CORRUPT' });
    assert.ok((await buffer(client.blob(web, blob, { signal }))).equals(layer.blob));
    assert.equal(hub.seen(/blobs/).length, 1);
  });

  test('are for Docker Hub alone', async () => {
    await push(open.host, 'own/app', ['1'], image);
    await using client = mirrored(`http://${mirror.host}`);
    await client.resolve(parseReference(`${open.host}/own/app:1`), { platform: amd64, signal });
    assert.equal(mirror.requests.length, 0);
  });

  test('what the hub itself says is what people are told', async () => {
    mirror.fault({ path: /library/, do: { kind: 'status', status: 500 } });
    await using client = mirrored(`http://${mirror.host}`);
    await assert.rejects(client.resolve(parseReference('web:nope'), { platform: amd64, signal }), {
      message: 'manifest for web:nope not found: manifest unknown: manifest unknown',
    });
  });

  test('a bad address is told at once', () => {
    for (const url of [
      'nonsense',
      'ftp://mirror',
      'https://user:pass@mirror',
      'https://mirror/path',
      'https://m/?q',
    ]) {
      assert.throws(
        () => testClient({ mirrors: [url] }),
        { code: 'CONFIG', message: /^invalid mirror: / },
        url,
      );
    }
  });
});

describe('redirects', () => {
  test('to another host take no credentials along, and ranges begin at the registry again', async () => {
    await using guarded = await startRegistry({ isPasswordWanted: true, storage: open.storage });
    await using front = await startFaultyProxy(guarded.host);
    front.fault({ path: /blobs/, do: { kind: 'redirect', to: mirror.host } });
    mirror.fault({ path: new RegExp(layer.digest), do: { kind: 'cut', afterBytes: 300_000 } });
    await using client = testClient();
    const ref = parseReference(`${front.host}/library/web:1`);
    await client.resolve(ref, { auth: registryUser, platform: amd64, signal });
    const bytes = await buffer(client.blob(ref, blob, { auth: registryUser, signal }));
    assert.ok(bytes.equals(layer.blob));
    assert.ok(
      front.seen(/library/).every(({ headers }, at) => at === 0 || headers.authorization !== undefined),
    );
    assert.ok(mirror.requests.length > 0);
    assert.ok(mirror.requests.every(({ headers }) => headers.authorization === undefined));
    assert.equal(mirror.seen(new RegExp(layer.digest))[1]?.headers.range, 'bytes=300000-');
  });

  test('within a host keep them', async () => {
    await using guarded = await startRegistry({ isPasswordWanted: true, storage: open.storage });
    await using front = await startFaultyProxy(guarded.host);
    await using client = testClient();
    front.fault({ path: /manifests/, times: 1, do: { kind: 'redirect', to: front.host } });
    const ref = parseReference(`${front.host}/library/web:1`);
    const got = await client.resolve(ref, { auth: registryUser, platform: amd64, signal });
    assert.equal(got.digest, image.digest);
  });
});

describe('tokens', () => {
  test('one serves a whole pull; one that is no longer taken is renewed in the middle', async () => {
    await using tokenServer = await startTokenServer({ users: { bob: 'secret' } });
    await using guarded = await startRegistry({ tokenServer, storage: open.storage });
    await using front = await startFaultyProxy(guarded.host);
    await using client = testClient();
    const ref = parseReference(`${front.host}/library/web:1`);
    const o = { auth: { username: 'bob', password: 'secret' }, signal };
    await client.resolve(ref, { ...o, platform: amd64 });
    assert.deepEqual(tokenServer.requests, [
      { method: 'GET', user: 'bob', scope: 'repository:library/web:pull', client: '' },
    ]);
    front.fault({ path: /blobs/, times: 1, do: { kind: 'cut', afterBytes: 200_000 } });
    const headers = {
      'www-authenticate': `Bearer realm="${tokenServer.realm}",service="${tokenServer.service}"`,
    };
    const used = front.seen(/blobs/)[0]?.headers.authorization;
    const isUsed = (of: IncomingHttpHeaders) => of.authorization === used;
    front.fault({ path: /blobs/, when: isUsed, do: { kind: 'status', status: 401, headers } });
    const streams = [client.blob(ref, blob, o), client.blob(ref, blob, o)];
    for (const bytes of await Promise.all(streams.map((stream) => buffer(stream)))) {
      assert.ok(bytes.equals(layer.blob));
    }
    assert.equal(tokenServer.requests.length, 2, 'both wanted a new one and shared it');
  });

  test('of one user or repository are not another’s', async () => {
    await using tokenServer = await startTokenServer({ users: { bob: 'secret', eve: 'other' } });
    await using guarded = await startRegistry({ tokenServer, storage: open.storage });
    await using client = testClient();
    const ref = parseReference(`${guarded.host}/library/web:1`);
    const resolveAs = (username: string, password: string) =>
      client.resolve(ref, { auth: { username, password }, platform: amd64, signal });
    await resolveAs('bob', 'secret');
    await resolveAs('eve', 'other');
    await resolveAs('bob', 'secret');
    assert.deepEqual(
      tokenServer.requests.map(({ user }) => user),
      ['bob', 'eve'],
    );
    const url = `http://${guarded.host}/v2/library/web/manifests/1`;
    await assert.rejects(resolveAs('bob', 'guess'), {
      message: `Get "${url}": unauthorized: incorrect username or password`,
    });
  });

  test('a registry token is passed on as it is', async () => {
    await using client = testClient();
    const headers = { 'www-authenticate': 'Bearer realm="http://127.0.0.1:1/never-asked"' };
    hub.fault({ path: /^\/v2\/$/, do: { kind: 'status', status: 401, headers } });
    const ref = parseReference(`${hub.host}/library/web:1`);
    await client.resolve(ref, { auth: { registryToken: 'given' }, platform: amd64, signal });
    assert.equal(hub.seen(/manifests/)[0]?.headers.authorization, 'Bearer given');
  });

  test('a wrong password for Basic authentication', async () => {
    await using guarded = await startRegistry({ isPasswordWanted: true, storage: open.storage });
    await using client = testClient();
    const ref = parseReference(`${guarded.host}/library/web:1`);
    const auth = { ...registryUser, password: 'guess' };
    await assert.rejects(client.resolve(ref, { auth, platform: amd64, signal }), {
      status: 500,
      message: 'unauthorized: authentication required',
    });
  });
});

describe('connections', () => {
  test('are used again, by many blobs under one signal', async (t) => {
    const warn = t.mock.method(process, 'emitWarning', () => {});
    await using client = testClient();
    const ref = parseReference(`${hub.host}/library/web:1`);
    for (let at = 0; at < 3; at++) await buffer(client.blob(ref, blob, { signal }));
    assert.equal(new Set(hub.seen(/blobs/).map(({ port }) => port)).size, 1);
    const many = Array.from({ length: 24 }, () => buffer(client.blob(ref, blob, { signal })));
    for (const bytes of await Promise.all(many)) assert.ok(bytes.equals(layer.blob));
    assert.ok(new Set(hub.seen(/blobs/).map(({ port }) => port)).size <= 16);
    assert.equal(warn.mock.callCount(), 0);
  });

  test('that a server closed while nobody used them cost no try', async () => {
    await using transport = new Transport({
      userAgent: 'tests',
      stallMs: 2000,
      insecure: new InsecureHosts([]),
      connections: testConnections(),
    });
    const url = new URL(`http://${hub.host}/v2/`);
    const send = async () => discard((await transport.send(url, { isVerified: false, signal })).body);
    await send();
    await sleep(20);
    hub.fault({ path: /./, times: 1, do: { kind: 'hang up' } });
    await send();
    assert.deepEqual(
      hub.requests.map(({ fault }) => fault),
      [undefined, 'hang up', undefined],
    );
    assert.equal(hub.requests[0]?.port, hub.requests[1]?.port);
  });
});

describe('TLS', () => {
  const limits = { userAgent: 'tests', stallMs: 2000 };
  const send = async (url: string, isVerified: boolean) => {
    await using transport = new Transport({
      ...limits,
      insecure: new InsecureHosts([]),
      connections: testConnections(),
    });
    return await transport.send(new URL(url), { isVerified, signal });
  };

  test('a certificate that nobody vouches for is refused, unless any will do', async () => {
    await using secure = await startRegistry({ certificate: await makeCertificate() });
    const url = `https://${secure.host}/v2/`;
    await assert.rejects(send(url, true), {
      message: `Get "${url}": x509: certificate signed by unknown authority`,
      isPassing: false,
    });
    assert.equal((await send(url, false)).status, 200);
  });

  test('a server that does not speak it', async () => {
    const url = `https://${open.host}/v2/`;
    await assert.rejects(send(url, true), {
      message: `Get "${url}": http: server gave HTTP response to HTTPS client`,
    });
  });

  test('is not left by a redirect, except to a host where it is not wanted', async () => {
    const { certificate, key } = await makeCertificate();
    const directory = await mkdtemp(join(tmpdir(), 'skt-bundle-'));
    const bundle = join(directory, 'bundle.crt'); // this machine's administrator vouches for it
    await writeFile(bundle, certificate);
    const server = createServer({ cert: certificate, key }, (_request, response) => {
      response.writeHead(302, { location: `http://${open.host}/v2/` }).end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const sendWith = async (isInsecure: boolean) => {
      await using transport = new Transport({
        ...limits,
        insecure: { has: async () => isInsecure },
        connections: testConnections({ bundles: [`${bundle}.none`, bundle] }),
      });
      return (await transport.send(new URL(`https://127.0.0.1:${port}/`), { isVerified: true, signal }))
        .status;
    };
    try {
      await assert.rejects(sendWith(false), { message: /redirect from https to http: "http:/ });
      assert.equal(await sendWith(true), 200);
    } finally {
      server.close();
      await rm(directory, { recursive: true });
    }
  });
});
