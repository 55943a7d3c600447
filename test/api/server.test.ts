import assert from 'node:assert/strict';
import { once } from 'node:events';
import test from 'node:test';
import { fail } from '../../src/errors.ts';
import { readUntil, world } from './world.ts';

test('what is no request gets a plain 400 and the end of the connection', async (t) => {
  const w = await world(t);
  const plain = 'Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n';
  assert.equal(await w.raw('nonsense\r\n\r\n'), `HTTP/1.1 400 Bad Request\r\n${plain}400 Bad Request`);
  assert.equal(
    await w.raw('GET /_ping HTTP/1.1\r\n\r\n'),
    `HTTP/1.1 400 Bad Request: missing required Host header\r\n${plain}400 Bad Request: missing required Host header`,
  );
  assert.match(
    await w.raw('GET /%zz HTTP/1.1\r\nHost: d\r\n\r\n'),
    /^HTTP\/1\.1 400 Bad Request\r\n.*400 Bad Request$/s,
  );
  assert.match(await w.raw('GET /_ping HTTP/1.0\r\n\r\n'), /^HTTP\/1\.1 200 OK\r\n/);
});

test('a header block may be large, up to 1 MiB', async (t) => {
  const w = await world(t);
  const ask = (bytes: number) =>
    w.raw(`GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\nX: ${'a'.repeat(bytes)}\r\n\r\n`);
  assert.match(await ask(1_000_000), /^HTTP\/1\.1 200 OK\r\n/);
  assert.match(await ask(1_100_000), /^HTTP\/1\.1 431 Request Header Fields Too Large\r\n/);
});

test('connections persist without saying so, and take an Upgrade that nobody wants as nothing', async (t) => {
  const w = await world(t);
  const socket = await w.connect();
  for (const extra of ['', 'Connection: Upgrade\r\nUpgrade: h2c\r\n', 'Connection: keep-alive\r\n']) {
    socket.write(`GET /_ping HTTP/1.1\r\nHost: d\r\n${extra}\r\n`);
    const head = await readUntil(socket, '\r\n\r\nOK');
    assert.match(head, /^HTTP\/1\.1 200 OK\r\n/);
    assert.doesNotMatch(head, /connection/i);
    assert.doesNotMatch(head, /keep-alive/i);
  }
  socket.destroy();
});

test('a body beside an Upgrade that nobody wants is read', async (t) => {
  const w = await world(t);
  const headers = { Connection: 'Upgrade', Upgrade: 'h2c' };
  const { status } = await w.call('POST /containers/web/exec', { headers, body: '{"Cmd":["a"]}' });
  assert.equal(status, 201);
});

test('two requests at once on a connection are answered in order', async (t) => {
  const w = await world(t);
  const answer = await w.raw(
    'GET /_ping HTTP/1.1\r\nHost: d\r\n\r\nGET /nothing HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n',
  );
  assert.match(answer, /^HTTP\/1\.1 200 OK\r\n.*OKHTTP\/1\.1 404 Not Found\r\n/s);
});

test('a client that closes its half early still gets its answer', async (t) => {
  const list = async () => {
    await new Promise((resolve) => setTimeout(resolve, 100));
    return [];
  };
  const w = await world(t, { engine: { containers: { list } } });
  const answer = await w.raw('GET /containers/json HTTP/1.0\r\n\r\n', { halfClose: true });
  assert.match(answer, /\r\n\r\n\[\]\n$/);
});

test('a client that closed its half is not waited for without end', async (t) => {
  const signals: AbortSignal[] = [];
  const wait = async (_: string, __: string, { signal }: { signal: AbortSignal }) => {
    signals.push(signal);
    return {
      exited: once(signal, 'abort').then((): never => {
        throw signal.reason;
      }),
    };
  };
  const w = await world(t, { engine: { io: { wait } } });
  const began = performance.now();
  await w.raw('POST /containers/web/wait HTTP/1.1\r\nHost: d\r\n\r\n', { halfClose: true }).catch(() => {});
  assert.ok(performance.now() - began > 400);
  assert.equal(signals[0]?.aborted, true);
});

test('a bug answers 500 with its message and is logged with its stack; a failure is logged by code', async (t) => {
  const logged: [string, object, string][] = [];
  const note = (level: string) => (facts: object, message: string) =>
    void logged.push([level, facts, message]);
  const log = { debug: note('debug'), info: note('info'), warn: note('warn'), error: note('error') };
  const inspect = async (ref: string): Promise<never> => {
    if (ref === 'bug') throw new TypeError('x is undefined');
    throw ref === 'disk' ? fail.noSpace('no space left on device') : fail.noSuchContainer(ref);
  };
  const w = await world(t, { log, engine: { containers: { inspect } } });
  const { status, json } = await w.call('GET /containers/bug/json');
  assert.equal(status, 500);
  assert.deepEqual(json, { message: 'x is undefined' });
  await w.call('GET /containers/disk/json');
  await w.call('GET /containers/nope/json');
  assert.deepEqual(
    logged.map(([level, facts]) => [level, 'code' in facts ? facts.code : undefined]),
    [
      ['error', undefined],
      ['warn', 'NO_SPACE'],
      ['debug', 'NO_SUCH_CONTAINER'],
    ],
  );
  const [, bug] = logged[0] ?? [];
  assert.match(String((bug as { err: Error }).err.stack), /TypeError/);
});

test('drain lets short requests finish and does not wait for ever', async (t) => {
  const list = async () => {
    await new Promise((resolve) => setTimeout(resolve, 100));
    return [];
  };
  const inspect = async (): Promise<never> => new Promise(() => {});
  const w = await world(t, { engine: { containers: { list, inspect } } });
  const short = w.call('GET /containers/json');
  await new Promise((resolve) => setTimeout(resolve, 20));
  await w.app.drain(5000);
  assert.equal((await short).status, 200);
  void w.call('GET /containers/web/json').catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 20));
  const began = performance.now();
  await w.app.drain(50);
  assert.ok(performance.now() - began < 2000);
});
