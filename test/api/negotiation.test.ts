import assert from 'node:assert/strict';
import test from 'node:test';
import { Versions } from '../../src/api/versions.ts';
import { Failure, fail } from '../../src/errors.ts';
import type { Changes } from './fake-engine.ts';
import { ceilings, world } from './world.ts';

const daemonHeaders = ['api-version', 'server', 'ostype', 'docker-experimental'];

/** An engine that notes which names its containers are asked for by. */
function listening(): { asked: string[]; engine: Changes } {
  const asked: string[] = [];
  const note = async (ref: string): Promise<never> => {
    asked.push(ref);
    throw fail.noSuchContainer(ref);
  };
  return { asked, engine: { containers: { inspect: note, remove: note }, images: { inspect: note } } };
}

test('path grammar: every route is there bare and under /v{version} of digits and dots', async (t) => {
  const { call } = await world(t).then((w) => ({ call: w.call.bind(w) }));
  for (const path of ['/_ping', '/v1.41/_ping']) assert.equal((await call(`GET ${path}`)).status, 200);
  for (const path of ['/vfoo/_ping', '/v/_ping', '/v1.41', '/v1.41/v1.41/_ping']) {
    assert.equal((await call(`GET ${path}`)).status, 404, path);
  }
});

test('no prefix: the request is of the ceiling, never of the minimum', async (t) => {
  const w = await world(t, { ceiling: '1.44' });
  assert.equal((await w.call('GET /images/json')).text.includes('VirtualSize'), false);
  assert.equal((await w.call('GET /v1.24/images/json')).text.includes('VirtualSize'), true);
});

test('comparison: number by number, what is missing or unreadable is 0', async (t) => {
  const w = await world(t, { ceiling: '1.41' });
  for (const [version, status] of [
    ['1.41', 200],
    ['1.041', 200],
    ['1.41.0', 200],
    ['1.41.2', 400],
    ['1', 400],
    ['1.', 400],
    ['2', 400],
    ['1..41', 400],
    ['.', 400],
  ] as const) {
    assert.equal((await w.call(`GET /v${version}/_ping`)).status, status, version);
  }
});

test('too new: 400 with the number as it was written', async (t) => {
  const w = await world(t);
  const { status, json } = await w.call('GET /v1.046/_ping');
  assert.equal(status, 400);
  assert.deepEqual(json, {
    message: 'client version 1.046 is too new. Maximum supported API version is 1.45',
  });
});

test('too old: 400 with the minimum', async (t) => {
  const w = await world(t);
  const { status, json } = await w.call('GET /v1.11/_ping');
  assert.equal(status, 400);
  assert.deepEqual(json, {
    message:
      'client version 1.11 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version',
  });
});

test('order: routing comes before the version check', async (t) => {
  const w = await world(t);
  assert.equal((await w.call('GET /v9.99/nothing')).status, 404);
  assert.equal((await w.call('GET /v9.99/_ping')).status, 400);
});

test('body form of the error: JSON, but bare text for a prefix below 1.24 up to ceiling 1.44 (G125)', async (t) => {
  for (const [ceiling, path, isText] of [
    ['1.44', '/v1.23/_ping', true],
    ['1.44', '/v1.23/nothing', true],
    ['1.44', '/v1.24/containers/nope/json', false],
    ['1.44', '/v1.99/_ping', false],
    ['1.44', '/containers/nope/json', false],
    ['1.45', '/v1.23/_ping', false],
  ] as const) {
    const w = await world(t, { ceiling });
    const { headers, text, json } = await w.call(`GET ${path}`);
    assert.equal(headers['content-type'], isText ? 'text/plain; charset=utf-8' : 'application/json', path);
    assert.equal(headers['x-content-type-options'], isText ? 'nosniff' : undefined);
    assert.equal(json === undefined, isText);
    assert.match(text, /\n$/);
  }
});

test('minimum: 1.24 unless configured, and with it the old forms of errors', async (t) => {
  const w = await world(t, { ceiling: '1.43', floor: '1.12' });
  const { status, text, headers } = await w.call('GET /v1.12/containers/nope/json');
  assert.equal(status, 404);
  assert.equal(text, 'No such container: nope\n');
  assert.equal(headers['api-version'], '1.43');
});

test('configuring the minimum: refused below the built-in floor and above the ceiling', () => {
  const isConfig = (cause: unknown) => cause instanceof Failure && cause.code === 'CONFIG';
  new Versions({ ceiling: '1.44', floor: '1.12' });
  new Versions({ ceiling: '1.45', floor: '1.45' });
  assert.throws(() => new Versions({ ceiling: '1.44', floor: '1.11' }), isConfig);
  assert.throws(() => new Versions({ ceiling: '1.45', floor: '1.23' }), isConfig);
  assert.throws(() => new Versions({ ceiling: '1.41', floor: '1.42' }), isConfig);
});

