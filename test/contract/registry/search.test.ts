import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, beforeEach, describe, test } from 'node:test';
import { testClient } from './pull-suite.ts';

/** An index as far as a search needs one: real ones of version 1 are gone, and Docker Hub's is not ours to ask. */
let answer: (request: IncomingMessage, response: ServerResponse) => void = () => {};
const seen: { url: string; authorization: string | undefined }[] = [];
const server = createServer((request, response) => {
  seen.push({ url: request.url ?? '', authorization: request.headers.authorization });
  if (request.url === '/v1/_ping') response.end('{}');
  else answer(request, response);
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
const client = testClient({ index: `http://${host}` });
const { signal } = new AbortController();

const debian = {
  name: 'debian',
  description: 'A system',
  star_count: 9,
  is_official: true,
  is_automated: false,
};

beforeEach(() => {
  seen.length = 0;
  answer = (_request, response) => void response.end(JSON.stringify({ results: [debian, {}] }));
});
after(async () => {
  server.close();
  await client[Symbol.asyncDispose]();
});

describe('search', () => {
  test('of Docker Hub: what is official is asked for by its short name', async () => {
    const auth = { username: 'bob', password: 'secret' };
    const found = await client.search({ term: 'library/deb & co', limit: 7, auth }, { signal });
    assert.deepEqual(found, [
      { name: 'debian', description: 'A system', stars: 9, isOfficial: true, isAutomated: false },
      { name: '', description: '', stars: 0, isOfficial: false, isAutomated: false },
    ]);
    const authorization = `Basic ${Buffer.from('bob:secret').toString('base64')}`;
    assert.deepEqual(seen, [{ url: '/v1/search?q=deb+%26+co&n=7', authorization }]);
  });

  test('of another index, which the term names: it must answer a ping', async () => {
    assert.equal((await client.search({ term: `${host}/library/x`, limit: 25 }, { signal })).length, 2);
    assert.deepEqual(
      seen.map(({ url }) => url),
      ['/v1/_ping', '/v1/search?q=library%2Fx&n=25'],
    );
  });

  test('of an index that is not there', async () => {
    await assert.rejects(client.search({ term: '127.0.0.1:1/x', limit: 25 }, { signal }), {
      status: 400,
      message:
        'invalid registry endpoint "http://127.0.0.1:1/v1/". HTTPS attempt: Get "https://127.0.0.1:1/v1/_ping": dial tcp 127.0.0.1:1: connect: connection refused. HTTP attempt: Get "http://127.0.0.1:1/v1/_ping": dial tcp 127.0.0.1:1: connect: connection refused',
    });
    await assert.rejects(client.search({ term: 'no.such.host.invalid/x', limit: 25 }, { signal }), {
      status: 400,
      message:
        /^invalid registry endpoint https:\/\/no\.such\.host\.invalid\/v1\/: Get "https:.*simply place the CA certificate at \/etc\/docker\/certs\.d\/no\.such\.host\.invalid\/ca\.crt$/,
    });
    await assert.rejects(client.search({ term: 'https://hub/x', limit: 25 }, { signal }), {
      status: 400,
      message: 'invalid repository name: repository name (https://hub/x) should not have a scheme',
    });
  });

  const wrong: [name: string, status: number, body: string, message: RegExp][] = [
    ['an error', 503, 'busy', /^Unexpected status code 503$/],
    ['no JSON', 200, '<html>', /^error decoding registry search results: /],
    ['something else', 200, '{"results":7}', /do not have the form of results$/],
    ['far too much', 200, ' '.repeat(5_000_000), /are larger than 4194304 bytes$/],
  ];
  for (const [name, status, body, message] of wrong) {
    test(`an index that gives ${name}`, async () => {
      answer = (_request, response) => void response.writeHead(status).end(body);
      await assert.rejects(client.search({ term: 'x', limit: 25 }, { signal }), { status: 500, message });
    });
  }
});
