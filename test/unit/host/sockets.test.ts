import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, linkSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { groupId, inheritedSockets, listenUnix, notifySystemd } from '../../../src/host/sockets.ts';
import { UnixSocket } from '../../support/unix-socket.ts';

function place(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'skt-sockets-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

function server(t: TestContext): Server {
  const made = createServer((socket) => socket.destroy());
  t.after(() => made.close());
  return made;
}

test('a socket has its mode and group, and its directory is made', async (t) => {
  const path = join(place(t), 'a/b/s.sock');
  const before = process.umask();
  const isRoot = process.geteuid?.() === 0;
  await listenUnix(server(t), path, { mode: 0o660, group: isRoot ? 'adm' : String(process.getgid?.()) });
  assert.equal(statSync(path).mode & 0o777, 0o660);
  if (isRoot) assert.equal(statSync(path).gid, await groupId('adm'));
  assert.equal(process.umask(), before);
});

test('a socket that a dead process left is replaced', async (t) => {
  const directory = place(t);
  const path = join(directory, 's.sock');
  const dead = createServer();
  await listenUnix(dead, join(directory, 'first.sock'), { mode: 0o600 });
  linkSync(join(directory, 'first.sock'), path); // closing removes the first name only
  dead.close();
  await once(dead, 'close');
  assert.equal(existsSync(path), true);
  await listenUnix(server(t), path, { mode: 0o600 });
});

test('a socket that answers is left alone', async (t) => {
  const path = join(place(t), 's.sock');
  await listenUnix(server(t), path, { mode: 0o600 });
  const inode = statSync(path).ino;
  await assert.rejects(listenUnix(server(t), path, { mode: 0o666 }), {
    code: 'HOST',
    message: `cannot listen on ${path}: another process is listening there`,
  });
  assert.equal(statSync(path).ino, inode);
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test('a file in the way is left alone', async (t) => {
  const path = join(place(t), 's.sock');
  writeFileSync(path, 'precious');
  await assert.rejects(listenUnix(server(t), path, { mode: 0o600 }), {
    code: 'HOST',
    message: /not a socket/,
  });
  assert.equal(readFileSync(path, 'utf8'), 'precious');
});

test('too long a path, and a group that is not there, are refused before anything is made', async (t) => {
  const directory = place(t);
  await assert.rejects(listenUnix(server(t), join(directory, 'x'.repeat(100)), { mode: 0o600 }), {
    message: /too long/,
  });
  await assert.rejects(listenUnix(server(t), join(directory, 's'), { mode: 0o600, group: 'no-such-group' }), {
    message: 'group no-such-group not found',
  });
  assert.equal(existsSync(join(directory, 's')), false);
});

test('groups are found by whole name, or by number', async () => {
  assert.equal(await groupId('root'), 0);
  assert.equal(await groupId('roo'), undefined);
  assert.equal(await groupId('1234'), 1234);
});

test('sockets are inherited only if they were passed to this very process', () => {
  const mine = String(process.pid);
  assert.deepEqual(inheritedSockets({ LISTEN_PID: mine, LISTEN_FDS: '2' }), [3, 4]);
  assert.deepEqual(inheritedSockets({ LISTEN_PID: '1', LISTEN_FDS: '2' }), []);
  assert.deepEqual(inheritedSockets({ LISTEN_FDS: '2' }), []);
  assert.deepEqual(inheritedSockets({ LISTEN_PID: mine, LISTEN_FDS: 'x' }), []);
  assert.deepEqual(inheritedSockets({ LISTEN_PID: mine, LISTEN_FDS: '-1' }), []);
});

test('systemd hears of our state, at a path and in the abstract namespace', async (t) => {
  for (const path of [join(place(t), 'notify'), `@skt-notify-${process.pid}`]) {
    using socket = new UnixSocket('datagram', path);
    await notifySystemd('READY=1\nSTATUS=é', path);
    assert.equal(String(await socket.receive()), 'READY=1\nSTATUS=é');
  }
  await notifySystemd('READY=1', undefined);
  await notifySystemd('READY=1', '');
  await assert.rejects(notifySystemd('READY=1', '/nowhere/notify'), { code: 'HOST', message: /ENOENT/ });
});
