import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startBoxEngine } from '../support/box-engine.ts';
import type { TestEngine } from '../support/engine.ts';

/** Health checks of real containers: what is asked, what is told, and that neither a pause nor a restart confuses them. */
let engine: TestEngine;

before(async () => {
  const Healthcheck = {
    Test: ['CMD-SHELL', 'echo "$0 $1"; test -e /well'],
    Interval: 150_000_000,
    Retries: 2,
  };
  const checked = { Healthcheck, Env: ['PATH=/bin'], Cmd: ['sleep', '1000'] };
  engine = await startBoxEngine({ box: {}, 'box:checked': checked });
});

after(async () => assert.deepEqual(await engine.finish(), []));

interface Health {
  Status: string;
  FailingStreak: number;
  Log: { Start: string; End: string; ExitCode: number; Output: string }[];
}

const healthOf = async (id: string): Promise<Health | undefined> =>
  (await engine.json(`/containers/${id}/json`)).State.Health;

async function until(id: string, is: (health: Health) => boolean): Promise<Health> {
  for (const end = Date.now() + 20_000; ; await sleep(20)) {
    const health = await healthOf(id);
    if (health !== undefined && is(health)) return health;
    assert.ok(Date.now() < end, `health is ${JSON.stringify(health)}\n${await engine.log()}`);
  }
}

const run = (...options: string[]) => engine.ok(['run', '-d', '--net', 'none', ...options]);

/** What an engine told of a container, as `action`, in order. */
async function told(id: string): Promise<string[]> {
  const filters = encodeURIComponent(JSON.stringify({ container: [id] }));
  const { text } = await engine.get(
    `/events?since=1&until=${Math.ceil(Date.now() / 1000)}&filters=${filters}`,
  );
  const lines = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  return lines.map(({ Action }) => Action);
}

test('the check of the image: its words, from starting over unhealthy to healthy, told at each turn', async () => {
  const id = await run('box:checked');
  const fresh = await healthOf(id);
  assert.ok(fresh?.Status === 'starting', JSON.stringify(fresh));
  assert.match(await engine.ok(['ps', '--filter', 'health=starting']), /\(health: starting\)/);
  const ill = await until(id, ({ Status }) => Status === 'unhealthy');
  assert.equal(ill.FailingStreak >= 2, true);
  assert.equal(ill.Log.at(-1)?.ExitCode, 1);
  assert.match(await engine.ok(['ps', '--filter', 'health=unhealthy']), /Up .* \(unhealthy\)/);
  await engine.ok(['exec', id, 'touch', '/well']);
  const well = await until(id, ({ Status }) => Status === 'healthy');
  assert.equal(well.FailingStreak, 0);
  const full = await until(id, ({ Log }) => Log.length === 5 && Log.every(({ ExitCode }) => ExitCode === 0));
  assert.equal(full.Log.length, 5);
  for (const { Start, End } of full.Log) assert.ok(Date.parse(Start) <= Date.parse(End));
  const events = await told(id);
  assert.deepEqual(
    events.filter((action) => action.startsWith('health_status')),
    ['health_status: unhealthy', 'health_status: healthy'],
  );
  const probe = '/bin/sh -c echo "$0 $1"; test -e /well';
  const at = events.indexOf(`exec_create: ${probe}`);
  assert.deepEqual(events.slice(at, at + 3), [`exec_create: ${probe}`, `exec_start: ${probe}`, 'exec_die']);
  await engine.ok(['stop', '-t', '0', id]);
  assert.equal((await healthOf(id))?.Status, 'unhealthy'); // as dockerd says of what nobody watches
  await engine.ok(['rm', id]);
  assert.deepEqual(readdirSync(join(engine.execRoot, 'health')), []);
});

test('what a probe is: user, directory, environment and output of the container; both streams, 4096 bytes at most', async () => {
  const check = 'id -un; pwd; echo $COLOUR; echo on stderr >&2';
  const id = await run(
    ...['-u', 'alice', '-w', '/tmp', '-e', 'COLOUR=blue', '--health-interval', '100ms'],
    ...['--health-cmd', check, 'box', 'sleep', '1000'],
  );
  const { Log } = await until(id, ({ Status }) => Status === 'healthy');
  const said = Log[0]?.Output ?? '';
  assert.match(said, /on stderr\n/); // between any two lines of the other
  assert.equal(said.replace('on stderr\n', ''), 'alice\n/tmp\nblue\n');
  const loud = await run(
    ...['--health-interval', '100ms', '--health-cmd', 'yes | head -c 100000'],
    ...['box', 'sleep', '1000'],
  );
  const much = (await until(loud, ({ Status }) => Status === 'healthy')).Log[0]?.Output ?? '';
  assert.equal(much, `${'y\n'.repeat(2048)}...`);
  await engine.ok(['rm', '-f', id, loud]);
});