test('headers on every routed response, with the ceiling whatever the request says', async (t) => {
  for (const ceiling of ceilings) {
    const w = await world(t, { ceiling });
    for (const path of ['/_ping', '/v1.24/version', '/containers/nope/json', '/v1.39/images/json']) {
      const { headers } = await w.call(`GET ${path}`);
      assert.equal(headers['api-version'], ceiling);
      assert.equal(headers['server'], 'Docker/26.1.0 (linux)');
      assert.equal(headers['ostype'], 'linux');
      assert.equal(headers['docker-experimental'], 'false');
      assert.ok(headers.date);
    }
  }
});

test('headers missing: version errors lack Docker-Experimental, unknown pages all four', async (t) => {
  const w = await world(t);
  const refused = await w.call('GET /v1.99/_ping');
  assert.deepEqual(
    daemonHeaders.map((name) => name in refused.headers),
    [true, true, true, false],
  );
  const unknown = await w.call('GET /nothing');
  assert.deepEqual(
    daemonHeaders.map((name) => name in unknown.headers),
    [false, false, false, false],
  );
});

test('GET /version: ceiling and minimum, at the top and as text in the Engine component', async (t) => {
  const w = await world(t, { ceiling: '1.42', floor: '1.25' });
  const plain = await w.call('GET /version');
  const body = plain.json as { Components: { Name: string; Details: Record<string, string> }[] };
  assert.partialDeepStrictEqual(body, { ApiVersion: '1.42', MinAPIVersion: '1.25' });
  assert.equal('Experimental' in body, false);
  assert.equal(body.Components[0]?.Name, 'Engine');
  assert.partialDeepStrictEqual(body.Components[0]?.Details, {
    ApiVersion: '1.42',
    MinAPIVersion: '1.25',
    Experimental: 'false',
  });
  assert.equal((await w.call('GET /v1.25/version')).text, plain.text);
});

test('GET /_ping: OK in two bytes for any allowed version, and it obeys the check', async (t) => {
  const w = await world(t);
  for (const path of ['/_ping', '/v1.24/_ping', '/v1.45/_ping']) {
    const { status, text, headers } = await w.call(`GET ${path}`);
    assert.equal(status, 200);
    assert.equal(text, 'OK');
    assert.equal(headers['content-type'], 'text/plain; charset=utf-8');
  }
  assert.equal((await w.call('GET /v1.46/_ping')).status, 400);
});

test('HEAD /_ping: from ceiling 1.40 on, with the same headers and length 0 (G005)', async (t) => {
  const old = await world(t, { ceiling: '1.39' });
  assert.equal((await old.call('HEAD /_ping')).status, 404);
  const w = await world(t, { ceiling: '1.40' });
  for (const path of ['/_ping', '/v1.39/_ping']) {
    const { status, headers } = await w.call(`HEAD ${path}`);
    assert.equal(status, 200);
    assert.equal(headers['content-length'], '0');
    assert.equal(headers['content-type'], 'text/plain; charset=utf-8');
    assert.equal(headers['api-version'], '1.40');
  }
});

test('G006: pings are not to be cached, from ceiling 1.40 on', async (t) => {
  for (const [ceiling, expected] of [
    ['1.39', undefined],
    ['1.40', 'no-cache, no-store, must-revalidate'],
  ] as const) {
    const { headers } = await (await world(t, { ceiling })).call('GET /_ping');
    assert.equal(headers['cache-control'], expected);
    assert.equal(headers.pragma, expected && 'no-cache');
  }
});

test('G067, G068: pings tell builder and swarm, from ceiling 1.42 on', async (t) => {
  for (const [ceiling, builder, swarm] of [
    ['1.41', undefined, undefined],
    ['1.42', '1', 'inactive'],
  ] as const) {
    const { headers } = await (await world(t, { ceiling })).call('GET /_ping');
    assert.equal(headers['builder-version'], builder);
    assert.equal(headers['swarm'], swarm);
  }
});

test('client negotiation: the ping says the ceiling, which is what clients lower themselves to', async (t) => {
  for (const ceiling of ceilings) {
    const w = await world(t, { ceiling });
    const agreed = (await w.call('GET /_ping')).headers['api-version'];
    assert.equal((await w.call(`GET /v${agreed}/info`)).status, 200);
  }
});

test('unknown route: 404 page not found as JSON', async (t) => {
  const { status, text, headers } = await (await world(t)).call('GET /nothing/here');
  assert.equal(status, 404);
  assert.equal(text, '{"message":"page not found"}\n');
  assert.equal(headers['content-type'], 'application/json');
});

test('wrong method on a known path: the same, without an Allow header', async (t) => {
  const w = await world(t);
  for (const target of ['POST /_ping', 'GET /containers/create', 'PATCH /info', 'DELETE /version']) {
    const { status, text, headers } = await w.call(target);
    assert.equal(status, 404, target);
    assert.equal(text, '{"message":"page not found"}\n');
    assert.equal(headers.allow, undefined);
  }
});

test('but wildcard names win: DELETE /containers/create removes a container of that name', async (t) => {
  const { asked, engine } = listening();
  const w = await world(t, { engine });
  assert.deepEqual((await w.call('DELETE /containers/create')).json, {
    message: 'No such container: create',
  });
  assert.deepEqual(asked, ['create']);
});

