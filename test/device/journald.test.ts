import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { boxImage } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { journalMissing, TestJournal } from '../support/journal.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { push } from '../support/registry-images.ts';

/** Logs in systemd's journal: the real one, the real daemon, the docker CLI and journalctl. */
let journal: TestJournal;
let engine: TestEngine;
let registry: TestRegistry;
let box: string;

const skip = journalMissing;

before(async () => {
  if (skip) return;
  await enterOwnNetwork();
  journal = await TestJournal.start();
  registry = await startRegistry();
  await push(registry.host, 'box', ['1'], await boxImage());
  engine = await TestEngine.start({ flags: ['--log-driver', 'journald'] });
  box = `${registry.host}/box:1`;
  await engine.ok(['pull', '-q', box]);
});

after(async () => {
  if (skip) return;
  await engine.clear();
  await engine.stop();
  const left = await engine.remains();
  await engine[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  await journal[Symbol.asyncDispose]();
  assert.deepEqual(left, []);
});

const sh = (script: string) => [box, 'sh', '-c', script];

/** Each number from 1 on. A daemon that is killed between two system calls may have sent one line twice. */
function assertCounts(lines: readonly string[], last: number, repeats = 0): void {
  const numbers = lines.map(Number);
  const once = numbers.filter((n, at) => n !== numbers[at - 1]);
  const wrong = once.findIndex((n, at) => n !== at + 1);
  assert.equal(wrong, -1, `line ${wrong} is ${once[wrong]} after ${once[wrong - 1]}`);
  assert.equal(once.length, last);
  assert.ok(numbers.length - once.length <= repeats, `${numbers.length - once.length} came twice`);
}

/** Some 5,000 lines a second. */
const counting = (until: number) =>
  `awk 'BEGIN { for (i = 1; i <= ${until}; i++) { print i; if (i % 50 == 0) { fflush(); system("sleep 0.01") } } }'`;

test('an entry has the fields that dockerd sends, and the daemon as its sender', { skip }, async () => {
  const options = ['--label', 'io.site=quay 5', '--label', 'other=1', '-e', 'RIG=r\n1'];
  const chosen = ['labels=io.site', 'env=RIG', 'tag={{.Name}}/{{.ImageName}}'];
  const id = await engine.ok([
    ...['run', '-d', '--name', 'told', ...options, ...chosen.flatMap((option) => ['--log-opt', option])],
    ...sh('echo out; echo err >&2'),
  ]);
  await engine.ok(['wait', id]);
  assert.equal(await engine.ok(['logs', id]), 'out'); // and so they are there
  const entries = await journal.entries(`CONTAINER_ID_FULL=${id}`);
  const byText = new Map(entries.map((entry) => [entry['MESSAGE'], entry]));
  const [out = {}, err = {}] = [byText.get('out'), byText.get('err')];
  assert.deepEqual([out['PRIORITY'], err['PRIORITY']], ['6', '3']);
  const expected = {
    CONTAINER_ID: id.slice(0, 12),
    CONTAINER_ID_FULL: id,
    CONTAINER_NAME: 'told',
    CONTAINER_TAG: `told/${box}`,
    SYSLOG_IDENTIFIER: `told/${box}`,
    IMAGE_NAME: box,
    IO_SITE: 'quay 5',
    RIG: 'r\n1',
    _PID: String(engine.pid),
    _TRANSPORT: 'journal',
  };
  for (const [name, value] of Object.entries(expected)) assert.equal(out[name], value, name);
  assert.equal(out['OTHER'], undefined);
  assert.match(out['SYSLOG_TIMESTAMP'] ?? '', /^\d{4}-\d\d-\d\dT[\d:]+\.\d+Z$/);
  assert.match(out['CONTAINER_LOG_EPOCH'] ?? '', /^[0-9a-f]{64}$/);
  const { text } = await engine.get(`/containers/${id}/logs?stdout=1&details=1`);
  const tag = encodeURIComponent(`told/${box}`);
  assert.equal(text.slice(8), `RIG=r%0A1,io.site=quay+5,tag=${tag} out\n`);
  await engine.ok(['rm', id]);
});

test('logs: streams, tail, since, until, times, long lines and no lines', { skip }, async () => {
  const script = 'echo 1; echo 2; sleep 1.2; echo 3; echo e >&2; printf %040000d 7; echo; printf end';
  const id = await engine.ok(['run', '-d', ...sh(script)]);
  await engine.ok(['wait', id]);
  const long = '7'.padStart(40_000, '0');
  const { stdout, stderr } = await engine.docker(['logs', '-t', id]);
  assert.equal(stderr.replace(/^\S+ /, ''), 'e\n');
  const lines = stdout.trimEnd().split('\n');
  const [times, texts] = [
    lines.map((line) => line.split(' ')[0] ?? ''),
    lines.map((line) => line.split(' ')[1]),
  ];
  assert.deepEqual([...texts.slice(0, 3), texts.at(-1)], ['1', '2', '3', 'end']);
  assert.equal(await engine.ok(['logs', id]), ['1', '2', '3', long, 'end'].join('\n'));
  assert.equal((await engine.ok(['logs', '--since', times[2] ?? '', id])).slice(0, 2), '3\n');
  assert.equal(await engine.ok(['logs', '--until', times[1] ?? '', id]), '1\n2');
  assert.equal(await engine.ok(['logs', '--tail', '1', id]), 'end');
  assert.equal(await engine.ok(['logs', '--tail', '0', id]), '');
  assert.equal(await engine.ok(['logs', '--tail', '1', '--until', times[1] ?? '', id]), '2');
  assert.equal(
    await engine.ok(['logs', '--tail', '100', '--since', times[2] ?? '', '-f', id]),
    `3\n${long}\nend`,
  );
  const none = await engine.ok(['create', ...sh('true')]);
  assert.equal(await engine.ok(['logs', none]), '');
  assert.equal((await engine.json(`/containers/${id}/json`)).LogPath, '');
  await engine.ok(['rm', id, none]);
});

test('a follower sees each line as it comes, and ends with the container', { skip }, async () => {
  const id = await engine.ok(['run', '-d', ...sh(`${counting(3000)}; sleep 0.3; echo 3001`)]);
  assertCounts((await engine.ok(['logs', '-f', id])).split('\n'), 3001);
  await engine.ok(['start', id]);
  const second = (await engine.ok(['logs', '-f', '--tail', '0', id])).split('\n');
  assert.equal(second.at(-1), '3001');
  assert.equal((await engine.ok(['logs', id])).split('\n').length, 6002);
  await engine.ok(['rm', id]);
});

test('a daemon that is killed over and over, and a container that ends without it: nothing is lost', {
  skip,
}, async () => {
  const id = await engine.ok(['run', '-d', ...sh(counting(12_000))]);
  for (let round = 0; round < 3; round++) {
    await sleep(300);
    await engine.kill();
    await engine.boot();
  }
  await engine.ok(['wait', id]);
  assertCounts((await engine.ok(['logs', id])).split('\n'), 12_000, 3);
  const short = await engine.ok(['run', '-d', ...sh(`sleep 1; ${counting(500)}`)]);
  await engine.kill();
  await sleep(1800);
  await engine.boot();
  await engine.ok(['wait', short]);
  assertCounts((await engine.ok(['logs', short])).split('\n'), 500);
  await engine.ok(['rm', id, short]);
});

test('a journal that stalls or is away holds no container up, and gets what there was room for', {
  skip,
}, async () => {
  const id = await engine.ok(['run', '-d', ...sh(`${counting(2000)}; echo done > /done; sleep 1000`)]);
  journal.signal('SIGSTOP');
  for (const end = Date.now() + 20_000; (await engine.docker(['exec', id, 'cat', '/done'])).code !== 0; )
    if (Date.now() > end) throw new Error('the container is held up');
  journal.signal('SIGCONT');
  await engine.ok(['kill', id]);
  await engine.ok(['wait', id]);
  assertCounts((await engine.ok(['logs', id])).split('\n'), 2000);
  await engine.ok(['rm', id]);

  await journal.stop();
  const { code, stderr } = await engine.docker(['run', '--rm', ...sh('true')]);
  assert.notEqual(code, 0);
  assert.match(stderr, /failed to initialize logging driver: journald is not enabled on this host/);
  await journal.boot();
  assert.equal(await engine.ok(['run', '--rm', ...sh('echo again')]), 'again');
});

test('info has the drivers; labels that no entry can hold are refused', { skip }, async () => {
  const { Plugins, LoggingDriver } = await engine.json('/info');
  assert.deepEqual(Plugins.Log, ['journald', 'json-file', 'local']);
  assert.equal(LoggingDriver, 'journald');
  const huge = ['--label', `a=${'x'.repeat(40_000)}`, '--log-opt', 'labels=a'];
  const { stderr } = await engine.docker(['run', '--rm', ...huge, ...sh('true')]);
  assert.match(stderr, /failed to initialize logging driver: labels and env are too long/);
});
