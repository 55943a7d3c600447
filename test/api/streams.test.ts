import assert from 'node:assert/strict';
import { once } from 'node:events';
import test from 'node:test';
import type { EngineEvent, LogLine } from '../../src/api/engine-views.ts';
import type { Progress } from '../../src/engine/progress.ts';
import { fail } from '../../src/errors.ts';
import { frame } from '../../src/lib/frames.ts';
import { withResolvers } from '../../src/lib/promises.ts';
import type { Changes } from './fake-engine.ts';
import { readUntil, type World, world } from './world.ts';

/** Reads an answer's head on a bare connection and leaves the rest to come. */
async function ask(w: World, request: string) {
  const socket = await w.connect();
  socket.write(`${request} HTTP/1.1\r\nHost: d\r\n\r\n`);
  return { socket, head: await readUntil(socket, '\r\n\r\n') };
}

/** A chunk as it stands on the wire. */
function chunk(text: string): string {
  return `${text.length.toString(16)}\r\n${text}\r\n`;
}

// wait

test('wait: the headers come at once, the ending in its own time (B130)', async (t) => {
  const { promise: exited, resolve } = withResolvers<{ exitCode: number }>();
  const asked: string[] = [];
  const wait = async (_: string, condition: string) => {
    asked.push(condition);
    return { exited };
  };
  const w = await world(t, { engine: { io: { wait } } });
  const { socket, head } = await ask(w, 'POST /containers/web/wait?condition=next-exit');
  assert.match(head, /^HTTP\/1\.1 200 OK\r\n/);
  assert.match(head, /\r\nContent-Type: application\/json\r\n/);
  assert.match(head, /\r\nTransfer-Encoding: chunked\r\n/);
  const old = w.call('POST /v1.29/containers/web/wait?condition=next-exit');
  resolve({ exitCode: 7 });
  assert.equal(await readUntil(socket, '0\r\n\r\n'), `${chunk('{"StatusCode":7}\n')}0\r\n\r\n`);
  socket.destroy();
  const { headers, json } = await old;
  assert.deepEqual(json, { StatusCode: 7 });
  assert.ok(headers['content-length'], 'below 1.30 the whole answer comes at the end');
  assert.deepEqual(asked, ['next-exit', 'not-running']);
});

for (const [gate, [ceiling, version], ending, expected] of [
  ['G056', ['1.41', '1.41'], { exitCode: 0 }, '{"Error":null,"StatusCode":0}\n'],
  ['G056', ['1.42', '1.30'], { exitCode: 0 }, '{"StatusCode":0}\n'],
  ['G056', ['1.41', '1.41'], { exitCode: 1, error: 'x' }, '{"Error":{"Message":"x"},"StatusCode":1}\n'],
  ['B134', ['1.42', '1.33'], { exitCode: 1, error: 'x' }, ''],
  ['B134', ['1.42', '1.34'], { exitCode: 1, error: 'x' }, '{"Error":{"Message":"x"},"StatusCode":1}\n'],
] as const) {
  test(`${gate}: wait at ceiling ${ceiling}, request ${version}: ${JSON.stringify(expected)}`, async (t) => {
    const wait = async () => ({ exited: Promise.resolve(ending) });
    const w = await world(t, { ceiling, engine: { io: { wait } } });
    const { text } = await w.call(`POST /v${version}/containers/web/wait?condition=removed`);
    assert.equal(text, expected);
  });
}

test('G055: an unknown wait condition means not-running up to ceiling 1.41', async (t) => {
  const asked: string[] = [];
  const wait = async (_: string, condition: string) => {
    asked.push(condition);
    return { exited: Promise.resolve({ exitCode: 0 }) };
  };
  const old = await world(t, { ceiling: '1.41', engine: { io: { wait } } });
  assert.equal((await old.call('POST /containers/web/wait?condition=x')).status, 200);
  assert.deepEqual(asked, ['not-running']);
  const now = await world(t, { ceiling: '1.42', engine: { io: { wait } } });
  const { status, json } = await now.call('POST /v1.30/containers/web/wait?condition=x');
  assert.equal(status, 400);
  assert.deepEqual(json, { message: 'invalid condition: "x"' });
});

