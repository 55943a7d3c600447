import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import { type AddressInfo, createServer as createSilent } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, beforeEach, describe, test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { parseReference } from '../../../src/lib/reference.ts';
import { InsecureHosts } from '../../../src/registry/insecure-hosts.ts';
import { discard, Transport } from '../../../src/registry/transport.ts';
import { makeAuthority } from '../../support/certificate.ts';
import { testConnections } from '../../support/connections.ts';
import { startFaultyProxy } from '../../support/faulty-proxy.ts';
import { startForwardProxy } from '../../support/forward-proxy.ts';
import { registryUser, startRegistry } from '../../support/registry.ts';
import { makeBigLayer, makeImage, push } from '../../support/registry-images.ts';
import { amd64, testClient } from './pull-suite.ts';

// Hosts have names that no resolver knows: whatever reaches them went through the proxy.
const stack = new AsyncDisposableStack();
const open = stack.use(await startRegistry());
const authority = await makeAuthority();
const certificate = await authority.issue('DNS:reg.test,DNS:other.test,IP:127.0.0.1');
const secure = stack.use(await startRegistry({ certificate, isPasswordWanted: true, storage: open.storage }));
const places = {
  'reg.test:443': secure.host,
  'reg.test:5000': secure.host,
  'plain.test:80': open.host,
  'plain.test:5000': open.host,
};
const proxy = stack.use(await startForwardProxy({ user: 'eve:p@ss', places }));
const proxyUrl = proxy.url.replace('p@ss', 'p%40ss');
const layer = await makeBigLayer(300_000);
const image = makeImage({ layers: [layer] });
await push(open.host, 'app/web', ['1'], image);

const directory = await mkdtemp(join(tmpdir(), 'skt-ways-'));
stack.defer(() => rm(directory, { recursive: true }));
const certificates = [join(directory, 'certs.d')];
await mkdir(join(directory, 'certs.d/reg.test:5000'), { recursive: true });
await writeFile(join(directory, 'certs.d/reg.test:5000/ca.crt'), authority.certificate);
const { signal } = new AbortController();
const patient = { userAgent: 'tests', stallMs: 1500, insecure: new InsecureHosts([]) };

after(() => stack.disposeAsync());
beforeEach(() => {
  proxy.forget();
  proxy.refuse(undefined);
});

