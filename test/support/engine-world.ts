import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as tick } from 'node:timers/promises';
import { Engine } from '../../src/engine/engine.ts';
import type { ContainerRecord } from '../../src/engine/model.ts';
import { isPredefined, type NetworkRecord } from '../../src/engine/network-records.ts';
import type { ProgressMessage } from '../../src/engine/progress.ts';
import { type Log, silentLog } from '../../src/lib/log.ts';
import { withResolvers } from '../../src/lib/promises.ts';
import type { ImageRecord, LayerRecord, LeaseRecord, RefRecord } from '../../src/store/records.ts';
import { Store } from '../../src/store/store.ts';
import type { Change } from '../../src/store/tables.ts';
import { createRequest, everyLimit, plainDefaults } from './container-requests.ts';
import { type Effect, FakeKernel, FakeLayers, FakeNetworks, FakeRuntime } from './fake-kernel.ts';
import { FakeRegistry } from './fake-registry.ts';

/** How a daemon's life ends: killed, with all that lives beside it going on; or with everything but the disk. */
export type End = 'crash' | 'power cut';

/** After how many effects the daemon dies, and whether the one on which it dies still happens. */
export interface Fate {
  effects: number;
  isLastDone: boolean;
}

interface Life {
  store: Store;
  engine: Engine;
  runtime: FakeRuntime;
  layers: FakeLayers;
  networks: FakeNetworks;
}

/**
 * The whole engine on a real store and a fake kernel that outlives it. Every commit, runtime call, mount, network
 * change and layer directory is an effect; the daemon can be made to die on any of them, and be started again.
 */
export class World implements AsyncDisposable {
  readonly kernel = new FakeKernel();
  readonly registry = new FakeRegistry();
  readonly directory: string;
  readonly dataRoot: string;
  readonly execRoot: string;
  pullLeaseMs = 3_600_000;
  keepGenerations = 1;
  log: Log = silentLog;
  /** Happens before the files of a container are read. */
  beforePacking: (() => void | Promise<void>) | undefined;
  /** Sees every commit before it is made, and may throw. */
  onCommit: ((changes: readonly Change[]) => void) | undefined;
  #life: Life | undefined;
  #store: Store | undefined;
  #fate: Fate | undefined;
  #count = 0;
  #isDead = false;
  #died = withResolvers<void>();

  private constructor(directory: string) {
    this.directory = directory;
    this.dataRoot = join(directory, 'data');
    this.execRoot = join(directory, 'run');
  }

  static async create(): Promise<World> {
    return new World(await mkdtemp(join(tmpdir(), 'skerry-world-')));
  }

  /** A world with a running daemon. */
  static async open(): Promise<World> {
    const world = await World.create();
    await world.boot();
    return world;
  }

