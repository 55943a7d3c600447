import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ContainerConfig, HostConfig } from '../../../src/engine/model.ts';
import { fail } from '../../../src/errors.ts';
import { withResolvers } from '../../../src/lib/promises.ts';
import { nowNanos } from '../../../src/lib/time.ts';
import { World } from '../../support/engine-world.ts';

// the daemon's timers do not keep this process alive
const alive = setInterval(() => {}, 1000);
test.after(() => clearInterval(alive));

/** A world with the container `c1`, created. */
async function withContainer(hostConfig: Partial<HostConfig> = {}, config: Partial<ContainerConfig> = {}) {
  const world = await World.open();
  world.registry.put('app:latest', ['base', 'app']);
  await world.pull('app');
  const id = await world.create('c1', { hostConfig, config });
  const { containers, io } = world.engine;
  const status = () => world.container('c1')?.state.status;
  return { world, containers, io, id, status };
}

async function actions(world: World): Promise<string[]> {
  const seen: string[] = [];
  const { signal } = new AbortController();
  const until = nowNanos();
  for await (const event of world.engine.events.subscribe({ since: 0n, until, filters: new Map(), signal }))
    if (event.type === 'container' || event.type === 'network') seen.push(event.action);
  return seen;
}

async function eventually(isSo: () => boolean): Promise<void> {
  for (let waitedMs = 0; !isSo(); waitedMs += 5) {
    assert.ok(waitedMs < 3000, 'it does not come to be');
    await sleep(5);
  }
}

test('a whole life, told in order', async () => {
  const { world, containers, id, status } = await withContainer();
  await using _ = world;
  assert.equal(await containers.start('c1'), true);
  assert.equal(await containers.start('c1'), false);
  assert.equal(status(), 'running');
  assert.equal(await containers.stop('c1', {}), true);
  assert.equal(await containers.stop('c1', {}), false);
  assert.deepEqual([status(), world.container('c1')?.state.exitCode], ['exited', 143]);
  await containers.remove('c1', { force: false, withVolumes: false });
  assert.deepEqual(await actions(world), [
    'create',
    'connect',
    'start',
    'kill',
    'die',
    'disconnect',
    'stop',
    'destroy',
  ]);
  await assert.rejects(containers.start(id), { status: 404 });
  await world.assertSettled('at the end');
});

test('one that does not listen is killed after its timeout; a paused one is thawed to hear', async () => {
  const { world, containers, status } = await withContainer();
  await using _ = world;
  world.kernel.ignoredSignals.add(15);
  await containers.start('c1');
  await containers.stop('c1', { timeoutSeconds: 0.03 });
  assert.equal(world.container('c1')?.state.exitCode, 137);
  world.kernel.ignoredSignals.clear();
  await containers.start('c1');
  await containers.pause('c1');
  assert.equal(status(), 'paused');
  await containers.stop('c1', { timeoutSeconds: 0.03 });
  assert.equal(status(), 'exited');
  await assert.rejects(containers.stop('c1', { signalName: 'BOGUS' }), { status: 400 });
});

test('what cannot be done in a state is refused in its words', async () => {
  const { world, containers, id } = await withContainer();
  await using _ = world;
  const notRunning = { status: 409, message: `container ${id} is not running` };
  await assert.rejects(containers.kill('c1', ''), notRunning);
  await assert.rejects(containers.pause('c1'), notRunning);
  await assert.rejects(containers.unpause('c1'), { status: 500, message: `Container ${id} is not paused` });
  await containers.start('c1');
  await assert.rejects(containers.remove('c1', { force: false, withVolumes: false }), {
    status: 409,
    message:
      'cannot remove container "/c1": container is running: stop the container before removing or force remove',
    facts: { id, status: 'running' },
  });
  await containers.pause('c1');
  await assert.rejects(containers.pause('c1'), { status: 409, message: `Container ${id} is already paused` });
  await assert.rejects(containers.start('c1'), {
    status: 409,
    message: 'cannot start a paused container, try unpause instead',
  });
  await assert.rejects(containers.remove('c1', { force: false, withVolumes: false }), {
    message: 'cannot remove container "/c1": container is paused and must be unpaused first',
    facts: { id },
  });
  await containers.unpause('c1');
  await containers.remove('c1', { force: true, withVolumes: false });
  assert.deepEqual((await actions(world)).slice(-4), ['kill', 'die', 'disconnect', 'destroy']);
});

