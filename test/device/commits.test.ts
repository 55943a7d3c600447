import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { getXattr, setXattr } from '../../src/host/kernel.ts';
import { boxImage } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { push } from '../support/registry-images.ts';
import { archive } from '../support/tar-archive.ts';

/** Images that are made here, by the docker CLI on the real daemon. */
let engine: TestEngine;
let registry: TestRegistry;
let server: Server;

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  await push(registry.host, 'box', ['1'], await boxImage({ config: { Cmd: ['sleep', '1000'], User: '0' } }));
  engine = await TestEngine.start();
  await engine.ok(['pull', '-q', `${registry.host}/box:1`]);
  await engine.ok(['tag', `${registry.host}/box:1`, 'box']);
  server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
});

after(async () => {
  server.close();
  await engine.clear();
  await engine.stop();
  const left = await engine.remains();
  await engine[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  assert.deepEqual(left, []);
});

/** `cap_net_bind_service=ep`. */
const capability = '0100000200040000000000000000000000000000';

const sh = (name: string, script: string) => engine.ok(['exec', name, 'sh', '-c', script]);

async function eventually(isSo: () => Promise<boolean>): Promise<void> {
  for (const until = Date.now() + 5000; !(await isSo()); await sleep(20))
    assert.ok(Date.now() < until, 'it does not come to be');
}

async function removed(name: string): Promise<void> {
  await engine.ok(['rm', '-f', '-v', name]);
}

/** What GNU tar finds in an export, by name without its slash. */
async function exported(name: string): Promise<{ tar: Buffer; names: string[] }> {
  const child = spawn('docker', ['export', name], {
    env: { ...process.env, ...engine.cliEnvironment() },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const pieces: Buffer[] = [];
  for await (const piece of child.stdout) pieces.push(piece);
  assert.deepEqual(await ended, [0, null]);
  const tar = Buffer.concat(pieces);
  const listed = execFileSync('tar', ['-t'], { input: tar, encoding: 'utf8', maxBuffer: 16 << 20 });
  return { tar, names: listed.trimEnd().split('\n') };
}

test('a committed container runs on as an image: files, deletions, owners, capabilities, changes', async () => {
  await engine.ok(['run', '-d', '--name', 'c1', '-v', 'vol:/data', '-e', 'A=1', 'box']);
  await sh(
    'c1',
    [
      'rm /www/index.html; rm -rf /home; mkdir /home; echo new > /home/new',
      'echo hi > /etc/hi; chown 1000:7 /etc/hi; chmod 4755 /etc/hi; ln /etc/hi /etc/also; ln -s hi /etc/link',
      'cp /bin/busybox /bin/capable; echo secret > /data/volume; mkdir /made',
    ].join('; '),
  );
  const { Id } = await engine.json('/containers/c1/json');
  setXattr(
    join(engine.dataRoot, 'containers', Id, 'upper/bin/capable'),
    'security.capability',
    Buffer.from(capability, 'hex'),
  );
  const changes = ['-c', 'CMD cat /etc/hi', '-c', 'ENV B="$A 2"', '-c', 'LABEL of=commit', '-c', 'EXPOSE 80'];
  const id = await engine.ok(['commit', '-a', 'me', '-m', 'why', ...changes, 'c1', 'made:1']);
  assert.match(id, /^sha256:[0-9a-f]{64}$/);
  assert.equal((await engine.json('/containers/c1/json')).State.Status, 'running');

  assert.equal(await engine.ok(['run', '--rm', 'made:1']), 'hi');
  const look =
    'ls /www /home /data /home/alice 2>&1; stat -c "%a %u:%g %h" /etc/hi; readlink /etc/link; echo $B';
  assert.deepEqual((await engine.ok(['run', '--rm', 'made:1', 'sh', '-c', look])).split('\n'), [
    'ls: /home/alice: No such file or directory',
    '/data:',
    '',
    '/home:',
    'new',
    '',
    '/www:',
    '4755 1000:7 2',
    'hi',
    '1 2',
  ]);
  const [image] = JSON.parse(await engine.ok(['image', 'inspect', 'made:1']));
  assert.deepEqual([image.Author, image.Comment, image.Config.Labels], ['me', 'why', { of: 'commit' }]);
  assert.deepEqual(image.Config.ExposedPorts, { '80/tcp': {} });
  const [top] = image.RootFS.Layers.slice(-1);
  const records = readdirSync(join(engine.dataRoot, 'layers')).map((dirId) => ({
    dirId,
    ...JSON.parse(readFileSync(join(engine.dataRoot, 'layers', dirId, 'layer.json'), 'utf8')),
  }));
  const { dirId } = records.find(({ diffId }) => diffId === top);
  const diff = join(engine.dataRoot, 'layers', dirId, 'diff');
  const listed = execFileSync('find', ['.', '-mindepth', '1', '-printf', '%P %y\n'], {
    cwd: diff,
    encoding: 'utf8',
  });
  assert.deepEqual(listed.trimEnd().split('\n').sort(), [
    'bin d',
    'bin/capable f',
    'data d',
    'etc d',
    'etc/also f',
    'etc/hi f',
    'etc/link l',
    'home d',
    'home/new f',
    'made d',
    'www d',
    'www/index.html c',
  ]);
  assert.equal(getXattr(join(diff, 'bin/capable'), 'security.capability')?.toString('hex'), capability);
  await removed('c1');
  await engine.ok(['rmi', 'made:1']);
});

test('a container that changed nothing gives an image without a layer of its own', async () => {
  await engine.ok(['run', '-d', '--name', 'c2', 'box']);
  const layers = readdirSync(join(engine.dataRoot, 'layers')).length;
  const id = await engine.ok(['commit', 'c2']);
  const [image, box] = JSON.parse(await engine.ok(['image', 'inspect', id, 'box']));
  assert.deepEqual(image.RootFS.Layers, box.RootFS.Layers);
  assert.equal(readdirSync(join(engine.dataRoot, 'layers')).length, layers);
  await removed('c2');
  await engine.ok(['create', '--name', 'never', 'box']);
  const other = await engine.ok(['commit', 'never']);
  assert.deepEqual(
    JSON.parse(await engine.ok(['image', 'inspect', other]))[0].RootFS.Layers,
    box.RootFS.Layers,
  );
  await removed('never');
  await engine.ok(['rmi', id, other]);
});

test('a container that writes on and on is committed whole, paused or not', async () => {
  await engine.ok([
    'run',
    '-d',
    '--name',
    'busy',
    'box',
    'sh',
    '-c',
    'while :; do date >> /log; cp /bin/busybox /b; rm /b; done',
  ]);
  for (const flag of ['--pause=true', '--pause=false']) {
    const id = await engine.ok(['commit', flag, 'busy']);
    assert.equal(await engine.ok(['run', '--rm', id, 'sh', '-c', 'test -s /log && echo whole']), 'whole');
    await engine.ok(['rmi', id]);
  }
  assert.equal((await engine.json('/containers/busy/json')).State.Status, 'running');
  await removed('busy');
});

test('commits are refused in dockerd’s words', async () => {
  await engine.ok(['create', '--name', 'c4', 'box']);
  const refused = async (args: string[], text: RegExp) => {
    const { code, stderr } = await engine.docker(['commit', ...args]);
    assert.equal(code, 1);
    assert.match(stderr, text);
  };
  await refused(['no'], /No such container: no/);
  await refused(['-c', 'RUN x', 'c4'], /run is not a valid change command/);
  await refused(['-c', 'EXPOSE x', 'c4'], /invalid containerPort: x/);
  assert.equal((await engine.get('/commit?container=c4&repo=A', { method: 'POST' })).status, 400);
  await removed('c4');
});

test('an export is the whole tree, without what is mounted in it', async () => {
  const bound = join(engine.directory, 'bound');
  mkdirSync(bound);
  writeFileSync(join(bound, 'secret'), 'secret');
  await engine.ok([
    'run',
    '-d',
    '--name',
    'c5',
    '-v',
    `${bound}:/bound`,
    '-v',
    '/data',
    '--tmpfs',
    '/temp',
    'box',
  ]);
  await sh('c5', 'touch /data/x /temp/x /new; rm /www/index.html');
  const { tar, names } = await exported('c5');
  for (const name of ['bound/', 'data/', 'temp/', 'proc/', 'sys/', 'dev/', 'new', 'etc/hosts', 'bin/sh'])
    assert.ok(names.includes(name), `${name} is in it`);
  for (const name of ['bound/secret', 'data/x', 'temp/x', 'proc/1/', 'dev/null', 'www/index.html'])
    assert.ok(!names.includes(name), `${name} is not in it`);
  assert.deepEqual(
    names,
    [...names].sort((a, b) => (a.replaceAll('/', '\0') < b.replaceAll('/', '\0') ? -1 : 1)),
  );
  await engine.ok(['stop', '-t', '0', 'c5']);
  assert.deepEqual((await exported('c5')).names, names);
  assert.deepEqual(
    (await engine.remains()).filter((left) => left.startsWith('mount')),
    [],
  );
  await removed('c5');
  assert.match((await engine.docker(['export', 'c5'])).stderr, /No such container: c5/);

  const file = join(engine.directory, 'tree.tar');
  writeFileSync(file, tar);
  const id = await engine.ok([
    'import',
    '-c',
    'CMD ["cat", "/etc/os-release"]',
    '-m',
    'again',
    file,
    'again:1',
  ]);
  assert.match(await engine.ok(['run', '--rm', 'again:1']), /^NAME="Box"/);
  const [image] = JSON.parse(await engine.ok(['image', 'inspect', id]));
  assert.deepEqual([image.RepoTags, image.Comment, image.RootFS.Layers.length], [['again:1'], 'again', 1]);
  await engine.ok(['rmi', 'again:1']);
});

test('a client that leaves an export leaves nothing behind, nor does a removal amid one', async () => {
  await engine.ok(['create', '--name', 'c6', 'box']);
  for (const leave of [
    (child: ReturnType<typeof spawn>) => void child.kill('SIGKILL'),
    () => removed('c6'), // the client does not read: it is cut off
  ]) {
    const child = spawn('curl', ['-sN', '--unix-socket', engine.socket, 'http://x/containers/c6/export'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'exit');
    await once(child.stdout, 'readable');
    await leave(child);
    child.stdout.resume();
    await ended;
    assert.deepEqual(
      (await engine.remains()).filter((left) => !left.startsWith('cgroup')),
      [],
    );
  }
});

test('import takes what is packed in any way, from stdin and from a server', async (t) => {
  const tree = archive([
    { name: 'etc/', type: '5' },
    { name: 'etc/x', content: 'x' },
  ]);
  const ids = new Set<string>();
  for (const packed of [tree, gzipSync(tree), execFileSync('xz', ['-c'], { input: tree })]) {
    const file = join(engine.directory, 'packed');
    writeFileSync(file, packed);
    const id = await engine.ok(['import', file]);
    const [image] = JSON.parse(await engine.ok(['image', 'inspect', id]));
    ids.add(image.RootFS.Layers[0]);
    await engine.ok(['rmi', id]);
  }
  assert.equal(ids.size, 1);

  const answer = (_: unknown, response: import('node:http').ServerResponse) => {
    response.writeHead(200, { 'Content-Length': tree.length }).end(tree);
  };
  server.on('request', answer);
  t.after(() => server.removeListener('request', answer));
  const url = `127.0.0.1:${(server.address() as AddressInfo).port}/tree.tar`;
  const { text } = await engine.get(`/images/create?fromSrc=${url}&repo=got&changes=USER%20me`, {
    method: 'POST',
  });
  const lines = text
    .trimEnd()
    .split('\r\n')
    .map((line) => JSON.parse(line));
  assert.equal(lines[0].status, `Downloading from http://${url}`);
  assert.match(lines.at(-1).status, /^sha256:[0-9a-f]{64}$/);
  const [image] = JSON.parse(await engine.ok(['image', 'inspect', 'got']));
  assert.deepEqual([image.Config.User, image.Comment], ['me', `Imported from ${url}`]);
  await engine.ok(['rmi', 'got']);
});

test('an import that makes no sense is refused, and leaves nothing', async (t) => {
  const send = (path: string, body: string) =>
    new Promise<{ status: number; text: string }>((resolve) => {
      const child = spawn('curl', [
        ...['-s', '-w', '%{http_code}', '-H', 'Content-Type: application/x-tar', '--data-binary', '@-'],
        ...['--unix-socket', engine.socket, `http://x/images/create?${path}`],
      ]);
      child.stdin.end(body);
      let out = '';
      child.stdout.on('data', (piece) => {
        out += piece;
      });
      child.once('close', () => resolve({ status: Number(out.slice(-3)), text: out.slice(0, -3) }));
    });
  const before = readdirSync(join(engine.dataRoot, 'layers'));
  const cases: [string, string, number, RegExp][] = [
    ['fromSrc=-', 'no tar at all, but long enough for a header block'.repeat(20), 500, /invalid tar/],
    ['fromSrc=-&repo=UPPER', '', 400, /invalid reference format/],
    ['fromSrc=-&changes=RUN%20x', '', 400, /run is not a valid change command/],
    ['fromSrc=-&platform=a/b/c/d', '', 400, /cannot parse platform/],
    ['fromSrc=127.0.0.1:1/x', '', 500, /connection refused/],
    ['', '', 500, /no Host in request URL/],
  ];
  for (const [path, body, status, text] of cases) {
    const answer = await send(path, body);
    assert.equal(answer.status, status, `${path}: ${answer.text}`);
    assert.match(answer.text, text);
  }
  const answer = (_: unknown, response: import('node:http').ServerResponse) => {
    response.writeHead(404).end('not here\n');
  };
  server.on('request', answer);
  t.after(() => server.removeListener('request', answer));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/x`;
  const missing = await engine.get(`/images/create?fromSrc=${url}`, { method: 'POST' });
  assert.deepEqual(
    [missing.status, JSON.parse(missing.text)],
    [404, { message: `failed to GET ${url} with status 404 Not Found: not here` }],
  );
  assert.deepEqual(readdirSync(join(engine.dataRoot, 'layers')), before);
  assert.deepEqual(readdirSync(join(engine.dataRoot, 'staging')), []);
});

test('the daemon answers while it commits, and a container runs on once the client has left', async () => {
  await engine.ok([
    'run',
    '-d',
    '--name',
    'big',
    'box',
    'sh',
    '-c',
    'dd if=/dev/urandom of=/big bs=1M count=120; sleep 1000',
  ]);
  await sh('big', 'while ! [ "$(wc -c < /big)" = 125829120 ]; do usleep 50000; done');
  const committing = spawn('docker', ['commit', 'big', 'big:1'], {
    env: { ...process.env, ...engine.cliEnvironment() },
    stdio: 'ignore',
  });
  const ended = once(committing, 'exit');
  let slowestMs = 0;
  let sawPause = false;
  for (let until = Date.now() + 400; Date.now() < until || !sawPause; ) {
    const began = performance.now();
    const { State } = await engine.json('/containers/big/json');
    slowestMs = Math.max(slowestMs, performance.now() - began);
    sawPause ||= State.Status === 'paused';
    if (committing.exitCode !== null) break;
    await sleep(5);
  }
  assert.ok(sawPause, 'it stood still');
  assert.ok(slowestMs < 1000, `an answer took ${slowestMs} ms`);
  committing.kill('SIGKILL');
  await ended;
  await eventually(async () => (await engine.json('/containers/big/json')).State.Status === 'running');
  await eventually(async () => readdirSync(join(engine.dataRoot, 'staging')).length === 0);
  await removed('big');
});
