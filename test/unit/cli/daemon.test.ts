import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Daemon } from '../../../src/cli/daemon.ts';

/** A daemon that answers as the test says, and its address. */
async function serve(answer: RequestListener) {
  const directory = await mkdtemp(join(tmpdir(), 'skerry-cli-'));
  const server = createServer(answer);
  const path = join(directory, 's.sock');
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    address: `unix://${path}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await rm(directory, { recursive: true });
    },
  };
}

async function all(messages: AsyncIterable<unknown>): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const message of messages) found.push(message);
  return found;
}

const noFlags = { values: new Map<string, string>(), rest: [] };

test('the address: the flag, then SKERRY_HOST, then DOCKER_HOST, then the default', async () => {
  await using server = await serve((_, res) => void res.end('"here"'));
  const dead = 'unix:///nowhere/s.sock';
  const env = { SKERRY_HOST: server.address, DOCKER_HOST: dead };
  assert.equal(await Daemon.of(noFlags, { env }).ask('/'), 'here');
  assert.equal(await Daemon.of(noFlags, { env: { DOCKER_HOST: server.address } }).ask('/'), 'here');
  const flagged = { values: new Map([['host', dead]]), rest: [] };
  await assert.rejects(Daemon.of(flagged, { env }).ask('/'), {
    code: 'NO_DAEMON',
    message:
      'cannot connect to the daemon at unix:///nowhere/s.sock: is it running? (connect ENOENT /nowhere/s.sock)',
  });
  for (const address of ['fd://', 'unix://relative', 'tcp://host', 'ssh://host', 'nothing'])
    assert.throws(() => new Daemon(address), { code: 'CONFIG' }, address);
  for (const address of ['tcp://[::1]:2375', 'http://host:80/']) new Daemon(address);
});

test('a request carries its query and body; the answer is parsed', async () => {
  await using server = await serve(async (req, res) => {
    let body = '';
    for await (const chunk of req) body += chunk;
    res.end(JSON.stringify([req.method, req.url, req.headers['content-type'], body]));
  });
  const daemon = new Daemon(server.address);
  const call = { method: 'POST', query: { repair: '1', name: 'a b' }, body: { x: 1 } } as const;
  const sent = ['POST', '/x?repair=1&name=a+b', 'application/json', '{"x":1}'];
  assert.deepEqual(await daemon.ask('/x', call), sent);
  assert.deepEqual(await daemon.ask('/x'), ['GET', '/x', null, '']);
});

test('refusals are told in the words of whoever answers', async () => {
  let body = '{"message":"No such image: x:latest"}';
  await using server = await serve((_, res) => {
    res.statusCode = 404;
    res.end(body);
  });
  const daemon = new Daemon(server.address);
  const told = async (message: string) =>
    assert.rejects(daemon.ask('/'), { code: 'DAEMON', message: `Error response from daemon: ${message}` });
  await told('No such image: x:latest');
  body = 'a proxy speaks\n';
  await told('a proxy speaks');
  body = '';
  await told('404 Not Found');
});

test('messages come one by one, wherever the pieces are cut; an error among them is thrown', async () => {
  await using server = await serve((_, res) => {
    res.write('{"status":"on');
    setImmediate(() => res.write('e"}\r\n{"status":"two"}\r\n{"err'));
    setTimeout(() => res.end('or":"broke","errorDetail":{"message":"broke"}}\r\n'), 5);
  });
  const seen: unknown[] = [];
  await assert.rejects(
    async () => {
      for await (const message of new Daemon(server.address).messages('/')) seen.push(message);
    },
    { code: 'DAEMON', message: 'Error response from daemon: broke' },
  );
  assert.deepEqual(seen, [{ status: 'one' }, { status: 'two' }]);
});

test('a daemon that dies amid its answer is no end of it', async () => {
  await using server = await serve((_, res) => {
    res.write('{"status":"one"}\n');
    setTimeout(() => res.destroy(), 5);
  });
  const daemon = new Daemon(server.address);
  await assert.rejects(all(daemon.messages('/')), { code: 'NO_DAEMON' });
  await assert.rejects(daemon.ask('/'), { code: 'NO_DAEMON' });
});

test('whoever stops listening closes the connection', async () => {
  let ended: (() => void) | undefined;
  const closed = new Promise<void>((resolve) => {
    ended = resolve;
  });
  await using server = await serve((_, res) => {
    res.write('{"status":"one"}\n');
    res.on('close', () => ended?.());
  });
  for await (const _ of new Daemon(server.address).messages('/')) break;
  await closed;
});