test('wait: no such container is an ordinary 404', async (t) => {
  const wait = async (ref: string): Promise<never> => {
    throw fail.noSuchContainer(ref);
  };
  const w = await world(t, { engine: { io: { wait } } });
  assert.equal((await w.call('POST /containers/nope/wait')).status, 404);
});

test('wait: a client that leaves ends the wait', async (t) => {
  const { promise: left, resolve } = withResolvers<void>();
  const wait = async (_: string, __: string, { signal }: { signal: AbortSignal }) => {
    const exited = once(signal, 'abort').then((): never => {
      resolve();
      throw signal.reason;
    });
    return { exited };
  };
  const w = await world(t, { engine: { io: { wait } } });
  const { socket } = await ask(w, 'POST /containers/web/wait');
  socket.destroy();
  await left;
});

// logs

const lines: LogLine[] = [
  { stream: 1, timeNanos: 1_700_000_000_000_000_000n, data: Buffer.from('out\n') },
  { stream: 2, timeNanos: 1_700_000_000_120_000_001n, data: Buffer.from('err') },
];

function logging(
  o: { isTty?: boolean; broken?: boolean; asked?: object[]; attributes?: Map<string, string> } = {},
): Changes {
  return {
    io: {
      logs: async (_, { signal, ...wish }) => {
        o.asked?.push(wish);
        async function* stored() {
          yield* lines;
          if (o.broken) throw new Error('the disk broke');
        }
        return { isTty: o.isTty ?? false, attributes: o.attributes ?? new Map(), lines: stored() };
      },
    },
  };
}

test('logs: one frame per line without a terminal, bare bytes with one', async (t) => {
  const framed = await world(t, { engine: logging() });
  const { text } = await framed.call('GET /containers/web/logs?stdout=1&stderr=1');
  assert.equal(text, `${frame(1, Buffer.from('out\n'))}${frame(2, Buffer.from('err'))}`);
  const raw = await world(t, { engine: logging({ isTty: true }) });
  assert.equal((await raw.call('GET /containers/web/logs?stdout=1')).text, 'out\nerr');
});

test('logs: timestamps have nine decimals always, details leave a blank', async (t) => {
  const w = await world(t, { engine: logging({ isTty: true }) });
  const ask = async (query: string) => (await w.call(`GET /containers/web/logs?stdout=1&${query}`)).text;
  assert.equal(
    await ask('timestamps=1'),
    '2023-11-14T22:13:20.000000000Z out\n2023-11-14T22:13:20.120000001Z err',
  );
  assert.equal(await ask('details=1'), ' out\n err');
  assert.match(await ask('details=1&timestamps=1'), /^2023-11-14T22:13:20\.000000000Z {2}out\n/);
});

test('logs: details are sorted, escaped as in a query, and come after the time', async (t) => {
  const attributes = new Map([
    ['tag', 'a b'],
    ['Q', "é!='x'"],
  ]);
  const w = await world(t, { engine: logging({ isTty: true, attributes }) });
  const { text } = await w.call('GET /containers/web/logs?stdout=1&details=1&timestamps=1');
  assert.match(text, /^2023-11-14T22:13:20\.000000000Z Q=%C3%A9%21%3D%27x%27,tag=a\+b out\n/);
});

test('logs: what is asked for', async (t) => {
  const asked: object[] = [];
  const w = await world(t, { engine: logging({ asked }) });
  const path = 'GET /containers/web/logs?stdout=1';
  await w.call(`${path}&follow=1&since=10&until=12.5&tail=3`);
  await w.call(`${path}&stderr=true&until=0&tail=all&since=1.000000007`);
  await w.call(`${path}&tail=-1`);
  await w.call(`${path}&tail=0`);
  const plain = { stdout: true, stderr: false, follow: false };
  assert.deepEqual(asked, [
    { ...plain, follow: true, since: 10_000_000_000n, until: 12_500_000_000n, tail: 3 },
    { ...plain, stderr: true, since: 1_000_000_007n },
    plain,
    { ...plain, tail: 0 },
  ]);
});

