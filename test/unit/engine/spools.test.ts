import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type KeptPart, Spools } from '../../../src/engine/spools.ts';
import { digestOf, hexOf } from '../../../src/lib/digest.ts';
import { silentLog } from '../../../src/lib/log.ts';

const content = randomBytes(300_000);
const wanted = {
  diffId: digestOf('layer'),
  blob: digestOf(content),
  sizeBytes: content.length,
  kind: 'layer',
} as const;

async function open(t: TestContext) {
  const dataRoot = await mkdtemp(join(tmpdir(), 'skerry-spools-'));
  t.after(() => rm(dataRoot, { recursive: true }));
  const room = { isThere: true, hasRoomFor: async () => room.isThere };
  const path = join(dataRoot, 'spool', `${hexOf(wanted.diffId)}.${hexOf(wanted.blob)}`);
  const reopen = (
    aboveBytes: number | undefined = 100_000,
    o: { syncMs?: number; withDeltas?: boolean } = {},
  ) => Spools.open({ dataRoot, aboveBytes, withDeltas: true, room, log: silentLog, ...o });
  return { dataRoot, room, path, reopen, spools: await reopen() };
}

/** Gives the blob, what is kept of it first; breaks off where it is told to. */
function from(o: { until?: number; heard?: number[] } = {}) {
  return (kept?: KeptPart) => {
    o.heard?.push(kept?.bytes ?? 0);
    const bytes = async function* () {
      if (kept !== undefined) yield* kept.read();
      for (let at = kept?.bytes ?? 0; at < (o.until ?? content.length); at += 10_000)
        yield content.subarray(at, at + 10_000);
      if (o.until !== undefined) throw new Error('broken off');
    };
    return Readable.from(bytes(), { objectMode: false });
  };
}

test('a blob that breaks off is resumed from what was kept, by the next daemon too', async (t) => {
  const { spools, reopen, path, dataRoot } = await open(t);
  const { input, keptBytes } = await spools.through(wanted, from({ until: 120_000 }));
  assert.equal(keptBytes, 0);
  await assert.rejects(buffer(input), { message: 'broken off' });
  assert.ok(spools.has([wanted.diffId]));
  const kept = statSync(path).size;
  assert.ok(kept > 0 && kept <= 120_000, `${kept}`);
  const next = await reopen();
  const heard: number[] = [];
  const again = await next.through(wanted, from({ heard }));
  assert.equal(again.keptBytes, kept);
  assert.ok((await buffer(again.input)).equals(content));
  assert.deepEqual(heard, [kept]);
  assert.ok(readFileSync(path).equals(content));
  await next.drop(wanted.diffId);
  assert.ok(!next.has([wanted.diffId]));
  assert.deepEqual(readdirSync(dataRoot), [], 'the directory goes with its last spool');
});

test('what is not large is not spooled, nor anything where there is no room', async (t) => {
  const { spools, room, dataRoot } = await open(t);
  const small = await spools.through({ ...wanted, sizeBytes: 100_000 }, from());
  assert.ok((await buffer(small.input)).equals(content));
  room.isThere = false;
  assert.ok((await buffer((await spools.through(wanted, from())).input)).equals(content));
  assert.deepEqual(readdirSync(dataRoot), []);
});

test('a spool goes when room runs short, and the blob goes on', async (t) => {
  const { spools, room, dataRoot } = await open(t);
  const { input } = await spools.through(wanted, from());
  room.isThere = false;
  assert.ok((await buffer(input)).equals(content));
  for (let waited = 0; existsSync(join(dataRoot, 'spool')) && waited < 1000; waited += 5) await sleep(5);
  assert.deepEqual(readdirSync(dataRoot), []);
});

test('a blob of which nothing comes leaves nothing', async (t) => {
  const { spools, dataRoot } = await open(t);
  await assert.rejects(buffer((await spools.through(wanted, from({ until: 0 }))).input));
  assert.ok(!spools.has([wanted.diffId]));
  assert.deepEqual(readdirSync(dataRoot), []);
});

test('a spool that is longer than its blob is none', async (t) => {
  const { spools, reopen, path } = await open(t);
  await buffer((await spools.through(wanted, from())).input);
  truncateSync(path, content.length + 1);
  const heard: number[] = [];
  const { input, keptBytes } = await (await reopen()).through(wanted, from({ heard }));
  assert.ok((await buffer(input)).equals(content) && keptBytes === 0);
  assert.deepEqual(heard, [0]);
});

