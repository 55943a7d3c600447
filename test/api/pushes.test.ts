import assert from 'node:assert/strict';
import test from 'node:test';
import type { PushRequest } from '../../src/api/image-transfers.ts';
import type { Progress } from '../../src/engine/progress.ts';
import { fail } from '../../src/errors.ts';
import { world } from './world.ts';

const given = { username: 'u', password: 'p', serveraddress: 'r:5000' };
const auth = { username: 'u', password: 'p', serverAddress: 'r:5000' };
const header = { 'X-Registry-Auth': Buffer.from(JSON.stringify(given)).toString('base64url') };

/** An engine that notes what it is to push. */
function noting(seen: PushRequest[]) {
  const push = async (request: PushRequest, { progress }: { progress: Progress }) => {
    seen.push(request);
    progress({ status: 'The push refers to repository [r:5000/a/b]' });
  };
  return { engine: { pushes: { push } } };
}

test('push: the name with its slashes, the tag or none, credentials from the header or the body', async (t) => {
  const seen: PushRequest[] = [];
  const w = await world(t, noting(seen));
  const answer = await w.call('POST /images/r:5000/a/b/push?tag=1', { headers: header });
  assert.deepEqual(
    [answer.status, answer.headers['content-type'], answer.text],
    [200, 'application/json', '{"status":"The push refers to repository [r:5000/a/b]"}\r\n'],
  );
  await w.call('POST /v1.40/images/r:5000/a/b/push', { body: JSON.stringify(given) });
  const name = 'r:5000/a/b';
  assert.deepEqual(seen, [
    { name, tag: '1', auth },
    { name, auth },
  ]);
});

test('push: credentials that cannot be read count as none in the header, and not in the body', async (t) => {
  const seen: PushRequest[] = [];
  const w = await world(t, noting(seen));
  const answer = await w.call('POST /images/a/push', { headers: { 'X-Registry-Auth': '!' } });
  assert.deepEqual([answer.status, seen], [200, [{ name: 'a' }]]);
  await w.call('POST /images/a/push', { body: '{}' });
  assert.deepEqual(seen[1], { name: 'a' });
  const words = 'bad parameters and missing X-Registry-Auth: invalid X-Registry-Auth header';
  for (const [body, reason] of [
    [undefined, 'EOF'],
    ['', 'EOF'],
    ['x', "invalid character 'x' looking for beginning of value"],
  ] as const) {
    const refused = await w.call('POST /images/a/push', body === undefined ? {} : { body });
    assert.deepEqual([refused.status, refused.json], [400, { message: `${words}: ${reason}` }]);
  }
  assert.equal(seen.length, 2);
});

test('push: daemons of old said it in other words', async (t) => {
  const push = async () => {
    throw fail.invalidReference('invalid tag format');
  };
  const w = await world(t, { engine: { pushes: { push } }, ceiling: '1.42' });
  const missing = await w.call('POST /images/a/push');
  const message = 'Bad parameters and missing X-Registry-Auth: EOF';
  assert.deepEqual([missing.status, missing.json], [400, { message }]);
  const bad = await w.call('POST /images/a/push?tag=-', { headers: header });
  assert.deepEqual([bad.status, bad.json], [500, { message: 'invalid tag format' }]);
});

test('push: what fails before the first message is a status, what fails later is told in the stream', async (t) => {
  const push = async ({ name }: PushRequest, { progress }: { progress: Progress }) => {
    if (name === 'Bad') throw fail.invalidReference('invalid reference format');
    progress({ status: 'begun' });
    throw fail.registry('denied: requested access to the resource is denied');
  };
  const w = await world(t, { engine: { pushes: { push } } });
  const early = await w.call('POST /images/Bad/push', { headers: header });
  assert.deepEqual([early.status, early.json], [400, { message: 'invalid reference format' }]);
  const { status, text } = await w.call('POST /images/a/push', { headers: header });
  const message = 'denied: requested access to the resource is denied';
  assert.deepEqual(
    [status, text],
    [200, `{"status":"begun"}\r\n{"errorDetail":{"message":"${message}"},"error":"${message}"}\r\n`],
  );
});