test('logs: refusals come before the container is looked up', async (t) => {
  const w = await world(t);
  const none = await w.call('GET /containers/nope/logs');
  assert.equal(none.status, 400);
  assert.deepEqual(none.json, { message: 'Bad parameters: you must choose at least one stream' });
  const bad = await w.call('GET /containers/nope/logs?stdout=1&since=zz');
  assert.equal(bad.status, 500);
  assert.deepEqual(bad.json, { message: 'strconv.ParseInt: parsing "zz": invalid syntax' });
});

test('logs: trouble in the middle is told in the stream, by the system’s own frame', async (t) => {
  const framed = await world(t, { engine: logging({ broken: true }) });
  const told = 'Error grabbing logs: the disk broke\n';
  const { text } = await framed.call('GET /containers/web/logs?stdout=1');
  assert.ok(text.endsWith(frame(3, Buffer.from(told)).toString()));
  const raw = await world(t, { engine: logging({ broken: true, isTty: true }) });
  assert.ok((await raw.call('GET /containers/web/logs?stdout=1')).text.endsWith(`err${told}`));
});

test('G040: logs have no content type up to ceiling 1.41, then raw, then by terminal', async (t) => {
  const raw = 'application/vnd.docker.raw-stream';
  for (const [ceiling, version, isTty, expected] of [
    ['1.41', '1.41', false, undefined],
    ['1.42', '1.41', false, raw],
    ['1.42', '1.42', false, 'application/vnd.docker.multiplexed-stream'],
    ['1.42', '1.42', true, raw],
  ] as const) {
    const w = await world(t, { ceiling, engine: logging({ isTty }) });
    const { headers } = await w.call(`GET /v${version}/containers/web/logs?stdout=1`);
    assert.equal(headers['content-type'], expected);
  }
});

test('logs: headers come before the first line, and a client that leaves ends the reading', async (t) => {
  const { promise: over, resolve } = withResolvers<void>();
  const engine: Changes = {
    io: {
      logs: async (_, { signal }) => {
        async function* silence(): AsyncGenerator<LogLine> {
          await once(signal, 'abort');
          resolve();
          yield* [];
        }
        return { isTty: false, attributes: new Map(), lines: silence() };
      },
    },
  };
  const w = await world(t, { engine });
  const { socket, head } = await ask(w, 'GET /containers/web/logs?stdout=1&follow=1');
  assert.match(head, /^HTTP\/1\.1 200 OK\r\n/);
  socket.destroy();
  await over;
});

test('logs: a client that does not read holds the reading back', async (t) => {
  let given = 0;
  async function* endless(): AsyncGenerator<LogLine> {
    for (; given < 10_000; given++) yield { stream: 1, timeNanos: 0n, data: Buffer.alloc(32 * 1024, 97) };
  }
  const w = await world(t, {
    engine: { io: { logs: async () => ({ isTty: true, attributes: new Map(), lines: endless() }) } },
  });
  const { socket } = await ask(w, 'GET /containers/web/logs?stdout=1');
  socket.pause();
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.ok(given < 200, `${given} lines were read for nobody`);
  socket.destroy();
});

// events

const event: EngineEvent = {
  type: 'container',
  action: 'start',
  actor: { id: 'c1', attributes: { image: 'a<b', name: 'web' } },
  timeNanos: 1_700_000_000_123_456_789n,
  scope: 'local',
};

function happening(events: EngineEvent[], asked: object[] = []): Changes {
  return {
    events: {
      async *subscribe({ signal, ...wish }) {
        asked.push(wish);
        yield* events;
        await once(signal, 'abort');
      },
    },
  };
}