describe('through a proxy', () => {
  const proxies = { http: proxyUrl, https: proxyUrl, no: 'other.test' };

  test('an image comes from a registry behind https, which is checked against its own authority', async () => {
    await using client = testClient({ proxies, certificates });
    const ref = parseReference('reg.test:5000/app/web:1');
    const got = await client.resolve(ref, { auth: registryUser, platform: amd64, signal });
    assert.equal(got.digest, image.digest);
    const blob = { digest: layer.digest, size: layer.blob.length };
    assert.ok((await buffer(client.blob(ref, blob, { auth: registryUser, signal }))).equals(layer.blob));
    const authorization = `Basic ${Buffer.from('eve:p@ss').toString('base64')}`;
    assert.deepEqual(proxy.requests, [{ method: 'CONNECT', target: 'reg.test:5000', authorization }]);
  });

  test('an image comes from a registry without TLS; the proxy’s password is not for it', async () => {
    await using client = testClient({ proxies, insecure: ['plain.test:5000'] });
    await using front = await startFaultyProxy(open.host);
    await using own = await startForwardProxy({ user: 'a:b', places: { 'plain.test:5000': front.host } });
    await using through = testClient({
      proxies: { http: own.url, https: own.url, no: '' },
      insecure: ['plain.test:5000'],
    });
    for (const one of [client, through]) {
      const ref = parseReference('plain.test:5000/app/web:1');
      const got = await one.resolve(ref, { auth: registryUser, platform: amd64, signal });
      assert.equal(got.digest, image.digest);
    }
    const [tunnel, ...plain] = proxy.requests.map(({ method, target }) => `${method} ${target}`);
    assert.equal(tunnel, 'CONNECT plain.test:5000'); // https is tried first, even where it is not wanted
    assert.ok(plain.length >= 3);
    for (const one of plain) assert.match(one, /^GET http:\/\/plain\.test:5000\/v2\//);
    assert.ok(front.requests.length > 0);
    assert.ok(front.requests.every(({ headers }) => headers['proxy-authorization'] === undefined));
    assert.ok(front.requests.every(({ headers }) => headers.host === 'plain.test:5000'));
  });

  test('that speaks https itself', async () => {
    const own = await makeAuthority();
    const bundle = join(directory, 'system.crt');
    await writeFile(bundle, own.certificate);
    await using secured = await startForwardProxy({ certificate: await own.issue('IP:127.0.0.1'), places });
    const settings = { http: secured.url, https: secured.url };
    const connections = testConnections({ proxies: settings, certificates, bundles: [bundle] });
    await using transport = new Transport({ ...patient, connections });
    for (const [url, status] of [
      ['https://reg.test:5000/v2/', 401],
      ['http://plain.test:5000/v2/', 200],
    ] as const) {
      const answer = await transport.send(new URL(url), { isVerified: true, signal });
      discard(answer.body);
      assert.equal(answer.status, status);
    }
    assert.deepEqual(
      secured.requests.map(({ method }) => method),
      ['CONNECT', 'GET'],
    );
  });

  test('that says no, is down, or is none', async () => {
    const send = async (url: string, settings: object = proxies) => {
      const connections = testConnections({ proxies: settings, certificates });
      await using transport = new Transport({ ...patient, connections });
      await transport.send(new URL(url), { isVerified: true, signal });
    };
    const url = 'https://reg.test:5000/v2/';
    for (const [status, words, isPassing] of [
      [403, 'Forbidden', false],
      [407, 'Proxy Authentication Required', false],
      [502, 'Bad Gateway', true],
    ] as const) {
      proxy.refuse(status);
      await assert.rejects(send(url), { message: `Get "${url}": ${words}`, isPassing });
    }
    const down = 'http://127.0.0.1:1';
    for (const each of [url, 'http://plain.test/v2/']) {
      await assert.rejects(send(each, { http: down, https: down }), {
        message: `Get "${each}": proxyconnect tcp: dial tcp 127.0.0.1:1: connect: connection refused`,
        isUnreachable: true,
      });
    }
    await assert.rejects(send(url, { https: 'socks5://a:secret@b' }), {
      message: 'proxyconnect tcp: unsupported proxy scheme "socks5"',
    });
  });

  test('that does not answer is given up', async (t) => {
    const silent = createSilent((socket) => t.after(() => socket.destroy())).listen(0, '127.0.0.1');
    t.after(() => silent.close());
    await once(silent, 'listening');
    const https = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    const connections = testConnections({ proxies: { https }, stallMs: 200 });
    await using transport = new Transport({ ...patient, connections });
    const o = { isVerified: true, signal: AbortSignal.timeout(3000) };
    await assert.rejects(transport.send(new URL('https://reg.test/'), o), {
      message: /^Get "https:\/\/reg\.test\/": proxyconnect tcp: /,
    });
  });

  test('that does not answer holds nobody who leaves', async (t) => {
    const silent = createSilent((socket) => t.after(() => socket.destroy())).listen(0, '127.0.0.1');
    t.after(() => silent.close());
    await once(silent, 'listening');
    const https = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    await using transport = new Transport({
      ...patient,
      connections: testConnections({ proxies: { https }, stallMs: 2000 }),
    });
    const began = performance.now();
    const o = { isVerified: true, signal: AbortSignal.timeout(100) };
    await assert.rejects(transport.send(new URL('https://reg.test/'), o), { name: 'TimeoutError' });
    assert.ok(performance.now() - began < 1000);
  });

  test('not where NO_PROXY names the host, nor to this machine', async () => {
    const connections = testConnections({ proxies, certificates });
    await using transport = new Transport({ ...patient, connections });
    const to = (url: string) => transport.send(new URL(url), { isVerified: true, signal });
    await assert.rejects(to('https://other.test/v2/'), { message: /lookup other\.test/ });
    discard((await to(`http://${open.host}/v2/`)).body);
    assert.deepEqual(proxy.requests, []);
  });
});

describe("a registry's own certificates", () => {
  const server = createServer(
    { cert: certificate.certificate, key: certificate.key },
    (request, response) => {
      if (request.url !== '/away') return void response.end('here');
      response.writeHead(302, { location: `https://127.0.0.1:${otherPort()}/` }).end();
    },
  );
  const other = createServer(
    { cert: certificate.certificate, key: certificate.key },
    (_request, response) => {
      response.end('other');
    },
  );
  const otherPort = () => (other.address() as AddressInfo).port;

  test('are trusted for it and where it leads, and not for others', async (t) => {
    for (const one of [server, other]) await once(one.listen(0, '127.0.0.1'), 'listening');
    t.after(() => {
      for (const one of [server, other]) one.close();
    });
    const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const place = join(directory, 'certs.d', host);
    const connections = testConnections({ certificates });
    await using transport = new Transport({ ...patient, connections });
    const ask = async (url: string, o: object = {}) => {
      const answer = await transport.send(new URL(url), { isVerified: true, signal, ...o });
      return (await buffer(answer.body)).toString();
    };
    const unknown = { message: /x509: certificate signed by unknown authority$/, isPassing: false };
    await assert.rejects(ask(`https://${host}/`), unknown);
    await mkdir(place, { recursive: true });
    await writeFile(join(place, 'ca.crt'), authority.certificate); // counts at once
    assert.equal(await ask(`https://${host}/`), 'here');
    assert.equal(await ask(`https://${host}/away`), 'other');
    await assert.rejects(ask(`https://127.0.0.1:${otherPort()}/`), unknown);
    assert.equal(await ask(`https://127.0.0.1:${otherPort()}/`, { certificatesOf: host }), 'other');
  });

  test('show who we are where a registry wants to know', async (t) => {
    const asking = createServer(
      {
        cert: certificate.certificate,
        key: certificate.key,
        ca: authority.certificate,
        requestCert: true,
        rejectUnauthorized: true,
      },
      (request, response) => {
        const { subject } = (request.socket as TLSSocket).getPeerCertificate();
        response.end(subject.CN);
      },
    );
    await once(asking.listen(0, '127.0.0.1'), 'listening');
    t.after(() => asking.close());
    const asked = `127.0.0.1:${(asking.address() as AddressInfo).port}`;
    const place = join(directory, 'certs.d', asked);
    await mkdir(place, { recursive: true });
    await writeFile(join(place, 'ca.crt'), authority.certificate);
    await using transport = new Transport({ ...patient, connections: testConnections({ certificates }) });
    const ask = async () => {
      const answer = await transport.send(new URL(`https://${asked}/`), { isVerified: true, signal });
      return (await buffer(answer.body)).toString();
    };
    await assert.rejects(ask());
    const client = await authority.issue('DNS:board.test');
    await writeFile(join(place, 'client.key'), client.key);
    await assert.rejects(ask(), {
      message: 'missing client certificate client.cert for key client.key',
    });
    await writeFile(join(place, 'client.cert'), client.certificate);
    assert.equal(await ask(), 'skerry tests');
  });
});
