import assert from 'node:assert/strict';
import { request } from 'node:http';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { fail } from '../../src/errors.ts';
import { type Log, silentLog } from '../../src/lib/log.ts';
import { readUntil, world } from './world.ts';

const tar = { 'Content-Type': 'application/x-tar' };

test('load is quiet unless it is told not to be', async (t) => {
  const heard: boolean[] = [];
  const load = async (_: unknown, { isQuiet }: { isQuiet: boolean }) => void heard.push(isQuiet);
  const api = await world(t, { engine: { archives: { load } } });
  for (const query of ['', '?quiet=1', '?quiet=true', '?quiet=0', '?quiet=false', '?quiet=']) {
    const { status, headers, text } = await api.call(`POST /images/load${query}`, {
      headers: tar,
      body: 'x',
    });
    assert.deepEqual([status, headers['content-type'], text], [200, 'application/json', '']);
  }
  assert.deepEqual(heard, [true, true, true, false, false, false]);
});

test('whatever fails in a load is told in the stream, and a bug is logged', async (t) => {
  const logged: string[] = [];
  const log: Log = { ...silentLog, error: (...[, message]: unknown[]) => void logged.push(String(message)) };
  const failures = [fail.invalidArchive('invalid tag "x"'), new Error('a bug')];
  const api = await world(t, {
    log,
    engine: {
      archives: {
        load: async () => {
          throw failures.shift();
        },
      },
    },
  });
  for (const message of ['invalid tag "x"', 'a bug']) {
    const answer = await api.call('POST /images/load', { headers: tar, body: 'x' });
    assert.deepEqual([answer.status, answer.json], [200, { errorDetail: { message }, error: message }]);
  }
  assert.deepEqual(logged, ['request failed by a bug']);
});

test('a client that sends everything before it reads gets the answer to what failed at once', async (t) => {
  const api = await world(t, {
    engine: { archives: { load: () => Promise.reject(fail.invalidArchive('no')) } },
  });
  const body = Buffer.alloc(5_000_000);
  const sent = request({
    socketPath: api.socket,
    path: '/images/load',
    method: 'POST',
    agent: false,
    headers: tar,
  });
  const answer = new Promise<string>((resolve, reject) => {
    sent.on('error', reject);
    sent.on('response', (response) => {
      // it reads no sooner than it has sent everything
      sent.once('finish', async () => {
        let text = '';
        for await (const chunk of response) text += chunk;
        resolve(text);
      });
    });
  });
  for (let part = 0; part < 5; part++) await new Promise((resolve) => sent.write(body, resolve));
  sent.end();
  assert.match(await answer, /"error":"no"/);
});

test('an interim answer asks for the body before it is read', async (t) => {
  const load = async (input: AsyncIterable<Buffer>) => {
    for await (const _ of input);
  };
  const api = await world(t, { engine: { archives: { load } } });
  const socket = await api.connect();
  socket.write('POST /images/load HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n');
  assert.match(await readUntil(socket, '\r\n\r\n'), /^HTTP\/1.1 100 Continue/);
  socket.write('tar');
  assert.match(await readUntil(socket, '\r\n\r\n'), /^HTTP\/1.1 200 OK/);
  socket.destroy();
});

test('save passes every name on; what breaks later cuts the connection', async (t) => {
  const asked: (readonly string[])[] = [];
  const save = async (names: readonly string[]) => {
    asked.push(names);
    if (names.includes('nope')) throw fail.noSuchImage('nope');
    return Readable.from(
      (async function* () {
        yield Buffer.from('half');
        if (names.includes('broken')) throw fail.corrupt('damaged');
      })(),
    );
  };
  const api = await world(t, { engine: { archives: { save } } });
  const whole = await api.call('GET /images/get?names=a%2Fb:1&names=c');
  assert.deepEqual(
    [whole.status, whole.headers['content-type'], whole.text],
    [200, 'application/x-tar', 'half'],
  );
  await api.call('GET /images/a/b:1/get');
  assert.deepEqual(asked, [['a/b:1', 'c'], ['a/b:1']]);
  const missing = await api.call('GET /images/get?names=nope');
  assert.deepEqual([missing.status, missing.json], [404, { message: 'No such image: nope' }]);
  await assert.rejects(api.call('GET /images/get?names=broken'), { code: 'ECONNRESET' });
});
