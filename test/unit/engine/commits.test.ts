import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { CommitRequest } from '../../../src/engine/commits.ts';
import type { ContainerConfig } from '../../../src/engine/model.ts';
import { nowNanos } from '../../../src/lib/time.ts';
import { plainConfig } from '../../support/container-requests.ts';
import { World } from '../../support/engine-world.ts';

const plain: CommitRequest = { repo: '', tag: '', author: '', comment: '', isPausing: true, changes: [] };

/** A world with the container `c1` of the image `app`, which has changed something unless told otherwise. */
async function withContainer(o: { config?: Partial<ContainerConfig>; isUnchanged?: boolean } = {}) {
  const world = await World.open();
  const base = world.registry.put('app:latest', ['base', 'app'], {
    config: { Cmd: ['serve'], Env: ['PATH=/bin'], Labels: { of: 'image' }, User: '1000' },
    configFile: {
      history: [
        { created: '2026-01-01T00:00:00Z', created_by: 'base' },
        { created_by: 'app', author: 'me' },
      ],
    },
  });
  await world.pull('app');
  const id = await world.create('c1', { config: o.config ?? {} });
  if (!o.isUnchanged) world.kernel.changes.set(id, Buffer.from('changes'));
  const { commits, images, containers } = world.engine;
  const commit = async (request: Partial<CommitRequest> = {}, signal = AbortSignal.timeout(10_000)) => {
    const made = await commits.commit('c1', { ...plain, ...request }, { signal });
    const { record } = await images.inspect(made);
    return { record, file: JSON.parse(record.config) };
  };
  return { world, id, base, commit, containers, images };
}

async function told(world: World, type: string): Promise<[string, Record<string, string>][]> {
  const events: [string, Record<string, string>][] = [];
  const { signal } = new AbortController();
  for await (const event of world.engine.events.subscribe({
    since: 0n,
    until: nowNanos(),
    filters: new Map([['type', [type]]]),
    signal,
  }))
    events.push([event.action, event.actor.attributes]);
  return events;
}

describe('a commit', () => {
  test('is an image on top of the container’s, as dockerd writes it', async () => {
    const { world, id, base, commit } = await withContainer({ config: { cmd: ['sh', '-c', 'x'] } });
    await using _ = world;
    const { record, file } = await commit({ repo: 'made', author: 'me', comment: 'why' });
    assert.equal(record.parent, base.configDigest);
    assert.deepEqual(record.diffIds.slice(0, 2), (await world.engine.images.inspect('app')).record.diffIds);
    assert.equal(record.diffIds.length, 3);
    assert.deepEqual(Object.keys(file), Object.keys(file).sort());
    const { created, history, config, container_config, ...rest } = file;
    assert.deepEqual(rest, {
      architecture: record.platform.architecture,
      author: 'me',
      container: id,
      docker_version: '26.1.5',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: record.diffIds },
    });
    assert.deepEqual(history, [
      { created: '2026-01-01T00:00:00Z', created_by: 'base' },
      { author: 'me', created_by: 'app' },
      { created, author: 'me', created_by: 'sh -c x', comment: 'why' },
    ]);
    assert.deepEqual(config, container_config);
    assert.deepEqual(
      [config.Cmd, config.Env, config.Labels],
      [['sh', '-c', 'x'], ['PATH=/bin'], { of: 'image' }],
    );
    assert.deepEqual([config.Image, config.User, config.Hostname], ['app', '1000', id.slice(0, 12)]);
    assert.deepEqual((await world.engine.images.inspect('made')).record.id, record.id);
    assert.deepEqual((await told(world, 'container')).at(-1), [
      'commit',
      { of: 'image', image: 'app', name: 'c1', comment: 'why', imageID: record.id, imageRef: 'made:latest' },
    ]);
    assert.deepEqual((await told(world, 'image')).at(-1), ['tag', { of: 'image', name: 'made:latest' }]);
    await world.assertSettled('after a commit');
  });

  test('takes changes, and a configuration above the container’s own', async () => {
    const { world, commit } = await withContainer();
    await using _ = world;
    const { file } = await commit({
      config: { ...plainConfig, image: '', env: ['A=b'], labels: { of: 'body' }, cmd: ['other'] },
      changes: ['ENTRYPOINT ["/bin/it"]', 'ENV C=$A'],
    });
    assert.deepEqual(file.config.Entrypoint, ['/bin/it']);
    assert.equal(file.config.Cmd, null);
    assert.deepEqual(file.config.Env, ['A=b', 'C=b', 'PATH=/bin']);
    assert.deepEqual(file.config.Labels, { of: 'body' });
    assert.deepEqual(file.container_config.Cmd, ['serve']);
  });

  test('of a container without changes has no layer of its own', async () => {
    const { world, commit } = await withContainer({ isUnchanged: true });
    await using _ = world;
    const { record, file } = await commit();
    assert.equal(record.diffIds.length, 2);
    assert.equal(file.history.at(-1).empty_layer, true);
    await world.assertSettled('after an empty commit');
  });

  test('is refused before anything is done', async () => {
    const { world, commit } = await withContainer();
    await using _ = world;
    const before = await world.engine.images.list({ filters: new Map(), withSharedSize: false });
    await assert.rejects(commit({ repo: 'UPPER' }), { status: 400, code: 'INVALID_REFERENCE' });
    await assert.rejects(commit({ repo: 'a', tag: '%' }), { status: 400, message: 'invalid tag format' });
    await assert.rejects(commit({ repo: `a@sha256:${'0'.repeat(64)}` }), {
      status: 400,
      message: 'cannot import digest reference',
    });
    await assert.rejects(commit({ changes: ['RUN x'] }), {
      status: 400,
      message: 'run is not a valid change command',
    });
    const { commits } = world.engine;
    await assert.rejects(commits.commit('no', plain, { signal: AbortSignal.timeout(1000) }), {
      status: 404,
      message: 'No such container: no',
    });
    assert.equal(
      (await world.engine.images.list({ filters: new Map(), withSharedSize: false })).length,
      before.length,
    );
    await world.assertSettled('after refusals');
  });
});

