import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import test, { type TestContext } from 'node:test';
import type { ClientStreams } from '../../src/api/session.ts';
import { fail } from '../../src/errors.ts';
import { readAll, readUntil, type World, world } from './world.ts';

const handshake = [
  'Host: d',
  'Upgrade: websocket',
  'Connection: keep-alive, Upgrade',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  'Sec-WebSocket-Version: 13',
].join('\r\n');

/** An engine whose processes give back what they hear, and the wishes that came to it. */
function echo() {
  const wishes: object[] = [];
  const pump = async ({ input, output, isFramed }: ClientStreams) => {
    assert.equal(isFramed, false);
    for await (const chunk of input as AsyncIterable<Buffer>) {
      output.write(chunk);
      if (chunk.includes('end')) return;
    }
  };
  const attach = async (_: string, wish: object) => {
    wishes.push(wish);
    return { isTty: false, pump };
  };
  return { wishes, engine: { io: { attach } } };
}

/** Node's own websocket, which knows no Unix sockets. */
async function dial(t: TestContext, w: World, path: string): Promise<WebSocket> {
  const bridge = createServer((near) => {
    const far = connect(w.socket);
    near.pipe(far).pipe(near);
    near.on('error', () => far.destroy());
    far.on('error', () => near.destroy());
  });
  bridge.listen(0, '127.0.0.1');
  await once(bridge, 'listening');
  t.after(() => bridge.close());
  const address = bridge.address();
  assert.ok(address !== null && typeof address === 'object');
  const socket = new WebSocket(`ws://127.0.0.1:${address.port}${path}`);
  socket.binaryType = 'arraybuffer';
  await once(socket, 'open');
  return socket;
}

async function message(socket: WebSocket): Promise<string> {
  const [event] = await once(socket, 'message');
  return typeof event.data === 'string' ? event.data : Buffer.from(event.data).toString('latin1');
}

test("Node's websocket: messages both ways, of any size, and a clean close by the server", async (t) => {
  const w = await world(t, { engine: echo().engine });
  const socket = await dial(t, w, '/v1.45/containers/web/attach/ws?stream=1&stdin=1&stdout=1');
  socket.send('hi');
  assert.equal(await message(socket), 'hi');
  const heard: string[] = [];
  let bytes = 0;
  socket.addEventListener('message', ({ data }) => {
    heard.push(typeof data);
    bytes += data.byteLength;
  });
  const closed = once(socket, 'close');
  socket.send(Buffer.alloc(1_000_000, 'x'));
  socket.send('end');
  const [{ code, wasClean }] = await closed;
  assert.deepEqual([code, wasClean, bytes], [1000, true, 1_000_003]);
  assert.ok(heard.every((type) => type === 'object'));
});

test('a close by the client is the end of stdin and of the session', async (t) => {
  const w = await world(t, { engine: echo().engine });
  const socket = await dial(t, w, '/containers/web/attach/ws?stream=1&stdin=1&stdout=1');
  const closed = once(socket, 'close');
  socket.close(1000);
  const [{ wasClean }] = await closed;
  assert.equal(wasClean, true);
});

test('the handshake, byte by byte', async (t) => {
  const w = await world(t, { engine: echo().engine });
  const socket = await w.connect();
  socket.write(
    `GET /containers/web/attach/ws?stream=1 HTTP/1.1\r\n${handshake}\r\nSec-WebSocket-Protocol: tty\r\n\r\n`,
  );
  assert.equal(
    await readUntil(socket, '\r\n\r\n'),
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: tty\r\n\r\n',
  );
  socket.write(Buffer.from('8983000000006162638883000000000000ff', 'hex').subarray(0, 9)); // ping "abc", mask 0
  assert.equal((await readUntil(socket, 'abc')).length, 5);
  socket.write(Buffer.from('8101', 'hex')); // not masked
  assert.equal(Buffer.from(await readAll(socket), 'latin1').toString('hex'), '880203ea');
});

test('G044 and B128: before 1.42 all streams, before 1.28 text', async (t) => {
  const { wishes, engine } = echo();
  const w = await world(t, { engine });
  const text = await dial(t, w, '/v1.27/containers/web/attach/ws?stream=1');
  text.send('old');
  const [{ data }] = await once(text, 'message');
  assert.equal(data, 'old');
  for (const path of [
    '/v1.41/containers/web/attach/ws?stdout=0',
    '/v1.42/containers/web/attach/ws?stdout=1&detachKeys=a',
  ]) {
    (await dial(t, w, path)).close();
  }
  const base = { logs: false, stream: false };
  assert.deepEqual(wishes, [
    { ...base, stdin: true, stdout: true, stderr: true, stream: true },
    { ...base, stdin: true, stdout: true, stderr: true },
    { ...base, stdin: false, stdout: true, stderr: false, detachKeys: 'a' },
  ]);
});

test('who does not want a websocket gets a bare 400, who names no container a JSON 404', async (t) => {
  const { raw } = await world(t, { engine: echo().engine }).then((w) => ({ raw: w.raw.bind(w) }));
  assert.equal(
    await raw('GET /containers/web/attach/ws HTTP/1.1\r\nHost: d\r\n\r\n'),
    'HTTP/1.1 400 Bad Request\r\n\r\nnot websocket protocol',
  );
  const refuse = async (): Promise<never> => {
    throw fail.noSuchContainer('nope');
  };
  const none = await world(t, { engine: { io: { attach: refuse } } });
  const answer = await none.raw(`GET /containers/nope/attach/ws HTTP/1.1\r\n${handshake}\r\n\r\n`);
  assert.match(answer, /^HTTP\/1\.1 404 Not Found\r\n.*\{"message":"No such container: nope"\}/s);
});
