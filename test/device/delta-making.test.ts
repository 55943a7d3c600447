import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BASE_LABEL, TARGET_LABEL } from '../../src/lib/delta-image.ts';
import { digestOf } from '../../src/lib/digest.ts';
import { noise, text } from '../support/delta-tars.ts';
import { TestEngine } from '../support/engine.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeBigLayer, makeImage, makeLayer, push, type TestImage } from '../support/registry-images.ts';

/** `POST /images/delta`: delta images as balenaEngine makes them, checked with Debian's rdiff and by a device that pulls one. */
let engine: TestEngine;
let registry: TestRegistry;
let v1: TestImage;
let v2: TestImage;
let directory: string;

interface Line {
  status?: string;
  id?: string;
  error?: string;
  progressDetail?: { current?: number; total?: number };
}

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  directory = mkdtempSync(join(tmpdir(), 'skerry-making-'));
  const program = noise(600_000);
  const shared = await makeLayer({ 'etc/shared': noise(5000, 4) });
  const old = await makeLayer({ 'bin/program': program, 'etc/words': text(50_000, 400) });
  const young = await makeLayer({
    'bin/program': Buffer.concat([program.subarray(0, 300_000), noise(2000, 3), program.subarray(300_000)]),
    'etc/words': text(50_000, 400),
  });
  const added = await makeLayer({
    'etc/more': Buffer.concat([noise(3000, 8), program.subarray(1000, 90_000)]),
  });
  v1 = makeImage({ layers: [shared, old], config: { Labels: { v: '1' } } });
  v2 = makeImage({ layers: [shared, young, added], config: { Labels: { v: '2' }, Cmd: ['/bin/program'] } });
  await push(registry.host, 'app', ['1'], v1);
  await push(registry.host, 'app', ['2'], v2);
  engine = await TestEngine.start();
  for (const tag of ['1', '2']) await engine.ok(['pull', '-q', `${registry.host}/app:${tag}`]);
});

