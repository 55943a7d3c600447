import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { openPair, type Pair, type Side } from './pair.ts';
import { type VolumeRequest, volumeRequests } from './volume-requests.ts';

/** What is asked and told of volumes, good and bad, beside dockerd 20.10; and what they take, to the byte. */
let pair: Pair | undefined;
let reason = '';

before(async () => {
  ({ pair, reason } = await openPair());
  await pair?.both((side) =>
    side.docker(['create', '--name', 'user', '-v', 'used:/www', '-v', '/anonymous', 'box:1']),
  );
});

after(async () => {
  await pair?.engine.clear();
  await pair?.[Symbol.asyncDispose]();
});

describe('the same answers', () => {
  for (const [at, asked] of volumeRequests.entries()) {
    const name = typeof asked === 'string' ? asked : `${asked[0]} ${JSON.stringify(asked[1])}`;
    test(`${at} ${decodeURIComponent(name)}`, async (t) => {
      if (pair === undefined) return t.skip(reason);
      const seen = await pair.both((side) => answerOf(side, asked));
      assert.deepEqual(seen.skerry, seen.dockerd);
    });
  }
});

test('volumes take the same bytes', async (t) => {
  if (pair === undefined) return t.skip(reason);
  const script = [
    'cd /v && echo 12345 > a && ln a b && ln -s a-link-to-somewhere c && mkdir -p d/e && echo x > d/e/f',
    'mkfifo p && dd if=/dev/zero of=sparse bs=1 count=0 seek=100000 && mknod n c 1 3',
  ].join(' && ');
  const seen = await pair.both(async (side) => {
    const mounts = [
      '-v',
      'sized:/v',
      '-v',
      'sized:/again',
      '--mount',
      'type=volume,dst=/m,volume-opt=size=0',
    ];
    await side.docker(['run', '--rm', '--network', 'none', '-v', 'sized:/v', 'box:1', 'sh', '-c', script]);
    await side.docker(['create', '--name', 'two', ...mounts, 'box:1']);
    const usage = (await answerOf(side, 'GET /system/df')) as { json: { Volumes: { Name: string }[] } };
    return usage.json.Volumes.sort((a, b) => (a.Name < b.Name ? -1 : 1));
  });
  assert.deepEqual(seen.skerry, seen.dockerd);
  assert.match(JSON.stringify(seen.skerry), /"Name":"sized",.*"RefCount":1,"Size":1000\d\d/);
});

/** Status and JSON, after what must differ was given the same name in both; lists in the order of names. */
async function answerOf(side: Side, asked: VolumeRequest): Promise<{ status: number; json: unknown }> {
  const [line, given] = typeof asked === 'string' ? [asked] : asked;
  const [method = '', path = ''] = line.split(' ', 2);
  const text = typeof given === 'object' ? JSON.stringify(given) : given;
  const body = text?.replaceAll('{places}', side.places);
  const headers = body === undefined ? {} : { 'Content-Type': 'application/json' };
  const sent = request({ socketPath: side.socket, method, path: `/v1.41${path}`, headers, agent: false });
  sent.end(body);
  const [response] = await once(sent, 'response');
  let told = '';
  for await (const chunk of response.setEncoding('utf8')) told += chunk;
  const named = told
    .replaceAll(`${side.places}/binds`, '<places>/binds')
    .replace(/"\/[^"]*\/volumes\//g, '"<data>/volumes/')
    .replace(/\b[0-9a-f]{64}\b/g, '<id>')
    .replace(/"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)"/g, '"<time>"');
  return { status: response.statusCode, json: sorted(named === '' ? '' : jsonOf(named)) };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function sorted(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const lists = Object.entries(value).map(([key, list]) => [
    key,
    Array.isArray(list) ? list.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1)) : list,
  ]);
  return Object.fromEntries(lists);
}

/** Names that are chance are alike by now. */
function keyOf(element: { Name?: string }): string {
  return `${element.Name} ${JSON.stringify(element)}`;
}