test('events: headers at once, each event a chunk, with the fields of old and exact nanoseconds', async (t) => {
  const image = { ...event, type: 'image', action: 'pull', actor: { id: 'debian:12', attributes: {} } };
  const network = { ...event, type: 'network', action: 'connect', actor: { id: 'n1', attributes: {} } };
  const w = await world(t, { engine: happening([event, image, network]) });
  const { socket, head } = await ask(w, 'GET /events');
  assert.match(head, /\r\nContent-Type: application\/json\r\n/);
  const time = '"scope":"local","time":1700000000,"timeNano":1700000000123456789}\n';
  const expected = [
    `{"status":"start","id":"c1","from":"a\\u003cb","Type":"container","Action":"start","Actor":{"ID":"c1","Attributes":{"image":"a\\u003cb","name":"web"}},${time}`,
    `{"status":"pull","id":"debian:12","Type":"image","Action":"pull","Actor":{"ID":"debian:12","Attributes":{}},${time}`,
    `{"Type":"network","Action":"connect","Actor":{"ID":"n1","Attributes":{}},${time}`,
  ].map(chunk);
  for (const text of expected) assert.equal(await readUntil(socket, text), text);
  socket.destroy();
});

test('events: the span and the filters, in both their forms', async (t) => {
  const asked: object[] = [];
  const w = await world(t, { engine: happening([event], asked) });
  const filters = (value: object) => `filters=${encodeURIComponent(JSON.stringify(value))}`;
  for (const query of [
    '',
    'since=1.5',
    'until=99999999999',
    `since=1&until=2&${filters({ type: { container: true, image: false } })}`,
    filters({ type: ['container'], bogus: ['x', 'y'] }),
  ]) {
    const { socket } = await ask(w, `GET /events?${query}`);
    await readUntil(socket, 'timeNano');
    socket.destroy();
  }
  const none = new Map();
  assert.deepEqual(asked, [
    { filters: none },
    { since: 1_500_000_000n, filters: none },
    { since: 0n, until: 99_999_999_999_000_000_000n, filters: none },
    { since: 1_000_000_000n, until: 2_000_000_000n, filters: new Map([['type', ['container', 'image']]]) },
    {
      filters: new Map([
        ['type', ['container']],
        ['bogus', ['x', 'y']],
      ]),
    },
  ]);
});

test('events: times that make no sense', async (t) => {
  const w = await world(t);
  const backwards = await w.call('GET /events?since=100&until=1');
  assert.equal(backwards.status, 400);
  assert.deepEqual(backwards.json, {
    message: '`since` time (100) cannot be after `until` time (1)',
  });
  const bad = await w.call('GET /events?since=zz');
  assert.equal(bad.status, 500);
  assert.deepEqual(bad.json, { message: 'strconv.ParseInt: parsing "zz": invalid syntax' });
});

test('events: a shutdown ends the stream', async (t) => {
  const w = await world(t, { engine: happening([]) });
  const { socket } = await ask(w, 'GET /events');
  await w.app.drain(1000);
  assert.equal(await readUntil(socket, '0\r\n\r\n'), '0\r\n\r\n');
  socket.destroy();
});

// pull

function pulling(
  work: (progress: Progress, signal: AbortSignal) => Promise<void>,
  asked: object[] = [],
): Changes {
  return {
    pulls: {
      pull: async (request, { progress, signal }) => {
        asked.push(request);
        await work(progress, signal);
      },
    },
  };
}

test('pull: lines end in CR LF, and <, >, & are escaped', async (t) => {
  const engine = pulling(async (progress) => {
    progress({ status: 'Pulling from a&b', id: '<1>' });
    progress({ status: 'Downloading', progressDetail: { current: 1, total: 2 }, id: 'x' });
  });
  const { status, headers, text } = await (await world(t, { engine })).call(
    'POST /images/create?fromImage=a',
  );
  assert.equal(status, 200);
  assert.equal(headers['content-type'], 'application/json');
  assert.equal(
    text,
    '{"status":"Pulling from a\\u0026b","id":"\\u003c1\\u003e"}\r\n' +
      '{"status":"Downloading","progressDetail":{"current":1,"total":2},"id":"x"}\r\n',
  );
});

