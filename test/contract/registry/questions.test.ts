import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { parseReference } from '../../../src/lib/reference.ts';
import { makeCertificate } from '../../support/certificate.ts';
import { startFaultyProxy } from '../../support/faulty-proxy.ts';
import { registryUser, startRegistry } from '../../support/registry.ts';
import { makeImage, makeIndex, makeLayer, mediaTypes, push } from '../../support/registry-images.ts';
import { startTokenServer } from '../../support/token-server.ts';
import { testClient } from './pull-suite.ts';

const stack = new AsyncDisposableStack();
const open = stack.use(await startRegistry());
const { storage } = open;
const guarded = stack.use(await startRegistry({ isPasswordWanted: true, storage }));
const tokenServer = stack.use(
  await startTokenServer({ users: { bob: 'secret' }, givesIdentityTokens: true }),
);
const tokened = stack.use(await startRegistry({ tokenServer, storage }));
const client = stack.use(testClient());
const { signal } = new AbortController();
const bob = { username: 'bob', password: 'secret' };

after(() => stack.disposeAsync());

describe('login', () => {
  test('with a password, at an address of any form', async () => {
    for (const serverAddress of [guarded.host, `http://${guarded.host}`, `https://${guarded.host}/v1/`]) {
      assert.equal(await client.login({ ...registryUser, serverAddress }, { signal }), '');
    }
  });

  test('with a wrong password', async () => {
    const auth = { ...registryUser, password: 'guess', serverAddress: guarded.host };
    await assert.rejects(client.login(auth, { signal }), {
      status: 500,
      message: `login attempt to http://${guarded.host}/v2/ failed with status: 401 Unauthorized`,
    });
    await assert.rejects(client.login({ serverAddress: guarded.host }, { signal }), {
      status: 500,
      message: `Get "http://${guarded.host}/v2/": no basic auth credentials`,
    });
  });

  test('at a token server gives an identity token, which logs in as well and pulls', async () => {
    await push(open.host, 'app/web', ['1'], makeImage({ layers: [] }));
    const identityToken = await client.login({ ...bob, serverAddress: tokened.host }, { signal });
    assert.equal(identityToken, tokenServer.identityToken('bob'));
    assert.equal(await client.login({ identityToken, serverAddress: tokened.host }, { signal }), '');
    assert.deepEqual(
      tokenServer.requests.map(({ method, user, client: name }) => [method, user, name]),
      [
        ['GET', 'bob', 'skerry'],
        ['POST', 'bob', 'skerry'],
      ],
    );
    const ref = parseReference(`${tokened.host}/app/web:1`);
    await client.inspect(ref, { auth: { identityToken }, signal });
  });

  test('that a token server refuses is a 401', async () => {
    const auth = { ...bob, password: 'guess', serverAddress: tokened.host };
    await assert.rejects(client.login(auth, { signal }), {
      status: 401,
      message: `Get "http://${tokened.host}/v2/": unauthorized: incorrect username or password`,
    });
  });

  test('where nobody asks for a password succeeds; where nobody listens it says so', async () => {
    assert.equal(await client.login({ ...bob, serverAddress: open.host }, { signal }), '');
    await assert.rejects(client.login({ ...bob, serverAddress: 'http://127.0.0.1:1' }, { signal }), {
      status: 500,
      message: 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
    });
    await assert.rejects(client.login({ ...bob, serverAddress: 'http://a b' }, { signal }), {
      status: 400,
      message: 'unable to parse server address: parse "http://a b": invalid URL',
    });
  });

  test('for Docker Hub goes to Docker Hub and to no mirror of it', async () => {
    await using mirror = await startFaultyProxy(guarded.host);
    await using hub = await startFaultyProxy(guarded.host);
    await using hubs = testClient({ hub: `http://${hub.host}`, mirrors: [`http://${mirror.host}`] });
    for (const serverAddress of ['https://index.docker.io/v1/', 'docker.io', '', undefined]) {
      const address = serverAddress !== undefined && { serverAddress };
      await hubs.login({ ...registryUser, ...address }, { signal });
    }
    assert.equal(hub.seen(/\/v2\//).length, 5, 'one to find out, and one for each login');
    assert.equal(mirror.requests.length, 0);
  });

  test('credentials do not follow to another host', async () => {
    await using front = await startFaultyProxy(guarded.host);
    await using other = await startFaultyProxy(guarded.host);
    await using fresh = testClient();
    front.fault({ path: /v2/, after: 1, do: { kind: 'redirect', to: other.host } });
    await assert.rejects(fresh.login({ ...registryUser, serverAddress: front.host }, { signal }));
    assert.ok(other.requests.length > 0);
    assert.ok(other.requests.every(({ headers }) => headers.authorization === undefined));
  });

  test('over TLS with a certificate that nobody vouches for, on loopback', async () => {
    const certificate = await makeCertificate();
    await using secure = await startRegistry({ isPasswordWanted: true, certificate, storage });
    assert.equal(await client.login({ ...registryUser, serverAddress: secure.host }, { signal }), '');
  });
});

describe('what a registry has under a name', () => {
  const find = (tail: string, auth?: object) =>
    client.inspect(parseReference(`${open.host}/app/${tail}`), { signal, ...(auth && { auth }) });

  test('an image: its manifest, and the platform that its config tells', async () => {
    const platform = { os: 'linux', architecture: 'arm', variant: 'v6' };
    const image = makeImage({ layers: [await makeLayer({ a: 'b' })], platform, dialect: 'docker' });
    await push(open.host, 'app/one', ['1'], image);
    const expected = { mediaType: image.mediaType, digest: image.digest, sizeBytes: image.bytes.length };
    for (const tail of ['one:1', `one@${image.digest}`]) {
      const { platforms, ...found } = await find(tail);
      assert.deepEqual(found, expected);
      assert.deepEqual(platforms[0], { ...platform, osVersion: '', osFeatures: [] });
    }
  });

  test('an index: every platform in it, and nothing of them is fetched', async () => {
    await using proxy = await startFaultyProxy(open.host);
    const windows = {
      os: 'windows',
      architecture: 'amd64',
      'os.version': '10.0.1',
      'os.features': ['win32k'],
    };
    const index = makeIndex([
      makeImage({ layers: [], platform: { os: 'linux', architecture: 'amd64' } }),
      makeImage({ layers: [], platform: windows }),
    ]);
    await push(open.host, 'app/all', ['latest'], index);
    const found = await client.inspect(parseReference(`${proxy.host}/app/all`), { signal });
    assert.equal(found.mediaType, mediaTypes.oci.index);
    assert.deepEqual(
      found.platforms.map(({ os, architecture, osVersion, osFeatures }) => [
        os,
        architecture,
        osVersion,
        osFeatures,
      ]),
      [
        ['linux', 'amd64', '', []],
        ['windows', 'amd64', '10.0.1', ['win32k']],
      ],
    );
    assert.equal(proxy.seen(/manifests|blobs/).length, 1);
  });

  test('in the registry’s own words where there is nothing', async () => {
    await assert.rejects(find('none:1'), { status: 404, message: 'manifest unknown: manifest unknown' });
    await using proxy = await startFaultyProxy(open.host);
    const refusals: [code: string, status: number, words: string][] = [
      ['UNAUTHORIZED', 401, 'unauthorized: authentication required'],
      ['DENIED', 403, 'denied: requested access to the resource is denied'],
      ['TOOMANYREQUESTS', 429, 'toomanyrequests: too many requests'],
      ['OWN', 500, 'unknown: unknown error'],
    ];
    for (const [code, status, message] of refusals) {
      const body = JSON.stringify({ errors: [{ code }] });
      proxy.reset();
      proxy.fault({ path: /manifests/, do: { kind: 'status', status: 403, body } });
      const ref = parseReference(`${proxy.host}/app/one:1`);
      await assert.rejects(client.inspect(ref, { signal }), { status, message });
    }
  });

  test('with a wrong password', async () => {
    const ref = parseReference(`${tokened.host}/app/web:1`);
    const url = `http://${tokened.host}/v2/app/web/manifests/1`;
    await assert.rejects(client.inspect(ref, { auth: { ...bob, password: 'guess' }, signal }), {
      status: 401,
      message: `Get "${url}": unauthorized: incorrect username or password`,
    });
  });
});