after(async () => {
  await engine.stop();
  const left = await engine.remains();
  await engine[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
  assert.deepEqual(left, []);
});

const app = (tag: string) => `${registry.host}/app:${tag}`;

async function makeDelta(o: { src?: string; dest?: string; t?: string }) {
  const path = `/v1.41/images/delta?${new URLSearchParams(o)}`;
  const { status, text } = await engine.get(path, { method: 'POST' });
  const lines = text
    .trim()
    .split('\r\n')
    .map((line) => JSON.parse(line) as Line & { message?: string });
  return {
    status,
    lines,
    id: /^Created delta: (.*)$/m.exec(lines.map((line) => line.status).join('\n'))?.[1],
  };
}

/** The layers' tars of an image, as `docker save` gives them. */
function savedLayers(name: string): Buffer[] {
  const [archive, tree] = [join(directory, 'saved.tar'), mkdtempSync(join(directory, 'saved-'))];
  execFileSync('docker', ['save', '-o', archive, name], {
    env: { ...process.env, ...engine.cliEnvironment() },
  });
  execFileSync('tar', ['-xf', archive, '-C', tree]);
  const [{ Layers }] = JSON.parse(readFileSync(join(tree, 'manifest.json'), 'utf8'));
  return (Layers as string[]).map((path) => readFileSync(join(tree, path)));
}

const untar = (tar: Buffer, ...flags: string[]) =>
  execFileSync('tar', flags, { input: tar, maxBuffer: 1 << 28 });

test('rdiff makes the target of its layers; the statuses are balenaEngine’s', async () => {
  const { status, lines, id } = await makeDelta({ src: app('1'), dest: app('2'), t: 'deltas/app:1-2' });
  assert.equal(status, 200);
  const [shared, old, young, added] = [...v1.layers, ...v2.layers.slice(1)].map(({ diffId }) =>
    diffId.slice(7, 19),
  );
  const told = lines.map(
    ({ id, status }) =>
      `${id ?? ''} ${status?.replace(/took .*/, 'took').replace(/size: [\d.]+/g, 'size: ')}`,
  );
  const once = told.filter((line, at) => line !== told[at - 1]);
  assert.deepEqual(
    once.map((line) => line.replace(/[\d.]+x imp/, 'x imp')),
    [
      `${app('1')} Fingerprinting`,
      `${app('1')} Fingerprint complete, took`,
      `${shared} Waiting`,
      `${young} Waiting`,
      `${added} Waiting`,
      `${shared} Skipping common layer`,
      `${young} Computing delta`,
      `${young} Delta complete`,
      `${added} Computing delta`,
      `${added} Delta complete`,
      ' Normal size: kB, Delta size: kB, x improvement',
      ` Created delta: ${id}`,
      ' Successfully tagged deltas/app:1-2\n',
    ],
  );
  assert.notEqual(old, young);
  const total = v1.layers.reduce((sum, { tar }) => sum + tar.length, 0);
  assert.deepEqual(lines.findLast((line) => line.status === 'Fingerprinting')?.progressDetail, {
    current: total,
    total,
  });

  const image = await engine.json('/images/deltas/app:1-2/json');
  assert.equal(image.Id, id);
  assert.deepEqual(image.Config.Labels, {
    [BASE_LABEL]: v1.configDigest,
    [TARGET_LABEL]: v2.config.toString(),
  });
  assert.equal(image.RootFS.Layers.length, 3);
  const layers = savedLayers('deltas/app:1-2');
  assert.deepEqual(layers.map(digestOf), image.RootFS.Layers);
  assert.equal(untar(layers[0] as Buffer, '-t').length, 0);
  const base = join(directory, 'base');
  writeFileSync(base, Buffer.concat(savedLayers(app('1'))));
  for (const [at, tar] of layers.entries()) {
    if (at === 0) continue;
    assert.match(untar(tar, '-tv').toString(), /^-rw------- 0\/0 +\d+ 1970-01-01 \d\d:\d\d delta\n$/);
    const delta = untar(tar, '-xO', 'delta');
    assert.ok(delta.length < 8000, `${delta.length} bytes`);
    const made = execFileSync('rdiff', ['patch', base, '-', '-'], { input: delta, maxBuffer: 1 << 28 });
    assert.equal(digestOf(made), v2.layers[at]?.diffId);
  }
});

test('the same images give the same delta image, with or without a name', async () => {
  const { id } = await makeDelta({ src: app('1'), dest: app('2') });
  const again = await makeDelta({ src: v1.configDigest, dest: v2.configDigest.slice(7, 20), t: 'again' });
  assert.equal(again.id, id);
  assert.equal((await engine.json('/images/again:latest/json')).Id, id);
});

test('an engine that has the base pulls the target by it', async () => {
  await makeDelta({ src: app('1'), dest: app('2'), t: `${registry.host}/deltas:1-2` });
  await engine.ok(['push', '-q', `${registry.host}/deltas:1-2`]);
  await using device = await TestEngine.start();
  await device.ok(['pull', '-q', app('1')]);
  await device.ok(['pull', '-q', `${registry.host}/deltas:1-2`]);
  const image = await device.json(`/images/${registry.host}/deltas:1-2/json`);
  assert.deepEqual([image.Id, image.Config.Cmd], [v2.configDigest, ['/bin/program']]);
  assert.deepEqual(
    image.RootFS.Layers,
    v2.layers.map(({ diffId }) => diffId),
  );
  await device.stop();
});

test('what cannot be made is refused in balenaEngine’s words, and leaves nothing', async () => {
  const before = await traces();
  for (const [asked, status, message] of [
    [{ src: 'no/such', dest: app('2') }, 404, 'no such image: no/such: No such image: no/such:latest'],
    [{ src: app('1'), dest: 'no/such:5' }, 404, 'no such image: no/such:5: No such image: no/such:5'],
    [{ dest: app('2') }, 400, 'no such image: : invalid reference format'],
    [{ src: app('1') }, 400, 'no such image: : invalid reference format'],
    [{ src: app('1'), dest: app('2'), t: 'a:b:c' }, 400, 'invalid reference format'],
    [{ src: app('1'), dest: app('2'), t: `a@${v1.digest}` }, 400, 'build tag cannot contain a digest'],
    [{ src: app('1'), dest: app('1') }, 400, 'invalid delta image: its base is the image that it leads to'],
    [{ src: app('2'), dest: 'again' }, 400, 'invalid delta image: it leads to a delta image'],
  ] as const) {
    const answer = await makeDelta(asked);
    assert.deepEqual([answer.status, answer.lines], [status, [{ message }]], JSON.stringify(asked));
  }
  assert.deepEqual(await traces(), before);
});

/** What is on the disk of layers, whole or half made, and what is known of them. */
async function traces() {
  const [layers, staged] = ['layers', 'staging'].map((name) =>
    readdirSync(join(engine.dataRoot, name)).sort(),
  );
  const images = (await engine.json<{ Id: string }[]>('/images/json?all=1')).map(({ Id }) => Id).sort();
  return { layers, staged, images };
}

async function settled(expected: Awaited<ReturnType<typeof traces>>): Promise<void> {
  for (const until = Date.now() + 5000; ; await sleep(20)) {
    const now = await traces();
    if (JSON.stringify(now) === JSON.stringify(expected) && children() === 0) return;
    if (Date.now() > until) assert.deepEqual({ ...now, children: children() }, { ...expected, children: 0 });
  }
}

/** How many of this engine's children make deltas. */
function children(): number {
  return readdirSync('/proc').filter((pid) => {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      return words.includes('make-delta') && words.includes(engine.dataRoot);
    } catch {
      return false;
    }
  }).length;
}

