import assert from 'node:assert/strict';
import { existsSync, readdirSync, statSync, truncateSync } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Disk } from '../bench/disk.ts';
import { TestEngine } from '../support/engine.ts';
import { faultsOf } from '../support/estate.ts';
import {
  bytesOf,
  clearAll,
  demand,
  type ImageSource,
  pullRequest,
  startImageSource,
} from '../support/image-world.ts';
import { enterOwnNetwork } from '../support/network.ts';

/** Pulls of deltas that are given up or die, what is kept of them, and what that costs the disk. */
const LAYER_BYTES = 6_000_000;
const IN_FLIGHT_BYTES = 256 << 10;
const headers = { 'x-delta-mode': 'require' };

let source: ImageSource;
let directory: string;
let disk: Disk;
let engine: TestEngine;

before(async () => {
  await enterOwnNetwork();
  source = await startImageSource({ layerBytes: LAYER_BYTES });
  directory = await mkdtemp(join(tmpdir(), 'skt-resume-'));
  disk = await Disk.open(directory);
  engine = await TestEngine.start({ dataRoot: disk.path });
});

after(async () => {
  await engine[Symbol.asyncDispose]();
  await disk[Symbol.asyncDispose]();
  await source[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

beforeEach(async () => {
  await clearAll(engine);
  source.proxy.reset();
  await demand(engine, pullRequest(source.name('app:v1')));
});

const spools = () => {
  const path = join(engine.dataRoot, 'spool');
  return existsSync(path) ? readdirSync(path).map((name) => join(path, name)) : [];
};
const spooledBytes = () => spools().reduce((sum, path) => sum + statSync(path).size, 0);
const ranges = () =>
  source.proxy.seen(new RegExp(`/blobs/${source.update.digest}`)).map(({ headers: { range } }) => range);

/** A pull over a slow network; `leave` is its client's end. */
function begin(): { leave(): void; ended: Promise<void> } {
  const path = new RegExp(`/blobs/${source.update.digest}`);
  source.proxy.fault({ path, do: { kind: 'drip', bytes: 16_384, everyMs: 5 } });
  const { path: wanted, method } = pullRequest(source.name('app:v5'));
  const sent = request({ socketPath: engine.socket, path: wanted, method, headers, agent: false });
  const ended = new Promise<void>((resolve) => {
    sent.on('response', (answer) => answer.on('error', () => {}).resume());
    sent.on('error', () => {});
    sent.on('close', resolve);
  });
  sent.end();
  return { leave: () => sent.destroy(), ended };
}

async function until(what: string, isSo: () => boolean): Promise<void> {
  for (const end = Date.now() + 20_000; Date.now() < end; await sleep(5)) if (isSo()) return;
  assert.fail(`${what}: not within 20 s`);
}

async function pullAgain(): Promise<void> {
  await demand(engine, pullRequest(source.name('app:v5'), headers));
  const { Id } = await engine.json(`/images/${source.name('app:v5')}/json`);
  assert.equal(Id, source.versions.v5.configDigest);
  assert.deepEqual(spools(), []);
  assert.deepEqual(await faultsOf(engine), []);
}

test('a client that leaves: the next pull, of the same daemon, goes on where the first was', async () => {
  const { leave, ended } = begin();
  await until('a part has come', () => spooledBytes() > 1_000_000);
  leave();
  await ended;
  await until('nothing is staged', () => readdirSync(join(engine.dataRoot, 'staging')).length === 0);
  const kept = spooledBytes();
  await pullAgain();
  assert.deepEqual(ranges(), [undefined, `bytes=${kept}-`]);
});

test('what is spooled is short or wrong: the rest is fetched, or all of it once, and the image is right', async () => {
  for (const spoil of ['cut', 'zeros']) {
    await clearAll(engine);
    await demand(engine, pullRequest(source.name('app:v1')));
    source.proxy.reset();
    const { ended } = begin();
    await until('a part has come', () => spooledBytes() > 1_000_000);
    await engine.kill();
    await ended;
    const [path = ''] = spools();
    const kept = spoil === 'cut' ? 500_000 : statSync(path).size;
    if (spoil === 'cut') truncateSync(path, kept);
    else {
      await using file = await open(path, 'r+');
      await file.write(Buffer.alloc(100_000), 0, 100_000, 500_000);
    }
    await engine.boot();
    source.proxy.reset();
    await pullAgain();
    const sent = bytesOf(source, source.update.digest);
    const most = source.update.sizeBytes + (spoil === 'cut' ? -kept : IN_FLIGHT_BYTES + LAYER_BYTES);
    assert.ok(sent <= most, `${spoil}: ${sent} of ${most}`);
    assert.equal(ranges().at(-1), spoil === 'cut' ? `bytes=${kept}-` : undefined);
  }
});

test('a daemon for which deltas are off has no use for what is spooled of them', async () => {
  const { ended } = begin();
  await until('a part has come', () => spooledBytes() > 1_000_000);
  await engine.kill();
  await ended;
  await engine.boot(['--delta-mode', 'off']);
  assert.deepEqual(spools(), []);
  await engine.stop();
  await engine.boot();
});

test('a delta that is fetched fast costs the disk nothing: layers made of it are all that is written', async (t) => {
  const written = async (mode: string) => {
    await clearAll(engine);
    await demand(engine, pullRequest(source.name('app:v1')));
    const before = await disk.writtenBytes();
    await demand(engine, pullRequest(source.name('app:v5'), { 'x-delta-mode': mode }));
    return (await disk.writtenBytes()) - before;
  };
  const [whole, made] = [await written('off'), await written('require')];
  const tarBytes = source.versions.v5.layers.slice(1).reduce((sum, { tar }) => sum + tar.length, 0);
  t.diagnostic(`${made} bytes written, ${whole} without the delta, of ${tarBytes} of tar`);
  assert.ok(made <= whole + tarBytes / 100, `${made} bytes were written, ${whole} without the delta`);
});