test('a signal that is not the last word leaves the policy in force', async () => {
  const { world, containers, status } = await withContainer({
    restartPolicy: { name: 'always', maximumRetryCount: 0 },
  });
  await using _ = world;
  world.kernel.ignoredSignals.add(1);
  await containers.start('c1');
  await containers.kill('c1', 'HUP');
  assert.equal(world.container('c1')?.isStoppedByUser, false);
  await containers.kill('c1', 'KILL');
  assert.deepEqual([status(), world.container('c1')?.isStoppedByUser], ['exited', true]);
});

test('the policy runs it again, counts, and gives up where it should', async () => {
  const { world, status, id, containers } = await withContainer({
    restartPolicy: { name: 'on-failure', maximumRetryCount: 2 },
  });
  await using _ = world;
  await containers.start('c1');
  for (const count of [1, 2]) {
    world.kernel.end(id, 1);
    await eventually(() => status() === 'running' && world.container('c1')?.restartCount === count);
  }
  world.kernel.end(id, 1);
  await eventually(() => status() === 'exited');
});

test('stopping one between two runs keeps it down, and so does a removal by force', async () => {
  const { world, containers, id, io, status } = await withContainer({
    restartPolicy: { name: 'always', maximumRetryCount: 0 },
  });
  await using _ = world;
  await containers.start('c1');
  world.kernel.end(id, 1);
  await eventually(() => status() === 'restarting');
  await assert.rejects(
    containers.remove('c1', { force: false, withVolumes: false }),
    /container is restarting/,
  );
  const { exited } = await io.wait('c1', 'not-running', { signal: new AbortController().signal });
  assert.equal(await containers.stop('c1', {}), true);
  assert.deepEqual(await exited, { exitCode: 1 });
  await sleep(150);
  assert.equal(status(), 'exited');
  await containers.start('c1');
  world.kernel.end(id, 1);
  await eventually(() => status() === 'restarting');
  await containers.remove('c1', { force: true, withVolumes: false });
  await sleep(150);
  await world.assertSettled('after the removal');
});

test('a stop that meets an exit does not wait for another, and the policy does not win', async () => {
  const { world, containers, id, status } = await withContainer({
    restartPolicy: { name: 'always', maximumRetryCount: 0 },
  });
  await using _ = world;
  for (let round = 0; round < 10; round++) {
    await containers.start('c1');
    world.kernel.end(id, 1);
    if (round % 2 === 1) await sleep(round);
    await containers.stop('c1', {});
    await sleep(5);
    assert.equal(status(), 'exited', `round ${round}`);
  }
  await sleep(150);
  assert.equal(status(), 'exited');
});

test('a rename and an exit at the same time both hold', async () => {
  const { world, containers, id } = await withContainer();
  await using _ = world;
  for (let round = 0; round < 10; round++) {
    await containers.start(id);
    const renamed = containers.rename(id, `name${round}`);
    world.kernel.end(id, 1);
    await renamed;
    await eventually(() => world.container(`name${round}`)?.state.status === 'exited');
  }
  await world.assertSettled('at the end');
});

test('a start and a removal at the same time: it is removed, or it runs', async () => {
  const { world, containers, status } = await withContainer();
  await using _ = world;
  const [started, removed] = await Promise.allSettled([
    containers.start('c1'),
    containers.remove('c1', { force: false, withVolumes: false }),
  ]);
  const isRunning = started.status === 'fulfilled' && removed.status === 'rejected';
  assert.equal(status(), isRunning ? 'running' : undefined);
  await world.assertSettled('after both');
});

test('removing twice at once', async () => {
  const { world, containers } = await withContainer();
  await using _ = world;
  await containers.start('c1');
  const o = { force: true, withVolumes: false };
  const [one, two] = await Promise.allSettled([containers.remove('c1', o), containers.remove('c1', o)]);
  assert.equal(one.status, 'fulfilled');
  assert.ok(two.status === 'rejected');
  assert.match(String(two.reason), /removal of container c1 is already in progress/);
});

