import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { get } from 'node:http';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { boxImage } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeLayer, push } from '../support/registry-images.ts';

/** What a person does at a terminal, by the docker CLI itself, one engine for all of it. */
let engine: TestEngine;
let registry: TestRegistry;
let box: string;

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  await push(registry.host, 'box', ['1'], await boxImage());
  const settings = await makeLayer({ 'etc/settings': 'two\n' });
  await push(registry.host, 'box', ['2'], await boxImage({ layers: [settings] }));
  engine = await TestEngine.start();
  box = `${registry.host}/box:1`;
});

after(async () => {
  await engine.clear();
  await engine.stop();
  const left = await engine.remains();
  await engine[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  assert.deepEqual(left, []);
});

/** Runs a container to its end; everything the CLI gave. */
const run = (args: string[], o: { input?: string } = {}) => engine.docker(['run', '--rm', ...args], o);

test('version: client and engine agree on 1.45', async () => {
  assert.match(await engine.ok(['version']), /API version: +1\.45 \(minimum version 1\.24\)/);
});

test('info names the driver and the runtime', async () => {
  const info = await engine.ok(['info']);
  assert.match(info, /Storage Driver: overlay2/);
  assert.match(info, /Default Runtime: (crun|runc)/);
});

test('pull shows its layers and the digest; a second one is up to date', async () => {
  assert.match(
    await engine.ok(['pull', box]),
    /Pull complete[\s\S]*Digest: sha256:[\s\S]*Downloaded newer image/,
  );
  assert.match(await engine.ok(['pull', box]), /Image is up to date for/);
  assert.match(await engine.ok(['pull', `${registry.host}/box:2`]), /Already exists[\s\S]*Pull complete/);
});

test('images, inspect, history, tag, rmi', async () => {
  assert.match(await engine.ok(['images']), /box +1 /);
  const [image] = JSON.parse(await engine.ok(['image', 'inspect', box]));
  assert.deepEqual(image.RepoTags, [box]);
  assert.equal(image.Os, 'linux');
  assert.ok(image.Size > 500_000);
  await engine.ok(['history', box]);
  await engine.ok(['tag', box, 'spare:1']);
  assert.match(await engine.ok(['rmi', 'spare:1']), /Untagged: spare:1/);
  const gone = await engine.ok(['rmi', `${registry.host}/box:2`]);
  assert.match(gone, /Untagged: .*box:2[\s\S]*Deleted: sha256:/);
  const missing = await engine.docker(['pull', `${registry.host}/box:nope`]);
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /manifest for .*box:nope not found: manifest unknown/);
});

test('run prints what the container prints', async () => {
  assert.match((await run([box, 'cat', '/etc/os-release'])).stdout, /^NAME="Box"/);
});

test('stdin goes in and its end is seen', async () => {
  assert.equal((await run(['-i', box, 'cat'], { input: 'hi\n' })).stdout, 'hi\n');
  const big = 'x'.repeat(300_000);
  assert.equal((await run(['-i', box, 'cat'], { input: big })).stdout, big);
});

test('stderr is a stream of its own', async () => {
  const { stdout, stderr } = await run([box, 'sh', '-c', 'echo out; echo err >&2']);
  assert.equal(stdout, 'out\n');
  assert.equal(stderr, 'err\n');
});

test('-t gives a terminal', async () => {
  assert.match((await run(['-t', box, 'tty'])).stdout, /^\/dev\/(pts\/0|console)\r\n$/);
});

for (const [code, args, message] of [
  [0, ['true'], /^$/],
  [3, ['sh', '-c', 'exit 3'], /^$/],
  [126, ['/etc'], /permission denied/],
  [126, ['/etc/passwd'], /permission denied/],
  [127, ['nosuch'], /executable file not found in \$PATH/],
  [127, ['/no/such'], /no such file or directory/],
  [137, ['sh', '-c', 'sh -c "kill -9 \\$\\$"; exit $?'], /^Killed\n$/],
] as const) {
  test(`run ${args.join(' ')} exits with ${code}`, async () => {
    const { code: given, stderr } = await run([box, ...args]);
    assert.equal(given, code, stderr);
    assert.match(stderr, message);
  });
}