test('pull: an error before the first message is an HTTP error, after it a last line of the stream', async (t) => {
  const early = pulling(async () => {
    throw fail.manifestNotFound('a:1', 'manifest unknown: manifest unknown');
  });
  const { status, json } = await (await world(t, { engine: early })).call('POST /images/create?fromImage=a');
  assert.equal(status, 404);
  assert.deepEqual(json, { message: 'manifest for a:1 not found: manifest unknown: manifest unknown' });
  const late = pulling(async (progress) => {
    progress({ status: 'Pulling' });
    throw fail.corrupt('bad & ugly');
  });
  const answer = await (await world(t, { engine: late })).call('POST /images/create?fromImage=a');
  assert.equal(answer.status, 200);
  assert.equal(
    answer.text,
    '{"status":"Pulling"}\r\n{"errorDetail":{"message":"bad \\u0026 ugly"},"error":"bad \\u0026 ugly"}\r\n',
  );
});

test('pull: the first message is sent at once', async (t) => {
  const { promise, resolve } = withResolvers<void>();
  const engine = pulling(async (progress) => {
    progress({ status: 'Pulling' });
    await promise;
  });
  const { socket } = await ask(await world(t, { engine }), 'POST /images/create?fromImage=a');
  assert.equal(await readUntil(socket, '}\r\n'), '16\r\n{"status":"Pulling"}\r\n');
  resolve();
  socket.destroy();
});

test('pull: a client that leaves cancels it', async (t) => {
  const { promise, resolve } = withResolvers<void>();
  const engine = pulling(async (progress, signal) => {
    progress({ status: 'Pulling' });
    await once(signal, 'abort');
    resolve();
    signal.throwIfAborted();
  });
  const { socket } = await ask(await world(t, { engine }), 'POST /images/create?fromImage=a');
  socket.destroy();
  await promise;
});

test('pull: what is asked for; a body and an unreadable login are ignored', async (t) => {
  const asked: object[] = [];
  const w = await world(t, { engine: pulling(async () => {}, asked) });
  const login = (value: unknown) => ({
    headers: { 'X-Registry-Auth': Buffer.from(JSON.stringify(value)).toString('base64url') },
  });
  const path = 'POST /images/create?fromImage=';
  await w.call(`${path}a:&tag=sha256:1`, login({ username: 'u', password: 'p', serverAddress: 's' }));
  await w.call(`${path}a&platform=linux/arm64`, login({ registrytoken: 't', username: '' }));
  await w.call(`POST /v1.31/images/create?fromImage=a&platform=linux/arm64`, { body: '{"fromImage":"b"}' });
  await w.call(`${path}a`, { headers: { 'X-Registry-Auth': 'no base64 of JSON' } });
  await w.call(`${path}a`, login({ auth: Buffer.from('u:p:q').toString('base64') }));
  const standard = Buffer.from(JSON.stringify({ IDENTITYTOKEN: '\u00ff\u00ff>?' })).toString('base64');
  assert.match(standard, /[+/]/); // what only this alphabet has
  await w.call(`${path}a`, { headers: { 'X-Registry-Auth': standard } });
  await w.call(`${path}a`, login({}));
  assert.deepEqual(asked, [
    { fromImage: 'a', tag: 'sha256:1', auth: { username: 'u', password: 'p', serverAddress: 's' } },
    { fromImage: 'a', platform: 'linux/arm64', auth: { registryToken: 't', username: '' } },
    { fromImage: 'a' },
    { fromImage: 'a' },
    { fromImage: 'a', auth: { username: 'u', password: 'p:q' } },
    { fromImage: 'a', auth: { identityToken: '\u00ff\u00ff>?' } },
    { fromImage: 'a' },
  ]);
});

test('pull: counts are left out for a client that does not keep up, and the rest is not', async (t) => {
  const { promise, resolve } = withResolvers<void>();
  const engine = pulling(async (progress) => {
    progress({ status: 'Pulling' });
    for (let current = 0; current < 50_000; current++) {
      progress({ status: 'Downloading', progressDetail: { current, total: 50_000 }, id: 'layer' });
    }
    progress({ status: 'Pull complete', progressDetail: {}, id: 'layer' });
    resolve();
  });
  const w = await world(t, { engine });
  const { socket } = await ask(w, 'POST /images/create?fromImage=a');
  await promise;
  const rest = await readUntil(socket, '0\r\n\r\n');
  socket.destroy();
  assert.ok(rest.length < 1_000_000, `${rest.length} bytes were kept for a slow client`);
  assert.match(rest, /Pull complete/);
});
