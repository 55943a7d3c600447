import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { bridgeRequests, type NetworkRequest, plainRequests } from './network-requests.ts';
import { openPair, type Pair, type Side } from './pair.ts';

/** What is asked and told of networks, good and bad, beside dockerd 20.10. */
let pair: Pair | undefined;
let reason = '';
/** Why there are no networks but those that are always there; empty if there are. */
let lack = '';

before(async () => {
  ({ pair, reason } = await openPair());
  await pair?.both(async (side) => {
    const make = (...words: string[]) => side.docker(words);
    await make('run', '-d', '--name', 'idle', '--network', 'none', 'box:1', 'sleep', '1000');
    await make('run', '-d', '--name', 'hosted', '--network', 'host', 'box:1', 'sleep', '1000');
    await make('create', '--name', 'stopped', '--network', 'none', 'box:1', 'true');
    await make('run', '-d', '--name', 'web', 'box:1', 'sleep', '1000');
    await make('create', '--name', 'old', 'box:1', 'sleep', '1000');
  });
  if (pair === undefined) return;
  const probe = await answerOf(pair.skerry, ['POST /networks/create', { Name: 'probe' }]);
  if (probe.status !== 201) lack = `no networks of users: ${JSON.stringify(probe.json)}`;
  else await answerOf(pair.skerry, 'DELETE /networks/probe');
});

after(async () => {
  await pair?.engine.clear();
  await pair?.[Symbol.asyncDispose]();
});

/** Differences that are meant. */
const allowed: readonly { asked: RegExp; reason: string }[] = [];

describe('the same answers', () => {
  for (const [at, asked] of plainRequests.entries()) row(at, asked, () => '');
});

describe('the same answers about networks that containers are on', () => {
  for (const [at, asked] of bridgeRequests.entries()) row(at, asked, () => lack);
});

function row(at: number, asked: NetworkRequest, why: () => string): void {
  const name = typeof asked === 'string' ? asked : `${asked[0]} ${JSON.stringify(asked[1])}`;
  test(`${at} ${decodeURIComponent(name)}`, async (t) => {
    if (pair === undefined) return t.skip(reason);
    if (why() !== '') return t.skip(why());
    const seen = await pair.both((side) => answerOf(side, asked));
    if (allowed.some((rule) => rule.asked.test(name))) return assert.notDeepEqual(seen.skerry, seen.dockerd);
    assert.deepEqual(seen.skerry, seen.dockerd);
  });
}

/** Status and JSON, after what must differ was given the same name in both; lists in the order of names. */
async function answerOf(side: Side, asked: NetworkRequest): Promise<{ status: number; json: unknown }> {
  const [line, given] = typeof asked === 'string' ? [asked] : asked;
  const [method = '', path = ''] = (await withIds(side, decodeURIComponent(line))).split(' ', 2);
  const body = typeof given === 'object' ? JSON.stringify(given) : given;
  const { status, text } = await call(side, method, encoded(path), body);
  const named = text
    .replace(/\b[0-9a-f]{64}\b/g, '<id>')
    .replace(/("com\.docker\.network\.bridge\.name":)"(?:docker0|skerry0)"/, '$1"<bridge>"')
    .replace(/"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)"/g, '"<time>"');
  return { status, json: sorted(named === '' ? '' : jsonOf(named)) };
}

/** Filters are the only part that is not as it stands in the path. */
function encoded(path: string): string {
  const [before = '', filters] = path.split('filters=', 2);
  return filters === undefined ? before : `${before}filters=${encodeURIComponent(filters)}`;
}

async function withIds(side: Side, text: string): Promise<string> {
  let filled = text;
  for (const [whole, name = ''] of text.matchAll(/\{([\w-]+)\}/g)) {
    const { text: found } = await call(side, 'GET', '/networks', undefined);
    const networks = JSON.parse(found) as { Id: string; Name: string }[];
    filled = filled.replace(whole, networks.find(({ Name }) => Name === name)?.Id ?? name);
  }
  return filled;
}

async function call(side: Side, method: string, path: string, body: string | undefined) {
  const headers = body === undefined ? {} : { 'Content-Type': 'application/json' };
  const sent = request({ socketPath: side.socket, method, path: `/v1.41${path}`, headers, agent: false });
  sent.end(body);
  const [response] = await once(sent, 'response');
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  return { status: response.statusCode as number, text };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function sorted(value: unknown): unknown {
  if (!Array.isArray(value)) return value;
  return value.toSorted((a, b) => (a.Name < b.Name ? -1 : 1));
}
