import assert from 'node:assert/strict';
import { linkSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectPackets, type PacketSocket } from '../../../src/host/packets.ts';
import { type Peer, UnixSocket } from '../../support/unix-socket.ts';

const directory = mkdtempSync(join(tmpdir(), 'skt-packets-'));
after(() => rmSync(directory, { recursive: true }));
let count = 0;

async function pair(t: TestContext): Promise<{ client: PacketSocket; server: Peer }> {
  using listener = new UnixSocket('seqpacket', join(directory, `s${count++}`));
  const [client, server] = await Promise.all([connectPackets(listener.path), listener.accept()]);
  t.after(() => {
    client.close();
    server[Symbol.dispose]();
  });
  return { client, server };
}

async function all(socket: PacketSocket): Promise<Buffer[]> {
  const packets: Buffer[] = [];
  for await (const packet of socket.packets()) packets.push(packet);
  return packets;
}

test('packets arrive whole and in order, up to the end', async (t) => {
  const { client, server } = await pair(t);
  const sent = [Buffer.from('\x02a'), Buffer.alloc(8193, 3), Buffer.from('\x02b'), Buffer.alloc(65536, 2)];
  const received = all(client);
  for (const packet of sent) {
    await server.send(packet);
    await sleep(2); // so that some are waited for and some are there already
  }
  server[Symbol.dispose]();
  assert.deepEqual(await received, sent);
});

test('a packet keeps its bytes when the next one has come', async (t) => {
  const { client, server } = await pair(t);
  await server.send(Buffer.from('first'));
  await server.send(Buffer.from('other'));
  const packets = client.packets()[Symbol.asyncIterator]();
  const first = await packets.next();
  await packets.next();
  assert.equal(String(first.value), 'first');
});

test('nothing is lost when the peer closes at once, with and without input that it never read', async (t) => {
  for (let run = 0; run < 50; run++) {
    const { client, server } = await pair(t);
    const isWaiting = run % 2 === 0;
    const early = isWaiting ? all(client) : undefined; // already polling, or starts after the peer has gone
    if (run % 4 < 2) await client.write(Buffer.from('never read')); // the end is then reported as ECONNRESET
    for (let n = 0; n < 20; n++) await server.send(Buffer.from(`\x02line ${n}`));
    server[Symbol.dispose]();
    const packets = await (early ?? all(client));
    assert.equal(packets.length, 20, `run ${run}`);
    assert.equal(String(packets[19]), '\x02line 19');
  }
});

test('a consumer that is slow makes the peer wait', async (t) => {
  const { client, server } = await pair(t);
  const packet = Buffer.alloc(8193, 2);
  const packets = client.packets()[Symbol.asyncIterator]();
  await server.send(packet);
  await packets.next(); // reading has begun, and is not asked to go on
  const queued = server.fill(packet);
  await sleep(20);
  assert.equal(server.fill(packet), 0, 'something went on reading');
  assert.ok(queued < 1000);
  for (let n = 0; n < queued; n++) await packets.next();
  assert.ok(server.fill(packet) > 0);
});

test('a flood leaves other work its turn', async (t) => {
  const { client, server } = await pair(t);
  let turns = 0;
  const ticking = setInterval(() => turns++, 1);
  t.after(() => clearInterval(ticking));
  const until = Date.now() + 100;
  server.fill(Buffer.alloc(1024));
  for await (const packet of client.packets()) {
    assert.ok(packet.length > 0);
    if (Date.now() > until) break;
    server.fill(Buffer.alloc(1024));
  }
  assert.ok(turns > 10, `${turns} turns in 100 ms`);
});

test('writes are cut into packets of at most 32 KiB, and callers do not mix', async (t) => {
  const { client, server } = await pair(t);
  const first = client.write(Buffer.alloc(100_000, 'a'));
  const second = client.write(Buffer.alloc(10, 'b'));
  const sizes: number[] = [];
  let text = '';
  while (text.length < 100_010) {
    const packet = await server.receive();
    sizes.push(packet.length);
    text += packet.toString();
  }
  await Promise.all([first, second]);
  assert.deepEqual(sizes, [32768, 32768, 32768, 1696, 10]);
  assert.equal(text, 'a'.repeat(100_000) + 'b'.repeat(10));
});

test('a write that waits is not overtaken by one that comes when there is room again', async (t) => {
  const { client, server } = await pair(t);
  const first = client.write(Buffer.alloc(1 << 20, 'a'));
  await sleep(5);
  let text = '';
  for (let n = 0; n < 3; n++) text += await server.receive(); // there already, so the writer has not had its turn
  const second = client.write(Buffer.from('b'));
  while (text.length <= 1 << 20) text += await server.receive();
  await Promise.all([first, second]);
  assert.equal(text.indexOf('b'), 1 << 20);
});