test('names may hold slashes, and %2F is decoded first', async (t) => {
  const { asked, engine } = listening();
  const w = await world(t, { engine });
  for (const path of [
    '/containers/a/b/json',
    '/containers/a%2Fb/json',
    '/v1.40/images/reg.example:5000/a/b:1/json',
    '/images/a%252Fb/json',
    '/containers%2Fjson/json',
    '/containers/%C3%A9%ff/json',
  ]) {
    await w.call(`GET ${path}`);
  }
  assert.deepEqual(asked, ['a/b', 'a/b', 'reg.example:5000/a/b:1', 'a%2Fb', 'json', 'é\ufffd']);
});

test('path cleaning: 301 to the cleaned path with its query, without daemon headers', async (t) => {
  const w = await world(t);
  for (const [path, location] of [
    ['/containers//start', '/containers/start'],
    ['//_ping?a=b&c', '/_ping?a=b&c'],
    ['/v1.41/../_ping', '/_ping'],
    ['/./containers/json', '/containers/json'],
    ['/v9.99//containers/', '/v9.99/containers/'],
    ['/images/a b%20c//json', '/images/a%20b%20c/json'],
  ] as const) {
    const { status, headers, text } = await w.call(`GET ${path.replace(' ', '%20')}`);
    assert.equal(status, 301, path);
    assert.equal(headers.location, location);
    assert.equal(headers['content-length'], '0');
    assert.equal(text, '');
    assert.equal(headers['api-version'], undefined);
  }
});

test('path cleaning: a slash at the end stays, and makes another path', async (t) => {
  const w = await world(t);
  assert.equal((await w.call('GET /_ping/')).status, 404);
});

test('OPTIONS: any path answers 200, empty, with the common headers', async (t) => {
  const w = await world(t);
  for (const path of ['/', '/containers/json', '/no/such/thing', '/v1.41/x']) {
    const { status, text, headers } = await w.call(`OPTIONS ${path}`);
    assert.equal(status, 200);
    assert.equal(text, '');
    assert.equal(headers['content-length'], '0');
    assert.equal(headers['docker-experimental'], 'false');
  }
  assert.equal((await w.call('OPTIONS /v1.99/x')).status, 400);
});

test('HEAD elsewhere: 404', async (t) => {
  const w = await world(t);
  for (const path of ['/version', '/containers/json', '/containers/web/json']) {
    assert.equal((await w.call(`HEAD ${path}`)).status, 404, path);
  }
});

test('form bodies: merged with the query on POST, body values first', async (t) => {
  const names: string[] = [];
  const rename = async (_: string, name: string) => void names.push(name);
  const w = await world(t, { engine: { containers: { rename } } });
  const headers = { 'Content-Type': 'application/x-www-form-urlencoded; charset=utf-8' };
  await w.call('POST /containers/web/rename?name=query', { headers, body: 'name=a%20b+c' });
  await w.call('POST /containers/web/rename?name=query', { headers, body: 'x=1' });
  await w.call('POST /containers/web/rename?name=query', {
    headers: { 'Content-Type': 'text/plain' },
    body: 'name=body',
  });
  assert.deepEqual(names, ['a b c', 'query', 'query']);
  const { status, json } = await w.call('POST /containers/web/rename', { headers, body: 'name=a;b' });
  assert.equal(status, 400);
  assert.deepEqual(json, { message: 'invalid semicolon separator in query' });
});

test('a query that cannot be read is refused in the words of Go', async (t) => {
  const w = await world(t);
  assert.deepEqual((await w.call('GET /containers/json?all=1;x')).json, {
    message: 'invalid semicolon separator in query',
  });
  const { status, json } = await w.call('GET /containers/json?a=%zz');
  assert.equal(status, 400);
  assert.deepEqual(json, { message: 'invalid URL escape "%zz"' });
});

test('booleans in the query: false when empty, 0, no, false, none in any case and trimmed', async (t) => {
  const seen: boolean[] = [];
  const list = async ({ isAll }: { isAll: boolean }) => {
    seen.push(isAll);
    return [];
  };
  const w = await world(t, { engine: { containers: { list } } });
  for (const value of [
    '',
    '=',
    '=0',
    '=no',
    '=False',
    '=NONE',
    '=%20false%20',
    '=1',
    '=true',
    '=off',
    '=x',
  ]) {
    await w.call(`GET /containers/json?all${value}`);
  }
  assert.deepEqual(seen, [...Array(7).fill(false), ...Array(4).fill(true)]);
  await w.call('GET /containers/json?all=0&all=1');
  assert.equal(seen.at(-1), false, 'the first of several values counts');
});

test('JSON output: one newline at the end; <, > and & stay as they are', async (t) => {
  const w = await world(t);
  const { text } = await w.call('GET /containers/<a&b>/json'.replace('<a&b>', '%3Ca&b%3E'));
  assert.equal(text, '{"message":"No such container: <a&b>"}\n');
});

test('a request target may name scheme and host', async (t) => {
  const w = await world(t);
  const answer = await w.raw('GET http://docker/v1.41/_ping?x HTTP/1.0\r\n\r\n');
  assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/);
});
