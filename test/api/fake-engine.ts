import type { EngineParts } from '../../src/api/app.ts';
import { containerConfig, endpointSettings, hostConfig } from '../../src/api/container-wire.ts';
import type { ContainerView, ImageSummary, SystemView, VersionView } from '../../src/api/engine-views.ts';
import type { ContainerRecord } from '../../src/engine/model.ts';
import { fail } from '../../src/errors.ts';
import { parseImageConfig } from '../../src/lib/image-config.ts';

export const ID = 'c0ffee'.padEnd(64, '0');
export const IMAGE_ID = `sha256:${'ab'.repeat(32)}`;

type Deep<T> = { [K in keyof T]?: T[K] extends object ? Partial<T[K]> : T[K] };

/** A container as a create with nothing but an image leaves it, running; changed where the test says so. */
export function aContainer(change: Deep<ContainerRecord> = {}): ContainerRecord {
  const plain: ContainerRecord = {
    id: ID,
    name: 'web',
    createdAt: '2026-01-02T03:04:05.123456789Z',
    imageId: IMAGE_ID,
    platform: { os: 'linux', architecture: 'amd64' },
    diffIds: [],
    config: {
      ...containerConfig.zero(),
      hostname: ID.slice(0, 12),
      cmd: ['sh'],
      image: 'debian:12',
      labels: {},
    },
    hostConfig: { ...hostConfig.zero(), networkMode: 'bridge', runtime: 'crun', shmSize: 67108864 },
    endpoints: { bridge: { ...endpointSettings.zero(), ipAddress: '172.17.0.2', ipPrefixLen: 16 } },
    mounts: [],
    ports: {},
    state: {
      status: 'running',
      pid: 4711,
      exitCode: 0,
      error: '',
      oomKilled: false,
      startedAt: '2026-01-02T03:04:06Z',
      finishedAt: '0001-01-01T00:00:00Z',
    },
    restartCount: 0,
    isStoppedByUser: false,
    runtime: 'crun',
  };
  return {
    ...plain,
    ...change,
    config: { ...plain.config, ...change.config },
    hostConfig: { ...plain.hostConfig, ...change.hostConfig },
    state: { ...plain.state, ...change.state },
  } as ContainerRecord;
}

export function aView(record = aContainer()): ContainerView {
  const directory = `/var/lib/skerry/containers/${record.id}`;
  return {
    record,
    names: [`/${record.name}`],
    imageName: record.config.image,
    paths: {
      log: `${directory}/log`,
      hosts: `${directory}/hosts`,
      hostname: `${directory}/hostname`,
      resolv: `${directory}/resolv.conf`,
      upper: `${directory}/upper`,
      merged: `${directory}/merged`,
      work: `${directory}/work`,
      lower: ['/l/2/diff', '/l/1/diff'],
    },
  };
}

export function anImage(change: Partial<ImageSummary> = {}, config: object = {}): ImageSummary {
  return {
    record: {
      id: IMAGE_ID,
      diffIds: [`sha256:${'01'.repeat(32)}`],
      sizeBytes: 1234,
      platform: { os: 'linux', architecture: 'arm64', variant: 'v8' },
    },
    config: parseImageConfig(
      JSON.stringify({
        created: '2025-05-06T07:08:09.5Z',
        config: { Env: ['A=b'], Cmd: ['sh'], Labels: { a: 'b' } },
        ...config,
      }),
    ),
    repoTags: ['debian:12'],
    repoDigests: [`debian@${IMAGE_ID}`],
    containers: 2,
    sharedBytes: 99,
    ...change,
  };
}

