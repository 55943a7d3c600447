import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Hijacked } from '../support/hijacked.ts';
import { type Both, openPair, type Pair, type Side } from './pair.ts';

/** Attach, with every flag and in every state: the same bytes and the same refusals as dockerd's. */
let pair: Pair | undefined;
let reason = '';

before(async () => {
  ({ pair, reason } = await openPair());
});

after(async () => {
  await pair?.engine.clear();
  await pair?.[Symbol.asyncDispose]();
});

/** What both show of the same, or undefined where there is no dockerd. */
async function seen<T>(what: (side: Side) => Promise<T>): Promise<Both<T>> {
  if (pair === undefined) throw new Error(reason);
  return pair.both(what);
}

/** Every choice of flags, as a query's end. */
function combinations(names: readonly string[]): string[] {
  return Array.from({ length: 2 ** names.length }, (_, choice) =>
    names.map((name, at) => (choice & (2 ** at) ? `&${name}=1` : '')).join(''),
  );
}
const streams = ['stdin', 'stdout', 'stderr'];

/** Says something at once; more, and what it hears, when there is a file /go. */
const script =
  'echo out-1; echo err-1 >&2; until [ -e /go ]; do sleep 0.05; done; ' +
  'if [ -s /go ]; then read x; fi; echo "out-2 $x"; echo err-2 >&2';

async function make(side: Side, name: string, ...more: string[]): Promise<void> {
  const words = more.includes('--') ? more.splice(more.indexOf('--')).slice(1) : ['sh', '-c', script];
  const done = await side.docker(['create', '--name', name, '--network', 'none', ...more, 'box:1', ...words]);
  assert.equal(done.code, 0, done.stderr);
}

async function go(side: Side, name: string, words = ''): Promise<void> {
  const done = await side.docker(['exec', name, 'sh', '-c', `printf '%s' "${words}" > /go`]);
  assert.equal(done.code, 0, done.stderr);
}

/** Runs until it has said its first words. */
async function begin(side: Side, name: string): Promise<void> {
  await side.docker(['start', name]);
  for (let lines = 0; lines < 2; await sleep(20)) {
    const { stdout, stderr } = await side.docker(['logs', name]);
    lines = `${stdout}${stderr}`.split('\n').length - 1;
  }
}

/** Both streams, each for itself: between them there is no order. */
const told = (attached: Hijacked) => ({
  status: attached.status(),
  out: attached.text(1),
  err: attached.text(2),
});

describe('a running container', { concurrency: 2 }, () => {
  for (const flags of combinations(['logs', ...streams])) {
    const name = `run-${flags.replaceAll(/[&=1]/g, '') || 'none'}`;
    test(`stream=1${flags}`, async (t) => {
      if (pair === undefined) return t.skip(reason);
      const { dockerd, skerry } = await seen(async (side) => {
        await make(side, name, '-i');
        await begin(side, name);
        const attached = new Hijacked(side.socket, `/containers/${name}/attach?stream=1${flags}`);
        await attached.open;
        const hears = flags.includes('stdin');
        if (hears) attached.socket.write('words\n');
        await sleep(300); // the headers come before the streams are joined
        await go(side, name, hears ? 'read' : '');
        await side.docker(['wait', name]);
        attached.socket.end(); // with stdin alone dockerd waits for that
        await attached.ended;
        return told(attached);
      });
      assert.deepEqual(skerry, dockerd);
    });
  }

  test('without stream: the log, or nothing, and the end', async (t) => {
    if (pair === undefined) return t.skip(reason);
    const { dockerd, skerry } = await seen(async (side) => {
      await make(side, 'still', '-i');
      await begin(side, 'still');
      return replays(side, 'still');
    });
    assert.deepEqual(skerry, dockerd);
  });
});

async function replays(side: Side, name: string): Promise<object> {
  const all: Record<string, object> = {};
  for (const flags of combinations(['logs', ...streams])) {
    const attached = new Hijacked(side.socket, `/containers/${name}/attach?x=1${flags}`);
    await attached.ended;
    all[flags] = told(attached);
  }
  return all;
}

test('one that has ended, or never begun: its log; with stream=1 all of the next run', async (t) => {
  if (pair === undefined) return t.skip(reason);
  const { dockerd, skerry } = await seen(async (side) => {
    await make(side, 'ended', '--', 'sh', '-c', 'echo out; echo err >&2; exit 3');
    const created = await replays(side, 'ended');
    const runs: object[] = [];
    for (const flags of ['stdout=1&stderr=1', 'logs=1&stdout=1', 'stderr=1']) {
      const attached = new Hijacked(side.socket, `/containers/ended/attach?stream=1&${flags}`);
      await attached.open;
      await sleep(300);
      await side.docker(['start', 'ended']);
      await attached.ended;
      runs.push(told(attached));
      await side.docker(['wait', 'ended']);
    }
    return { created, runs, ended: await replays(side, 'ended') };
  });
  assert.deepEqual(skerry, dockerd);
});

