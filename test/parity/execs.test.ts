import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPair, type Pair, type Side } from './pair.ts';

/** What execs are shown as, resized, told of and refused, field by field as by dockerd. */
let pair: Pair | undefined;
let reason = '';

before(async () => {
  ({ pair, reason } = await openPair());
  for (const name of stories.keys())
    await pair?.both((side) =>
      side.docker([
        'run',
        '-d',
        '-u',
        'alice',
        '--network',
        'none',
        '--name',
        name,
        'box:1',
        'sleep',
        '1000',
      ]),
    );
});

after(async () => {
  await pair?.engine.clear();
  await pair?.[Symbol.asyncDispose]();
});

/** One exec in a container of its own, and what was answered about it so far. */
class Story {
  readonly said: string[] = [];
  readonly side: Side;
  readonly container: string;
  #id = '';

  constructor(side: Side, container: string) {
    this.side = side;
    this.container = container;
  }

  async create(body: object): Promise<void> {
    const made = await this.#ask('POST', `/containers/${this.container}/exec`, body);
    this.said.push(`create ${made}`);
    this.#id = /"Id":"(\w+)"/.exec(made)?.[1] ?? 'none';
  }

  async inspect(): Promise<void> {
    this.said.push(await this.#ask('GET', `/exec/${this.#id}/json`));
  }

  async start(body: object = { Detach: true }): Promise<void> {
    this.said.push(`start ${await this.#ask('POST', `/exec/${this.#id}/start`, body)}`);
  }

  async resize(query: string): Promise<void> {
    this.said.push(`resize ${await this.#ask('POST', `/exec/${this.#id}/resize?${query}`)}`);
  }

  /** As the container shows them. */
  async list(): Promise<void> {
    const { ExecIDs } = JSON.parse((await this.#ask('GET', `/containers/${this.container}/json`)).slice(4));
    this.said.push(`IDs ${JSON.stringify(ExecIDs)}`);
  }

  async docker(...words: string[]): Promise<void> {
    await this.side.docker([...words, this.container]);
  }

  async untilOver(): Promise<void> {
    while ((await this.#ask('GET', `/exec/${this.#id}/json`)).includes('"ExitCode":null')) await sleep(20);
  }

  /** dockerd calls it running before it has a process. */
  async untilRunning(): Promise<void> {
    while (!/"Running":true.*"Pid":[1-9]/.test(await this.#ask('GET', `/exec/${this.#id}/json`)))
      await sleep(20);
  }

  async #ask(method: string, path: string, body?: object): Promise<string> {
    const headers = body === undefined ? {} : { 'content-type': 'application/json' };
    const sent = request({ socketPath: this.side.socket, method, path, agent: false, headers });
    sent.end(body && JSON.stringify(body));
    const [answer] = (await once(sent, 'response')) as [IncomingMessage];
    return `${answer.statusCode} ${(await text(answer)).trim()}`;
  }
}

/** By the container's name. */
const stories = new Map<string, (story: Story) => Promise<void>>([
  [
    'plain',
    async (exec) => {
      await exec.create({ Cmd: ['true'] });
      await exec.inspect();
      await exec.list();
      await exec.start();
      await exec.untilOver();
      await exec.inspect();
      await exec.list();
      await exec.start();
      await exec.start({});
      await sleep(1000); // it takes containerd a while to forget it
      await exec.resize('h=1&w=1');
      await exec.resize('h=x&w=1');
    },
  ],
  [
    'full',
    async (exec) => {
      const script =
        'id; pwd; echo $A $B; until stty size 2>&1 | grep -q "11 22"; do usleep 20000; done; exit 7';
      await exec.create({
        ...{
          Cmd: ['sh', '-c', script],
          AttachStdin: true,
          AttachStdout: true,
          AttachStderr: true,
          Tty: true,
        },
        ...{
          DetachKeys: 'ctrl-a,x',
          Env: ['A=1', 'B=2'],
          User: 'root:20',
          WorkingDir: '/www',
          Privileged: true,
        },
      });
      await exec.inspect();
      const started = exec.start({ Tty: true });
      await exec.untilRunning();
      await exec.inspect();
      await exec.list();
      await exec.resize('h=0&w=0');
      await exec.resize('h=11&w=22');
      await started;
      await exec.inspect();
    },
  ],
  [
    'early',
    async (exec) => {
      await exec.create({
        Cmd: ['sh', '-c', 'until [ "$(stty size)" = "31 42" ]; do usleep 20000; done'],
        Tty: true,
      });
      const resized = exec.resize('h=31&w=42');
      await sleep(100); // so that it is there first, which no answer tells
      await Promise.all([resized, exec.start()]);
      exec.said.sort();
      await exec.untilOver();
    },
  ],
  [
    'missing',
    async (exec) => {
      await exec.create({ Cmd: ['/nosuch', 'arg'] });
      await exec.start();
      await exec.inspect();
      await exec.start();
      await exec.resize('h=1&w=1');
    },
  ],
  ...['nobody-here', 'alice:no-group', '1000', ':20', '1000:20', 'alice:dialout', '0', '4242:4343'].map(
    (user, at) =>
      [
        `user${at}`,
        async (exec: Story) => {
          await exec.create({ Cmd: ['id'], User: user, AttachStdout: true });
          await exec.start({});
          await exec.inspect();
        },
      ] as const,
  ),
  [
    'badly',
    async (exec) => {
      await exec.create({ Cmd: ['true'], WorkingDir: 'relative' });
      await exec.start();
      await exec.inspect();
      await exec.create({ Cmd: ['env'], Env: ['=x', 'NOVALUE'], AttachStdout: true });
      await exec.start({});
      await exec.create({ Cmd: ['sh', '-c', 'kill -9 $$'] });
      await exec.start();
      await exec.untilOver();
      await exec.inspect();
    },
  ],
  [
    'still',
    async (exec) => {
      await exec.create({ Cmd: ['sleep', '1000'] });
      await exec.start();
      await exec.docker('pause');
      await exec.inspect();
      await exec.resize('h=1&w=1');
      await exec.create({ Cmd: ['true'] });
      await exec.docker('unpause');
      await exec.create({ Cmd: ['true'] });
      await exec.docker('pause');
      await exec.start();
      await exec.start({});
      await exec.inspect();
    },
  ],
  [
    'gone',
    async (exec) => {
      await exec.create({ Cmd: ['sleep', '1000'] });
      await exec.start();
      await exec.docker('kill');
      await exec.untilOver();
      await exec.inspect();
      await exec.docker('start');
      await exec.inspect();
      await exec.start();
      await exec.docker('rm', '-f');
      await exec.inspect();
      await exec.start();
      await exec.resize('h=1&w=1');
    },
  ],
  [
    'waiting',
    async (exec) => {
      await exec.create({ Cmd: ['true'] });
      await exec.docker('restart', '-t', '0');
      await exec.inspect();
      await exec.start();
      await exec.list();
    },
  ],
]);

describe('execs as dockerd has them', { concurrency: 3 }, () => {
  for (const [name, tell] of stories)
    test(name, async (t) => {
      if (pair === undefined) return t.skip(reason);
      const seen = await pair.both(async (side) => {
        const story = new Story(side, name);
        await tell(story);
        const told = await side.docker([
          ...['events', '--since', '1', '--until', String(Math.ceil(Date.now() / 1000))],
          ...['--filter', `container=${name}`, '--format', '{{.Action}}|{{json .Actor.Attributes}}'],
        ]);
        const events = told.stdout.split('\n').filter((line) => line.startsWith('exec'));
        return [...story.said, ...events].map((line) =>
          line.replace(/\b[0-9a-f]{64}\b/g, '<id>').replace(/"Pid":(?!0)\d+/, '"Pid":<pid>'),
        );
      });
      assert.deepEqual(seen.skerry, seen.dockerd);
    });
});