test('run of what the engine refuses exits with 125', async () => {
  const { code, stderr } = await run(['--runtime', 'nosuch', box, 'true']);
  assert.equal(code, 125, stderr);
  assert.match(stderr, /unknown or invalid runtime name: nosuch/);
});

test('root inside is no root outside: capabilities, seccomp, masked paths', async () => {
  const { stdout } = await run([box, 'cat', '/proc/self/status']);
  assert.match(stdout, /CapEff:\s+00000000a80425fb/);
  assert.match(stdout, /Seccomp:\s+2/);
  assert.equal((await run([box, 'cat', '/proc/kcore'])).stdout, '');
  assert.notEqual((await run([box, 'sh', '-c', 'echo 1 > /proc/sys/kernel/panic'])).code, 0);
  assert.notEqual((await run([box, 'mount', '-t', 'tmpfs', 'x', '/tmp'])).code, 0);
});

test('limits arrive in the cgroup', async () => {
  const script = `
    m=/sys/fs/cgroup; [ -d $m/memory ] || { cat $m/memory.max $m/pids.max; exit; }
    cat $m/memory/memory.limit_in_bytes $m/pids/pids.max`;
  const { stdout, stderr } = await run([
    '-m',
    '64m',
    '--pids-limit',
    '50',
    '--cpus',
    '0.5',
    box,
    'sh',
    '-c',
    script,
  ]);
  assert.equal(stdout, `${64 * 1024 * 1024}\n50\n`, stderr);
});

test('users, working directory, environment, host name', async () => {
  const { stdout } = await run([
    '-u',
    'alice',
    '-w',
    '/tmp',
    '-e',
    'A=b c',
    '-h',
    'board',
    box,
    'sh',
    '-c',
    'id -u; pwd; echo $A; hostname; echo $HOME',
  ]);
  assert.equal(stdout, '1000\n/tmp\nb c\nboard\n/home/alice\n');
  const unknown = await run(['-u', 'nosuch', box, 'true']);
  assert.equal(unknown.code, 125);
  assert.match(unknown.stderr, /unable to find user nosuch: no matching entries in passwd file/);
});

test('binds, volumes, tmpfs and a read-only root', async () => {
  await engine.ok([
    'run',
    '--rm',
    '-v',
    `${engine.directory}/shared:/s`,
    box,
    'sh',
    '-c',
    'echo kept > /s/f',
  ]);
  assert.equal((await run(['-v', `${engine.directory}/shared:/s:ro`, box, 'cat', '/s/f'])).stdout, 'kept\n');
  assert.notEqual((await run(['-v', `${engine.directory}/shared:/s:ro`, box, 'touch', '/s/g'])).code, 0);
  assert.equal(
    (await run(['-v', 'pages:/www', box, 'cat', '/www/index.html'])).stdout,
    'hello from the box\n',
  );
  assert.equal(
    (
      await run([
        '--read-only',
        '--tmpfs',
        '/t',
        box,
        'sh',
        '-c',
        'touch /t/x && ! touch /x 2>/dev/null && ! echo >> /etc/hosts && echo ok',
      ])
    ).stdout,
    'ok\n',
  );
});

test('a published port answers on the loopback; the container sees its own address', async () => {
  const id = await engine.ok([
    'run',
    '-d',
    '-p',
    '127.0.0.1:8080:80',
    box,
    'httpd',
    '-f',
    '-p',
    '80',
    '-h',
    '/www',
  ]);
  assert.match(await engine.ok(['port', id]), /80\/tcp -> 127\.0\.0\.1:8080/);
  assert.equal(await page('http://127.0.0.1:8080/'), 'hello from the box\n');
  const [{ NetworkSettings }] = JSON.parse(await engine.ok(['inspect', id]));
  assert.match(
    await engine.ok(['exec', id, 'ip', 'addr', 'show', 'eth0']),
    new RegExp(`inet ${NetworkSettings.IPAddress}/`),
  );
  const clash = await engine.docker(['run', '--rm', '-p', '127.0.0.1:8080:80', box, 'true']);
  assert.equal(clash.code, 125);
  assert.match(clash.stderr, /Bind for 127\.0\.0\.1:8080 failed: port is already allocated/);
  await engine.ok(['rm', '-f', id]);
  await assert.rejects(page('http://127.0.0.1:8080/'));
});

