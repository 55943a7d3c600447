import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HostConfig } from '../../../src/engine/model.ts';
import { silentLog } from '../../../src/lib/log.ts';
import { nowText, ZERO_TIME } from '../../../src/lib/time.ts';
import type { RefRecord } from '../../../src/store/records.ts';
import { Sidecars } from '../../../src/store/sidecars.ts';
import { type End, World } from '../../support/engine-world.ts';
import { imageRecord } from '../../support/image-records.ts';

async function withRunning(hostConfig: Partial<HostConfig> = {}) {
  const world = await World.open();
  world.registry.put('app:latest', ['base', 'app']);
  await world.pull('app');
  const id = await world.create('c1', { hostConfig, config: { exposedPorts: { '80/tcp': {} } } });
  await world.engine.containers.start('c1');
  const restart = async (end: End = 'crash') => {
    await world.die(end);
    await world.boot();
  };
  return { world, id, restart };
}

test('containers run on while the daemon is away, and their ends are still acted upon', async () => {
  const { world, id, restart } = await withRunning();
  await using _ = world;
  const before = world.container('c1');
  await restart();
  assert.deepEqual(world.container('c1'), before);
  await world.assertSettled('after the restart');
  world.kernel.end(id, 4);
  while (world.container('c1')?.state.status === 'running') await sleep(5);
  assert.deepEqual(
    [world.container('c1')?.state.status, world.container('c1')?.state.exitCode],
    ['exited', 4],
  );
});

test('what ended meanwhile has its code; after a power cut it counts as killed', async () => {
  const { world, id, restart } = await withRunning();
  await using _ = world;
  await world.die('crash');
  world.kernel.end(id, 4);
  await world.boot();
  assert.equal(world.container('c1')?.state.exitCode, 4);
  await world.engine.containers.start('c1');
  await restart('power cut');
  assert.deepEqual(
    [world.container('c1')?.state.status, world.container('c1')?.state.exitCode],
    ['exited', 137],
  );
  await world.assertSettled('after the power cut');
});

test('the policies bring up what is to be up, and a user who stopped it is heard', async () => {
  const { world, restart } = await withRunning({
    restartPolicy: { name: 'unless-stopped', maximumRetryCount: 0 },
  });
  await using _ = world;
  await restart('power cut');
  await world.engine.applyPolicies();
  assert.equal(world.container('c1')?.state.status, 'running');
  await world.engine.containers.stop('c1', { timeoutSeconds: 1 });
  await restart('power cut');
  await world.engine.applyPolicies();
  assert.equal(world.container('c1')?.state.status, 'exited');
});

test('what belongs to no record goes: processes, directories, copies of images', async () => {
  const { world, restart } = await withRunning();
  await using _ = world;
  const [stranger] = [...world.kernel.processes.values()];
  assert.ok(stranger);
  const other = 'f'.repeat(64);
  world.kernel.processes.set(other, stranger);
  const files = join(world.dataRoot, 'containers', other);
  await mkdir(files);
  await writeFile(join(files, 'log'), 'x');
  world.kernel.mounts.add(files);
  const sidecars = new Sidecars({ dataRoot: world.dataRoot, log: silentLog });
  await sidecars.writeImage(imageRecord(), ['docker.io/library/never:1']);
  await restart();
  await world.assertSettled('after the restart');
});

test('a copy that claims more names than its image has loses them, one that lost some gets them back', async () => {
  const { world, restart } = await withRunning();
  await using _ = world;
  const { record } = await world.engine.images.inspect('app');
  const sidecars = new Sidecars({ dataRoot: world.dataRoot, log: silentLog });
  for (const names of [['docker.io/library/never:1'], []]) {
    await sidecars.writeImage(record, names);
    await restart();
    for await (const copy of sidecars.images())
      assert.deepEqual(
        copy.names.map((name) => name.replace(/@.*/, '@')),
        ['docker.io/library/app:latest', 'docker.io/library/app@'],
      );
  }
});

test('a lost database is rebuilt from the disk while everything runs on', async () => {
  const { world, id } = await withRunning();
  await using _ = world;
  await world.engine.containers.rename('c1', 'renamed');
  await world.die('crash');
  await world.loseDatabase();
  await world.boot();
  const rebuilt = world.container('renamed');
  assert.deepEqual([rebuilt?.id, rebuilt?.state.status], [id, 'running']);
  assert.notEqual(rebuilt?.state.startedAt, ZERO_TIME);
  assert.deepEqual(rebuilt?.ports, { '80/tcp': null });
  assert.deepEqual((await world.engine.images.inspect('app')).repoTags, ['app:latest']);
  await world.assertSettled('after the rebuild');
});

