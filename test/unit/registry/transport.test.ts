import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { after, test } from 'node:test';
import { type Outgoing, readBounded, Transport } from '../../../src/registry/transport.ts';
import { testConnections } from '../../support/connections.ts';

const stallMs = 1000;
const stack = new AsyncDisposableStack();
const transport = stack.use(
  new Transport({
    userAgent: 'test',
    stallMs,
    insecure: { has: async () => false },
    connections: testConnections(),
  }),
);
after(() => stack.disposeAsync());

/** A server on loopback; its address. */
async function serve(answer: (req: IncomingMessage, res: ServerResponse) => unknown): Promise<URL> {
  const server = createServer({ keepAliveTimeout: 0 }, (req, res) => void answer(req, res));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  stack.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/path`);
}

const send = (url: URL, o: Partial<Outgoing>) =>
  transport.send(url, { isVerified: true, signal: AbortSignal.timeout(10_000), ...o });

/** So many bytes, then perhaps an error; tells whether it was destroyed. */
function bytes(count: number, error?: Error): Readable {
  let left = count;
  return new Readable({
    read(size) {
      const next = Math.min(left, size);
      left -= next;
      if (next > 0) this.push(Buffer.alloc(next, 7));
      else if (error) this.destroy(error);
      else this.push(null);
    },
  });
}

test('a body of unknown length arrives as it is', async () => {
  let got: [string | undefined, string | undefined, number] | undefined;
  const url = await serve(async (req, res) => {
    got = [req.method, req.headers['transfer-encoding'], (await buffer(req)).length];
    res.writeHead(202).end();
  });
  const { status } = await send(url, { method: 'PATCH', body: () => bytes(3_000_000) });
  assert.deepEqual([status, got], [202, ['PATCH', 'chunked', 3_000_000]]);
});

test('a body that fails is thrown as it is, and the server sees no end of it', async () => {
  let isWhole: boolean | undefined;
  const url = await serve(async (req) => {
    isWhole = await buffer(req).then(
      () => true,
      () => false,
    );
  });
  const failure = new Error('the disk is gone');
  await assert.rejects(
    send(url, { method: 'PATCH', body: () => bytes(100_000, failure) }),
    (e) => e === failure,
  );
  while (isWhole === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(isWhole, false);
});

test('an answer before the end of the body is heard, the body is let go, the connection given up', {
  timeout: 10_000,
}, async () => {
  const gone: Promise<unknown>[] = [];
  const url = await serve((req, res) => {
    gone.push(new Promise((resolve) => req.socket.on('error', () => {}).once('close', resolve)));
    req.once('data', () => {
      res.writeHead(413, { 'content-length': 2 }).end('no');
    });
  });
  for (let round = 0; round < 2; round++) {
    const body = bytes(500_000_000);
    const answer = await send(url, { method: 'PATCH', body: () => body });
    const text = await readBounded(answer, 100, { stallMs, signal: AbortSignal.timeout(5000) });
    assert.deepEqual([answer.status, text?.toString(), body.destroyed], [413, 'no', true]);
  }
  assert.equal((await Promise.all(gone)).length, 2);
});

test('a server that takes nothing more is given up', async () => {
  const url = await serve((req) => void req.pause());
  const began = performance.now();
  const body = bytes(500_000_000);
  await assert.rejects(send(url, { method: 'PATCH', body: () => body }), {
    message: `Patch "${url.href}": write: i/o timeout`,
    isPassing: true,
  });
  assert.ok(performance.now() - began < 10 * stallMs);
  assert.ok(body.destroyed);
});

test('a server may think for longer than it may be silent, if it is given the time', async () => {
  const url = await serve(async (req, res) => {
    await buffer(req);
    setTimeout(() => res.writeHead(201).end(), 2 * stallMs);
  });
  assert.equal((await send(url, { method: 'PUT', answerMs: 10 * stallMs })).status, 201);
  assert.equal(
    (await send(url, { method: 'PATCH', answerMs: 10 * stallMs, body: () => bytes(10) })).status,
    201,
  );
  await assert.rejects(send(url, { method: 'PUT' }), /timeout awaiting response headers/);
  await assert.rejects(
    send(url, { method: 'PATCH', body: () => bytes(10) }),
    /timeout awaiting response headers/,
  );
});

test('a body of ours that takes its time is not the silence of the server', async () => {
  const url = await serve(async (req, res) => void res.writeHead(202).end(`${(await buffer(req)).length}`));
  async function* slow() {
    yield Buffer.alloc(100_000);
    await new Promise((resolve) => setTimeout(resolve, 2 * stallMs));
    yield Buffer.alloc(1);
  }
  assert.equal((await send(url, { method: 'PATCH', body: () => Readable.from(slow()) })).status, 202);
});

test('a redirect of a change is followed as it is, without credentials; a form stays where it was meant for', async () => {
  const seen: unknown[] = [];
  const target = await serve(async (req, res) => {
    seen.push([req.method, req.headers.authorization, (await buffer(req)).length]);
    res.writeHead(202).end();
  });
  const url = await serve(async (req, res) => {
    await buffer(req);
    res.writeHead(Number(req.headers['x-status'] ?? 307), { location: target.href }).end();
  });
  const headers = { authorization: 'Basic x' };
  assert.equal((await send(url, { method: 'PATCH', headers, body: () => bytes(70_000) })).status, 202);
  assert.equal((await send(url, { method: 'POST', headers })).status, 202);
  assert.equal((await send(url, { method: 'POST', payload: 'refresh_token=x' })).status, 307);
  assert.equal((await send(url, { method: 'PUT', headers: { 'x-status': '302' } })).status, 302);
  assert.deepEqual(seen, [
    ['PATCH', undefined, 70_000],
    ['POST', undefined, 0],
  ]);
});

test('a request that is aborted lets go of its body', async () => {
  const url = await serve((req) => void req.resume());
  const abort = new AbortController();
  const body = bytes(5_000_000_000);
  const sent = send(url, { method: 'PATCH', body: () => body, signal: abort.signal });
  setTimeout(() => abort.abort(new Error('left')), 50);
  await assert.rejects(sent, /left/);
  assert.ok(body.destroyed);
});
