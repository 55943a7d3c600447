import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createServer, Socket } from 'node:net';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { connectSocket, type Protocol, sendNow } from '../../../src/host/foreign-sockets.ts';
import { RCODE, rcodeOf, readQuery, TYPE, writeAnswer, writeFailure } from '../../../src/lib/dns-message.ts';
import type { Log } from '../../../src/lib/log.ts';
import { framed, messagesIn } from '../../../src/network/dns-stream.ts';
import { NameService } from '../../../src/network/name-service.ts';
import type { Membership } from '../../../src/network/names.ts';
import { queryBytes } from '../../support/dns.ts';
import { programPath } from '../../support/programs.ts';
import { inOwnNetwork, must, startSleeper } from './world.ts';

const silent: Log = { debug() {}, info() {}, warn() {}, error() {} };
const namespaceOf = ({ pid }: ChildProcess) => `/proc/${pid}/ns/net`;

function place(containerId: string, more: Partial<Membership> = {}): Membership {
  return {
    networkId: 'n',
    networkName: 'net',
    isInternal: false,
    containerId,
    ipAddress: '10.9.0.2',
    ipv6Address: 'fd09::2',
    names: ['web', 'www'],
    links: {},
    ...more,
  };
}

/** What a program in that network namespace gets from 127.0.0.11. */
async function ask(
  container: ChildProcess,
  name: string,
  o: { type?: number; protocol?: Protocol; raw?: Buffer } = {},
): Promise<Buffer> {
  const { protocol = 'udp', raw = queryBytes(name, o) } = o;
  const to = { ip: Buffer.of(127, 0, 0, 11), port: 53 };
  const fd = connectSocket(protocol, to, namespaceOf(container));
  if (protocol === 'tcp') {
    const socket = new Socket({ fd, readable: true, writable: true });
    socket.write(framed(raw));
    for await (const answer of messagesIn(socket)) return answer;
    throw new Error('closed without an answer');
  }
  const socket = createSocket('udp4');
  socket.bind({ fd, exclusive: true });
  sendNow(fd, raw);
  try {
    const [answer] = await once(socket, 'message', { signal: AbortSignal.timeout(9000) });
    return answer;
  } finally {
    socket.close();
  }
}

const firstAddress = (answer: Buffer) => [rcodeOf(answer), ...answer.subarray(-4)].join('.');

/** A name server of the world outside: answers whatever is asked with its own number. */
async function startUpstream(address: string, number: number, o: { rcode?: number } = {}) {
  const asked: string[] = [];
  const answer = (raw: Buffer): Buffer => {
    const query = readQuery(raw);
    assert.ok(query !== undefined && 'name' in query);
    asked.push(query.name);
    if (o.rcode !== undefined) return writeFailure(query, o.rcode);
    return writeAnswer(query, [{ type: 1, ttlSeconds: 1, bytes: Buffer.of(192, 0, 2, number) }], 512);
  };
  const udp = createSocket('udp4');
  udp.on('message', (raw, { port, address: from }) => udp.send(answer(raw), port, from));
  const tcp = createServer(async (socket) => {
    for await (const raw of messagesIn(socket)) socket.write(framed(answer(raw)));
  });
  udp.bind(53, address);
  tcp.listen(53, address);
  await Promise.all([once(udp, 'listening'), once(tcp, 'listening')]);
  after(() => {
    udp.close();
    tcp.close();
  });
  return asked;
}

async function newContainer(): Promise<ChildProcess> {
  const container = await startSleeper();
  await must('nsenter', `--net=${namespaceOf(container)}`, 'ip', 'link', 'set', 'lo', 'up');
  after(() => container.kill('SIGKILL'));
  return container;
}

const served = (container: ChildProcess, more: object = {}) => ({
  containerId: `c${container.pid}`,
  pid: container.pid ?? 0,
  dns: [],
  isNdotsSet: false,
  ...more,
});

/** A program in the container that listens on a port of all addresses. */
function connectionTaker(container: ChildProcess, port: number): ChildProcess {
  const args = ['-t', String(container.pid), '-n', programPath('busybox'), 'nc', '-l', '-p', String(port)];
  return spawn('nsenter', args, { stdio: ['pipe', 'ignore', 'ignore'] });
}

