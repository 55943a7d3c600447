import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { unmount } from '../../src/host/kernel.ts';
import { mountsUnder } from '../../src/host/mounts.ts';
import { mountedLayers } from '../../src/layers/rootfs.ts';
import { boxLayer } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { faultsOf } from '../support/estate.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { registryUser, startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeBigLayer, makeImage, makeLayer, push, type TestLayer } from '../support/registry-images.ts';

/** One layer as the answer's last message tells of it. */
interface Layer {
  DiffID: string;
  State: 'ok' | 'damaged' | 'missing' | 'repaired';
  Bytes: number;
  Differences?: string[];
  Error?: string;
}

interface Message {
  id?: string;
  status?: string;
  error?: string;
  progressDetail?: { current?: number; total?: number };
  aux?: { Id: string; RepoTags: string[]; Layers: Layer[] };
}

let registry: TestRegistry;
let engine: TestEngine;
let image: string;
let box: TestLayer;
let top: TestLayer;

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  image = `${registry.host}/care:1`;
  box = await boxLayer();
  top = await makeLayer({ 'app/main': 'the program', 'app/data': Buffer.alloc(200_000, 'data') });
  await push(registry.host, 'care', ['1'], makeImage({ layers: [box, top] }));
  engine = await TestEngine.start({ flags: ['--max-download-attempts', '1'] });
});