test('a packet is delivered when it comes, not when something else happens', async (t) => {
  const { client, server } = await pair(t);
  const watchdog = setTimeout(() => {}, 2000);
  t.after(() => clearTimeout(watchdog));
  setTimeout(() => server.fill(Buffer.from('x')), 10);
  const started = Date.now();
  await client.packets()[Symbol.asyncIterator]().next();
  assert.ok(Date.now() - started < 1000);
});

test('a write waits until the peer reads', async (t) => {
  const { client, server } = await pair(t);
  let isDone = false;
  const size = 4 << 20;
  const written = client.write(Buffer.alloc(size)).then(() => {
    isDone = true;
  });
  await sleep(30);
  assert.equal(isDone, false);
  for (let got = 0; got < size; ) got += (await server.receive()).length;
  await written;
  assert.equal(isDone, true);
});

test('end() closes our side only, after all that was written', async (t) => {
  const { client, server } = await pair(t);
  const written = client.write(Buffer.from('last words'));
  client.end();
  assert.equal(String(await server.receive()), 'last words');
  assert.equal((await server.receive()).length, 0);
  await written;
  await server.send(Buffer.from('answer'));
  server[Symbol.dispose]();
  assert.deepEqual(await all(client), [Buffer.from('answer')]);
});

test('a write to a peer that has gone is EPIPE, also when it was waiting', async (t) => {
  const { client, server } = await pair(t);
  const waiting = client.write(Buffer.alloc(4 << 20));
  await sleep(10);
  server[Symbol.dispose]();
  // a peer that goes with unread input resets first
  await assert.rejects(waiting, (cause: NodeJS.ErrnoException) => /EPIPE|ECONNRESET/.test(cause.code ?? ''));
  await assert.rejects(client.write(Buffer.from('x')), { code: 'EPIPE' });
});

test('close() ends a reader and a writer that wait, and frees the descriptor', async (t) => {
  const before = readdirSync('/proc/self/fd').length;
  const { client, server } = await pair(t);
  const reading = all(client);
  const writing = assert.rejects(client.write(Buffer.alloc(4 << 20)), { code: 'EPIPE' });
  await sleep(10);
  client.close();
  client.close();
  assert.deepEqual(await reading, []);
  await writing;
  assert.deepEqual(await all(client), []);
  server[Symbol.dispose]();
  assert.equal(readdirSync('/proc/self/fd').length, before);
});

test('descriptors may come round again at once: a closed socket does not disturb its successor', async (t) => {
  for (let n = 0; n < 30; n++) {
    const { client, server } = await pair(t);
    const reading = all(client);
    await sleep(0); // polling
    client.close();
    const successor = await pair(t);
    const packets = all(successor.client);
    await successor.server.send(Buffer.from(`${n}`));
    successor.server[Symbol.dispose]();
    assert.deepEqual(await packets, [Buffer.from(`${n}`)]);
    assert.deepEqual(await reading, []);
    server[Symbol.dispose]();
  }
});

test('a path longer than an address holds is reached all the same', async (t) => {
  const deep = join(directory, 'd'.repeat(120));
  mkdirSync(deep);
  const back = process.cwd();
  process.chdir(deep);
  using listener = new UnixSocket('seqpacket', 'attach');
  process.chdir(back);
  const client = await connectPackets(join(deep, 'attach'));
  t.after(() => client.close());
  using server = await listener.accept();
  await server.send(Buffer.from('here'));
  server[Symbol.dispose]();
  assert.deepEqual(await all(client), [Buffer.from('here')]);
});

test('nobody there: ENOENT without a socket, ECONNREFUSED on a dead one, and no descriptor is lost', async () => {
  const before = readdirSync('/proc/self/fd').length;
  const path = join(directory, 'dead');
  await assert.rejects(connectPackets(path), { code: 'ENOENT', path });
  await assert.rejects(connectPackets('x'.repeat(300)), { code: 'ENAMETOOLONG' });
  const dead = new UnixSocket('seqpacket', path);
  const keep = join(directory, 'dead-kept');
  linkSync(path, keep);
  dead[Symbol.dispose]();
  await assert.rejects(connectPackets(keep), { code: 'ECONNREFUSED' });
  assert.equal(readdirSync('/proc/self/fd').length, before);
});

test('a full backlog is waited for', async (t) => {
  using listener = new UnixSocket('seqpacket', join(directory, 'busy'), { backlog: 0 });
  const first = await connectPackets(listener.path);
  t.after(() => first.close());
  const second = connectPackets(listener.path);
  await sleep(30);
  using _one = await listener.accept();
  const client = await second;
  t.after(() => client.close());
  using two = await listener.accept();
  await two.send(Buffer.from('at last'));
  two[Symbol.dispose]();
  assert.deepEqual(await all(client), [Buffer.from('at last')]);
});