  get life(): Life {
    assert.ok(this.#life, 'the daemon is not up');
    return this.#life;
  }

  get engine(): Engine {
    return this.life.engine;
  }

  /** Starts a daemon on what is there. False if it died before it was up. */
  async boot(fate?: Fate): Promise<boolean> {
    this.#isDead = false;
    this.#died = withResolvers<void>();
    return this.#until(fate, async () => {
      const store = await Store.open({
        dir: join(this.dataRoot, 'db'),
        cacheBytes: 64 << 10,
        writeBufferBytes: 64 << 10,
        blockBytes: 4 << 10,
        fileBytes: 64 << 10,
        log: this.log,
      });
      this.#store = store;
      const commit = store.commit.bind(store);
      store.commit = (changes) =>
        this.#effect('store.commit', async () => {
          this.onCommit?.(changes);
          await commit(changes);
        });
      const effect = this.#effectsOfThisLife();
      const runtime = new FakeRuntime(this.kernel, effect);
      const layers = new FakeLayers(this.kernel, effect, async () => this.beforePacking?.());
      const networks = new FakeNetworks(this.kernel, effect);
      const engine = await Engine.open({
        store,
        layers,
        deltaMaker: { make: () => assert.fail('nothing here makes deltas') },
        fileJobs: {
          stat: () => assert.fail('nothing here looks into containers'),
          pack: () => assert.fail('nothing here copies out of containers'),
          unpack: () => assert.fail('nothing here copies into containers'),
          changes: () => assert.fail('nothing here compares containers'),
        },
        registry: this.registry,
        runtime,
        networks,
        defaultNetworkOptions: {},
        dataRoot: this.dataRoot,
        execRoot: this.execRoot,
        resolver: { dns: [], dnsSearch: [], dnsOptions: [] },
        hostGateway: '172.17.0.1',
        limits: everyLimit,
        release: '26.1.5',
        parallelDownloads: 3,
        parallelUploads: 3,
        supervisorCompat: false,
        deltas: { mode: 'auto', minSaving: 10 },
        deltaDataRoot: undefined,
        pullLeaseMs: this.pullLeaseMs,
        keepGenerations: this.keepGenerations,
        pullSpoolAboveBytes: undefined,
        containers: { ...plainDefaults, cgroupParent: '' },
        log: () => this.log,
      });
      this.#life = { store, engine, runtime, layers, networks };
    });
  }

  /** Lets the daemon do something. False if it died of its fate before it was done. */
  async live(work: (engine: Engine) => Promise<unknown>, fate?: Fate): Promise<boolean> {
    return this.#until(fate, () => work(this.engine));
  }

  /** The daemon is gone without a word; a power cut takes all but the disk. */
  async die(end: End): Promise<void> {
    this.#isDead = true;
    this.kernel.watch(undefined);
    for (let i = 0; i < 5; i++) await tick(); // what it had asked of the file system still happens
    await this.#store?.[Symbol.asyncDispose]();
    this.#life = undefined;
    this.#store = undefined;
    if (end === 'crash') return;
    this.kernel.losePower();
    await rm(this.execRoot, { recursive: true, force: true });
  }

  /** The flash has eaten the database, while no daemon ran. */
  async loseDatabase(): Promise<void> {
    await rm(join(this.dataRoot, 'db'), { recursive: true });
  }

  async pull(name: string, signal = AbortSignal.timeout(20_000)): Promise<ProgressMessage[]> {
    const messages: ProgressMessage[] = [];
    const progress = (message: ProgressMessage) => void messages.push(message);
    const tag = name.includes(':') ? '' : 'latest'; // as the CLI does; without one it would be all of them
    await this.engine.pulls.pull({ fromImage: name, tag }, { signal, progress });
    return messages;
  }

  async push(name: string, tag = '', signal = AbortSignal.timeout(20_000)): Promise<ProgressMessage[]> {
    const messages: ProgressMessage[] = [];
    const progress = (message: ProgressMessage) => void messages.push(message);
    await this.engine.pushes.push({ name, tag }, { signal, progress });
    return messages;
  }

  async create(name: string, o: Parameters<typeof createRequest>[0] = {}): Promise<string> {
    const { id } = await this.engine.containers.create(createRequest({ name, ...o }));
    return id;
  }

  /** The record of a container, by name. */
  container(name: string): ContainerRecord | undefined {
    return this.engine.records.all().find((record) => record.name === name);
  }

  async records<T extends object>(
    table: 'images' | 'refs' | 'layers' | 'leases' | 'volumes' | 'networks',
  ): Promise<T[]> {
    const found: T[] = [];
    for await (const [, record] of this.life.store.table<T>(table).entries()) found.push(record);
    return found;
  }

  /** Throws unless records, kernel and disk say the same and nothing belongs to nobody. */
  async assertSettled(when: string): Promise<void> {
    const { kernel, dataRoot, execRoot } = this;
    const all = this.engine.records.all();
    for (const { name, state } of all)
      assert.ok(
        ['created', 'running', 'paused', 'exited'].includes(state.status),
        `${name} ${state.status} ${when}`,
      );
    const alive = all.filter(({ state }) => state.status === 'running' || state.status === 'paused');
    const ids = alive.map(({ id }) => id).sort();
    const pids = Object.fromEntries(alive.map(({ id, state }) => [id, [state.status, state.pid]]));
    const processes = [...kernel.processes].map(([id, { status, pid }]) => [id, [status, pid]]);
    assert.deepEqual(Object.fromEntries(processes), pids, `processes ${when}`);
    assert.deepEqual([...kernel.exits.keys()], [], `exit files ${when}`);
    const directories = ids.map((id) => join(dataRoot, 'containers', id));
    assert.deepEqual([...kernel.mounts].sort(), directories, `mounts ${when}`);
    await this.#assertNetworksSettled(when);
    assert.deepEqual(await namesIn(join(execRoot, 'etc')), ids, `files of runs ${when}`);
    assert.deepEqual(
      await namesIn(join(dataRoot, 'containers')),
      all.map(({ id }) => id).sort(),
      `files ${when}`,
    );
    assert.equal(new Set(all.map(({ name }) => name)).size, all.length, `names ${when}`);
    await this.#assertImagesSettled(when);
    const volumes = await this.records<{ name: string }>('volumes');
    assert.deepEqual(
      await namesIn(join(dataRoot, 'volumes')),
      volumes.map(({ name }) => name).sort(),
      `volumes ${when}`,
    );
  }

  async #assertNetworksSettled(when: string): Promise<void> {
    const { links, networks } = this.kernel;
    const shown = this.engine.records
      .all()
      .flatMap(({ id, endpoints }) => Object.values(endpoints).map((endpoint) => ({ id, ...endpoint })))
      .filter(({ endpointId }) => endpointId !== '')
      .map(({ id, networkId, ipAddress }) => [`${id} ${networkId}`, ipAddress]);
    const there = [...links].map(([key, { ipAddress }]) => [key, ipAddress]);
    assert.deepEqual(there.sort(), shown.sort(), `links ${when}`);
    const made = (await this.records<NetworkRecord>('networks'))
      .filter(({ name, isConfigOnly }) => !isPredefined(name) && !isConfigOnly)
      .map(({ id, name }) => [id, name]);
    assert.deepEqual([...networks].sort(), made.sort(), `networks ${when}`);
  }

  async #assertImagesSettled(when: string): Promise<void> {
    const images = await this.records<ImageRecord>('images');
    const layers = await this.records<LayerRecord>('layers');
    const here = new Set<string>(layers.map(({ diffId }) => diffId));
    for (const { id, diffIds } of images)
      assert.ok(
        diffIds.every((diffId) => here.has(diffId)),
        `image ${id} has a hole ${when}`,
      );
    for (const { imageId, previous } of await this.records<RefRecord>('refs'))
      for (const wanted of [imageId, ...previous.map((generation) => generation.imageId)])
        assert.ok(
          images.some(({ id }) => id === wanted),
          `a name stands, or stood, for no image ${when}`,
        );
    const copies = images.map(({ id }) => `${id.slice(7)}.json`).sort();
    assert.deepEqual(await namesIn(join(this.dataRoot, 'images')), copies, `copies of images ${when}`);
    const directories = layers.map(({ dirId }) => dirId).sort();
    assert.deepEqual([...this.kernel.layers.keys()].sort(), directories, `layer directories ${when}`);
    assert.deepEqual([...this.kernel.staging], [], `staging ${when}`);
    const leases = await this.records<LeaseRecord>('leases');
    const users = this.engine.records.all();
    for (const diffId of here) {
      const holders = [...images, ...leases, ...users].filter(({ diffIds }) =>
        (diffIds as readonly string[]).includes(diffId),
      );
      assert.ok(holders.length > 0, `layer ${diffId} belongs to nobody ${when}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#life?.engine[Symbol.asyncDispose]();
    await this.die('power cut');
    await rm(this.directory, { recursive: true, force: true });
  }

  /** A life's effects end with it, even if another has begun since. */
  #effectsOfThisLife(): Effect {
    const died = this.#died;
    return (name, work) => (died === this.#died ? this.#effect(name, work) : new Promise(() => {}));
  }

  readonly #effect: Effect = async (_name, work) => {
    if (this.#isDead) return new Promise(() => {});
    const [died, fate] = [this.#died, this.#fate];
    const isLast = fate !== undefined && this.#count++ === fate.effects;
    if (!isLast) return work();
    this.#isDead = true;
    if (fate.isLastDone) await work();
    died.resolve();
    return new Promise(() => {});
  };

  async #until(fate: Fate | undefined, work: () => Promise<unknown>): Promise<boolean> {
    this.#fate = fate;
    this.#count = 0;
    const done = work().then(() => true);
    try {
      return await Promise.race([done, this.#died.promise.then(() => false)]);
    } finally {
      this.#fate = undefined;
    }
  }
}

async function namesIn(directory: string): Promise<string[]> {
  return (await readdir(directory).catch(() => [])).sort();
}