test('a probe that takes too long is killed with all it began, and counts as failed', async () => {
  const check = 'echo begun; sleep 777 & (sleep 778 &) ; sleep 779';
  const id = await run(
    ...[
      '--health-interval',
      '50ms',
      '--health-timeout',
      '300ms',
      '--health-retries',
      '1',
      '--health-cmd',
      check,
    ],
    ...['box', 'sleep', '1000'],
  );
  const { Log } = await until(id, ({ Status }) => Status === 'unhealthy');
  assert.equal(Log[0]?.ExitCode, -1);
  assert.equal(Log[0]?.Output, 'Health check exceeded timeout (300ms): begun\n');
  await until(id, ({ FailingStreak }) => FailingStreak >= 3);
  await engine.ok(['pause', id]); // which ends the one under way
  const processes = await engine.ok(['top', id, '-eo', 'pid,args']);
  assert.doesNotMatch(processes, /sleep 77/);
  await engine.ok(['rm', '-f', id]);
});

test('a program that is not there: dockerd words; NONE takes the check of an image away', async () => {
  const body = (Healthcheck: object) => ({
    Image: 'box:checked',
    HostConfig: { NetworkMode: 'none' },
    Healthcheck,
  });
  const create = (check: object) => engine.json('/containers/create', { method: 'POST', body: body(check) });
  const { Id, Warnings } = await create({ Test: ['CMD', '/no/such'] }); // interval and retries are the image's
  assert.deepEqual(Warnings, []);
  assert.equal(await healthOf(Id), undefined); // never started
  await engine.ok(['start', Id]);
  const { Log } = await until(Id, ({ Status }) => Status === 'unhealthy');
  assert.equal(Log[0]?.ExitCode, -1);
  assert.equal(
    Log[0]?.Output,
    'OCI runtime exec failed: exec failed: unable to start container process: exec: "/no/such": stat /no/such: no such file or directory: unknown',
  );
  const none = await create({ Test: ['NONE'] });
  await engine.ok(['start', none.Id]);
  assert.equal(await healthOf(none.Id), undefined);
  assert.doesNotMatch(await engine.ok(['ps', '--filter', 'health=none']), /health|healthy/);
  await engine.ok(['rm', '-f', Id, none.Id]);
});

test('nobody asks while it is paused; afterwards they do again', async () => {
  const id = await run('--health-interval', '50ms', '--health-cmd', 'true', 'box', 'sleep', '1000');
  await until(id, ({ Status }) => Status === 'healthy');
  await engine.ok(['pause', id]);
  const held = (await healthOf(id))?.Log.at(-1)?.Start;
  await sleep(400);
  assert.equal((await healthOf(id))?.Log.at(-1)?.Start, held);
  await engine.ok(['unpause', id]);
  await until(id, ({ Log, Status }) => Status === 'healthy' && Log.at(-1)?.Start !== held);
  await engine.ok(['rm', '-f', id]);
});

for (const end of ['kill', 'stop'] as const) {
  test(`${end}: the next daemon knows status, streak and log, and goes on asking; nothing is written to the disk`, async () => {
    const options = ['--health-interval', '1h', '--health-start-period', '1h', '--health-cmd'];
    const rare = await engine.json('/containers/create', {
      method: 'POST',
      body: {
        Image: 'box',
        Cmd: ['sleep', '1000'],
        HostConfig: { NetworkMode: 'none' },
        Healthcheck: { Test: ['CMD', 'false'], Interval: 300_000_000, Retries: 1000 },
      },
    });
    await engine.ok(['start', rare.Id]);
    const slow = await run(...options, 'sleep 555', 'box', 'sleep', '1000');
    const before = await until(rare.Id, ({ FailingStreak }) => FailingStreak >= 3);
    await engine[end]();
    await engine.boot();
    const now = await healthOf(rare.Id);
    assert.ok(now !== undefined && now.FailingStreak >= before.FailingStreak, JSON.stringify(now));
    assert.equal(now.Status, 'starting');
    assert.ok(now.Log.length >= 3);
    assert.equal((await healthOf(slow))?.Status, 'starting');
    await until(rare.Id, ({ FailingStreak }) => FailingStreak >= before.FailingStreak + 2);
    const files = readdirSync(join(engine.dataRoot, 'containers', rare.Id)).sort();
    assert.ok(!files.some((name) => name.includes('health')), files.join());
    await engine.ok(['rm', '-f', rare.Id, slow]);
  });
}

test('a probe that outlived its daemon is ended by the next one', async () => {
  const check = 'echo $$ > /probe; exec sleep 888';
  const id = await run('--health-interval', '200ms', '--health-cmd', check, 'box', 'sleep', '1000');
  const path = join(engine.dataRoot, 'containers', id, 'upper/probe');
  while (!existsSync(path)) await sleep(20);
  const first = readFileSync(path, 'utf8');
  await engine.kill();
  await engine.boot();
  while (['', first].includes(readFileSync(path, 'utf8'))) await sleep(20);
  let sleeping: string[];
  do {
    const processes = await engine.ok(['top', id, '-eo', 'pid,args']);
    sleeping = processes.split('\n').filter((line) => /\bsleep 888$/.test(line));
  } while (sleeping.length === 0); // it has told its number and is about to become that program
  assert.equal(sleeping.length, 1, sleeping.join());
  await engine.ok(['rm', '-f', id]);
});
