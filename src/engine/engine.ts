import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { cpus, hostname, platform } from '../host/facts.ts';
import { ensureDirectory } from '../host/files.ts';
import { Disposal } from '../lib/disposal.ts';
import { Sidecars } from '../store/sidecars.ts';
import { BaseStore } from './base-store.ts';
import { Bases } from './bases.ts';
import { Checkpoints } from './checkpoints.ts';
import { Commits } from './commits.ts';
import { ContainerArchives } from './container-archives.ts';
import { ContainerChanges } from './container-changes.ts';
import type { HostLimits } from './container-checks.ts';
import { ContainerExports } from './container-exports.ts';
import { ContainerIo } from './container-io.ts';
import { ContainerNames } from './container-names.ts';
import { ContainerNetworks } from './container-networks.ts';
import { ContainerRecords } from './container-records.ts';
import { ContainerRemoval } from './container-removal.ts';
import { ContainerTrees } from './container-trees.ts';
import { ContainerUpdates } from './container-updates.ts';
import { Containers } from './containers.ts';
import { DeltaImageMaking } from './delta-image-making.ts';
import { DeltaImages } from './delta-images.ts';
import { DeltaPulls } from './delta-pulls.ts';
import { DiskUsage } from './disk-usage.ts';
import type { EngineOptions } from './engine-options.ts';
import { EtcFiles } from './etc-files.ts';
import { Events } from './events.ts';
import { Execs } from './execs.ts';
import { HealthChecks } from './health.ts';
import { ImageArchives } from './image-archives.ts';
import { Images } from './images.ts';
import { Imports } from './imports.ts';
import { Launcher } from './launcher.ts';
import { LayerShelf } from './layer-shelf.ts';
import { Life } from './life.ts';
import { MountSetup } from './mount-setup.ts';
import { NetworkConnections } from './network-connections.ts';
import { NetworkRecords } from './network-records.ts';
import { NetworkUsers } from './network-users.ts';
import { Networks } from './networks.ts';
import { ProcessLists } from './process-lists.ts';
import { Prunes } from './prunes.ts';
import { Pulls } from './pulls.ts';
import { Pushes } from './pushes.ts';
import { Readers } from './readers.ts';
import { Recovery } from './recovery.ts';
import { SharedMemory } from './shared-memory.ts';
import { Space } from './space.ts';
import { Spools } from './spools.ts';
import { Stats } from './stats.ts';
import { Streams } from './streams.ts';
import { Subpaths } from './subpaths.ts';
import { Verifications } from './verifications.ts';
import { VolumeMounts } from './volume-mounts.ts';
import { VolumeUsers } from './volume-users.ts';
import { Volumes } from './volumes.ts';
import { Waiters } from './waiters.ts';

/** What is kept in the data root beside the database and the layers, and who may pass through. */
const places = [
  ['images', 0o710],
  ['containers', 0o710],
  ['volumes', 0o755],
] as const;

/** The use cases, joined to each other and to the parts below. What the API calls. */
export class Engine implements AsyncDisposable {
  readonly events: Events;
  readonly images: Images;
  readonly pulls: Pulls;
  readonly archives: ImageArchives;
  readonly pushes: Pushes;
  readonly verifications: Verifications;
  readonly commits: Commits;
  readonly imports: Imports;
  readonly deltaImages: DeltaImageMaking;
  readonly exports: ContainerExports;
  readonly containerArchives: ContainerArchives;
  readonly containerChanges: ContainerChanges;
  readonly containers: Containers;
  readonly networks: Networks;
  readonly connections: NetworkConnections;
  readonly checkpoints: Checkpoints;
  readonly updates: ContainerUpdates;
  readonly volumes: Volumes;
  readonly prunes: Prunes;
  readonly usage: DiskUsage;
  readonly stats: Stats;
  readonly processLists: ProcessLists;
  readonly io: ContainerIo;
  readonly execs: Execs;
  readonly records: ContainerRecords;
  readonly #recovery: Recovery;
  readonly #disposal: Disposal;

