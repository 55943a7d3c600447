import assert from 'node:assert/strict';
import { once } from 'node:events';
import test from 'node:test';
import type { ClientStreams } from '../../src/api/session.ts';
import { fail } from '../../src/errors.ts';
import { frame } from '../../src/lib/frames.ts';
import type { Changes } from './fake-engine.ts';
import { readAll, readUntil, world } from './world.ts';

const RAW = 'Content-Type: application/vnd.docker.raw-stream\r\n';
const MULTIPLEXED = 'Content-Type: application/vnd.docker.multiplexed-stream\r\n';
const UPGRADE = 'Connection: Upgrade\r\nUpgrade: tcp\r\n';

/** A process that gives back what it hears, in frames unless it has a terminal, and ends with its stdin. */
function echo({ isTty = false } = {}): Changes {
  const pump = async ({ input, output, isFramed }: ClientStreams) => {
    for await (const chunk of input as AsyncIterable<Buffer>) {
      output.write(isFramed ? frame(1, chunk) : chunk);
    }
    output.write(isFramed ? frame(2, Buffer.from('bye')) : 'bye');
  };
  return {
    io: { attach: async () => ({ isTty, pump }) },
    execs: { start: async (_, o) => ({ ...o, pump }) },
  };
}

function framed(stream: 1 | 2, text: string): string {
  return frame(stream, Buffer.from(text)).toString('latin1');
}

test('attach with Upgrade answers 101 UPGRADED with three headers and nothing else', async (t) => {
  const { raw } = bind(await world(t, { engine: echo() }));
  const request = `POST /containers/web/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: d\r\n${UPGRADE}\r\n`;
  assert.equal(
    await raw(`${request}hi`, { halfClose: true }),
    `HTTP/1.1 101 UPGRADED\r\n${MULTIPLEXED}${UPGRADE}\r\n${framed(1, 'hi')}${framed(2, 'bye')}`,
  );
});

test('attach without Upgrade answers 200 and one header; bytes sent with the request are stdin', async (t) => {
  const { raw } = bind(await world(t, { engine: echo({ isTty: true }) }));
  // what follows looks like a request, and is not one
  const stdin = 'GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n';
  assert.equal(
    await raw(`POST /containers/web/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: d\r\n\r\n${stdin}`, {
      halfClose: true,
    }),
    `HTTP/1.1 200 OK\r\n${RAW}\r\n${stdin}bye`,
  );
});

test('G041: the 101 of attach tells frames from raw bytes since 1.42', async (t) => {
  for (const isTty of [true, false]) {
    const { raw } = bind(await world(t, { engine: echo({ isTty }) }));
    for (const [version, type] of [
      ['1.41', RAW],
      ['1.42', isTty ? RAW : MULTIPLEXED],
    ]) {
      const request = `POST /v${version}/containers/web/attach?stream=1 HTTP/1.1\r\nHost: d\r\n${UPGRADE}\r\n`;
      const answer = await raw(request, { halfClose: true });
      assert.equal(answer.split('\r\n\r\n', 1)[0], `HTTP/1.1 101 UPGRADED\r\n${type}${UPGRADE}`.trimEnd());
    }
  }
});

test('the 200 form of attach is called raw in every version', async (t) => {
  const { raw } = bind(await world(t, { engine: echo() }));
  const answer = await raw('POST /v1.45/containers/web/attach?stream=1 HTTP/1.1\r\nHost: d\r\n\r\n', {
    halfClose: true,
  });
  assert.equal(answer, `HTTP/1.1 200 OK\r\n${RAW}\r\n${framed(2, 'bye')}`);
});

test('only the presence of Upgrade counts: its value and Connection do not matter', async (t) => {
  const { raw } = bind(await world(t, { engine: echo() }));
  const answer = await raw('POST /containers/web/attach HTTP/1.1\r\nHost: d\r\nUpgrade: whatever\r\n\r\n', {
    halfClose: true,
  });
  assert.match(answer, /^HTTP\/1\.1 101 UPGRADED\r\n/);
});

test('a conversation: each side hears the other at once, and a half-close is the end of stdin', async (t) => {
  const w = await world(t, { engine: echo({ isTty: true }) });
  const socket = await w.connect();
  socket.write(`POST /containers/web/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: d\r\n${UPGRADE}\r\n`);
  await readUntil(socket, '\r\n\r\n');
  for (const word of ['one', 'two']) {
    socket.write(word);
    assert.equal(await readUntil(socket, word), word);
  }
  socket.end();
  assert.equal(await readAll(socket), 'bye');
});

