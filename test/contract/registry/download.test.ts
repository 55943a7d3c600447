import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { after, test } from 'node:test';
import { testClient } from './pull-suite.ts';

const answers: Record<string, (response: ServerResponse) => void> = {
  '/secret': (response) => response.end(response.req.headers.authorization),
  '/file': (response) => response.writeHead(200, { 'Content-Length': 7 }).end('content'),
  '/moved': (response) => response.writeHead(302, { Location: '/file' }).end(),
  '/chunks': (response) => response.writeHead(200).end('content'),
  '/gone': (response) => response.writeHead(404).end(' no such file\n'),
  '/broken': (response) => response.writeHead(502).end('x'.repeat(100_000)),
  '/cut': (response) => {
    response.writeHead(200, { 'Content-Length': 1000 }).write('half');
    setTimeout(() => response.destroy(), 20);
  },
  '/still': (response) => void response.writeHead(200, { 'Content-Length': 1000 }).write('half'),
};

const server = createServer(({ url = '' }, response) => answers[url]?.(response)).listen(0, '127.0.0.1');
await once(server, 'listening');
const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
const client = testClient({ stallMs: 300 });
const signal = AbortSignal.timeout(20_000);
const get = (path: string) => client.download(new URL(base + path), { signal });

after(async () => {
  await client[Symbol.asyncDispose]();
  server.closeAllConnections();
  server.close();
});

test('a file comes as it is, with its size where the server tells, also from elsewhere', async () => {
  for (const [path, totalBytes] of [
    ['/file', 7],
    ['/moved', 7],
    ['/chunks', undefined],
  ] as const) {
    const download = await get(path);
    assert.deepEqual([download.url.href, download.totalBytes], [base + path, totalBytes]);
    assert.equal((await buffer(download.body)).toString(), 'content');
  }
});

test('credentials in the URL are sent, and told to nobody', async () => {
  const download = await client.download(new URL(`${base.replace('//', '//me:p%40ss@')}/secret`), { signal });
  assert.equal((await buffer(download.body)).toString(), `Basic ${btoa('me:p@ss')}`);
  assert.equal(download.url.href, `${base}/secret`);
});

test('refusals are told with the server’s own words', async () => {
  await assert.rejects(get('/gone'), {
    status: 404,
    message: `failed to GET ${base}/gone with status 404 Not Found: no such file`,
  });
  await assert.rejects(get('/broken'), {
    status: 500,
    message: `failed to GET ${base}/broken with status 502 Bad Gateway: `,
  });
});

test('what breaks off or stands still is never taken for the whole', async () => {
  await assert.rejects(buffer((await get('/cut')).body), { code: 'REGISTRY_UNREACHABLE' });
  await assert.rejects(buffer((await get('/still')).body), { code: 'REGISTRY_UNREACHABLE' });
});

test('one that nobody wants any more is let go', async () => {
  const abort = new AbortController();
  const { body } = await client.download(new URL(`${base}/still`), { signal: abort.signal });
  const reason = new Error('enough');
  setTimeout(() => abort.abort(reason), 50);
  await assert.rejects(buffer(body), reason);
});
