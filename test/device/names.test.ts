import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, readdirSync, readlinkSync, realpathSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../src/host/exec.ts';
import { readQuery, writeAnswer } from '../../src/lib/dns-message.ts';
import { startBoxEngine } from '../support/box-engine.ts';
import type { TestEngine } from '../support/engine.ts';

/** Names of containers through the docker CLI and the real daemon, as programs in containers look them up. */
let engine: TestEngine;
const box = 'box';
const upstream = createSocket('udp4');
const GETENT = '/usr/bin/getent';

async function ip(...args: string[]): Promise<number> {
  return (await run('ip', args, {})).code;
}

before(async () => {
  engine = await startBoxEngine({ box: {} });
  for (const [name, third] of [
    ['front', 2],
    ['back', 3],
  ] as const) {
    await ip('link', 'add', `${name}0`, 'type', 'bridge');
    await ip('link', 'set', `${name}0`, 'up');
    const pools = [`--subnet=192.0.${third}.0/24`, `--gateway=192.0.${third}.254`];
    const six = ['--ipv6', `--subnet=fd00:${third}::/64`];
    await engine.ok(['network', 'create', '-d', 'macvlan', ...pools, ...six, '-o', `parent=${name}0`, name]);
  }
  // the parent itself is not to be reached by those on it
  await ip('link', 'add', 'server0', 'link', 'front0', 'type', 'macvlan', 'mode', 'bridge');
  await ip('link', 'set', 'server0', 'up');
  await ip('address', 'add', '192.0.2.254/24', 'dev', 'server0');
  upstream.on('message', (raw, { port, address }) => {
    const query = readQuery(raw);
    assert.ok(query !== undefined && 'name' in query);
    const record = { type: query.type, ttlSeconds: 1, bytes: Buffer.of(203, 0, 113, 9) };
    upstream.send(writeAnswer(query, query.type === 1 ? [record] : [], 512), port, address);
  });
  upstream.bind(53, '192.0.2.254');
  await once(upstream, 'listening');
});

after(async () => {
  upstream.close();
  await engine.clear();
  for (const name of ['front', 'back']) await engine.ok(['network', 'rm', name]);
  const left = await engine.finish();
  for (const name of ['server0', 'front0', 'back0']) await ip('link', 'del', name);
  assert.deepEqual(left, []);
});

async function start(name: string, ...options: string[]): Promise<string> {
  return engine.ok(['run', '-d', '--name', name, ...options, box, 'sleep', '600']);
}

/** What busybox's resolver says: the addresses or names found, sorted, or why there are none. */
async function look(from: string, name: string, ...options: string[]): Promise<string[]> {
  const { stdout } = await engine.docker(['exec', from, 'nslookup', ...options, name]);
  const refusal = /can't find [^:]*: (.*)/.exec(stdout)?.[1];
  if (refusal !== undefined) return [refusal];
  const answers = stdout.split('\n').slice(2).join('\n');
  const found = [...answers.matchAll(/^Address:\s*(\S+)$|name = (\S+)$/gm)].map(
    (match) => match[1] ?? match[2] ?? '',
  );
  return [...new Set(found)].sort();
}

/** How many sockets the daemon has open. */
function socketsOf(): number {
  const isSocket = (fd: string) => {
    try {
      return readlinkSync(`/proc/${engine.pid}/fd/${fd}`).startsWith('socket:');
    } catch {
      return false; // closed meanwhile
    }
  };
  return readdirSync(`/proc/${engine.pid}/fd`).filter(isSocket).length;
}

/** The same, once what clients and questions to other servers had open is gone: the least of some looks. */
async function settledSockets(): Promise<number> {
  const looks = [];
  for (let look = 0; look < 10; look++) {
    looks.push(socketsOf());
    await sleep(50);
  }
  return Math.min(...looks);
}

test('without such networks there is no name server', async () => {
  await start('plain');
  const resolv = await engine.ok(['exec', 'plain', 'cat', '/etc/resolv.conf']);
  assert.doesNotMatch(resolv, /127\.0\.0\.11/);
  assert.match(
    (await engine.docker(['exec', 'plain', 'nslookup', 'web', '127.0.0.11'])).stdout,
    /refused|timed out/,
  );
  await engine.ok(['rm', '-f', 'plain']);
});

