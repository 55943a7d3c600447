import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { emptyEndpoint } from '../../../src/engine/container-creation.ts';
import { parseReference } from '../../../src/lib/reference.ts';
import type { ImageRecord, LayerRecord } from '../../../src/store/records.ts';
import { type End, World } from '../../support/engine-world.ts';
import { imageRecord } from '../../support/image-records.ts';

interface Scenario {
  name: string;
  /** What was there before, in peace. */
  before(world: World): Promise<void>;
  /** What the daemon is about when it dies. */
  act(world: World): Promise<unknown>;
  /** What must hold whenever it died, after the next daemon has come up. */
  after?(world: World, isDone: boolean): Promise<void> | void;
  /** The same thing wanted once more must work, wherever the first attempt died. */
  again?(world: World): Promise<unknown>;
}

const app = async (world: World) => {
  world.registry.put('app:latest', ['base', 'app']);
  await world.pull('app');
};
/** `app` was replaced by a newer image, and can be rolled back. */
const updated = async (world: World) => {
  for (const version of ['old', 'new']) {
    world.registry.put('app:latest', ['base', version], { config: { Labels: { version } } });
    await world.pull('app');
  }
};
const created = async (world: World) => {
  await app(world);
  await world.create('c1', { config: { exposedPorts: { '80/tcp': {} }, volumes: { '/data': {} } } });
};
const running = async (world: World) => {
  await created(world);
  await world.engine.containers.start('c1');
};
const runningOnce = async (world: World) => {
  await app(world);
  await world.create('c1', { config: { volumes: { '/data': {} } }, hostConfig: { autoRemove: true } });
  await world.engine.containers.start('c1');
};
/** As a client asks for it that says nothing but the name. */
const network = (name: string) => ({
  ...{ name, driver: '', scope: '', configFrom: '', options: {}, labels: {} },
  ...{ isIpv6: false, isInternal: false, isAttachable: false, isIngress: false, isConfigOnly: false },
});
const front = (world: World) => world.engine.networks.create(network('front'));
const join = (world: World) =>
  world.engine.connections.connect('front', { container: 'c1', endpoint: emptyEndpoint() });
const leave = (world: World) =>
  world.engine.connections.disconnect('front', { container: 'c1', force: false });
const connected = async (world: World) => {
  await running(world);
  await front(world);
  await join(world);
};
const damaged = async (world: World) => {
  await app(world);
  const [layer] = await world.records<LayerRecord>('layers');
  world.kernel.damaged.add(layer?.dirId ?? '');
};
const repair = async (world: World) => {
  const o = { progress() {}, signal: AbortSignal.timeout(20_000) };
  await world.engine.verifications.verify({ name: 'app', isRepairing: true }, o);
};
/** A container's process ends; done when the engine has dealt with it. */
const exit = async (world: World) => {
  const { id } = world.container('c1') ?? {};
  assert.ok(id);
  const { hostConfig } = world.container('c1') ?? {};
  const condition = hostConfig?.autoRemove ? 'removed' : 'not-running';
  const { exited } = await world.engine.io.wait(id, condition, { signal: AbortSignal.timeout(10_000) });
  world.kernel.end(id, 3);
  assert.equal((await exited).exitCode, 3);
};

const commit = (world: World) =>
  world.engine.commits.commit(
    'c1',
    { repo: 'made', tag: '', author: '', comment: '', isPausing: true, changes: [] },
    { signal: AbortSignal.timeout(10_000) },
  );
const importTree = (world: World) =>
  world.engine.imports.importTree(
    {
      source: '-',
      body: Readable.from([Buffer.from('a tree')]),
      repo: 'made',
      tag: '',
      message: '',
      changes: [],
    },
    { signal: AbortSignal.timeout(10_000), progress: () => {} },
  );