test('a body with a length is read before the stream begins, however it is cut', async (t) => {
  const w = await world(t, { engine: echo({ isTty: true }) });
  const request = `POST /exec/e1/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 12\r\n${UPGRADE}\r\n{"Tty":true}stdin`;
  for (const at of [10, 130, request.indexOf('{') + 3, request.length - 3]) {
    const socket = await w.connect();
    socket.write(request.slice(0, at));
    await new Promise((resolve) => setTimeout(resolve, 20));
    socket.end(request.slice(at));
    const answer = await readAll(socket);
    assert.equal(answer.slice(answer.indexOf('\r\n\r\n') + 4), 'stdinbye', `cut at ${at}`);
  }
});

test('attach needs no body: one of known length is dropped and is not stdin', async (t) => {
  const { raw } = bind(await world(t, { engine: echo({ isTty: true }) }));
  const answer = await raw(
    'POST /containers/web/attach?stream=1 HTTP/1.1\r\nHost: d\r\nContent-Length: 15\r\n\r\n{"stream":true}stdin',
    { halfClose: true },
  );
  assert.equal(answer.slice(answer.indexOf('\r\n\r\n') + 4), 'stdinbye');
});

test('a body in chunks is read to its end, and what follows is stdin', async (t) => {
  const { raw } = bind(await world(t, { engine: echo({ isTty: true }) }));
  const answer = await raw(
    `POST /exec/e1/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n` +
      '5;x=y\r\n{"Tty\r\n7\r\n":true}\r\n0\r\nTrailer: x\r\n\r\nstdin',
    { halfClose: true },
  );
  assert.equal(answer.slice(answer.indexOf('\r\n\r\n') + 4), 'stdinbye');
});

test('exec start carries the daemon headers behind the three of the handshake', async (t) => {
  const { raw } = bind(await world(t, { engine: echo(), ceiling: '1.41' }));
  const daemon =
    'Api-Version: 1.41\r\nDocker-Experimental: false\r\nOstype: linux\r\nServer: Docker/26.1.0 (linux)\r\n';
  const body = 'Content-Type: application/json\r\nContent-Length: 2\r\n';
  assert.equal(
    await raw(`POST /exec/e1/start HTTP/1.1\r\nHost: d\r\n${body}${UPGRADE}\r\n{}`, { halfClose: true }),
    `HTTP/1.1 101 UPGRADED\r\n${RAW}${UPGRADE}${daemon}\r\n${framed(2, 'bye')}`,
  );
  assert.equal(
    await raw(`POST /exec/e1/start HTTP/1.1\r\nHost: d\r\n${body}\r\n{}`, { halfClose: true }),
    `HTTP/1.1 200 OK\r\n${RAW}${daemon}\r\n${framed(2, 'bye')}`,
  );
});

test('G042: the 101 of exec start goes by the Tty of its own body since 1.42', async (t) => {
  const { raw } = bind(await world(t, { engine: echo() }));
  for (const [version, body, type] of [
    ['1.41', '{"Tty":false}', RAW],
    ['1.42', '{"Tty":false}', MULTIPLEXED],
    ['1.42', '{"Tty":true} ', RAW],
  ] as const) {
    const head = `Content-Type: application/json\r\nContent-Length: 13\r\n${UPGRADE}`;
    const answer = await raw(`POST /v${version}/exec/e1/start HTTP/1.1\r\nHost: d\r\n${head}\r\n${body}`, {
      halfClose: true,
    });
    assert.ok(answer.startsWith(`HTTP/1.1 101 UPGRADED\r\n${type}`), answer);
  }
});

test('errors before the stream: bare text on attach, JSON on exec start', async (t) => {
  const refuse = async (): Promise<never> => {
    throw fail.noSuchContainer('nope');
  };
  const exec = async (id: string): Promise<never> => {
    throw fail.noSuchExec(id);
  };
  const w = await world(t, {
    engine: { io: { attach: refuse }, execs: { start: exec, startDetached: exec } },
  });
  for (const head of ['', UPGRADE]) {
    assert.equal(
      await w.raw(`POST /containers/nope/attach HTTP/1.1\r\nHost: d\r\n${head}\r\n`),
      `HTTP/1.1 404 Not Found\r\n${RAW}\r\nNo such container: nope\r\n`,
    );
    for (const isDetached of [true, false]) {
      const answer = await w.call('POST /exec/e1/start', { body: JSON.stringify({ Detach: isDetached }) });
      assert.equal(answer.status, 404);
      assert.deepEqual(answer.json, { message: 'No such exec instance: e1' });
      assert.equal(answer.headers['api-version'], '1.45');
    }
  }
});