  private constructor(
    o: Omit<Engine, 'applyPolicies' | typeof Symbol.asyncDispose> & {
      recovery: Recovery;
      disposal: Disposal;
    },
  ) {
    this.events = o.events;
    this.images = o.images;
    this.pulls = o.pulls;
    this.archives = o.archives;
    this.pushes = o.pushes;
    this.verifications = o.verifications;
    this.commits = o.commits;
    this.imports = o.imports;
    this.deltaImages = o.deltaImages;
    this.exports = o.exports;
    this.containerArchives = o.containerArchives;
    this.containerChanges = o.containerChanges;
    this.containers = o.containers;
    this.networks = o.networks;
    this.connections = o.connections;
    this.checkpoints = o.checkpoints;
    this.updates = o.updates;
    this.volumes = o.volumes;
    this.prunes = o.prunes;
    this.usage = o.usage;
    this.stats = o.stats;
    this.processLists = o.processLists;
    this.io = o.io;
    this.execs = o.execs;
    this.records = o.records;
    this.#recovery = o.recovery;
    this.#disposal = o.disposal;
  }

  /** Joins everything and settles what the last daemon left; afterwards exits are acted upon. */
  static async open(o: EngineOptions): Promise<Engine> {
    const { store, runtime, networks, layers, dataRoot, fileJobs: jobs } = o;
    await mkdir(dataRoot, { recursive: true, mode: 0o710 });
    for (const [name, mode] of places) await ensureDirectory(join(dataRoot, name), mode);
    const events = new Events();
    const sidecars = new Sidecars({ dataRoot, log: o.log('store') });
    const records = await ContainerRecords.open({ store, sidecars });
    const networkRecords = await NetworkRecords.open({ store, defaultBridge: networks.defaultBridge });
    const users = new NetworkUsers({ networks: networkRecords, containers: records });
    const disposal = new Disposal();
    const space = new Space(dataRoot);
    const spools = await Spools.open({
      dataRoot,
      aboveBytes: o.pullSpoolAboveBytes,
      withDeltas: o.deltas.mode !== 'off',
      room: space,
      log: o.log('layers'),
    });
    const shelf = disposal.use(
      new LayerShelf({
        store,
        layers,
        users: records,
        spools,
        leaseMs: o.pullLeaseMs,
        log: o.log('layers'),
      }),
    );
    const images = new Images({
      store,
      sidecars,
      shelf,
      events,
      users: records,
      dataRoot,
      keepGenerations: o.keepGenerations,
      log: o.log('images'),
    });
    const second =
      o.deltaDataRoot === undefined
        ? undefined
        : await BaseStore.open({ dataRoot: o.deltaDataRoot, log: o.log('store') });
    const bases = new Bases({ images, shelf, second, log: o.log('images') });
    const volumeUsers = new VolumeUsers(records);
    const volumes = new Volumes({ store, dataRoot, users: volumeUsers, events, log: o.log('volumes') });
    const etc = new EtcFiles({ execRoot: o.execRoot, resolver: o.resolver, hostGateway: o.hostGateway });
    const host: HostLimits = {
      cpus: cpus(),
      hostname: hostname(),
      platform: platform(),
      runtimes: runtime.names(),
      defaultRuntime: runtime.defaultName,
      limits: o.limits,
      defaults: o.containers,
    };
    const log = o.log('containers');
    const volumeMounts = new VolumeMounts({ volumes, records });
    const mounts = new MountSetup({
      volumes: volumeMounts,
      subpaths: new Subpaths(o.execRoot),
      records,
      events,
      whyFlat: (name) => runtime.whyNotDeep(name),
    });
    const names = disposal.use(new ContainerNames({ networks: networkRecords, etc, log: o.log('names') }));
    const containerNetworks = new ContainerNetworks({ networks, etc, names });
    const launcher = new Launcher({
      dataRoot,
      layers,
      shelf,
      runtime,
      networks: containerNetworks,
      etc,
      mounts,
      shm: new SharedMemory(o.execRoot),
      records,
      networkRecords,
      defaults: o.containers,
      log,
    });
    const common = { records, launcher, events, log };
    const health = disposal.use(
      HealthChecks.open({ ...common, runtime, execRoot: o.execRoot, defaults: o.containers.security }),
    );
    const [streams, waiters, readers] = [new Streams(), new Waiters(), new Readers()];
    const removal = new ContainerRemoval({ ...common, readers, volumes, streams, health, waiters });
    const life = disposal.use(
      new Life({ ...common, networks: networkRecords, runtime, streams, waiters, health, removal }),
    );
    const trees = new ContainerTrees({ readers, life, launcher, mounts });
    const containers = new Containers({
      ...common,
      images,
      shelf,
      volumes,
      volumeMounts,
      volumeUsers,
      life,
      health,
      etc,
      containerNetworks,
      networks: networkRecords,
      host,
      dataRoot,
    });
    const engine = new Engine({
      events,
      images,
      records,
      disposal,
      pulls: new Pulls({
        registry: o.registry,
        images,
        shelf,
        events,
        space,
        deltas: new DeltaPulls({
          registry: o.registry,
          images,
          bases,
          records: o.store.table('images'),
          shelf,
          space,
          settings: o.deltas,
          log: o.log('images'),
        }),
        deltaImages: new DeltaImages({
          registry: o.registry,
          images,
          shelf,
          bases,
          space,
          host: host.platform,
          tellsTotal: o.supervisorCompat,
          log: o.log('images'),
        }),
        host: host.platform,
        parallelDownloads: o.parallelDownloads,
        tellsTotal: o.supervisorCompat,
        log: o.log('images'),
      }),
      archives: new ImageArchives({
        images,
        shelf,
        bases,
        layers,
        events,
        space,
        host: host.platform,
        log: o.log('images'),
      }),
      pushes: new Pushes({
        registry: o.registry,
        images,
        store,
        shelf,
        layers,
        events,
        parallelUploads: o.parallelUploads,
        log: o.log('images'),
      }),
      verifications: new Verifications({
        store,
        images,
        shelf,
        layers,
        registry: o.registry,
        space,
        log: o.log('images'),
      }),
      containers,
      networks: new Networks({
        records: networkRecords,
        users,
        kernel: networks,
        defaultOptions: o.defaultNetworkOptions,
        events,
        log: o.log('networks'),
      }),
      connections: new NetworkConnections({
        records: networkRecords,
        containers: records,
        containerNetworks,
        users,
        life,
        events,
      }),
      checkpoints: new Checkpoints({ ...common, runtime, life }),
      updates: new ContainerUpdates({ records, life, runtime, events, host }),
      volumes,
      prunes: new Prunes({ records, life, launcher, volumes, volumeUsers, events, log }),
      usage: new DiskUsage({ store, images, containers, volumes, volumeUsers, log }),
      commits: new Commits({
        records,
        images,
        shelf,
        layers,
        launcher,
        freezer: life.freezer,
        readers,
        events,
        release: o.release,
        log,
      }),
      imports: new Imports({
        images,
        shelf,
        registry: o.registry,
        events,
        host: host.platform,
        release: o.release,
        log: o.log('images'),
      }),
      deltaImages: new DeltaImageMaking({
        images,
        shelf,
        maker: o.deltaMaker,
        events,
        log: o.log('images'),
      }),
      exports: new ContainerExports({ records, trees, layers, events }),
      containerArchives: new ContainerArchives({ records, trees, jobs, events }),
      containerChanges: new ContainerChanges({ records, readers, shelf, launcher, jobs, dataRoot }),
      stats: new Stats({ records, runtime }),
      processLists: new ProcessLists({ records, runtime, events }),
      io: new ContainerIo({ records, launcher, runtime, streams, waiters, events }),
      execs: new Execs({ records, runtime, launcher, events, security: o.containers.security }),
      recovery: new Recovery({
        store,
        sidecars,
        images,
        records,
        life,
        launcher,
        runtime,
        networks,
        containerNetworks,
        shelf,
        volumes,
        mounts,
        dataRoot,
        log: o.log('recovery'),
      }),
    });
    await engine.networks.recover();
    await engine.#recovery.run();
    life.watch();
    health.recover();
    return engine;
  }

  /** Starts what restart policies want up; after the API answers, so that a slow start holds nobody up. */
  async applyPolicies(): Promise<void> {
    await this.#recovery.applyPolicies();
  }

  /** Containers run on. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#disposal[Symbol.asyncDispose]();
  }
}