describe('a container that runs', () => {
  test('stands still while it is read, and runs on', async () => {
    const { world, id, commit, containers } = await withContainer();
    await using _ = world;
    await containers.start('c1');
    let statusInside: string | undefined;
    world.beforePacking = () => {
      statusInside = world.kernel.processes.get(id)?.status;
    };
    await commit();
    assert.equal(statusInside, 'paused');
    assert.equal(world.kernel.processes.get(id)?.status, 'running');
    assert.deepEqual((await told(world, 'container')).map(([action]) => action).slice(-3), [
      'pause',
      'unpause',
      'commit',
    ]);
    await commit({ isPausing: false });
    assert.equal(statusInside, 'running');
  });

  test('runs on if its reader leaves, and if it could not be paused', async () => {
    const { world, id, commit, containers } = await withContainer();
    await using _ = world;
    await containers.start('c1');
    const abort = new AbortController();
    world.beforePacking = () => abort.abort(new Error('the client left'));
    await assert.rejects(commit({}, abort.signal), /the client left/);
    assert.equal(world.container('c1')?.state.status, 'running');
    assert.equal(world.kernel.processes.get(id)?.status, 'running');
    world.beforePacking = undefined;
    world.life.runtime.failures.set('pause', new Error('no freezer'));
    await commit();
    assert.equal(world.container('c1')?.state.status, 'running');
    await world.assertSettled('after two commits');
  });

  test('stays paused where a user paused it, before or meanwhile', async () => {
    const { world, commit, containers } = await withContainer();
    await using _ = world;
    await containers.start('c1');
    await containers.pause('c1');
    await commit();
    assert.equal(world.container('c1')?.state.status, 'paused');
    await containers.unpause('c1');
    world.beforePacking = async () => {
      await containers.unpause('c1');
      await containers.pause('c1');
    };
    await commit();
    assert.equal(world.container('c1')?.state.status, 'paused');
  });

  test('can be killed meanwhile, and no trace of the pause is left', async () => {
    const { world, commit, containers } = await withContainer();
    await using _ = world;
    await containers.start('c1');
    world.beforePacking = () => containers.kill('c1', 'KILL');
    await commit();
    const { status, isHeld } = world.container('c1')?.state ?? {};
    assert.deepEqual([status, isHeld], ['exited', undefined]);
  });

  test('that is removed meanwhile is not half committed', async () => {
    const { world, commit, containers, images } = await withContainer();
    await using _ = world;
    await containers.start('c1');
    world.beforePacking = () => {
      void containers.remove('c1', { force: true, withVolumes: false });
      return new Promise((resolve) => setTimeout(resolve, 100));
    };
    await assert.rejects(commit(), { status: 409, code: 'BEING_REMOVED' });
    assert.equal((await images.list({ filters: new Map(), withSharedSize: false })).length, 1);
    await world.assertSettled('after a removal');
  });
});
