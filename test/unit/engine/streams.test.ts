import assert from 'node:assert/strict';
import { once } from 'node:events';
import { PassThrough, Writable } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { carry, Streams, type StreamWishes } from '../../../src/engine/streams.ts';
import { parseDetachKeys } from '../../../src/lib/detach-keys.ts';
import { frame } from '../../../src/lib/frames.ts';
import { Attachment } from '../../../src/runtime/attach.ts';
import { FakeSocket } from '../../support/fake-kernel.ts';

const all: StreamWishes = { stdin: true, stdout: true, stderr: true };

function process(t: TestContext) {
  const socket = new FakeSocket();
  const attachment = new Attachment(socket, { hasStdin: true, keepsStdinOpen: false });
  t.after(() => attachment.close());
  return { socket, attachment };
}

function client({ isFramed = false } = {}) {
  const [input, output, abort] = [new PassThrough(), new PassThrough(), new AbortController()];
  const chunks: Buffer[] = [];
  output.on('data', (chunk: Buffer) => chunks.push(chunk));
  return { io: { input, output, isFramed, signal: abort.signal }, abort, seen: () => Buffer.concat(chunks) };
}

test('both ways until the process ends; without a terminal in frames', async (t) => {
  const { socket, attachment } = process(t);
  const { io, seen } = client({ isFramed: true });
  const end = carry(attachment, all, io);
  io.input.write('typed');
  socket.say(1, 'out');
  socket.say(2, 'err');
  await sleep(10);
  assert.equal(socket.heard, 'typed');
  socket.finish();
  assert.equal(await end, 'ended');
  assert.deepEqual(seen(), Buffer.concat([frame(1, Buffer.from('out')), frame(2, Buffer.from('err'))]));
  assert.equal(io.output.listenerCount('close'), 0);
});

test('raw bytes for a terminal, and only the streams that are wanted', async (t) => {
  const { socket, attachment } = process(t);
  const { io, seen } = client();
  const end = carry(attachment, { stdin: false, stdout: false, stderr: true }, io);
  io.input.end('not wanted');
  socket.say(1, 'out');
  socket.say(2, 'err');
  await sleep(10);
  socket.finish();
  await end;
  assert.equal(seen().toString(), 'err');
  assert.deepEqual([socket.heard, socket.isInputEnded], ['', false]);
});

test("the client's end of input is the process's, and its output goes on", async (t) => {
  const { socket, attachment } = process(t);
  const { io, seen } = client();
  const end = carry(attachment, all, io);
  io.input.end('last words');
  await sleep(10);
  assert.deepEqual([socket.heard, socket.isInputEnded], ['last words', true]);
  socket.say(1, 'answer');
  socket.finish();
  assert.equal(await end, 'ended');
  assert.equal(seen().toString(), 'answer');
});

test('the detach keys are swallowed, and leave the process and the connection alone', async (t) => {
  const { socket, attachment } = process(t);
  const { io } = client();
  const end = carry(attachment, { ...all, detachKeys: parseDetachKeys('ctrl-a,b') }, io);
  io.input.write('x\x01y\x01b');
  assert.equal(await end, 'detached');
  assert.equal(socket.heard, 'x\x01y');
  assert.deepEqual([socket.isInputEnded, io.input.destroyed, io.output.destroyed], [false, false, false]);
});

test('a client that goes away ends its session, not the process', async (t) => {
  const { socket, attachment } = process(t);
  const { io } = client();
  const end = carry(attachment, all, io);
  io.output.destroy();
  assert.equal(await end, 'ended');
  const later = client();
  later.io.output.destroy();
  await once(later.io.output, 'close');
  assert.equal(await carry(attachment, all, later.io), 'ended'); // gone before it began
  assert.equal(attachment.isEnded, false);
  socket.finish();
});

test('a client that does not read is cut off with an error; others do not feel it', async (t) => {
  const { socket, attachment } = process(t);
  const stuck = new Writable({ highWaterMark: 1, write() {} });
  const failed = once(stuck, 'error');
  const slow = carry(attachment, all, { ...client().io, output: stuck });
  const good = client();
  const quick = carry(attachment, all, good.io);
  const block = 'x'.repeat(64 << 10);
  for (let sent = 0; sent < 40; sent++) socket.say(1, block);
  assert.match(String((await failed)[0]), /does not read/);
  assert.equal(await slow, 'ended');
  await sleep(20);
  socket.finish();
  await quick;
  assert.equal(good.seen().length, 40 * block.length);
});

test('one that comes before the start gets the first byte', async (t) => {
  const streams = new Streams();
  const { socket, attachment } = process(t);
  const { io, seen } = client();
  const end = streams.session('c', false, all, async () => undefined).pump(io);
  await sleep(5);
  assert.ok(streams.isAwaited('c'));
  streams.arrive('c', attachment);
  socket.say(1, 'first');
  socket.finish();
  assert.equal(await end, 'ended');
  assert.equal(seen().toString(), 'first');
  assert.ok(!streams.isAwaited('c'));
});

test('one that comes while it runs is joined at once, after what is replayed', async (t) => {
  const streams = new Streams();
  const { socket, attachment } = process(t);
  const { io, seen } = client();
  const wishes: StreamWishes = {
    ...all,
    async replay({ output }) {
      output.write('stored ');
    },
  };
  const end = streams.session('c', false, wishes, async () => attachment).pump(io);
  await sleep(5);
  socket.say(1, 'live');
  socket.finish();
  await end;
  assert.equal(seen().toString(), 'stored live');
});

test('one that waits is sent away where nothing will come, or leaves', async () => {
  const streams = new Streams();
  const session = () => streams.session('c', false, all, async () => undefined);
  const dismissed = session().pump(client().io);
  await sleep(5);
  streams.dismiss('c');
  assert.equal(await dismissed, 'ended');
  const leaving = client();
  const left = session().pump(leaving.io);
  await sleep(5);
  leaving.abort.abort();
  assert.equal(await left, 'ended');
  leaving.abort.abort();
  assert.equal(await session().pump(leaving.io), 'ended');
  assert.ok(!streams.isAwaited('c'));
});

test('a connection that cannot be made is told to the client, and nobody waits any more', async () => {
  const streams = new Streams();
  const session = streams.session('c', false, all, async () => {
    throw new Error('no socket');
  });
  await assert.rejects(session.pump(client().io), /no socket/);
  assert.ok(!streams.isAwaited('c'));
});
