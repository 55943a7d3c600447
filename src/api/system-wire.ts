import type { SystemView, VersionView } from './engine-views.ts';
import { added, type Shape, shape, type Wire } from './shapes.ts';
import type { Axes } from './versions.ts';

/** Docker Hub's address, which clients log in to where they are told nothing else. */
const INDEX_SERVER = 'https://index.docker.io/v1/';

/** The answer to `GET /version`. The daemon's own release comes with it, as a header and a field. */
export function versionWire(
  view: VersionView,
  o: { release: string; ceiling: string; floor: string; isExperimental: boolean },
): Wire {
  const details = {
    ApiVersion: o.ceiling,
    Arch: view.architecture,
    BuildTime: view.buildTime,
    Experimental: String(o.isExperimental),
    GitCommit: view.gitCommit,
    GoVersion: view.toolchain,
    KernelVersion: view.kernelVersion,
    MinAPIVersion: o.floor,
    Os: view.os,
  };
  return {
    Platform: { Name: view.platformName },
    Components: [
      { Name: 'Engine', Version: o.release, Details: details },
      ...view.components.map(({ name, version, details: more }) => ({
        Name: name,
        Version: version,
        ...(more && { Details: more }),
      })),
    ],
    ...(view.engineName !== undefined && { Engine: view.engineName }),
    Version: o.release,
    ApiVersion: o.ceiling,
    MinAPIVersion: o.floor,
    GitCommit: view.gitCommit,
    GoVersion: view.toolchain,
    Os: view.os,
    Arch: view.architecture,
    KernelVersion: view.kernelVersion,
    BuildTime: view.buildTime,
    ...(o.isExperimental && { Experimental: true }),
  };
}

/** The answer to `GET /info`. */
export function infoWire(
  view: SystemView,
  o: { release: string; isExperimental: boolean; axes: Axes },
): Wire {
  const wire: Wire = {
    ...contentsWire(view),
    ...kernelWire(view),
    ...daemonWire(view),
    ...hostWire(view),
    ExperimentalBuild: o.isExperimental,
    ServerVersion: o.release,
    ClusterStore: '',
    ClusterAdvertise: '',
    Runtimes: runtimesWire(view),
    DefaultRuntime: view.defaultRuntime,
    Swarm: {
      NodeID: '',
      NodeAddr: '',
      LocalNodeState: 'inactive',
      ControlAvailable: false,
      Error: '',
      RemoteManagers: null,
    },
    // containers outlive the daemon, always
    LiveRestoreEnabled: true,
    Isolation: '',
    InitBinary: view.initProgram,
    ContainerdCommit: commitWire(view.commits.containerd),
    RuncCommit: commitWire(view.commits.runc),
    InitCommit: commitWire(view.commits.init),
    SecurityOptions: view.securityOptions,
    ...(view.addressPools.length > 0 && {
      DefaultAddressPools: view.addressPools.map(({ base, size }) => ({ Base: base, Size: size })),
    }),
    CDISpecDirs: view.cdiDirectories,
    Warnings: view.warnings.length === 0 ? null : view.warnings,
  };
  return shape(wire, infoShapes, o.axes);
}

/** What is here: containers, images, and what they are kept with. */
function contentsWire({ containers: { running, paused, stopped }, plugins, ...view }: SystemView): Wire {
  return {
    ID: view.id,
    Containers: running + paused + stopped,
    ContainersRunning: running,
    ContainersPaused: paused,
    ContainersStopped: stopped,
    Images: view.images,
    Driver: view.driver,
    DriverStatus: view.driverStatus,
    SystemStatus: null,
    Plugins: { Volume: plugins.volume, Network: plugins.network, Authorization: null, Log: plugins.log },
  };
}

/** The daemon in its present state. */
function daemonWire(view: SystemView): Wire {
  return {
    Debug: view.isDebug,
    NFd: view.openFiles,
    OomKillDisable: view.limits.oomKillDisable,
    NGoroutines: 0,
    SystemTime: view.time,
    LoggingDriver: view.loggingDriver,
    CgroupDriver: view.cgroupDriver,
    CgroupVersion: String(view.cgroupVersion),
    NEventsListener: view.eventListeners,
  };
}