test('networks none and host', async () => {
  assert.doesNotMatch((await run(['--net', 'none', box, 'ip', 'addr'])).stdout, /eth0/);
  assert.match((await run(['--net', 'host', box, 'ip', 'addr'])).stdout, /skerry0/);
  const { code, stderr } = await run(['--net', 'nosuch', box, 'true']);
  assert.equal(code, 125);
  assert.match(stderr, /network nosuch not found/);
  const EndpointsConfig = { bridge: { IPAMConfig: { IPv4Address: '172.17.0.9' } } };
  const body = { Image: box, Cmd: ['true'], NetworkingConfig: { EndpointsConfig } };
  const fixed = await engine.get('/containers/create', { method: 'POST', body }); // older CLIs send no address
  assert.equal(fixed.status, 400);
  assert.match(fixed.text, /user specified IP address is supported on user defined networks only/);
});

test('logs: stored, followed, the tail, with times; followed to the end', async () => {
  const id = await engine.ok([
    'run',
    '-d',
    box,
    'sh',
    '-c',
    'for i in 1 2 3; do echo line $i; sleep 0.2; done',
  ]);
  const followed = engine.ok(['logs', '-f', id]);
  assert.equal(await followed, 'line 1\nline 2\nline 3');
  assert.equal(await engine.ok(['logs', '--tail', '1', id]), 'line 3');
  assert.match(await engine.ok(['logs', '-t', id]), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z line 1\n/);
  await engine.ok(['rm', id]);
});

test('exec: output, stdin, user, exit codes', async () => {
  const id = await engine.ok(['run', '-d', box, 'sleep', '1000']);
  assert.equal(await engine.ok(['exec', id, 'echo', 'hello']), 'hello');
  assert.equal(await engine.ok(['exec', '-i', id, 'cat'], { input: 'in\n' }), 'in');
  assert.equal(
    await engine.ok([
      'exec',
      '-u',
      'alice',
      '-w',
      '/tmp',
      '-e',
      'A=1',
      id,
      'sh',
      '-c',
      'id -u; pwd; echo $A',
    ]),
    '1000\n/tmp\n1',
  );
  assert.equal((await engine.docker(['exec', id, 'sh', '-c', 'exit 5'])).code, 5);
  assert.equal((await engine.docker(['exec', id, 'nosuch'])).code, 126);
  assert.equal((await engine.docker(['exec', id, '/etc'])).code, 126);
  assert.match((await engine.docker(['exec', '-t', id, 'tty'])).stdout, /\/dev\/pts\/\d/);
  await engine.ok(['exec', '-d', id, 'touch', '/tmp/made']);
  await until(async () => (await engine.docker(['exec', id, 'test', '-e', '/tmp/made'])).code === 0);
  await engine.ok(['rm', '-f', id]);
});

test('stop sends SIGTERM and then SIGKILL; ps -a and inspect tell how it ended', async () => {
  const polite = await engine.ok([
    'run',
    '-d',
    '--name',
    'polite',
    box,
    'sh',
    '-c',
    'trap "exit 7" TERM; while :; do sleep 0.05; done',
  ]);
  const deaf = await engine.ok([
    'run',
    '-d',
    '--name',
    'deaf',
    box,
    'sh',
    '-c',
    'trap "" TERM; while :; do sleep 0.05; done',
  ]);
  await sleep(300);
  await engine.ok(['stop', 'polite']);
  await engine.ok(['stop', '-t', '1', 'deaf']);
  const list = await engine.ok(['ps', '-a', '--format', '{{.Names}} {{.Status}}']);
  assert.match(list, /polite Exited \(7\)/);
  assert.match(list, /deaf Exited \(137\)/);
  const [record] = JSON.parse(await engine.ok(['inspect', polite]));
  assert.equal(record.State.ExitCode, 7);
  assert.equal(record.State.Status, 'exited');
  await engine.ok(['rm', polite, deaf]);
});

test('kill, restart, rename, pause', async () => {
  await engine.ok(['run', '-d', '--name', 'one', box, 'sleep', '1000']);
  await engine.ok(['rename', 'one', 'two']);
  await engine.ok(['pause', 'two']);
  assert.match(await engine.ok(['ps', '--format', '{{.Names}} {{.Status}}']), /two .*\(Paused\)/);
  await engine.ok(['unpause', 'two']);
  await engine.ok(['restart', '-t', '0', 'two']);
  assert.equal(await engine.ok(['inspect', '-f', '{{.State.Running}}', 'two']), 'true');
  await engine.ok(['kill', 'two']);
  assert.equal(await engine.ok(['wait', 'two']), '137');
  await engine.ok(['rm', 'two']);
});

