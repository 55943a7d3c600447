import assert from 'node:assert/strict';
import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { execa } from 'execa';
import { boxLayer } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeImage, makeLayer, push, type TestImage } from '../support/registry-images.ts';

/** What the docker CLI does to the images that are here, and what skerry does to their generations. */
let engine: TestEngine;
let registry: TestRegistry;
let name: string;
let versions: TestImage[];

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  name = `${registry.host}/app:latest`;
  const box = await boxLayer();
  versions = await Promise.all(
    [1, 2, 3].map(async (version) =>
      makeImage({
        layers: [box, await makeLayer({ 'etc/version': `${version}`.repeat(version * 1000) })],
        config: { Cmd: ['cat', '/etc/version'], Labels: { version: `${version}` } },
      }),
    ),
  );
  engine = await TestEngine.start();
});

after(async () => {
  await engine.stop();
  const left = await engine.remains();
  await engine[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  assert.deepEqual(left, []);
});

/** Everything gone, then versions 1 and 2 pulled under the same tag. */
beforeEach(async () => {
  await engine.clear();
  await engine.ok(['image', 'prune', '-af']);
  assert.equal(await engine.ok(['images', '-aq']), '');
  for (const at of [0, 1]) await publish(at);
});

async function publish(at: number): Promise<void> {
  const image = versions[at];
  assert.ok(image);
  await push(registry.host, 'app', ['latest'], image);
  await engine.ok(['pull', '-q', name]);
}

async function skerry(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const program = join(import.meta.dirname, '../../scripts/skerry');
  const env = { DOCKER_HOST: `unix://${engine.socket}` };
  const { exitCode, stdout, stderr } = await execa(program, args, { env, reject: false });
  return { code: exitCode ?? -1, stdout, stderr };
}

const idOf = (at: number) => versions[at]?.configDigest ?? '';
const shortId = (at: number) => idOf(at).slice(7, 19);
const current = () => engine.ok(['images', '-q', '--no-trunc', name]);

/** Bytes of files and symbolic links under a directory of the data root, each inode once; what `du` would say of contents alone. */
function bytesIn(directory: string, seen = new Set<number>()): number {
  let bytes = 0;
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) bytes += bytesIn(path, seen);
    else if (entry.isFile() || entry.isSymbolicLink()) {
      const { ino, size } = lstatSync(path);
      if (!seen.has(ino)) bytes += size;
      seen.add(ino);
    }
  }
  return bytes;
}

test('skerry rolls a tag back and forward again, under a container that runs', async () => {
  await engine.ok(['run', '-d', '--name', 'long', name, 'sleep', '600']);
  const { stdout: listed } = await skerry('images', '--generations');
  assert.match(
    listed,
    new RegExp(`^${name} +${shortId(1)} +current since .*\n${name} +${shortId(0)} +replaced `, 'm'),
  );
  const back = await skerry('rollback', name);
  assert.deepEqual([back.code, back.stdout], [0, `${name}: ${shortId(0)} instead of ${shortId(1)}`]);
  assert.equal(await current(), idOf(0));
  assert.match(await engine.ok(['run', '--rm', name]), /^1{1000}$/);
  assert.equal(
    await engine.ok(['inspect', '-f', '{{.State.Status}} {{.Image}}', 'long']),
    `running ${idOf(1)}`,
  );
  const forth = JSON.parse((await skerry('rollback', '--json', name)).stdout);
  assert.deepEqual([forth.Name, forth.From, forth.To], [name, idOf(0), idOf(1)]);
  assert.match(await engine.ok(['run', '--rm', name]), /^2{2000}$/);
  assert.deepEqual(await skerry('rollback', 'nope'), {
    code: 1,
    stdout: '',
    stderr: 'skerry: Error response from daemon: No such image: nope:latest',
  });
});

test('what was rolled back to is there after a kill, and the way forward too', async () => {
  await skerry('rollback', name);
  await engine.kill();
  await engine.boot();
  assert.equal(await current(), idOf(0));
  assert.equal((await skerry('rollback', name)).code, 0);
  assert.equal(await current(), idOf(1));
});

test('a prune spares the generation, and takes what fell out of memory to the byte', async () => {
  assert.match(await engine.ok(['image', 'prune', '-f']), /^Total reclaimed space: 0B$/);
  await publish(2);
  const before = (await engine.json('/system/df')).LayersSize;
  const { ImagesDeleted, SpaceReclaimed } = await engine.json('/images/prune', { method: 'POST' });
  assert.equal(SpaceReclaimed, 1000);
  assert.deepEqual(ImagesDeleted.flatMap(({ Deleted }: { Deleted?: string }) => Deleted ?? [])[0], idOf(0));
  assert.equal(before - (await engine.json('/system/df')).LayersSize, 1000);
  assert.equal((await skerry('rollback', name)).code, 0);
  assert.equal(await current(), idOf(1));
});

test('an explicit removal takes a generation, and the layers with it', async () => {
  const said = await engine.ok(['rmi', '-f', shortId(0)]);
  assert.match(said, new RegExp(`^Deleted: ${idOf(0)}$`, 'm'));
  const { stderr } = await skerry('rollback', name);
  assert.equal(
    stderr,
    `skerry: Error response from daemon: cannot roll ${name} back: no earlier image of it is kept`,
  );
  assert.equal(readdirSync(join(engine.dataRoot, 'layers')).length, 2);
});