test('names, aliases, short IDs and addresses, of both families', async () => {
  const id = await start(
    'web',
    '--net',
    'front',
    '--network-alias',
    'www',
    '--ip',
    '192.0.2.10',
    '--hostname',
    'w1',
  );
  await start('client', '--net', 'front', '--ip', '192.0.2.11');
  const resolv = await engine.ok(['exec', 'client', 'cat', '/etc/resolv.conf']);
  assert.match(resolv, /^nameserver 127\.0\.0\.11$/m);
  assert.match(resolv, /^options .*ndots:0$/m);
  assert.equal(resolv.match(/nameserver/g)?.length, 1);
  const [, six = ''] = await look('client', 'web');
  assert.match(six, /^fd00:2::/);
  for (const name of ['web', 'WEB', 'www', 'web.front', 'www.front', id.slice(0, 12), 'w1'])
    assert.deepEqual(await look('client', name), ['192.0.2.10', six], name);
  assert.deepEqual(await look('client', '192.0.2.10'), ['web.front']);
  assert.deepEqual(await look('client', six), ['web.front']);
  assert.deepEqual(await look('client', 'web.back'), ['SERVFAIL']);
  const hosts = await engine.ok(['exec', 'web', 'cat', '/etc/hosts']);
  assert.match(hosts, new RegExp(`^192\\.0\\.2\\.10\tw1\n${six}\tw1$`, 'm'));
});

test('glibc finds the same, over UDP and TCP', async (t) => {
  if (!existsSync(GETENT)) return t.skip('no getent on this host');
  const libraries = ['/lib64', '/usr/lib', '/lib'].filter(existsSync).map((path) => realpathSync(path));
  const mounts = [GETENT, ...new Set(libraries)].flatMap((path) => ['-v', `${path}:${path}:ro`]);
  const links = '-v /lib64:/lib64:ro -v /lib:/lib:ro'.split(' ');
  const ask = (options: string) =>
    engine.ok([
      ...['run', '--rm', '--net', 'front', '-e', `RES_OPTIONS=${options}`, ...mounts, ...links],
      ...[box, GETENT, 'ahostsv4', 'www'],
    ]);
  for (const options of ['attempts:1', 'use-vc attempts:1'])
    assert.match(await ask(options), /^192\.0\.2\.10\s+STREAM/, options);
});

test('several containers of one alias are all found', async () => {
  for (const at of [1, 2, 3])
    await start(`pool${at}`, '--net', 'front', '--network-alias', 'pool', '--ip', `192.0.2.2${at}`);
  const found = (await look('client', 'pool', '-type=a')).filter((address) => !address.includes(':'));
  assert.deepEqual(found, ['192.0.2.21', '192.0.2.22', '192.0.2.23']);
  await engine.ok(['rm', '-f', 'pool2']);
  assert.deepEqual(await look('client', 'pool', '-type=a'), ['192.0.2.21', '192.0.2.23']);
  await engine.ok(['rm', '-f', 'pool1', 'pool3']);
  assert.deepEqual(await look('client', 'pool', '-type=a'), ['SERVFAIL']);
});

test('a new name holds at once, and the old one no longer', async () => {
  await engine.ok(['rename', 'web', 'site']);
  assert.deepEqual(await look('client', 'site', '-type=a'), ['192.0.2.10']);
  assert.deepEqual(await look('client', '192.0.2.10'), ['site.front']);
  assert.deepEqual(await look('client', 'web', '-type=a'), ['SERVFAIL']);
  await engine.ok(['rename', 'site', 'web']);
});

