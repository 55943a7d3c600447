import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as tick } from 'node:timers/promises';
import { type EngineEvent, Events } from '../../../src/engine/events.ts';
import { nowNanos } from '../../../src/lib/time.ts';

const none: ReadonlyMap<string, readonly string[]> = new Map();

/** What a subscriber is told until it has seen `count` events, or its end. */
async function take(events: AsyncIterable<EngineEvent>, count = Number.POSITIVE_INFINITY): Promise<string[]> {
  const seen: string[] = [];
  if (count === 0) return seen;
  for await (const { action } of events) if (seen.push(action) === count) break;
  return seen;
}

const past = (events: Events, filters: Record<string, string[]>) =>
  take(
    events.subscribe({
      since: 0n,
      until: nowNanos(),
      filters: new Map(Object.entries(filters)),
      signal: new AbortController().signal,
    }),
  );

test('without a beginning only what happens from now on is told, and the signal ends it', async () => {
  const events = new Events();
  events.emit('container', 'before', 'c');
  const abort = new AbortController();
  const seen = take(events.subscribe({ filters: none, signal: abort.signal }));
  await tick();
  assert.equal(events.subscriberCount, 1);
  events.emit('container', 'one', 'c');
  await tick();
  events.emit('container', 'two', 'c');
  await tick();
  abort.abort();
  assert.deepEqual(await seen, ['one', 'two']);
  assert.equal(events.subscriberCount, 0);
});

test('since and until bound what is told, to the nanosecond', async () => {
  const events = new Events();
  for (const action of ['a', 'b', 'c', 'd']) events.emit('image', action, 'i');
  const times: bigint[] = [];
  const { signal } = new AbortController();
  for await (const { timeNanos } of events.subscribe({ since: 0n, until: nowNanos(), filters: none, signal }))
    times.push(timeNanos);
  const [, since = 0n, until = 0n] = times;
  assert.deepEqual(await take(events.subscribe({ since, until, filters: none, signal })), ['b', 'c']);
});

test('an end that is still to come is waited for', async () => {
  const events = new Events();
  const until = nowNanos() + 40_000_000n;
  const seen = take(events.subscribe({ until, filters: none, signal: new AbortController().signal }));
  await tick();
  events.emit('volume', 'create', 'v');
  assert.deepEqual(await seen, ['create']);
});

test('the last 256 are kept', async () => {
  const events = new Events();
  for (let n = 0; n < 300; n++) events.emit('container', String(n), 'c');
  const seen = await past(events, {});
  assert.deepEqual([seen.length, seen[0], seen.at(-1)], [256, '44', '299']);
});

test('a subscriber that does not read is cut off, holds nothing any more, and is told so', async () => {
  const events = new Events();
  const stream = events.subscribe({ filters: none, signal: new AbortController().signal });
  const first = stream.next();
  for (let n = 0; n < 5000; n++) events.emit('container', String(n), 'c');
  assert.equal(events.subscriberCount, 0);
  await assert.rejects(first, /cut off/);
});

test('filters: one of the values of a key, all of the keys, all of the labels', async () => {
  const events = new Events();
  events.emit('container', 'start', 'abc123', { name: 'web', image: 'nginx:1', tier: 'front', 'a=b': 'c' });
  events.emit('container', 'exec_create: ls -l', 'def456', { name: 'db', image: 'host:5000/pg' });
  events.emit('image', 'pull', 'nginx:1', { name: 'nginx' });
  events.emit('network', 'connect', 'n1', { name: 'bridge' });
  const cases: [Record<string, string[]>, string[]][] = [
    [{ type: ['image', 'network'] }, ['pull', 'connect']],
    [{ container: ['web'] }, ['start']],
    [{ container: ['def'] }, ['exec_create: ls -l']],
    [{ container: ['web', 'db'], event: ['start'] }, ['start']],
    [{ event: ['exec_create'] }, ['exec_create: ls -l']],
    [{ event: ['exec'] }, []],
    [{ image: ['nginx'] }, ['start', 'pull']],
    [{ image: ['nginx:1'] }, ['start', 'pull']],
    [{ image: ['host:5000/pg'] }, ['exec_create: ls -l']],
    [{ label: ['tier'] }, ['start']],
    [{ label: ['tier=front', 'absent'] }, []],
    [{ scope: ['swarm'] }, []],
    [{ network: ['bridge'] }, ['connect']],
    [{ nonsense: ['x'] }, ['start', 'exec_create: ls -l', 'pull', 'connect']],
  ];
  for (const [filters, expected] of cases)
    assert.deepEqual(await past(events, filters), expected, JSON.stringify(filters));
});
