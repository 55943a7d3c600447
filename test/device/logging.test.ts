import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { type ClientRequest, request } from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { boxImage } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { push } from '../support/registry-images.ts';

/** Logs through the docker CLI and the API, on the real daemon and conmon. */
let engine: TestEngine;
let registry: TestRegistry;
let box: string;

const fullSpeedMs = process.env['SKERRY_SOAK'] ? 60_000 : 5000;

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  await push(registry.host, 'box', ['1'], await boxImage());
  engine = await TestEngine.start();
  box = `${registry.host}/box:1`;
  await engine.ok(['pull', '-q', box]);
});

after(async () => {
  await engine.clear();
  await engine.stop();
  const left = await engine.remains();
  await engine[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  assert.deepEqual(left, []);
});

const directoryOf = (id: string) => join(engine.dataRoot, 'containers', id);

const logFiles = (id: string) => readdirSync(directoryOf(id)).filter((entry) => /^log/.test(entry));

/** On the disk: a file with two names once. Looks again where files came or went between the first and the last. */
function logBytes(id: string): number {
  for (;;) {
    const sizes = new Map<number, number>();
    const names = logFiles(id);
    for (const name of names) {
      const stats = statSync(join(directoryOf(id), name), { throwIfNoEntry: false });
      if (stats !== undefined) sizes.set(stats.ino, stats.size);
    }
    if (logFiles(id).join() === names.join()) return [...sizes.values()].reduce((sum, size) => sum + size, 0);
  }
}

async function until(isSo: () => boolean | Promise<boolean>, within = 30_000): Promise<void> {
  for (const end = Date.now() + within; !(await isSo()); await sleep(20))
    if (Date.now() > end) throw new Error('never came to be');
}

/** 1 MB of log a second. */
const paced = '; if (i % 100 == 0) { fflush(); system("sleep 0.01") }';

/** Lines that count from 1, in 64 digits each. */
const counting = (until: number, pause = '') =>
  `awk 'BEGIN { for (i = 1; i <= ${until}; i++) { printf "%064d\\n", i${pause} } }'`;

/** The numbers from `first` on, each once: an array's difference of this size would take minutes to print. */
function assertCounts(text: string, first: number, length?: number): number {
  const numbers = text.split('\n').map(Number);
  const wrong = numbers.findIndex((n, at) => n !== first + at);
  assert.equal(wrong, -1, `line ${wrong} is ${numbers[wrong]} after ${numbers[wrong - 1]}`);
  if (length !== undefined) assert.equal(numbers.length, length);
  return numbers.length;
}

/** A request whose answer is never read. */
function ignore(path: string, method = 'GET'): ClientRequest {
  const upgrade = method === 'POST' ? { connection: 'Upgrade', upgrade: 'tcp' } : {};
  const sent = request({ socketPath: engine.socket, path, method, agent: false, headers: upgrade });
  sent.on('response', (response) => response.pause().on('error', () => {}));
  sent.on('upgrade', (_, socket) => socket.pause().on('error', () => {}));
  sent.on('error', () => {});
  sent.end();
  return sent;
}

const rssMb = () =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${engine.pid}/status`, 'utf8'))?.[1]) / 1024;

test('a follower sees every line once and in order over many rotations; the log has the end of them', async () => {
  const options = ['--log-opt', 'max-size=300k', '--log-opt', 'max-file=4'];
  const id = await engine.ok(['create', ...options, box, 'sh', '-c', `sleep 1; ${counting(30_000, paced)}`]);
  await engine.ok(['start', id]);
  assertCounts(await engine.ok(['logs', '-f', id]), 1, 30_000);
  const kept = await engine.ok(['logs', id]);
  const length = kept.split('\n').length;
  assertCounts(kept, 30_001 - length);
  assert.ok(length > 5000, `${length} lines of 110 bytes in 720 to 1200 kB`);
  assertCounts(await engine.ok(['logs', '--tail', '5000', id]), 25_001, 5000);
  await engine.ok(['rm', id]);
});

test('all that one writes at full speed is in the log, where it has room', async () => {
  // a file of it lasts longer than the daemon can be kept from looking by a busy machine
  const options = ['--log-opt', 'max-size=20m', '--log-opt', 'max-file=3'];
  const id = await engine.ok(['run', '-d', ...options, box, 'sh', '-c', counting(200_000)]);
  await engine.ok(['wait', id]);
  assertCounts(await engine.ok(['logs', id]), 1, 200_000);
  assert.ok(readdirSync(directoryOf(id)).filter((name) => /^log\.\d+$/.test(name)).length >= 1);
  await engine.ok(['rm', id]);
});

test('a daemon that is killed while files change: none lost, and the limit holds while it is away', async () => {
  const command = counting(1e9, paced);
  const options = ['--log-opt', 'max-size=300k', '--log-opt', 'max-file=40'];
  const id = await engine.ok(['run', '-d', ...options, box, 'sh', '-c', command]);
  for (let round = 0; round < 3; round++) {
    const inode = statSync(join(directoryOf(id), 'log')).ino;
    await until(() => statSync(join(directoryOf(id), 'log')).ino !== inode);
    await engine.kill();
    await engine.boot();
  }
  await engine.ok(['kill', id]);
  assert.ok(assertCounts(await engine.ok(['logs', id]), 1) > 10_000);
  await engine.ok(['start', id]);
  await engine.kill();
  await sleep(3000); // whole files are written and thrown away by conmon alone
  assert.ok(logBytes(id) <= 300_000 * 40);
  await engine.boot();
  await engine.ok(['rm', '-f', id]);
});

test('full speed with clients that never read: memory and log are bounded, the container goes on', async () => {
  const options = ['--log-opt', 'max-size=2m', '--log-opt', 'max-file=3'];
  const id = await engine.ok(['create', ...options, box, 'sh', '-c', 'yes 0123456789abcdef & yes err >&2']);
  const clients = [
    ignore(`/containers/${id}/attach?stream=1&stdout=1&stderr=1`, 'POST'),
    ignore(`/containers/${id}/attach?stream=1&stdout=1&stderr=1`, 'POST'),
  ];
  await engine.ok(['start', id]);
  clients.push(ignore(`/containers/${id}/logs?follow=1&stdout=1&stderr=1`));
  clients.push(ignore(`/containers/${id}/logs?follow=1&stdout=1&stderr=1`));
  // attachers that take nothing are waited for once, then dropped
  let [inode, changes] = [0, 0];
  const look = () => {
    const present = statSync(join(directoryOf(id), 'log'), { throwIfNoEntry: false })?.ino ?? inode;
    if (present !== inode) changes++;
    inode = present;
    return changes;
  };
  await until(() => look() > 10);
  const first = rssMb();
  let [mostRss, mostLog] = [0, 0];
  for (const end = Date.now() + fullSpeedMs; Date.now() < end; await sleep(10)) {
    mostRss = Math.max(mostRss, rssMb());
    mostLog = Math.max(mostLog, logBytes(id));
    look();
  }
  for (const client of clients) client.destroy();
  // files change while they are weighed one after the other: some count as they were, others as they are
  assert.ok(mostLog <= 6_000_000 + 3 * 1_500_000, `log ${mostLog}`);
  assert.ok(changes > 30, `${changes} new files: the container was held up`);
  assert.ok(mostRss < Math.max(first, 120) + 40, `${first} MB, then ${mostRss} MB`);
  await until(() => logBytes(id) <= 3 * 2_000_000);
  const state = await engine.json(`/containers/${id}/json`);
  assert.equal(state.State.Running, true);
  await engine.ok(['rm', '-f', id]);
});

test('local: full files are packed; without a path in inspect; none: no file and no reading', async () => {
  const local = ['--log-driver', 'local', '--log-opt', 'max-size=100k', '--log-opt', 'max-file=20'];
  const id = await engine.ok([
    'run',
    '-d',
    ...local,
    box,
    'sh',
    '-c',
    `${counting(13_000, paced)}; sleep 1000`,
  ]);
  await until(() => readdirSync(directoryOf(id)).filter((name) => name.endsWith('.gz')).length >= 2);
  await until(async () => (await engine.ok(['logs', '--tail', '1', id])) === '13000'.padStart(64, '0'));
  assertCounts(await engine.ok(['logs', id]), 1, 13_000);
  assert.equal((await engine.json(`/containers/${id}/json`)).LogPath, '');
  await engine.ok(['rm', '-f', id]);

  const none = await engine.ok(['run', '-d', '--log-driver', 'none', box, 'sh', '-c', 'echo x; sleep 1000']);
  const refused = await engine.get(`/containers/${none}/logs?stdout=1`);
  assert.equal(refused.status, 501);
  assert.deepEqual(JSON.parse(refused.text), {
    message: 'configured logging driver does not support reading',
  });
  assert.ok(!existsSync(join(directoryOf(none), 'log')));
  assert.equal(
    (await engine.ok(['run', '--rm', '--log-driver', 'none', box, 'echo', 'seen'])).trim(),
    'seen',
  );
  await engine.ok(['rm', '-f', none]);
});

test('labels, variables and a tag are details of each line', async () => {
  const chosen = [
    '--label',
    'site=quay 5',
    '--label',
    'x.a=1',
    '--label',
    'y=2',
    '-e',
    'RIG=r1',
    '-e',
    'OTHER=o',
  ];
  const options = [
    'labels=site,none',
    'labels-regex=^x',
    'env=RIG',
    'env-regex=^NO',
    'tag={{.Name}}/{{.ImageName}}',
  ];
  const args = [...chosen, ...options.flatMap((option) => ['--log-opt', option])];
  const id = await engine.ok(['run', '-d', '--name', 'told', ...args, box, 'echo', 'line']);
  await engine.ok(['wait', id]);
  const { text } = await engine.get(`/containers/${id}/logs?stdout=1&details=1`);
  const tag = encodeURIComponent(`told/${box}`);
  assert.equal(text.slice(8), `RIG=r1,site=quay+5,tag=${tag},x.a=1 line\n`);
  await engine.ok(['rm', id]);
});

test('what is wrong with drivers and options is said in words of dockerd', async () => {
  const refused = async (driver: string, ...options: string[]) => {
    const args = options.flatMap((option) => ['--log-opt', option]);
    const { code, stderr } = await engine.docker([
      'run',
      '--rm',
      '--log-driver',
      driver,
      ...args,
      box,
      'true',
    ]);
    assert.notEqual(code, 0);
    return stderr
      .split('\n')[0]
      ?.replace(/^docker: Error response from daemon: /, '')
      .replace(/\.$/, '');
  };
  assert.equal(await refused('syslog'), 'error looking up logging plugin syslog: plugin "syslog" not found');
  assert.equal(await refused('json-file', 'zz=1'), "unknown log opt 'zz' for json-file log driver");
  assert.equal(await refused('local', 'zz=1'), "unknown log opt 'zz' for log driver local");
  assert.equal(await refused('json-file', 'mode=odd'), 'logger: logging mode not supported: odd');
  assert.equal(
    await refused('json-file', 'max-buffer-size=1m'),
    "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
  );
  const init = 'failed to initialize logging driver: ';
  assert.equal(await refused('json-file', 'max-size=wide'), `${init}invalid size: 'wide'`);
  assert.equal(
    await refused('journald', 'max-size=1m'),
    "unknown log opt 'max-size' for journald log driver",
  );
  assert.equal(await refused('journald'), `${init}journald is not enabled on this host`);
  assert.equal(await refused('json-file', 'max-file=0'), `${init}max-file cannot be less than 1`);
  assert.equal(
    await refused('json-file', 'compress=maybe'),
    `${init}strconv.ParseBool: parsing "maybe": invalid syntax`,
  );
  assert.equal(
    await refused('local', 'max-file=1', 'compress=true'),
    `${init}compression cannot be enabled when max file count is 1`,
  );
  assert.match((await refused('json-file', 'tag={{.Nope}}')) ?? '', /can't evaluate field Nope/);
  assert.match((await refused('json-file', 'labels-regex=(')) ?? '', /failed to initialize logging driver: /);
});