test('paused, restarting, unknown, and keys that are none: refused in the same words', async (t) => {
  if (pair === undefined) return t.skip(reason);
  const { dockerd, skerry } = await seen(async (side) => {
    const answer = async (name: string, query: string) => {
      const attached = new Hijacked(side.socket, `/containers/${name}/attach?${query}`);
      await attached.open;
      if (attached.status().includes('101')) {
        attached.socket.destroy();
        return 'taken';
      }
      await attached.ended;
      return attached.raw().replaceAll(/^(Date|Server|Content-Length|Connection): .*\r\n/gim, '');
    };
    await make(side, 'stays', '-it', '--', 'sleep', '1000');
    await side.docker(['start', 'stays']);
    const keys: string[] = [];
    for (const word of ['ctrl-', 'ctrl-5', 'foo', 'a,', ',', 'ctrl-A', 'ctrl-p,x,,', '%20a', '%C3%A9'])
      keys.push(`${word}: ${await answer('stays', `stream=1&stdin=1&detachKeys=${word}`)}`);
    await side.docker(['pause', 'stays']);
    const paused = await Promise.all(['', 'stream=1', 'logs=1'].map((query) => answer('stays', query)));
    await make(side, 'again', '--restart', 'always', '--', 'false');
    await side.docker(['start', 'again']);
    const format = '{{.State.Restarting}} {{.RestartCount}}';
    const waits = async () =>
      /^true ([5-9]|\d\d)/.test((await side.docker(['inspect', '-f', format, 'again'])).stdout);
    while (!(await waits())) await sleep(20);
    const restarting = await answer('again', 'stream=1&stdout=1');
    await side.docker(['rm', '-f', 'again']);
    return { keys, paused, restarting, unknown: await answer('nobody', 'stream=1') };
  });
  assert.deepEqual(skerry, dockerd);
});

test('detach keys: the usual ones, chosen ones, and what only looks like them', async (t) => {
  if (pair === undefined) return t.skip(reason);
  const { dockerd, skerry } = await seen(async (side) => {
    await make(side, 'keys', '-it', '--', 'cat');
    await side.docker(['start', 'keys']);
    const typed = async (query: string, keys: readonly string[]) => {
      const attached = new Hijacked(side.socket, `/containers/keys/attach?stream=1&stdin=1&stdout=1${query}`);
      await attached.open;
      await sleep(100);
      for (const key of keys) {
        attached.socket.write(key);
        await sleep(50); // dockerd looks for keys in reads of one byte
      }
      await attached.ended;
      const { State } = JSON.parse((await side.docker(['inspect', 'keys'])).stdout)[0];
      return [attached.bytes().toString(), State.Status];
    };
    return {
      usual: await typed('', ['\x10', '\x11']),
      chosen: await typed('&detachKeys=a,ctrl-x', ['\x10', '\x11', 'a', 'b', '\r', 'a', '\x18']),
      single: await typed('&detachKeys=q', ['h', 'i', '\r', 'q']),
    };
  });
  assert.deepEqual(skerry, dockerd);
});

test('several clients: all hear, each may speak, and the first to end its half ends stdin', async (t) => {
  if (pair === undefined) return t.skip(reason);
  const { dockerd, skerry } = await seen(async (side) => {
    await make(side, 'many', '-i', '--', 'sh', '-c', 'while read x; do echo "heard $x"; done; echo end');
    await side.docker(['start', 'many']);
    const query = 'stream=1&stdin=1&stdout=1&stderr=1';
    const clients = Array.from(
      { length: 3 },
      () => new Hijacked(side.socket, `/containers/many/attach?${query}`),
    );
    const [one, two, three] = clients as [Hijacked, Hijacked, Hijacked];
    await Promise.all(clients.map(({ open }) => open));
    await sleep(300);
    one.socket.write('one\n');
    await three.heard('heard one\n');
    two.socket.write('two\n');
    await three.heard('heard two\n');
    await two.heard('heard two\n');
    two.socket.end();
    await Promise.all(clients.map(({ ended }) => ended));
    return { all: clients.map(told), code: (await side.docker(['wait', 'many'])).stdout };
  });
  assert.deepEqual(skerry, dockerd);
});