test('one that removes itself is kept by a restart, and gone after its end', async () => {
  const { world, containers, io, id } = await withContainer({ autoRemove: true });
  await using _ = world;
  await containers.start('c1');
  await containers.restart('c1', {});
  assert.equal(world.container('c1')?.state.status, 'running');
  const { exited } = await io.wait('c1', 'removed', { signal: new AbortController().signal });
  world.kernel.end(id, 5);
  assert.deepEqual(await exited, { exitCode: 5 });
  await world.assertSettled('at the end');
});

test('a removal by force of one that removes itself', async () => {
  const { world, containers } = await withContainer({ autoRemove: true });
  await using _ = world;
  await containers.start('c1');
  await containers.remove('c1', { force: true, withVolumes: false });
  await world.assertSettled('at the end');
});

test('a start that fails leaves nothing, says why, and can be tried again', async () => {
  const { world, containers, io, status } = await withContainer();
  await using _ = world;
  const { runtime, networks } = world.life;
  runtime.failures.set('start', fail.startFailed('no such file', { status: 400, exitCode: 127 }));
  await assert.rejects(containers.start('c1'), { status: 400, message: 'no such file' });
  assert.deepEqual(
    [status(), world.container('c1')?.state.exitCode, world.container('c1')?.state.error],
    ['created', 127, 'no such file'],
  );
  await world.assertSettled('after the first');
  networks.failure = fail.network('port is already allocated');
  await assert.rejects(containers.start('c1'), { status: 500 });
  await world.assertSettled('after the second');
  networks.failure = undefined;
  await containers.start('c1');
  assert.equal(world.container('c1')?.state.error, '');
  const { exited } = await io.wait('c1', 'next-exit', { signal: new AbortController().signal });
  await containers.kill('c1', '');
  assert.equal((await exited).exitCode, 137);
});

test('whoever waits while a start fails is told', async () => {
  const { world, containers, io } = await withContainer();
  await using _ = world;
  const { promise, resolve } = withResolvers<void>();
  const create = world.life.runtime.create.bind(world.life.runtime);
  world.life.runtime.create = async (spec) => {
    await promise;
    return create(spec);
  };
  world.life.runtime.failures.set('start', fail.runtime('no'));
  const started = containers.start('c1');
  await eventually(() => world.container('c1')?.state.status === 'starting');
  const { exited } = await io.wait('c1', 'not-running', { signal: new AbortController().signal });
  resolve();
  await assert.rejects(started);
  assert.deepEqual(await exited, { exitCode: 128 });
});

test('a removal that cannot be done is told to those who wait for it, and can be tried again', async () => {
  const { world, containers, io, id } = await withContainer({ autoRemove: true });
  await using _ = world;
  await containers.start('c1');
  const { exited } = await io.wait('c1', 'removed', { signal: new AbortController().signal });
  let commits = 0;
  world.onCommit = () => {
    if (++commits === 3) throw fail.noSpace('no space left on device');
  };
  world.kernel.end(id, 0);
  assert.deepEqual(await exited, { exitCode: 0, error: 'no space left on device' });
  world.onCommit = undefined;
  await containers.remove('c1', { force: false, withVolumes: false });
  await world.assertSettled('at the end');
});

test('ports are published where they are exposed too, and shown as they came to be', async () => {
  const { world, containers, id } = await withContainer(
    {
      portBindings: {
        '80': [{ hostIp: '127.0.0.1', hostPort: '8080' }],
        '53/udp': [{ hostIp: '', hostPort: '' }],
        '99/tcp': [{ hostIp: '', hostPort: '99' }],
      },
    },
    { exposedPorts: { '80/tcp': {}, '53/udp': {}, '7': {} } },
  );
  await using _ = world;
  await containers.start('c1');
  assert.deepEqual(world.container('c1')?.ports, {
    '80/tcp': [{ hostIp: '127.0.0.1', hostPort: '8080' }],
    '53/udp': [{ hostIp: '0.0.0.0', hostPort: '49153' }],
    '7/tcp': null,
  });
  world.kernel.end(id, 0);
  await eventually(() => world.container('c1')?.state.status === 'exited');
  assert.deepEqual(world.container('c1')?.ports, {});
});

test('an unknown network is missed at the start', async () => {
  const { world, containers, status } = await withContainer({ networkMode: 'nope' });
  await using _ = world;
  await assert.rejects(containers.start('c1'), { status: 404, message: 'network nope not found' });
  assert.equal(status(), 'created');
});