test('after a rebuild a name stands for what it stood for last', async () => {
  await using world = await World.open();
  const tagged: string[] = [];
  for (let n = 0; n < 6; n++) {
    tagged.push(world.registry.put('app:latest', ['base', `app${n}`]).configDigest);
    await world.pull('app');
  }
  await world.die('power cut');
  await world.loseDatabase();
  await world.boot();
  assert.equal((await world.engine.images.inspect('app')).record.id, tagged.at(-1));
  const refs = await world.records<RefRecord>('refs');
  assert.equal(refs.length, 7); // the tag, and each image's digest
});

test('a rebuild that dies half-way is begun again', async () => {
  const { world } = await withRunning();
  await using _ = world;
  await world.die('power cut');
  await world.loseDatabase();
  let isUp = false;
  for (let effects = 0; !isUp; effects++) {
    isUp = await world.boot({ effects, isLastDone: effects % 2 === 0 });
    if (!isUp) await world.die('power cut');
    if (effects > 40) assert.fail('it never comes up');
  }
  assert.deepEqual((await world.engine.images.inspect('app')).repoTags, ['app:latest']);
  assert.ok(world.container('c1'));
  await world.assertSettled('in the end');
});

test('what removes itself is gone after a crash, whether it ran or not', async () => {
  const { world } = await withRunning();
  await using _ = world;
  await world.create('waiting', { hostConfig: { autoRemove: true } });
  await world.create('kept');
  await world.die('crash');
  await world.boot();
  assert.equal(world.container('waiting'), undefined);
  assert.equal(world.container('kept')?.state.status, 'created');
  await world.assertSettled('without the one that nobody starts any more');
});

test('one container that cannot be settled keeps neither the daemon nor the others down', async () => {
  const { world, id } = await withRunning({ autoRemove: true });
  await using _ = world;
  await world.create('c2');
  await world.engine.containers.start('c2');
  await world.die('crash');
  world.kernel.end(id, 0);
  const errors: string[] = [];
  world.log = { ...silentLog, error: (_facts, message) => void errors.push(message) };
  world.onCommit = (changes) => {
    if (changes.some(({ key }) => key.endsWith(id))) throw new Error('this one cannot be written');
  };
  await world.boot();
  assert.equal(world.container('c2')?.state.status, 'running');
  assert.deepEqual(errors, ['could not settle what the last daemon left of a container']);
  world.onCommit = undefined;
  await world.die('crash');
  await world.boot();
  await world.assertSettled('once it can be');
});

test('a start that died before the process ran is undone, not taken for an exit', async () => {
  const { world, id, restart } = await withRunning();
  await using _ = world;
  await world.engine.containers.stop('c1', { timeoutSeconds: 1 });
  const before = world.container('c1')?.state;
  const died = await world.live(() => world.engine.containers.start('c1'), { effects: 2, isLastDone: true });
  assert.equal(died, false);
  world.kernel.exits.set(id, { id, exitCode: 137, wasOomKilled: false, at: nowText(), isKnown: false });
  world.kernel.processes.delete(id);
  await restart();
  assert.equal(world.container('c1')?.state.exitCode, before?.exitCode);
  assert.equal(world.container('c1')?.state.finishedAt, before?.finishedAt);
  await world.assertSettled('after the restart');
});

test('what was being removed is removed, even if its process is still there', async () => {
  const { world, id, restart } = await withRunning();
  await using _ = world;
  const process = world.kernel.processes.get(id);
  assert.ok(process);
  await world.engine.containers.stop('c1', { timeoutSeconds: 1 });
  const remove = () => world.engine.containers.remove('c1', { force: false, withVolumes: false });
  assert.equal(await world.live(remove, { effects: 0, isLastDone: true }), false);
  world.kernel.processes.set(id, process);
  await restart();
  assert.equal(world.container('c1'), undefined);
  await world.assertSettled('after the restart');
});

test('layers of a pull that died go when nobody came back for them in time', async () => {
  await using world = await World.open();
  world.pullLeaseMs = 30;
  await world.die('crash');
  await world.boot();
  world.registry.put('app:latest', ['base']);
  // after the layer is recorded, before the image is
  const died = await world.live(() => world.pull('app'), { effects: 3, isLastDone: true });
  assert.deepEqual([died, world.kernel.layers.size], [false, 1]);
  await sleep(40);
  await world.die('crash');
  await world.boot();
  assert.deepEqual([await world.records('leases'), await world.records('layers')], [[], []]);
  await world.assertSettled('after the lease');
});