test('start -a of a stopped container runs it again', async () => {
  await engine.ok(['create', '--name', 'again', box, 'echo', 'ran']);
  assert.equal(await engine.ok(['start', '-a', 'again']), 'ran');
  assert.equal(await engine.ok(['start', '-a', 'again']), 'ran');
  assert.equal(await engine.ok(['logs', 'again']), 'ran\nran');
  await engine.ok(['rm', 'again']);
});

test('restart policies: on-failure gives up after its count', async () => {
  await engine.ok([
    'run',
    '-d',
    '--name',
    'failing',
    '--restart',
    'on-failure:2',
    box,
    'sh',
    '-c',
    'echo try; exit 1',
  ]);
  await until(
    async () =>
      (await engine.ok(['inspect', '-f', '{{.State.Status}} {{.RestartCount}}', 'failing'])) === 'exited 2',
  );
  assert.equal(await engine.ok(['logs', 'failing']), 'try\ntry\ntry');
  await engine.ok(['rm', 'failing']);
});

test('the name of a container is taken until it is gone', async () => {
  await engine.ok(['create', '--name', 'mine', box, 'true']);
  const again = await engine.docker(['create', '--name', 'mine', box, 'true']);
  assert.match(again.stderr, /Conflict\. The container name "\/mine" is already in use by container/);
  const image = await engine.docker(['rmi', box]);
  assert.match(image.stderr, /conflict: unable to remove repository reference .* \(must force\) - container/);
  await engine.ok(['rm', 'mine']);
  const missing = await engine.docker(['inspect', '--type', 'container', 'mine']);
  assert.match(missing.stderr, /No such container: mine/);
});

test('events tell a run from create to destroy', async () => {
  const since = Math.floor(Date.now() / 1000) - 1;
  const events = spawn(
    'docker',
    ['events', '--since', String(since), '--filter', 'container=eventful', '--format', '{{.Action}}'],
    {
      env: { ...process.env, ...engine.cliEnvironment() },
    },
  );
  let seen = '';
  events.stdout.on('data', (chunk) => {
    seen += chunk;
  });
  await engine.ok(['run', '--rm', '--name', 'eventful', box, 'true']);
  await until(async () => seen.includes('destroy'));
  events.kill();
  await once(events, 'exit');
  assert.deepEqual(seen.trim().split('\n'), ['create', 'attach', 'start', 'die', 'destroy']);
});

test('a client that is gone leaves nothing attached', async () => {
  await engine.ok(['run', '-d', '--name', 'chatty', box, 'sh', '-c', 'while :; do echo x; sleep 0.01; done']);
  const attached = spawn('docker', ['attach', 'chatty'], {
    env: { ...process.env, ...engine.cliEnvironment() },
  });
  await once(attached.stdout, 'data');
  attached.kill('SIGKILL');
  await sleep(200);
  assert.equal(await engine.ok(['inspect', '-f', '{{.State.Running}}', 'chatty']), 'true');
  await engine.ok(['rm', '-f', 'chatty']);
});

test('a client that reads slowly misses nothing', async () => {
  const reader = `docker run --rm ${box} sh -c 'seq 1000000 2500000' | (head -c 1000; sleep 2; cat) | sha256sum`;
  const expected = await shell('seq 1000000 2500000 | sha256sum');
  assert.equal(await shell(reader), expected);
});

async function shell(command: string): Promise<string> {
  const child = spawn('sh', ['-c', command], { env: { ...process.env, ...engine.cliEnvironment() } });
  let text = '';
  child.stdout.on('data', (chunk) => {
    text += chunk;
  });
  await once(child, 'close');
  return text;
}

async function until(isTrue: () => Promise<boolean>, ms = 10_000): Promise<void> {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(50)) if (await isTrue()) return;
  throw new Error(`still not so after ${ms} ms`);
}

function page(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = get(url, { agent: false, timeout: 2000 }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () => resolve(text));
    });
    sent.on('timeout', () => sent.destroy(new Error('no answer')));
    sent.on('error', reject);
  });
}