export const aSystem: SystemView = {
  id: 'an-id',
  containers: { running: 1, paused: 2, stopped: 3 },
  images: 4,
  driver: 'overlay2',
  driverStatus: [['Backing Filesystem', 'extfs']],
  plugins: { volume: ['local'], network: ['bridge', 'host', 'null'], log: ['json-file'] },
  limits: {
    memory: true,
    swap: true,
    cpuPeriod: true,
    cpuQuota: true,
    cpuShares: true,
    cpuSet: true,
    pids: true,
    oomKillDisable: true,
    kernelMemory: true,
    kernelMemoryTcp: false,
  },
  isForwardingIpv4: true,
  isBridgeFilteredByIptables: true,
  isBridgeFilteredByIp6tables: true,
  isDebug: false,
  openFiles: 20,
  eventListeners: 0,
  time: '2026-01-02T03:04:05.123456789Z',
  loggingDriver: 'json-file',
  cgroupDriver: 'cgroupfs',
  cgroupVersion: 2,
  kernelVersion: '6.1.0',
  operatingSystem: 'Debian GNU/Linux 12 (bookworm)',
  osVersion: '12',
  machine: 'x86_64',
  cpus: 2,
  memoryBytes: 4_000_000_000,
  dataRoot: '/var/lib/skerry',
  proxies: { http: '', https: '', no: '' },
  hostname: 'board',
  labels: ['site=north'],
  runtimes: { crun: { path: '/usr/bin/crun' }, runc: { path: '/usr/sbin/runc', args: ['--debug'] } },
  defaultRuntime: 'crun',
  initProgram: 'catatonit',
  commits: { containerd: '', runc: '1.1', init: '' },
  cdiDirectories: ['/etc/cdi'],
  securityOptions: ['name=seccomp,profile=builtin', 'name=no-new-privileges'],
  registries: { insecureCidrs: ['127.0.0.0/8'], insecureHosts: ['r.example:5000'], mirrors: [] },
  addressPools: [{ base: '10.0.0.0/8', size: 24 }],
  warnings: [],
};

export const aVersion: VersionView = {
  platformName: 'Skerry',
  gitCommit: 'abc',
  toolchain: 'node v24',
  os: 'linux',
  architecture: 'amd64',
  kernelVersion: '6.1.0',
  buildTime: '2026-01-01T00:00:00Z',
  components: [{ name: 'crun', version: '1.8', details: { GitCommit: '0356bf4' } }],
};

/** What a test replaces of the engine: any call of any part. */
export type Changes = { [K in keyof EngineParts]?: Partial<EngineParts[K]> };

/** An engine with one running container, `web`, and one image. Whatever a test is about, it replaces. */
export function fakeEngine(changes: Changes = {}): EngineParts {
  const find = (ref: string) => {
    const record = aContainer();
    if (ref !== record.name && !record.id.startsWith(ref)) throw fail.noSuchContainer(ref);
    return record;
  };
  const never = (): never => {
    throw new Error('the test did not expect this call');
  };
  const containers: EngineParts['containers'] = {
    create: async () => ({ id: ID, warnings: [] }),
    list: async () => [aView()],
    inspect: async (ref) => aView(find(ref)),
    rename: async (ref) => void find(ref),
    remove: async (ref) => void find(ref),
    removeLink: async (ref) => void find(ref),
    start: async (ref) => find(ref).state.status !== 'running',
    stop: async (ref) => find(ref).state.status === 'running',
    restart: async (ref) => void find(ref),
    kill: async (ref) => void find(ref),
    pause: async (ref) => void find(ref),
    unpause: async (ref) => void find(ref),
  };
  const plain: EngineParts = {
    containers,
    io: { attach: never, logs: never, resize: async (ref) => void find(ref), wait: never },
    execs: {
      idsOf: () => [],
      create: async () => 'e'.repeat(64),
      start: never,
      startDetached: async (id) => {
        throw fail.noSuchExec(id);
      },
      inspect: never,
      resize: async () => {},
    },
    images: {
      list: async () => [anImage()],
      inspect: async (name) => {
        if (name !== 'debian') throw fail.noSuchImage(`${name}:latest`);
        return anImage();
      },
      history: async () => [],
      tag: async () => {},
      remove: async () => [{ untagged: 'debian:12' }, { deleted: IMAGE_ID }],
      prune: never,
      rollBack: never,
      generations: async () => [],
    },
    pushes: { push: never },
    pulls: { pull: never },
    archives: { save: never, load: never },
    imports: { importTree: never },
    deltaImages: { make: never },
    commits: { commit: never },
    checkpoints: { create: never, list: never, remove: never, find: never },
    exports: { export: never },
    containerArchives: { stat: never, pack: never, unpack: never },
    containerChanges: { changes: never },
    updates: { update: never },
    stats: { once: never, stream: never },
    processLists: { top: never },
    registries: { login: never, inspect: never, search: never },
    verifications: { verify: never },
    volumes: { list: never, inspect: never, create: never, remove: never },
    networks: { create: never, list: never, inspect: never, remove: never, prune: never },
    connections: { connect: never, disconnect: never },
    prunes: { containers: never, volumes: never },
    usage: { measure: async () => ({}) },
    events: { subscribe: never },
    system: { info: async () => aSystem, version: async () => aVersion },
  };
  for (const [part, calls] of Object.entries(changes)) {
    Object.assign(plain[part as keyof EngineParts], calls);
  }
  return plain;
}