test('sweep keeps what is wanted; without the option all of it goes', async (t) => {
  const { spools, reopen, path, dataRoot } = await open(t);
  await buffer((await spools.through(wanted, from())).input);
  writeFileSync(join(dataRoot, 'spool', 'junk'), 'x');
  const next = await reopen();
  await next.sweep(new Set([wanted.diffId]));
  assert.deepEqual(readdirSync(join(dataRoot, 'spool')), [path.split('/').at(-1)]);
  await next.sweep(new Set([digestOf('another')]));
  assert.deepEqual(readdirSync(dataRoot), []);
  await buffer((await spools.through(wanted, from())).input);
  await Spools.open({
    dataRoot,
    aboveBytes: undefined,
    withDeltas: true,
    room: { hasRoomFor: async () => true },
    log: silentLog,
  });
  assert.deepEqual(readdirSync(dataRoot), []);
});

test('a reader that leaves lets go of the file and of the source', async (t) => {
  const { spools } = await open(t);
  let isClosed = false;
  const endless = new Readable({
    read() {
      this.push(content.subarray(0, 1000));
    },
    destroy(error, done) {
      isClosed = true;
      done(error);
    },
  });
  const { input } = await spools.through(wanted, () => endless);
  input.once('data', () => input.destroy());
  await new Promise((resolve) => input.once('close', resolve));
  await sleep(5);
  assert.ok(isClosed);
});

const delta = { ...wanted, sizeBytes: content.length, kind: 'delta' } as const;

test('a delta is spooled whatever its size, and gone once it is unpacked, before anything of it is synced', async (t) => {
  const { spools, dataRoot } = await open(t);
  const { input } = await spools.through(delta, from({ until: 120_000 }));
  await assert.rejects(buffer(input));
  const kept = await spools.keptOf(delta);
  assert.ok(kept > 0);
  const again = await spools.through(delta, from());
  assert.equal(again.keptBytes, kept);
  assert.ok((await buffer(again.input)).equals(content));
  await spools.unpacked(delta);
  assert.deepEqual(readdirSync(dataRoot), []);
});

test('a delta that takes its time is synced, and then stays until its last layer is here', async (t) => {
  const { reopen, dataRoot } = await open(t);
  const slow = await reopen(100_000, { syncMs: 0 });
  assert.ok((await buffer((await slow.through(delta, from())).input)).equals(content));
  await slow.unpacked(delta);
  assert.ok(
    readFileSync(join(dataRoot, 'spool', `${readdirSync(join(dataRoot, 'spool'))[0]}`)).equals(content),
  );
  await slow.drop(delta.diffId);
  assert.deepEqual(readdirSync(dataRoot), []);
});

test('the spool of a layer and that of a delta go with what they are for', async (t) => {
  const { spools, reopen, dataRoot } = await open(t);
  for (const each of [wanted, delta]) await buffer((await spools.through(each, from())).input);
  const names = () => (existsSync(join(dataRoot, 'spool')) ? readdirSync(join(dataRoot, 'spool')) : []);
  assert.equal(names().length, 2);
  await spools.forget(delta);
  assert.equal(names().length, 1);
  await buffer((await spools.through(delta, from())).input);
  await reopen(100_000, { withDeltas: false });
  assert.deepEqual(
    names().filter((name) => name.endsWith('.delta')),
    [],
  );
  assert.equal(names().length, 1);
});

test('of two who fetch one delta at once, one spools it', async (t) => {
  const { spools } = await open(t);
  const heard: number[] = [];
  const both = [await spools.through(delta, from({ heard })), await spools.through(delta, from({ heard }))];
  for (const bytes of await Promise.all(both.map(({ input }) => buffer(input))))
    assert.ok(bytes.equals(content));
  assert.deepEqual(heard, [0, 0]);
  for (const { input } of both) if (!input.closed) await once(input, 'close');
  assert.equal(await spools.keptOf(delta), content.length);
});

test('a delta whose spool fails comes all the same', async (t) => {
  const { spools, dataRoot } = await open(t);
  writeFileSync(join(dataRoot, 'spool'), 'no directory');
  assert.ok((await buffer((await spools.through(delta, from())).input)).equals(content));
});

test('there are never more than a few dozen spools', async (t) => {
  const { spools, dataRoot } = await open(t);
  for (let n = 0; n < 40; n++) {
    const { input } = await spools.through({ ...delta, diffId: digestOf(`${n}`) }, from());
    await buffer(input);
  }
  assert.equal(readdirSync(join(dataRoot, 'spool')).length, 32);
});