after(async () => {
  await engine[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

beforeEach(async () => {
  await engine.clear();
  await engine.docker(['rmi', '-f', image]);
  await engine.ok(['pull', '-q', image]);
});

async function verify(path: string, { isRepairing = false } = {}): Promise<Message[]> {
  const { status, text } = await engine.get(`/images/${path}verify${isRepairing ? '?repair=1' : ''}`, {
    method: 'POST',
  });
  assert.equal(status, 200, text);
  return text
    .trim()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
}

async function layersOf(o: { isRepairing?: boolean } = {}): Promise<Layer[]> {
  const messages = await verify(`${image}/`, o);
  return messages.findLast(({ aux }) => aux !== undefined)?.aux?.Layers ?? [];
}

const states = (layers: readonly Layer[]) => layers.map(({ State }) => State);

/** The directory of a layer, or of all that hold it. */
function directoriesOf({ diffId }: TestLayer): string[] {
  const root = join(engine.dataRoot, 'layers');
  return readdirSync(root)
    .map((dirId) => join(root, dirId))
    .filter((path) => JSON.parse(readFileSync(join(path, 'layer.json'), 'utf8')).diffId === diffId);
}

function directoryOf(layer: TestLayer): string {
  const [directory] = directoriesOf(layer);
  assert.ok(directory);
  return directory;
}

test('an image that is whole is told to be, with progress and all its layers', async () => {
  const messages = await verify(`${image}/`);
  const { aux } = messages.at(-1) ?? {};
  assert.deepEqual(aux?.RepoTags, [image]);
  assert.deepEqual(
    aux?.Layers,
    [box, top].map(({ diffId, tar }) => ({ DiffID: diffId, State: 'ok', Bytes: tar.length })),
  );
  assert.ok(
    messages.some(
      ({ status, progressDetail }) => status === 'Verifying' && progressDetail?.total === top.tar.length,
    ),
  );
  assert.deepEqual(await faultsOf(engine), []);
});

test('what is no image is refused before the stream', async () => {
  const { status, text } = await engine.get('/images/none:1/verify', { method: 'POST' });
  assert.deepEqual([status, JSON.parse(text)], [404, { message: 'No such image: none:1' }]);
});

const damages: Record<string, (directory: string) => void> = {
  'a changed byte': (directory) => writeFileSync(join(directory, 'diff/app/main'), 'the progrXm'),
  'a file cut short': (directory) => truncateSync(join(directory, 'diff/app/data'), 100),
  'a file that is gone': (directory) => unlinkSync(join(directory, 'diff/app/main')),
  'a file too many': (directory) => appendFileSync(join(directory, 'diff/app/more'), ''),
  'another mode': (directory) => chmodSync(join(directory, 'diff/app/main'), 0o777),
  'a lost tar-split': (directory) => unlinkSync(join(directory, 'tar-split')),
};

for (const [what, damage] of Object.entries(damages)) {
  test(`${what} is found, and repaired from the registry`, async () => {
    const before = directoryOf(top);
    damage(before);
    assert.deepEqual(states(await layersOf()), ['ok', 'damaged']);
    const repaired = await layersOf({ isRepairing: true });
    assert.deepEqual(states(repaired), ['ok', 'repaired']);
    assert.ok((repaired[1]?.Differences ?? []).length > 0);
    assert.deepEqual(states(await layersOf()), ['ok', 'ok']);
    assert.equal(existsSync(before), false, 'nothing runs on the old one');
    assert.deepEqual(await faultsOf(engine), []);
    assert.equal(await engine.ok(['run', '--rm', '--net', 'none', image, 'cat', '/app/main']), 'the program');
  });
}

test('a directory that is gone is missing, then and after a restart, and is brought back', async () => {
  rmSync(directoryOf(top), { recursive: true });
  assert.deepEqual(states(await layersOf()), ['ok', 'missing']);
  await engine.stop();
  await engine.boot();
  assert.deepEqual(await engine.json('/images/json'), [], 'an image with a hole is as good as absent');
  assert.deepEqual(states(await layersOf()), ['ok', 'missing'], 'but can be asked for');
  const all = await verify('', { isRepairing: true });
  assert.deepEqual(
    all.flatMap(({ aux }) => states(aux?.Layers ?? [])),
    ['ok', 'repaired'],
  );
  assert.equal(await engine.ok(['run', '--rm', '--net', 'none', image, 'cat', '/app/main']), 'the program');
  assert.deepEqual(await faultsOf(engine), []);
});

test('known damage is remembered, warned of, and mended by a pull', async () => {
  unlinkSync(join(directoryOf(top), 'diff/app/main'));
  assert.match(await engine.ok(['pull', image]), /up to date/, 'nobody knows yet');
  assert.deepEqual(states(await layersOf()), ['ok', 'damaged']);
  await engine.kill();
  await engine.boot();
  const { stderr, code } = await engine.docker(['run', '--rm', '--net', 'none', image, 'ls', '/app']);
  assert.equal(code, 0, 'it runs as well as it can');
  assert.match(stderr, /image is damaged.*skerry verify --repair/);
  assert.match(await engine.ok(['pull', image]), /Pull complete/);
  assert.equal(await engine.ok(['run', '--rm', '--net', 'none', image, 'cat', '/app/main']), 'the program');
  assert.deepEqual(await faultsOf(engine), []);
});

test('a container runs on over the repair of its layer, over a restart too, and starts anew on the new one', async () => {
  const id = await engine.ok(['run', '-d', '--net', 'none', image, 'sleep', '600']);
  const before = directoryOf(top);
  writeFileSync(join(before, 'diff/app/main'), 'the progrXm');
  assert.deepEqual(states(await layersOf({ isRepairing: true })), ['ok', 'repaired']);
  assert.equal(directoriesOf(top).length, 2);
  assert.equal(await engine.ok(['exec', id, 'cat', '/app/main']), 'the progrXm', 'what it has it keeps');
  await engine.kill();
  await engine.boot();
  assert.equal(existsSync(before), true, 'what is mounted stays');
  assert.equal(await engine.ok(['exec', id, 'cat', '/app/data']), 'data'.repeat(50_000));
  await engine.ok(['restart', '-t', '0', id]);
  assert.equal(await engine.ok(['exec', id, 'cat', '/app/main']), 'the program');
  assert.equal(existsSync(before), false, 'and goes with its last user');
  assert.deepEqual(states(await layersOf()), ['ok', 'ok']);
  await engine.ok(['rm', '-f', id]);
  assert.deepEqual(await faultsOf(engine), []);
});

test('a power cut takes the mounts, and with them what was only kept for them', async () => {
  const id = await engine.ok(['run', '-d', '--net', 'none', image, 'sleep', '600']);
  const before = directoryOf(top);
  chmodSync(join(before, 'diff/app/main'), 0o600);
  await layersOf({ isRepairing: true });
  const { State } = await engine.json(`/containers/${id}/json`);
  await engine.kill();
  process.kill(State.Pid, 'SIGKILL');
  for (const place of await mountsUnder(engine.dataRoot)) unmount(place, { isLazy: true });
  await engine.boot();
  assert.equal(existsSync(before), false);
  assert.equal(directoriesOf(top).length, 1);
});

test('where no registry can help, the answer says so, the layer serves on, and loading the image mends it', async () => {
  const archive = join(engine.directory, 'image.tar');
  await engine.ok(['save', '-o', archive, image]);
  await engine.ok(['rmi', image]);
  await engine.ok(['load', '-i', archive]);
  chmodSync(join(directoryOf(top), 'diff/app/main'), 0o600);
  const messages = await verify(`${image}/`, { isRepairing: true });
  const wanted = /no repository is known to have it|could not be fetched again/;
  assert.match(messages.at(-1)?.error ?? '', wanted);
  const layer = messages.findLast(({ aux }) => aux !== undefined)?.aux?.Layers[1];
  assert.equal(layer?.State, 'damaged');
  assert.match(layer?.Error ?? '', wanted);
  assert.equal(await engine.ok(['run', '--rm', '--net', 'none', image, 'cat', '/app/main']), 'the program');
  await engine.ok(['load', '-i', archive]);
  assert.deepEqual(states(await layersOf()), ['ok', 'ok']);
  assert.deepEqual(await faultsOf(engine), []);
});

test('a registry that is down is said, and nothing has changed', async () => {
  const before = directoryOf(top);
  chmodSync(join(before, 'diff/app/main'), 0o600);
  await registry.stop();
  try {
    const messages = await verify(`${image}/`, { isRepairing: true });
    assert.match(messages.at(-1)?.error ?? '', /could not be fetched again: .*care: .*refused/);
    assert.deepEqual(directoriesOf(top), [before]);
    assert.deepEqual(readdirSync(join(engine.dataRoot, 'staging')), []);
  } finally {
    await registry.start();
  }
  assert.deepEqual(states(await layersOf({ isRepairing: true })), ['ok', 'repaired']);
});

async function skerry(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const program = join(import.meta.dirname, '../../scripts/skerry');
  const { exitCode, stdout, stderr } = await execa(program, args, {
    env: engine.cliEnvironment(),
    reject: false,
  });
  return { code: exitCode ?? -1, stdout, stderr };
}

test('skerry verify: the exit code says whether damage is left', async () => {
  const whole = await skerry('verify', image);
  assert.equal(whole.code, 0, whole.stderr);
  assert.match(whole.stdout, new RegExp(`^${image} [0-9a-f]{12}: whole\n`));
  chmodSync(join(directoryOf(top), 'diff/app/main'), 0o600);
  const damaged = await skerry('verify', '--all');
  assert.equal(damaged.code, 1);
  assert.match(damaged.stdout, /: damaged\n.* ok .*\n.* damaged .* \/app\/main has mode 600, not 644/);
  await registry.stop();
  try {
    const left = await skerry('verify', '--repair', image);
    assert.equal(left.code, 1);
    assert.match(left.stdout, /not repaired: it could not be fetched again/);
  } finally {
    await registry.start();
  }
  const { code, stdout } = await skerry('verify', '--repair', '--json', image);
  assert.equal(code, 0);
  assert.deepEqual(states(JSON.parse(stdout)[0].Layers), ['ok', 'repaired']);
  assert.deepEqual(await skerry('verify', 'none'), {
    code: 1,
    stdout: '',
    stderr: 'skerry: Error response from daemon: No such image: none:latest',
  });
  assert.match((await skerry('verify')).stderr, /name the images to verify, or give --all/);
  assert.match((await skerry('verify', '--all', image)).stderr, /name the images/);
});

test('a repair from a registry with passwords uses those of docker login', async () => {
  await using guarded = await startRegistry({ isPasswordWanted: true, storage: registry.storage });
  const { username, password } = registryUser;
  await engine.ok(['login', '-u', username, '--password-stdin', guarded.host], { input: password });
  const name = `${guarded.host}/care:1`;
  await engine.ok(['pull', '-q', name]);
  await engine.ok(['rmi', image]); // whose registry asks for none
  chmodSync(join(directoryOf(top), 'diff/app/main'), 0o600);
  const messages = await verify(`${name}/`, { isRepairing: true });
  assert.match(messages.at(-1)?.error ?? '', /no basic auth credentials/);
  const { code, stdout } = await skerry('verify', '--repair', name);
  assert.equal(code, 0, stdout);
  assert.match(stdout, /repaired/);
  await engine.ok(['rmi', name]);
});

test('a client that leaves ends the work, and the daemon answers meanwhile', async () => {
  const big = await makeBigLayer(60_000_000);
  await push(registry.host, 'big', ['1'], makeImage({ layers: [big] }));
  await engine.ok(['pull', '-q', `${registry.host}/big:1`]);
  const sent = request({
    socketPath: engine.socket,
    method: 'POST',
    path: `/images/${registry.host}/big:1/verify`,
  });
  sent.on('error', () => {});
  const begun = new Promise((resolve) => sent.once('response', resolve));
  sent.end();
  await begun;
  assert.ok(await engine.ping());
  sent.destroy();
  await sleep(200);
  assert.deepEqual(await engine.remains(), []);
  await engine.ok(['rmi', `${registry.host}/big:1`]);
});

const rounds = process.env['SKERRY_SOAK'] ? 60 : 10;

test(`killed at ${rounds} instants of a repair, the image stays usable`, async (t) => {
  const big = await Promise.all([1, 2].map((n) => makeBigLayer(3_000_000, { name: `big${n}` })));
  const name = `${registry.host}/victim:1`;
  await push(registry.host, 'victim', ['1'], makeImage({ layers: [box, ...big] }));
  await engine.ok(['pull', '-q', name]);
  const id = await engine.ok(['run', '-d', '--net', 'none', name, 'sleep', '600']);
  let [repaired, ms] = [0, 600];
  for (let round = 0; round < rounds; round++) {
    const when = `round ${round}`;
    for (const layer of big) {
      const file = readdirSync(join(directoryOf(layer), 'diff'))[0] ?? '';
      for (const directory of directoriesOf(layer)) chmodSync(join(directory, 'diff', file), 0o600);
    }
    const answered = engine.get(`/images/${name}/verify?repair=1`, { method: 'POST' }).catch(() => {});
    await sleep(Math.random() * ms * 1.4);
    await engine.kill();
    await answered;
    await engine.boot();
    assert.deepEqual(readdirSync(join(engine.dataRoot, 'staging')), [], when);
    assert.equal(await engine.ok(['exec', id, 'echo', 'alive']), 'alive', when);
    assert.equal(await engine.ok(['run', '--rm', '--net', 'none', name, 'echo', 'new']), 'new', when);
    const began = performance.now();
    const messages = await verify(`${name}/`, { isRepairing: true });
    const found = states(messages.findLast(({ aux }) => aux)?.aux?.Layers ?? []);
    if (found.join() === 'ok,repaired,repaired') ms = performance.now() - began;
    assert.ok(
      found.every((state) => state === 'ok' || state === 'repaired'),
      `${when}: ${found}`,
    );
    repaired += found.filter((state) => state === 'repaired').length;
    const mounted = mountedLayers();
    for (const layer of big) {
      const extra = directoriesOf(layer).filter((path) => !mounted.has(path.split('/').at(-1) ?? ''));
      assert.ok(extra.length <= 1, `${when}: what nothing uses is gone`);
    }
  }
  t.diagnostic(`${rounds} kills within ${Math.round(ms)} ms: ${repaired} layers were left to repair`);
  await engine.ok(['rm', '-f', id]);
  assert.deepEqual(await faultsOf(engine), []);
  await engine.ok(['rmi', name]);
});