test('networks come and go while containers run, with their names, and nobody sees other networks', async () => {
  await start('db', '--net', 'back', '--ip', '192.0.3.10');
  assert.deepEqual(await look('client', 'db', '-type=a'), ['SERVFAIL']);
  await engine.ok(['network', 'connect', '--alias', 'store', '--ip', '192.0.2.30', 'front', 'db']);
  for (const name of ['db', 'store', 'db.front'])
    assert.deepEqual(await look('client', name, '-type=a'), ['192.0.2.30'], name);
  assert.deepEqual(await look('db', 'web', '-type=a'), ['192.0.2.10']);
  assert.deepEqual(await look('db', 'store.back', '-type=a'), ['SERVFAIL'], 'an alias is of one network');
  assert.match(await engine.ok(['exec', 'db', 'cat', '/etc/hosts']), /^192\.0\.2\.30\t/m);
  await engine.ok(['network', 'disconnect', 'front', 'db']);
  assert.deepEqual(await look('client', 'db', '-type=a'), ['SERVFAIL']);
  assert.deepEqual(await look('db', 'web', '-type=a'), ['SERVFAIL']);
  assert.doesNotMatch(await engine.ok(['exec', 'db', 'cat', '/etc/hosts']), /192\.0\.2\.30/);
});

test('a running container of the default bridge gets a name server with its first such network', async () => {
  await start('late');
  await engine.ok(['exec', 'late', 'sh', '-c', 'echo 10.0.0.1 mine >> /etc/hosts']);
  await engine.ok(['network', 'connect', 'front', 'late']);
  assert.match(await engine.ok(['exec', 'late', 'cat', '/etc/resolv.conf']), /nameserver 127\.0\.0\.11/);
  assert.match(await engine.ok(['exec', 'late', 'cat', '/etc/hosts']), /^10\.0\.0\.1 mine$/m);
  assert.deepEqual(await look('late', 'web', '-type=a'), ['192.0.2.10']);
  await engine.ok(['rm', '-f', 'late']);
});

test('links are the container’s own words, and follow who is meant', async () => {
  await start('linked', '--net', 'back');
  await engine.ok(['network', 'connect', '--link', 'web:home', '--link', 'client', 'front', 'linked']);
  assert.deepEqual(await look('linked', 'home', '-type=a'), ['192.0.2.10']);
  assert.deepEqual(await look('client', 'home', '-type=a'), ['SERVFAIL']);
  await engine.ok(['rm', '-f', 'linked']);
});

test('a container’s own servers are asked in its network', async () => {
  const found = await engine.ok([
    ...[
      'run',
      '--rm',
      '--net',
      'front',
      '--dns',
      '192.0.2.254',
      '--dns-search',
      'example',
      '--dns-opt',
      'timeout:2',
    ],
    ...[box, 'sh', '-c', 'nslookup -type=a skerry.test; cat /etc/resolv.conf'],
  ]);
  assert.match(found, /203\.0\.113\.9/);
  assert.match(found, /search example\nnameserver 127\.0\.0\.11\noptions timeout:2 ndots:0/);
});

test('who has port 53 for himself is not disturbed', async () => {
  const listen = 'nc -l -p 53 </dev/null & sleep 0.3; nslookup -type=a web; kill %1 && echo served';
  const found = await engine.ok(['run', '--rm', '--net', 'front', box, 'sh', '-c', listen]);
  assert.match(found, /Address: 192\.0\.2\.10\n[\s\S]*served/);
});

test('after the daemon’s death they are answered again as soon as it is back', async () => {
  const before = await settledSockets();
  for (const end of ['kill', 'stop'] as const) {
    await engine[end]();
    assert.match(await engine.ok(['ps']).catch(() => 'down'), /down/);
    await engine.boot();
    for (const name of ['web', 'www', 'web.front']) {
      const [address, six = ''] = await look('client', name);
      assert.deepEqual([address, six.slice(0, 8)], ['192.0.2.10', 'fd00:2::'], `${end} ${name}`);
    }
    assert.deepEqual(await look('client', '192.0.2.10'), ['web.front']);
    assert.deepEqual(await look('db', 'web', '-type=a'), ['SERVFAIL']);
  }
  assert.ok((await settledSockets()) <= before, 'no more sockets than before');
});

test('stopped containers are not found, started ones are; no socket is left', async () => {
  const before = await settledSockets();
  await engine.ok(['stop', '-t', '0', 'web']);
  assert.deepEqual(await look('client', 'web', '-type=a'), ['SERVFAIL']);
  assert.equal(await settledSockets(), before - 2);
  await engine.ok(['start', 'web']);
  assert.deepEqual(await look('client', 'www', '-type=a'), ['192.0.2.10']);
  assert.equal(await settledSockets(), before);
});