for (const end of ['the client leaves', 'the daemon is killed'] as const)
  test(`nothing is left when ${end} in the midst of it`, async () => {
    const last = await makeBigLayer(48 << 20);
    // what is done before a client leaves goes at once; before a kill, with its lease's term
    const done = end === 'the client leaves' ? [await makeBigLayer(5000)] : [];
    const big = makeImage({ layers: [...done, last] });
    await push(registry.host, 'big', ['1'], big);
    await engine.ok(['pull', '-q', `${registry.host}/big:1`]);
    const before = await traces();
    const path = `/images/delta?src=${app('1')}&dest=${registry.host}/big:1&t=never`;
    const sent = request({ socketPath: engine.socket, path, method: 'POST' });
    const isLast = new RegExp(`Computing delta.*"id":"${last.diffId.slice(7, 19)}"`);
    const isComputing = new Promise<void>((resolve) => {
      sent.on('response', (answer) => {
        answer.on('error', () => {}).on('data', (bytes) => isLast.test(String(bytes)) && resolve());
      });
    });
    sent.on('error', () => {}).end();
    await isComputing;
    if (end === 'the client leaves') sent.destroy();
    else {
      await engine.kill();
      await engine.boot();
    }
    await settled(before);
  });

test('a base that is damaged on the disk is named', async () => {
  const { GraphDriver } = await engine.json(`/images/${app('1')}/json`);
  const upper = String(GraphDriver.Data.UpperDir);
  const path = join(upper, 'etc/words');
  const sound = readFileSync(path);
  writeFileSync(path, Buffer.concat([Buffer.of((sound[0] ?? 0) ^ 1), sound.subarray(1)]));
  try {
    const { lines } = await makeDelta({ src: app('1'), dest: app('2') });
    const said = lines.at(-1)?.error ?? lines.at(-1)?.message; // it may have told how far it is before
    assert.equal(said, `layer ${v1.layers[1]?.diffId} is damaged on disk: pull the image again`);
  } finally {
    writeFileSync(path, sound);
  }
});