const scenarios: Scenario[] = [
  {
    name: 'create',
    before: app,
    act: (world) => world.create('c1', { config: { volumes: { '/data': {} } } }),
    after(world, isDone) {
      if (isDone) assert.ok(world.container('c1'));
    },
    again: async (world) => world.container('c1') ?? world.create('c1'),
  },
  {
    name: 'start',
    before: created,
    act: (world) => world.engine.containers.start('c1'),
    after(world) {
      const { state, ports } = world.container('c1') ?? {};
      assert.deepEqual(Object.keys(ports ?? {}), state?.status === 'running' ? ['80/tcp'] : []);
    },
    again: (world) => world.engine.containers.start('c1'),
  },
  {
    name: 'stop',
    before: running,
    act: (world) => world.engine.containers.stop('c1', { timeoutSeconds: 5 }),
    again: (world) => world.engine.containers.stop('c1', { timeoutSeconds: 5 }),
  },
  {
    name: 'exit',
    before: running,
    act: exit,
    again: (world) => world.engine.containers.start('c1'),
  },
  { name: 'exit of one that removes itself', before: runningOnce, act: exit },
  {
    name: 'remove',
    before: created,
    act: (world) => world.engine.containers.remove('c1', { force: false, withVolumes: false }),
    after(world, isDone) {
      if (isDone) assert.equal(world.container('c1'), undefined);
    },
    async again(world) {
      if (world.container('c1') !== undefined)
        await world.engine.containers.remove('c1', { force: false, withVolumes: true });
      await world.create('c1'); // its name is free
    },
  },
  {
    name: 'remove by force',
    before: running,
    act: (world) => world.engine.containers.remove('c1', { force: true, withVolumes: true }),
    after(world, isDone) {
      if (isDone) assert.equal(world.container('c1'), undefined);
    },
  },
  {
    name: 'rename',
    before: created,
    act: (world) => world.engine.containers.rename('c1', 'c2'),
    after(world) {
      const names = ['c1', 'c2'].filter((name) => world.container(name) !== undefined);
      assert.equal(names.length, 1);
    },
  },
  {
    name: 'pull',
    before: async (world) => void world.registry.put('app:latest', ['base', 'app']),
    act: (world) => world.pull('app'),
    again: (world) => world.pull('app'),
  },
  {
    name: 'pull of a newer image',
    before: async (world) => {
      await app(world);
      world.registry.put('app:latest', ['base', 'newer']);
    },
    act: (world) => world.pull('app'),
    async after(world) {
      const { record } = await world.engine.images.inspect('app'); // the old or the new one, whole
      assert.equal(record.diffIds.length, 2);
    },
    again: (world) => world.pull('app'),
  },
  {
    name: 'tag',
    before: app,
    act: (world) => world.engine.images.tag('app', { repo: 'other', tag: '1' }),
    again: (world) => world.engine.images.tag('app', { repo: 'other', tag: '1' }),
  },
  {
    name: 'rollback',
    before: updated,
    act: (world) => world.engine.images.rollBack('app', {}),
    async after(world, isDone) {
      const { record } = await world.engine.images.inspect('app');
      const [app] = await world.engine.images.generations();
      const both = new Set([record.id, ...(app?.generations ?? []).map(({ imageId }) => imageId)]);
      assert.equal(both.size, 2, 'the one is current and the other kept');
      if (isDone) assert.ok(record.config.includes('"old"'));
    },
    again: (world) => world.engine.images.rollBack('app', {}),
  },
  {
    name: 'prune',
    async before(world) {
      await updated(world);
      for (const name of ['a', 'b']) {
        world.registry.put(`${name}:1`, ['base', name]);
        await world.pull(`${name}:1`);
      }
      await world.create('c1', { config: { image: 'app' } });
    },
    act: (world) => world.engine.images.prune({ filters: new Map([['dangling', ['0']]]) }),
    async after(world, isDone) {
      const list = await world.engine.images.list({ filters: new Map(), withSharedSize: false });
      assert.ok(list.length >= 2 && (!isDone || list.length === 2));
      await world.engine.images.rollBack('app', {}); // a generation is never taken
    },
    again: (world) => world.engine.images.prune({ filters: new Map([['dangling', ['0']]]) }),
  },
  {
    name: 'repair of a layer',
    before: damaged,
    act: repair,
    async after(world, isDone) {
      await world.engine.images.inspect('app');
      const layers = await world.records<LayerRecord>('layers');
      const isDamaged = layers.some(({ dirId }) => world.kernel.damaged.has(dirId));
      if (isDone) assert.equal(isDamaged, false);
    },
    async again(world) {
      await repair(world);
      const layers = await world.records<LayerRecord>('layers');
      assert.ok(
        layers.every(({ dirId, damage }) => !world.kernel.damaged.has(dirId) && damage === undefined),
      );
    },
  },
  {
    name: 'commit',
    before: async (world) => {
      await running(world);
      world.kernel.changes.set(world.container('c1')?.id ?? '', Buffer.from('what c1 changed'));
    },
    act: (world) => commit(world),
    async after(world, isDone) {
      const { status } = world.container('c1')?.state ?? {};
      assert.ok(status === 'running' || status === 'exited', `${status}: it does not stand still`);
      const made = await world.engine.images.inspect('made').catch(() => undefined);
      assert.equal(made?.record.diffIds.length ?? 3, 3);
      if (isDone) assert.ok(made);
    },
    again: (world) => commit(world),
  },
  {
    name: 'import',
    before: async () => {},
    act: (world) => importTree(world),
    async after(world, isDone) {
      if (isDone) assert.ok(await world.engine.images.inspect('made'));
    },
    again: (world) => importTree(world),
  },
  {
    name: 'removal of an image with the ones it was made on',
    async before(world) {
      await app(world);
      const { record } = await world.engine.images.inspect('app');
      const child = (parent: ImageRecord, author: string): ImageRecord => ({
        ...imageRecord({ config: { author }, diffIds: record.diffIds }),
        parent: parent.id,
      });
      const step = child(record, 'step');
      const top = { record: child(step, 'top'), refs: [{ ref: parseReference('top:1') }] };
      await world.engine.images.adopt([{ record: step, refs: [] }, top], []);
      await world.engine.images.remove('app', { force: false });
    },
    act: (world) => world.engine.images.remove('top:1', { force: false }),
    async after(world) {
      const left = await world.records('images');
      assert.ok(left.length === 0 || left.length === 3, 'all of them or none');
    },
    again: (world) => world.pull('app'),
  },
  {
    name: 'network create',
    before: async () => {},
    act: front,
    after(world, isDone) {
      if (isDone) assert.equal(world.engine.networks.inspect('front').record.name, 'front');
    },
    async again(world) {
      await world.engine.networks.remove('front').catch(() => {});
      await front(world);
    },
  },
  {
    name: 'network remove',
    before: async (world) => void (await front(world)),
    act: (world) => world.engine.networks.remove('front'),
    after(world, isDone) {
      if (isDone) assert.throws(() => world.engine.networks.inspect('front'), { status: 404 });
    },
    again: (world) => world.engine.networks.prune({ filters: new Map() }),
  },
  {
    name: 'connect to a network',
    before: async (world) => {
      await running(world);
      await front(world);
    },
    act: join,
    after(world, isDone) {
      const { state, endpoints } = world.container('c1') ?? {};
      if (isDone && state?.status === 'running') assert.ok(endpoints?.['front']?.endpointId);
    },
    async again(world) {
      await leave(world).catch(() => {});
      await join(world);
    },
  },
  {
    name: 'disconnect from a network',
    before: connected,
    act: leave,
    after(world, isDone) {
      if (isDone) assert.deepEqual(Object.keys(world.container('c1')?.endpoints ?? {}), ['bridge']);
    },
    again: (world) => leave(world).catch(() => {}),
  },
  {
    name: 'removal of an image',
    before: app,
    act: (world) => world.engine.images.remove('app', { force: false }),
    async after(world, isDone) {
      if (isDone) await assert.rejects(world.engine.images.inspect('app'), { status: 404 });
    },
    again: (world) => world.pull('app'),
  },
];

