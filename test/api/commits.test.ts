import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import type { CommitRequest } from '../../src/api/commits.ts';
import type { ImportRequest } from '../../src/api/image-transfers.ts';
import { fail } from '../../src/errors.ts';
import { ceilings, world } from './world.ts';

function committing(asked: [string, CommitRequest][] = []) {
  const commit = async (ref: string, request: CommitRequest) => {
    asked.push([ref, request]);
    return 'sha256:1';
  };
  return { commits: { commit } };
}

const plain: CommitRequest = {
  repo: '',
  tag: '',
  author: '',
  comment: '',
  isPausing: true,
  changes: [],
};

test('commit: what the client asks for', async (t) => {
  const asked: [string, CommitRequest][] = [];
  const w = await world(t, { engine: committing(asked) });
  const answer = await w.call('POST /commit?container=c1', { body: 'null\n' });
  assert.deepEqual([answer.status, answer.text], [201, '{"Id":"sha256:1"}\n']);
  await w.call('POST /commit?container=c1'); // no body at all
  await w.call('POST /commit?container=c1', {
    headers: { 'Transfer-Encoding': 'chunked', 'Content-Type': 'application/json' },
  });
  await w.call('POST /commit?container=c1&pause=0', { body: '{}' });
  await w.call(
    'POST /commit?container=c1&repo=r&tag=t&author=a&comment=c&changes=CMD%20x&changes=USER%20y&pause=true',
    { body: '{"cmd":["sh"],"Labels":{"a":"b"}}' },
  );
  const [last, ...earlier] = asked.reverse();
  assert.deepEqual(earlier.reverse(), [
    ['c1', plain],
    ['c1', plain],
    ['c1', plain],
    ['c1', { ...plain, isPausing: false }],
  ]);
  const { config, ...rest } = last?.[1] ?? plain;
  assert.deepEqual(rest, {
    ...plain,
    repo: 'r',
    tag: 't',
    author: 'a',
    comment: 'c',
    changes: ['CMD x', 'USER y'],
  });
  assert.deepEqual([config?.cmd, config?.labels, config?.user], [['sh'], { a: 'b' }, '']);
});

test('commit: what daemons of each generation make of bodies and names', async (t) => {
  for (const ceiling of ceilings) {
    const w = await world(t, { ceiling, engine: committing() });
    const isMiddle = ceiling === '1.42';
    const none = await w.call('POST /commit?container=c1');
    assert.deepEqual(
      [none.status, none.json],
      isMiddle
        ? [400, { message: 'invalid JSON: got EOF while reading request body' }]
        : [201, { Id: 'sha256:1' }],
    );
    const bad = await w.call('POST /commit?container=c1', { body: '{' });
    assert.deepEqual(
      [bad.status, bad.json],
      ceiling < '1.42'
        ? [500, { message: 'unexpected EOF' }]
        : [400, { message: 'invalid JSON: unexpected EOF' }],
    );
    const refusing = await world(t, {
      ceiling,
      engine: {
        commits: { commit: async () => Promise.reject(fail.invalidReference('invalid tag format')) },
      },
    });
    const refused = await refusing.call('POST /commit?container=c1&repo=a&tag=%25');
    assert.equal(refused.status, ceiling < '1.43' && !isMiddle ? 500 : 400);
  }
});

test('import: what the client asks for, and the body as it comes', async (t) => {
  const asked: unknown[] = [];
  const engine = {
    imports: {
      importTree: async ({ body, ...request }: ImportRequest) =>
        void asked.push(request, await text(Readable.from(body))),
    },
  };
  const w = await world(t, { engine });
  const query = 'fromSrc=-&repo=r&tag=t&message=m&changes=CMD%20x&changes=USER%20y&platform=linux/arm64';
  await w.call(`POST /images/create?${query}`, { headers: { 'Content-Type': 'text/plain' }, body: 'tar' });
  await w.call('POST /v1.31/images/create?fromSrc=http%3A%2F%2Fx&platform=linux/arm64');
  const nothing = { repo: '', tag: '', message: '', changes: [] };
  assert.deepEqual(asked, [
    { source: '-', repo: 'r', tag: 't', message: 'm', changes: ['CMD x', 'USER y'], platform: 'linux/arm64' },
    'tar',
    { source: 'http://x', ...nothing },
    '',
  ]);
});

test('export: a tar, cut short where it fails', async (t) => {
  const exporting = (tar: () => Readable) => ({
    exports: { export: async (_ref: string, consume: (tar: Readable) => Promise<void>) => consume(tar()) },
  });
  const whole = await world(t, { engine: exporting(() => Readable.from([Buffer.from('tar')])) });
  const answer = await whole.call('GET /containers/c1/export');
  assert.deepEqual(
    [answer.status, answer.headers['content-type'], answer.text],
    [200, 'application/octet-stream', 'tar'],
  );
  const broken = await world(t, {
    engine: exporting(() =>
      Readable.from(
        (async function* () {
          yield Buffer.from('half');
          throw fail.host('the disk is gone');
        })(),
      ),
    ),
  });
  await assert.rejects(broken.call('GET /containers/c1/export'), /aborted|socket hang up/);
  const raw = await broken.raw('GET /containers/c1/export HTTP/1.1\r\nHost: x\r\n\r\n');
  assert.ok(raw.includes('half') && !raw.endsWith('0\r\n\r\n'));
});
