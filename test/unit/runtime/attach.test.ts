import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { PacketSocket } from '../../../src/host/packets.ts';
import { withResolvers } from '../../../src/lib/promises.ts';
import { Attachment, type OutputSink } from '../../../src/runtime/attach.ts';

/** The monitor's side of a connection, in memory; whatever a test puts in is read in order. */
class FakeSocket implements PacketSocket {
  readonly written: string[] = [];
  isRead = false;
  isClosed = false;
  isEnded = false;
  readonly #queue: (Buffer | undefined)[] = [];
  #wake = () => {};

  say(stream: 1 | 2, text: string): void {
    this.#push(Buffer.concat([Buffer.from([stream + 1]), Buffer.from(text)]));
  }

  hangUp(): void {
    this.#push(undefined);
  }

  async *packets(): AsyncIterable<Buffer> {
    this.isRead = true;
    while (!this.isClosed) {
      if (this.#queue.length === 0) {
        const { promise, resolve } = withResolvers<void>();
        this.#wake = resolve;
        await promise;
        continue;
      }
      const packet = this.#queue.shift();
      if (packet === undefined) return;
      yield packet;
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (this.isClosed) throw Object.assign(new Error('broken'), { code: 'EPIPE' });
    this.written.push(Buffer.from(bytes).toString());
  }

  end(): void {
    this.isEnded = true;
  }

  close(): void {
    this.isClosed = true;
    this.#wake();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #push(packet: Buffer | undefined): void {
    this.#queue.push(packet);
    this.#wake();
  }
}

/** Notes what it is given; `slow` ones take the next thing only when told. */
class FakeSink implements OutputSink {
  readonly heard: string[] = [];
  #release: (() => void) | undefined;
  readonly #isSlow: boolean;

  constructor({ isSlow = false } = {}) {
    this.#isSlow = isSlow;
  }

  onOutput(stream: 1 | 2, data: Buffer): Promise<void> | undefined {
    this.heard.push(`${stream}${data}`);
    if (!this.#isSlow) return undefined;
    const { promise, resolve } = withResolvers<void>();
    this.#release = resolve;
    return promise;
  }

  onEnd(): void {
    this.heard.push('end');
  }

  onDropped(): void {
    this.heard.push('dropped');
  }

  async take(): Promise<void> {
    this.#release?.();
    await turn();
  }
}

const open = { hasStdin: true, keepsStdinOpen: true };
const bound = { maxBufferedBytes: 8 };

test('nothing is read before somebody subscribes; then everyone gets everything', async () => {
  const socket = new FakeSocket();
  const attachment = new Attachment(socket, open);
  socket.say(1, 'a');
  await turn();
  assert.equal(socket.isRead, false);
  const [first, second] = [new FakeSink(), new FakeSink()];
  attachment.subscribe(first, bound);
  attachment.subscribe(second, bound);
  socket.say(2, 'b');
  await turn();
  const late = new FakeSink();
  attachment.subscribe(late, bound);
  socket.say(1, 'c');
  socket.hangUp();
  await attachment.ended;
  assert.deepEqual(first.heard, ['1a', '2b', '1c', 'end']);
  assert.deepEqual(second.heard, first.heard);
  assert.deepEqual(late.heard, ['1c', 'end']);
  assert.equal(attachment.isEnded, true);
});

test('who comes after the end hears just that', async () => {
  const socket = new FakeSocket();
  const attachment = new Attachment(socket, open);
  attachment.close();
  const sink = new FakeSink();
  attachment.subscribe(sink, bound);
  await turn();
  assert.deepEqual(sink.heard, ['end']);
});

test('a slow subscriber is given what it missed, in order, and the end last', async () => {
  const socket = new FakeSocket();
  const attachment = new Attachment(socket, open);
  const [slow, quick] = [new FakeSink({ isSlow: true }), new FakeSink()];
  attachment.subscribe(slow, bound);
  attachment.subscribe(quick, bound);
  for (const text of ['a', 'b', 'c']) socket.say(1, text);
  socket.hangUp();
  await attachment.ended;
  assert.deepEqual(quick.heard, ['1a', '1b', '1c', 'end']);
  assert.deepEqual(slow.heard, ['1a']);
  for (let times = 0; times < 3; times++) await slow.take();
  assert.deepEqual(slow.heard, ['1a', '1b', '1c', 'end']);
});

test('beyond its bound a subscriber is waited for, and misses nothing', async () => {
  const socket = new FakeSocket();
  const attachment = new Attachment(socket, open);
  const [slow, quick] = [new FakeSink({ isSlow: true }), new FakeSink()];
  attachment.subscribe(slow, bound);
  attachment.subscribe(quick, bound);
  socket.say(1, 'first');
  socket.say(1, '12345678'); // just fits
  socket.say(1, '9'); // does not: from here on the process waits
  socket.say(1, 'next');
  socket.hangUp();
  await turn();
  assert.deepEqual(quick.heard, ['1first', '112345678', '19']);
  for (let times = 0; times < 5; times++) await slow.take();
  await attachment.ended;
  assert.deepEqual(quick.heard, ['1first', '112345678', '19', '1next', 'end']);
  assert.deepEqual(slow.heard, quick.heard);
});

test('one that takes nothing at all for seconds is dropped, and the others go on', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const socket = new FakeSocket();
  const attachment = new Attachment(socket, open);
  const [stuck, quick] = [new FakeSink({ isSlow: true }), new FakeSink()];
  attachment.subscribe(stuck, bound);
  attachment.subscribe(quick, bound);
  for (const text of ['first', '12345678', '9', 'next']) socket.say(1, text);
  socket.hangUp();
  await turn();
  t.mock.timers.tick(4000);
  await turn();
  assert.deepEqual(stuck.heard, ['1first']);
  t.mock.timers.tick(1100);
  await turn();
  await attachment.ended;
  assert.deepEqual(stuck.heard, ['1first', 'dropped']);
  assert.deepEqual(quick.heard, ['1first', '112345678', '19', '1next', 'end']);
});

test('one that had stopped taking before its buffer was full is dropped at once then', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let now = 1000;
  t.mock.method(performance, 'now', () => now);
  const socket = new FakeSocket();
  const attachment = new Attachment(socket, open);
  const stuck = new FakeSink({ isSlow: true });
  attachment.subscribe(stuck, bound);
  for (const text of ['first', '2']) socket.say(1, text);
  await turn();
  now += 10_000;
  for (const text of ['12345678', '9', 'next']) socket.say(1, text);
  await turn();
  t.mock.timers.tick(1);
  await turn();
  assert.deepEqual(stuck.heard, ['1first', 'dropped']);
});