/** The machine, and what it was told. */
function hostWire(view: SystemView): Wire {
  return {
    KernelVersion: view.kernelVersion,
    OperatingSystem: view.operatingSystem,
    OSVersion: view.osVersion,
    OSType: 'linux',
    Architecture: view.machine,
    IndexServerAddress: INDEX_SERVER,
    RegistryConfig: registriesWire(view),
    NCPU: view.cpus,
    MemTotal: view.memoryBytes,
    GenericResources: null,
    DockerRootDir: view.dataRoot,
    HttpProxy: view.proxies.http,
    HttpsProxy: view.proxies.https,
    NoProxy: view.proxies.no,
    Name: view.hostname,
    Labels: view.labels,
  };
}

function kernelWire({ limits, ...view }: SystemView): Wire {
  return {
    MemoryLimit: limits.memory,
    SwapLimit: limits.swap,
    KernelMemory: limits.kernelMemory,
    KernelMemoryTCP: limits.kernelMemoryTcp,
    CpuCfsPeriod: limits.cpuPeriod,
    CpuCfsQuota: limits.cpuQuota,
    CPUShares: limits.cpuShares,
    CPUSet: limits.cpuSet,
    PidsLimit: limits.pids,
    IPv4Forwarding: view.isForwardingIpv4,
    BridgeNfIptables: view.isBridgeFilteredByIptables,
    BridgeNfIp6tables: view.isBridgeFilteredByIp6tables,
  };
}

function registriesWire({ registries }: SystemView): Wire {
  const index = (name: string, o: { mirrors: readonly string[]; isSecure: boolean; isOfficial: boolean }) => [
    name,
    { Name: name, Mirrors: o.mirrors, Secure: o.isSecure, Official: o.isOfficial },
  ];
  return {
    AllowNondistributableArtifactsCIDRs: null,
    AllowNondistributableArtifactsHostnames: null,
    InsecureRegistryCIDRs: registries.insecureCidrs,
    IndexConfigs: Object.fromEntries([
      index('docker.io', { mirrors: registries.mirrors, isSecure: true, isOfficial: true }),
      ...registries.insecureHosts.map((host) =>
        index(host, { mirrors: [], isSecure: false, isOfficial: false }),
      ),
    ]),
    Mirrors: registries.mirrors.length === 0 ? null : registries.mirrors,
  };
}

function runtimesWire({ runtimes }: SystemView): Record<string, Wire> {
  return Object.fromEntries(
    Object.entries(runtimes).map(([name, { path, args }]) => [
      name,
      { path, ...(args !== undefined && args.length > 0 && { runtimeArgs: args }) },
    ]),
  );
}

function commitWire(id: string): Wire {
  return { ID: id, Expected: id };
}

const infoShapes: readonly Shape<Wire>[] = [
  {
    gate: 'B125',
    below: (info) => {
      const options = info['SecurityOptions'] as string[];
      info['SecurityOptions'] = options.map((option) => /name=([^,]*)/.exec(option)?.[1] ?? option);
      info['ExecutionDriver'] = '<not supported>';
    },
  },
  {
    gate: 'G001',
    below: (info) => {
      for (const key of ['KernelVersion', 'OperatingSystem']) info[key] ||= '<unknown>';
    },
  },
  added('G017', 'PidsLimit', 'KernelMemoryTCP'),
  added('G032', 'CgroupVersion', 'DefaultAddressPools', 'OSVersion'),
  {
    gate: 'G033',
    above: (info) => {
      for (const key of ['SystemStatus', 'ClusterStore', 'ClusterAdvertise']) delete info[key];
    },
  },
  {
    gate: 'G053',
    above: (info) => delete info['KernelMemory'],
    below: (info, axes) => {
      if (axes.knows('G053') && info['KernelMemory'] === false) delete info['KernelMemory'];
    },
  },
  {
    gate: 'G054',
    above: (info) => {
      if (info['KernelMemoryTCP'] === false) delete info['KernelMemoryTCP'];
    },
  },
  {
    gate: 'G084',
    below: (info) => {
      const options = info['SecurityOptions'] as string[];
      info['SecurityOptions'] = options.filter((option) => !option.startsWith('name=no-new-privileges'));
    },
  },
  added('G104', 'CDISpecDirs'),
  {
    gate: 'emptyRegistryLists',
    below: ({ RegistryConfig: registries }) => {
      for (const [key, value] of Object.entries(registries as Wire)) {
        if (value === null) (registries as Wire)[key] = [];
      }
    },
  },
];