inOwnNetwork(import.meta.url, () => {
  test('own names over UDP and TCP, also where a program has port 53 for itself', async () => {
    const container = await newContainer();
    const busybox = programPath('busybox');
    const inside = ['-t', String(container.pid), '-n', busybox];
    const taken = connectionTaker(container, 53);
    await using service = new NameService({ log: silent, readHost: async () => '' });
    service.join(place(`c${container.pid}`));
    await service.serve(served(container));
    for (const protocol of ['udp', 'tcp'] as const)
      assert.equal(firstAddress(await ask(container, 'web.net', { protocol })), '0.10.9.0.2', protocol);
    const { stdout } = await promisify(execFile)('nsenter', [...inside, 'nslookup', 'web', '127.0.0.11']);
    assert.match(stdout, /10\.9\.0\.2[\s\S]*fd09::2/);
    assert.equal(taken.exitCode, null);
    taken.kill('SIGKILL');
  });

  test('a door that is made anew is the same one, and costs little', async () => {
    const container = await newContainer();
    const rules = () => must('nsenter', `--net=${namespaceOf(container)}`, 'nft', 'list', 'ruleset');
    const request = served(container);
    const before: string[] = [];
    for (let round = 0; round < 2; round++) {
      await using service = new NameService({ log: silent, readHost: async () => '' });
      service.join(place(`c${container.pid}`));
      await service.serve(request);
      await service.serve(request);
      assert.equal(firstAddress(await ask(container, 'WWW')), '0.10.9.0.2');
      before.push(await rules());
      await service.stop(request.containerId);
      await assert.rejects(ask(container, 'web'), /ECONNREFUSED/);
    }
    assert.equal(before[0], before[1]);
  });

  test('where its port is taken it takes another, and the rule follows', async () => {
    const container = await newContainer();
    await using service = new NameService({ log: silent, readHost: async () => '' });
    service.join(place(`c${container.pid}`));
    await service.serve(served(container));
    const rules = await must('nsenter', `--net=${namespaceOf(container)}`, 'nft', 'list', 'ruleset');
    const port = Number(/dnat to 127\.0\.0\.11:(\d+)/.exec(rules)?.[1]);
    await service.stop(`c${container.pid}`);
    const taken = connectionTaker(container, port);
    await sleep(200);
    await service.serve(served(container));
    for (const protocol of ['udp', 'tcp'] as const)
      assert.equal(firstAddress(await ask(container, 'web', { protocol })), '0.10.9.0.2', protocol);
    const after = await must('nsenter', `--net=${namespaceOf(container)}`, 'nft', 'list', 'ruleset');
    assert.ok(!after.includes(String(port)), after);
    taken.kill('SIGKILL');
  });

  test('without nf_tables, iptables leads the way', async () => {
    const { leadByIptables } = await import('../../../src/network/dns-door.ts');
    const container = await newContainer();
    await using service = new NameService({ log: silent, readHost: async () => '' });
    service.join(place(`c${container.pid}`));
    await service.serve(served(container));
    const inside = ['nsenter', `--net=${namespaceOf(container)}`] as const;
    const rules = await must(...inside, 'nft', 'list', 'ruleset');
    const port = Number(/dnat to 127\.0\.0\.11:(\d+)/.exec(rules)?.[1]);
    await must(...inside, 'nft', 'flush', 'ruleset');
    await assert.rejects(ask(container, 'web'), /ECONNREFUSED/);
    for (let round = 0; round < 2; round++) await leadByIptables(namespaceOf(container), port);
    for (const protocol of ['udp', 'tcp'] as const)
      assert.equal(firstAddress(await ask(container, 'web', { protocol })), '0.10.9.0.2', protocol);
    const saved = await must(...inside, 'iptables-save', '-t', 'nat');
    assert.equal(saved.match(/dport 53/g)?.length, 2, saved);
  });

  test('others are asked from the host, and whom the host asks is read again', async () => {
    const asked = await startUpstream('127.0.1.1', 1);
    await startUpstream('127.0.1.2', 2);
    await startUpstream('127.0.1.3', 3, { rcode: RCODE.SERVER_FAILURE });
    const container = await newContainer();
    let host = 'nameserver 127.0.1.1\n';
    await using service = new NameService({ log: silent, readHost: async () => host });
    service.join(place(`c${container.pid}`));
    await service.serve(served(container));
    for (const protocol of ['udp', 'tcp'] as const) {
      const answer = await ask(container, 'Example.com', { protocol });
      assert.equal(firstAddress(answer), '0.192.0.2.1', protocol);
      assert.equal(answer.readUInt16BE(0), 7, 'the ID is the client’s');
    }
    assert.equal(firstAddress(await ask(container, 'web')), '0.10.9.0.2');
    assert.deepEqual(asked, ['Example.com', 'Example.com']);
    // nobody there, one that fails, one that answers
    host = 'nameserver 127.0.1.9\nnameserver 127.0.1.3\nnameserver 127.0.1.2\n';
    await sleep(1100);
    for (const protocol of ['udp', 'tcp'] as const)
      assert.equal(firstAddress(await ask(container, 'example.com', { protocol })), '0.192.0.2.2', protocol);
    host = '';
    await sleep(1100);
    assert.equal(rcodeOf(await ask(container, 'example.com')), RCODE.SERVER_FAILURE);
  });

  test('one that is silent holds the next up for a little while', async () => {
    await startUpstream('127.0.2.2', 2);
    const mute = createSocket('udp4').bind(53, '127.0.2.1');
    after(() => mute.close());
    const container = await newContainer();
    const readHost = async () => 'nameserver 127.0.2.1\nnameserver 127.0.2.2\n';
    await using service = new NameService({ log: silent, readHost });
    service.join(place(`c${container.pid}`));
    await service.serve(served(container));
    const began = performance.now();
    assert.equal(firstAddress(await ask(container, 'example.com')), '0.192.0.2.2');
    assert.ok(performance.now() - began < 3500);
  });

  test('on internal networks the host’s servers are not asked', async () => {
    const asked = await startUpstream('127.0.3.1', 1);
    const container = await newContainer();
    const containerId = `c${container.pid}`;
    await using service = new NameService({ log: silent, readHost: async () => 'nameserver 127.0.3.1\n' });
    service.join(place(containerId, { isInternal: true }));
    await service.serve(served(container));
    assert.equal(rcodeOf(await ask(container, 'example.com')), RCODE.SERVER_FAILURE);
    assert.equal(firstAddress(await ask(container, 'web')), '0.10.9.0.2');
    assert.deepEqual(asked, []);
    service.join(place(containerId, { networkId: 'm', networkName: 'outer' }));
    assert.equal(firstAddress(await ask(container, 'example.com')), '0.192.0.2.1');
  });

  test('a container’s own servers are asked from its network', async () => {
    const container = await newContainer();
    await must(
      'ip',
      'link',
      'add',
      'up0',
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      `${container.pid}`,
    );
    await must('ip', 'address', 'add', '198.51.100.1/24', 'dev', 'up0');
    await must('ip', 'link', 'set', 'up0', 'up');
    const inside = ['nsenter', `--net=${namespaceOf(container)}`, 'ip'] as const;
    await must(...inside, 'address', 'add', '198.51.100.2/24', 'dev', 'eth0');
    await must(...inside, 'link', 'set', 'eth0', 'up');
    const asked = await startUpstream('198.51.100.1', 7);
    await using service = new NameService({ log: silent, readHost: async () => 'nameserver 127.0.0.1\n' });
    service.join(place(`c${container.pid}`, { isInternal: true }));
    await service.serve(served(container, { dns: ['127.0.0.11', '198.51.100.1'] }));
    for (const protocol of ['udp', 'tcp'] as const)
      assert.equal(firstAddress(await ask(container, 'example.com', { protocol })), '0.192.0.2.7', protocol);
    assert.equal(asked.length, 2);
    await must('ip', 'link', 'del', 'up0');
  });

  test('hostile input is survived, and answered where it can be', async () => {
    const container = await newContainer();
    await using service = new NameService({ log: silent, readHost: async () => '' });
    service.join(place(`c${container.pid}`));
    await service.serve(served(container));
    const malformed = queryBytes('web');
    malformed[12] = 0xff;
    assert.equal(rcodeOf(await ask(container, '', { raw: malformed })), RCODE.FORMAT_ERROR);
    const fd = connectSocket('tcp', { ip: Buffer.of(127, 0, 0, 11), port: 53 }, namespaceOf(container));
    const socket = new Socket({ fd, readable: true, writable: true });
    socket.write(Buffer.of(0xff, 0xff, 1, 2, 3)); // the rest never comes
    const many = queryBytes('web', { type: TYPE.A });
    const pipelined = await ask(container, '', { protocol: 'tcp', raw: many });
    assert.equal(firstAddress(pipelined), '0.10.9.0.2');
    socket.destroy();
    assert.equal(firstAddress(await ask(container, 'web')), '0.10.9.0.2');
  });

  test('two sockets per container, none left', async () => {
    const container = await newContainer();
    const count = () => readdirSync('/proc/self/fd').length;
    const before = count();
    const service = new NameService({ log: silent, readHost: async () => '' });
    service.join(place(`c${container.pid}`));
    await service.serve(served(container));
    assert.equal(count(), before + 2);
    await service[Symbol.asyncDispose]();
    await sleep(20);
    assert.equal(count(), before);
  });
});