test('once the process is gone, what it left is taken in without waiting for anyone', async () => {
  const socket = new FakeSocket();
  const attachment = new Attachment(socket, open);
  const slow = new FakeSink({ isSlow: true });
  attachment.subscribe(slow, bound);
  for (const text of ['first', '12345678', '9', 'next']) socket.say(1, text);
  socket.hangUp();
  await turn();
  await attachment.drain();
  for (let times = 0; times < 5; times++) await slow.take();
  assert.deepEqual(slow.heard, ['1first', '112345678', '19', '1next', 'end']);
});

test('a sink that throws or fails is dropped like a slow one', async () => {
  const socket = new FakeSocket();
  const attachment = new Attachment(socket, open);
  const dropped: string[] = [];
  const broken = (name: string, onOutput: OutputSink['onOutput']): OutputSink => ({
    onOutput,
    onEnd: () => assert.fail('it is gone'),
    onDropped: () => dropped.push(name),
  });
  const good = new FakeSink();
  attachment.subscribe(
    broken('throws', () => {
      throw new Error('x');
    }),
    bound,
  );
  attachment.subscribe(
    broken('rejects', () => Promise.reject(new Error('x'))),
    bound,
  );
  attachment.subscribe(good, bound);
  socket.say(1, 'a');
  await turn();
  socket.say(1, 'b');
  socket.hangUp();
  await attachment.ended;
  assert.deepEqual(dropped, ['throws', 'rejects']);
  assert.deepEqual(good.heard, ['1a', '1b', 'end']);
});

test('one who leaves hears no more; some time after the last one the connection is given up', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const socket = new FakeSocket();
  const attachment = new Attachment(socket, open);
  const [first, second, third] = [new FakeSink(), new FakeSink(), new FakeSink()];
  const leaveFirst = attachment.subscribe(first, bound);
  const leaveSecond = attachment.subscribe(second, bound);
  leaveFirst();
  leaveFirst();
  socket.say(1, 'a');
  await turn();
  assert.deepEqual([first.heard, second.heard], [[], ['1a']]);
  leaveSecond();
  t.mock.timers.tick(900);
  const leaveThird = attachment.subscribe(third, bound); // just in time
  t.mock.timers.tick(10_000);
  assert.equal(attachment.isEnded, false);
  leaveThird();
  t.mock.timers.tick(1000);
  await attachment.ended;
  assert.deepEqual([socket.isClosed, third.heard], [true, []]);
});

test('a connection whose end would end stdin is kept until stdin has ended', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const socket = new FakeSocket();
  const attachment = new Attachment(socket, { hasStdin: true, keepsStdinOpen: false });
  attachment.subscribe(new FakeSink(), bound)();
  t.mock.timers.tick(10_000);
  assert.equal(attachment.isEnded, false);
  await attachment.write(Buffer.from('x'));
  attachment.endStdin();
  await attachment.write(Buffer.from('too late'));
  assert.deepEqual([socket.written, socket.isEnded], [['x'], true]);
  t.mock.timers.tick(1000);
  await attachment.ended;
});

test('stdin that is to stay open has no end; without stdin bytes go nowhere', async () => {
  const kept = new FakeSocket();
  const attachment = new Attachment(kept, open);
  attachment.endStdin();
  await attachment.write(Buffer.from('x'));
  assert.deepEqual([kept.isEnded, kept.written], [false, ['x']]);
  attachment.close();
  await attachment.write(Buffer.from('y'));
  const deaf = new FakeSocket();
  const silent = new Attachment(deaf, { hasStdin: false, keepsStdinOpen: false });
  await silent.write(Buffer.from('x'));
  assert.deepEqual(deaf.written, []);
  silent.close();
});

test('draining gives what is left, even if nobody has read so far', async () => {
  const socket = new FakeSocket();
  const attachment = new Attachment(socket, open);
  socket.say(1, 'a');
  socket.hangUp();
  await attachment.drain();
  assert.equal(socket.isClosed, true);
});

test('output that nobody ever subscribes to does not hold the process up for good', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const socket = new FakeSocket();
  const attachment = new Attachment(socket, open);
  t.mock.timers.tick(4999);
  assert.equal(socket.isRead, false);
  t.mock.timers.tick(1);
  await turn();
  assert.equal(socket.isRead, true);
  attachment.close();
});
