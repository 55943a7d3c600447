import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPair, type Pair, type Side } from './pair.ts';
import { lists, requests } from './requests.ts';

/** Requests to containers and execs in every state are answered as by dockerd: status, type and words. */
let pair: Pair | undefined;
let reason = '';

before(async () => {
  ({ pair, reason } = await openPair());
});

after(async () => {
  await pair?.engine.clear();
  await pair?.[Symbol.asyncDispose]();
});

/** Differences that are meant. */
const allowed: readonly { line: RegExp; dockerd: RegExp; skerry: RegExp; reason: string }[] = [
  {
    line: /update \{"CpuShares":1\}/,
    dockerd: /runc did not terminate successfully: exit status 1: the minimum allowed cpu-shares is 2/,
    skerry: /OCI runtime update failed: the minimum allowed cpu-shares is 2/,
    reason: 'as every other order to a runtime is told',
  },
  {
    line: /again\/resize/,
    dockerd: /^404 .*"no such container"/,
    skerry: /^409 .*is not running"/,
    reason: "these are containerd's words, of a container that there is",
  },
];

test('what is asked of containers in every state', async (t) => {
  if (pair === undefined) return t.skip(reason);
  await pair.both(async (side) => {
    const run = ['run', '-d', '--network', 'none', '--name'];
    const create = (name: string, ...words: string[]) =>
      side.docker(['create', '--name', name, ...words, 'box:1', 'true']);
    await side.docker([...run, 'running', 'box:1', 'sleep', '1000']);
    await side.docker([...run, 'tty', '-t', 'box:1', 'sleep', '1000']);
    await side.docker([...run, 'paused', 'box:1', 'sleep', '1000']);
    await side.docker(['pause', 'paused']);
    await side.docker(['run', '--network', 'none', '--name', 'stopped', 'box:1', 'sh', '-c', 'exit 3']);
    await create('created', '--network', 'none');
    await create('gone', '--network', 'none');
    await side.docker([...run, 'again', '--restart', 'always', 'box:1', 'false']);
    for (const donor of ['stopped', 'gone', 'again'])
      for (const kind of ['pid', 'ipc', 'net'])
        await create(`${kind}-${donor}`, `--${kind === 'net' ? 'network' : kind}`, `container:${donor}`);
    await create('ipc-running', '--network', 'none', '--ipc', 'container:running');
    await side.docker(['rm', 'gone']);
  });
  const lastWait = requests.indexOf('POST /containers/again/stop');
  for (const [at, line] of requests.entries()) {
    const isOfWaiting = /\bagain\b/.test(line) && at <= lastWait;
    const seen = await pair.both(async (side) => {
      if (isOfWaiting) await untilWaiting(side);
      return answerTo(side, line);
    });
    await t.test(line, () => compare(line, seen));
  }
});

test('lists of containers', async (t) => {
  if (pair === undefined) return t.skip(reason);
  await pair.engine.clear();
  await pair.both(async (side) => {
    if (side.name === 'dockerd') await side.docker(['rm', '-f', ...(await namesOf(side))]);
    for (const line of [
      'run -d --name running -l a=1 -l b=2 -p 18095:80 --expose 7/udp --expose 140-150 -v vol1:/www -v /etc:/h box:1 sleep 1000',
      'run -d --name paused --network none -l a=2 box:1 sleep 1000',
      'pause paused',
      'run --name stopped --network none -v /anon --entrypoint sh full:1 -c false',
      'run --name zero -l a=1 -p 18096:81 box:1 true',
      'create --name created -p 18097:82 --expose 100-200 --health-cmd true box:1 true',
      'run -d --name well --network none --health-cmd true --health-interval 1s bare:1 /bin/sleep 1000',
      'commit -c LABEL=made zero child:1',
      'run --name ofchild --network none child:1 sh -c false',
      'commit ofchild grand:1',
      'create --name ofgrand --network none grand:1 true',
    ])
      await side.docker(line.split(' '));
    while ((await answerTo(side, 'GET /containers/well/json')).includes('"starting"')) await sleep(50);
  });
  for (const query of lists) {
    const seen = await pair.both(async (side) => {
      const filled = encodeURI(await withIds(side, query)).replaceAll('+', '%2B');
      return answerTo(side, `GET /containers/json?${filled}`);
    });
    await t.test(query, () => compare(query, seen));
  }
});

function compare(line: string, seen: { dockerd: string; skerry: string }): void {
  const rule = allowed.find((rule) => rule.line.test(line));
  if (rule === undefined) assert.equal(seen.skerry, seen.dockerd);
  else {
    assert.match(seen.dockerd, rule.dockerd);
    assert.match(seen.skerry, rule.skerry);
  }
}

/** Between two runs, and for a while to come: the pause doubles with each. */
async function untilWaiting(side: Side): Promise<void> {
  for (; ; await sleep(20)) {
    const { State, RestartCount } = JSON.parse(await bodyOf(side, 'GET', '/containers/again/json'));
    if (State.Status === 'restarting' && RestartCount >= 5) return;
  }
}

/** Status, type and body, with what is chance under a name. */
async function answerTo(side: Side, line: string): Promise<string> {
  const [, method = '', path = '', body] = /^(\S+) (\S+)(?: (.*))?$/.exec(line) ?? [];
  const answer = await ask(side, method, path, body);
  const said = (await text(answer)).trim();
  return `${answer.statusCode} ${answer.headers['content-type'] ?? '-'} ${path.startsWith('/containers/json') ? brief(said) : said}`
    .replaceAll(/\b[0-9a-f]{64}\b/g, '<id>')
    .replaceAll(/\b[0-9a-f]{12}\b/g, '<short>')
    .replaceAll(/\[\["\d+",/g, '[["<pid>",');
}

/** `{name}` and `{name:12}` are the container's ID, and its beginning. */
async function withIds(side: Side, query: string): Promise<string> {
  const [, name, length] = /\{(\w+)(?::(\d+))?\}/.exec(query) ?? [];
  if (name === undefined) return query;
  const { Id } = JSON.parse(await bodyOf(side, 'GET', `/containers/${name}/json`));
  return query.replace(/\{\w+(:\d+)?\}/, Id.slice(0, length && Number(length)));
}

async function bodyOf(side: Side, method: string, path: string): Promise<string> {
  return text(await ask(side, method, path));
}

async function ask(side: Side, method: string, path: string, body?: string): Promise<IncomingMessage> {
  const headers = body === undefined ? {} : { 'content-type': 'application/json' };
  const sent = request({ socketPath: side.socket, method, path, agent: false, headers });
  sent.end(body);
  const [answer] = await once(sent, 'response');
  return answer as IncomingMessage;
}

/** Of a list the names, in their order, and sizes where they are told. */
function brief(said: string): string {
  if (!said.startsWith('[')) return said;
  const all: { Names: string[]; SizeRw?: number; SizeRootFs?: number }[] = JSON.parse(said);
  return all.map(({ Names: [name], SizeRw, SizeRootFs }) => `${name} ${SizeRw} ${SizeRootFs}`).join('\n');
}

async function namesOf(side: Side): Promise<string[]> {
  const { stdout } = await side.docker(['ps', '-aq']);
  return stdout.split('\n').filter((name) => name !== '');
}