test('errors of negotiation come as JSON on routes that hijack, too', async (t) => {
  const { raw, call } = bind(await world(t));
  const answer = await raw(`POST /v1.99/containers/web/attach HTTP/1.1\r\nHost: d\r\n${UPGRADE}\r\n`);
  assert.match(
    answer,
    /^HTTP\/1\.1 400 Bad Request\r\n.*\r\n\r\n\{"message":"client version 1\.99 is too new/s,
  );
  assert.equal((await call('POST /containers//attach')).status, 301);
});

test('exec start detached answers 200 with an empty body and ordinary headers', async (t) => {
  const started: string[] = [];
  const w = await world(t, { engine: { execs: { startDetached: async (id) => void started.push(id) } } });
  const answer = await w.call('POST /exec/e1/start', { body: '{"Detach":true}' });
  assert.equal(answer.status, 200);
  assert.equal(answer.text, '');
  assert.equal(answer.headers['content-length'], '0');
  assert.equal(answer.headers['docker-experimental'], 'false');
  assert.deepEqual(started, ['e1']);
});

test('a failure after the handshake is told in the stream', async (t) => {
  const pump = async () => {
    throw new Error('the pipe broke');
  };
  const w = await world(t, { engine: { io: { attach: async () => ({ isTty: true, pump }) } } });
  assert.equal(
    await w.raw('POST /containers/web/attach HTTP/1.1\r\nHost: d\r\n\r\n'),
    `HTTP/1.1 200 OK\r\n${RAW}\r\nError attaching: the pipe broke\n`,
  );
});

test('a client that leaves aborts the session, and so does a shutdown', async (t) => {
  const sessions: { signal: AbortSignal; over: Promise<unknown> }[] = [];
  const pump = async ({ input, signal }: ClientStreams) => {
    const over = once(signal, 'abort');
    sessions.push({ signal, over });
    input.resume();
    await over;
  };
  const w = await world(t, { engine: { io: { attach: async () => ({ isTty: true, pump }) } } });
  const attach = async () => {
    const socket = await w.connect();
    socket.write('POST /containers/web/attach HTTP/1.1\r\nHost: d\r\n\r\n');
    await readUntil(socket, '\r\n\r\n');
    return socket;
  };
  const first = await attach();
  first.end();
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(sessions[0]?.signal.aborted, false, 'a half-close is no departure');
  const second = await attach();
  await w.app.drain(1000);
  await Promise.all(sessions.map(({ over }) => over));
  assert.equal(await readAll(second), '');
});

test('the terminal is resized by rows and columns, in this order of checks', async (t) => {
  const sizes: object[] = [];
  const resize = async (_: string, size: object) => void sizes.push(size);
  const w = await world(t, { engine: { io: { resize }, execs: { resize } } });
  for (const path of ['/containers/web/resize', '/exec/e1/resize']) {
    const answer = await w.call(`POST ${path}?h=24&w=80`);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers['content-length'], '0');
    const { status, json } = await w.call(`POST ${path}?w=80`);
    assert.equal(status, 400);
    assert.deepEqual(json, { message: 'strconv.Atoi: parsing "": invalid syntax' });
    assert.deepEqual((await w.call(`POST ${path}?h=1&w=x`)).json, {
      message: 'strconv.Atoi: parsing "x": invalid syntax',
    });
  }
  assert.deepEqual(sizes, [
    { rows: 24, columns: 80 },
    { rows: 24, columns: 80 },
  ]);
});

/** The world's calls without the world, for tests that need no more. */
function bind<T extends { raw: unknown; call: unknown }>(w: T): Pick<T, 'raw' | 'call'> {
  const call = w.call as (...args: unknown[]) => unknown;
  const raw = w.raw as (...args: unknown[]) => unknown;
  return { call: call.bind(w), raw: raw.bind(w) } as Pick<T, 'raw' | 'call'>;
}