/** Far more than any of these takes: a scenario that never ends is a mistake. */
const MOST_EFFECTS = 60;

for (const { name, before, act, after, again } of scenarios) {
  for (const end of ['crash', 'power cut'] as const) {
    test(`${name}: a ${end} at any step is settled by the next daemon`, async () => {
      for (let step = 0; step < MOST_EFFECTS; step++) {
        const fate = { effects: step >> 1, isLastDone: (step & 1) === 1 };
        const when = `after ${fate.effects} effects${fate.isLastDone ? ' and one unnoticed' : ''}`;
        await using world = await World.open();
        await before(world);
        const isDone = await world.live(() => act(world), fate);
        await survive(world, end, when);
        await after?.(world, isDone);
        await again?.(world);
        await world.assertSettled(`after all, ${when}`);
        if (isDone) return;
      }
      assert.fail(`${name} does not end`);
    });
  }
}

for (const name of ['start', 'commit', 'remove by force', 'exit of one that removes itself', 'pull']) {
  const { before, act } = scenarios.find((scenario) => scenario.name === name) ?? assert.fail(name);
  test(`${name}: one crash, and another while the next daemon settles it`, async () => {
    let isDone = false;
    for (let effects = 0; !isDone; effects += 2) {
      for (let step = 0, isUp = false; !isUp; step++) {
        const fate = { effects: step >> 1, isLastDone: (step & 1) === 1 };
        await using world = await World.open();
        await before(world);
        isDone = await world.live(() => act(world), { effects, isLastDone: true });
        await world.die('crash');
        isUp = await world.boot(fate);
        if (!isUp) await survive(world, 'crash', `after ${effects} effects, then ${fate.effects} at boot`);
      }
    }
  });
}

/** The daemon dies and the next one comes up. */
async function survive(world: World, end: End, when: string): Promise<void> {
  await world.die(end);
  assert.ok(await world.boot());
  await world.assertSettled(when);
}