test('system df agrees with the disk to the byte, and system prune empties it', async () => {
  await engine.ok([
    'run',
    '--name',
    'wrote',
    '-v',
    'kept:/data',
    '-v',
    '/anon',
    name,
    'sh',
    '-c',
    'echo 12345 >/x; echo 1 >/data/y',
  ]);
  const usage = await engine.json('/system/df');
  const layers = join(engine.dataRoot, 'layers');
  const inDirectories = readdirSync(layers).reduce((sum, dir) => sum + bytesIn(join(layers, dir, 'diff')), 0);
  assert.equal(usage.LayersSize, inDirectories);
  assert.deepEqual(
    usage.Images.map(({ Containers, Size, SharedSize }: Record<string, number>) => [
      Containers,
      (Size ?? 0) - (SharedSize ?? 0),
    ]).sort(),
    [
      [0, 1000],
      [1, 2000],
    ],
  );
  assert.deepEqual(
    usage.Containers.map(({ SizeRw }: { SizeRw: number }) => SizeRw),
    [6],
  );
  const volumes = usage.Volumes.map(({ Name, UsageData }: { Name: string; UsageData: object }) => [
    Name.length,
    UsageData,
  ]);
  assert.deepEqual(volumes.sort(), [
    [4, { RefCount: 1, Size: 2 }],
    [64, { RefCount: 1, Size: 0 }],
  ]);
  assert.match(await engine.ok(['system', 'df']), /^Images +2 +1 /m);
  assert.match(await engine.ok(['system', 'df', '-v']), /wrote/);
  const pruned = await engine.ok(['system', 'prune', '-af', '--volumes']);
  assert.match(pruned, /^Deleted Containers:\n[0-9a-f]{64}\n/m);
  assert.match(pruned, /^Deleted Volumes:\n/m);
  assert.match(pruned, new RegExp(`^deleted: ${idOf(0)}$`, 'm'));
  assert.match(pruned, new RegExp(`^deleted: ${idOf(1)}$`, 'm'));
  const left = await engine.json('/system/df');
  assert.deepEqual([left.LayersSize, left.Images, left.Containers], [0, [], []]);
  assert.deepEqual(readdirSync(layers), []);
});

test('inspect shows where an image lies, and events tell of it', async () => {
  const [image] = JSON.parse(await engine.ok(['image', 'inspect', name]));
  const { LowerDir, UpperDir, WorkDir, MergedDir } = image.GraphDriver.Data;
  assert.equal(readdirSync(join(UpperDir, 'etc')).join(), 'version');
  assert.ok(readdirSync(LowerDir).includes('bin'));
  assert.deepEqual(
    [WorkDir, MergedDir],
    [UpperDir.replace(/diff$/, 'work'), UpperDir.replace(/diff$/, 'merged')],
  );
  await skerry('rollback', name);
  const told = await engine.ok([
    'events',
    '--since',
    '1h',
    '--until',
    String(Math.ceil(Date.now() / 1000)),
    '--filter',
    'event=rollback',
    '--format',
    '{{.ID}} {{.Actor.Attributes.from}}',
  ]);
  assert.equal(told.split('\n').at(-1), `${idOf(0)} ${idOf(1)}`);
});

test('the CLI lists by patterns', async () => {
  const list = async (...filters: string[]) =>
    (
      await engine.ok(['images', '-q', '--no-trunc', ...filters.flatMap((filter) => ['--filter', filter])])
    ).split('\n');
  assert.deepEqual(await list('reference=*/a[o-q]p:l*'), [idOf(1)]);
  assert.deepEqual(await list('reference=*/a[^o-q]p'), ['']);
  assert.deepEqual(await list('dangling=true'), [idOf(0)]);
  assert.deepEqual(await list('label=version=2'), [idOf(1)]);
  const { stderr } = await engine.docker(['images', '--filter', 'reference=[']);
  assert.match(stderr, /syntax error in pattern/);
});

test('images made on others: conflicts, history, and parents that go with the last child', async () => {
  await engine.ok(['run', '--name', 'base', name, 'sh', '-c', 'echo x >/x']);
  const middle = await engine.ok(['commit', 'base']);
  await engine.ok(['rm', 'base']);
  await engine.ok(['run', '--name', 'next', middle, 'sh', '-c', 'echo y >/y']);
  const top = await engine.ok(['commit', 'next', 'top:1']);
  await engine.ok(['rm', 'next']);
  const [listed, all] = [
    await engine.ok(['images', '-q', '--no-trunc']),
    await engine.ok(['images', '-aq', '--no-trunc']),
  ];
  assert.deepEqual([listed.includes(middle), all.includes(middle)], [false, true]);
  const history = await engine.ok(['history', '-q', '--no-trunc', 'top:1']);
  assert.deepEqual(history.split('\n').slice(0, 2), [top, middle]);
  const { stderr } = await engine.docker(['rmi', '-f', idOf(1)]);
  const words = `conflict: unable to delete ${shortId(1)} (cannot be forced) - image has dependent child images`;
  assert.equal(stderr.trim(), `Error response from daemon: ${words}`);
  assert.equal(await engine.ok(['image', 'inspect', '-f', '{{.Parent}}', top]), middle);
  const said = await engine.ok(['rmi', 'top:1']);
  const ids = said.split('\n').filter((line) => line === `Deleted: ${top}` || line === `Deleted: ${middle}`);
  assert.deepEqual(ids, [`Deleted: ${top}`, `Deleted: ${middle}`]);
  assert.equal(await current(), idOf(1));
});
