/**
 * What a container is, in the engine's own words. The field names are Docker's in camel case, so that the API's
 * spelling is a matter of case alone; `null` is kept where clients tell it from empty (`Cmd`, `Entrypoint`).
 */

/** What runs: from the image, overridden by the request. */
export interface ContainerConfig {
  hostname: string;
  domainname: string;
  /** `user[:group]`, by name or number; empty means root. */
  user: string;
  attachStdin: boolean;
  attachStdout: boolean;
  attachStderr: boolean;
  /** `80/tcp`, as keys of an empty object. */
  exposedPorts: Record<string, object> | null;
  tty: boolean;
  openStdin: boolean;
  stdinOnce: boolean;
  env: string[] | null;
  cmd: string[] | null;
  healthcheck?: Healthcheck;
  argsEscaped?: boolean;
  /** What the client named, not what it resolved to. */
  image: string;
  volumes: Record<string, object> | null;
  workingDir: string;
  entrypoint: string[] | null;
  networkDisabled?: boolean;
  macAddress?: string;
  onBuild: string[] | null;
  labels: Record<string, string> | null;
  stopSignal?: string;
  /** Seconds. */
  stopTimeout?: number;
  shell?: string[];
}

/** Durations in nanoseconds, as Docker's. */
export interface Healthcheck {
  test?: string[];
  interval?: number;
  timeout?: number;
  retries?: number;
  startPeriod?: number;
  startInterval?: number;
}

export interface PortBinding {
  hostIp: string;
  hostPort: string;
}

export interface RestartPolicy {
  name: string;
  maximumRetryCount: number;
}

export interface LogConfig {
  type: string;
  config: Record<string, string>;
}

export interface DeviceMapping {
  pathOnHost: string;
  pathInContainer: string;
  cgroupPermissions: string;
}

export interface Ulimit {
  name: string;
  hard: number;
  soft: number;
}

export interface MountRequest {
  type: string;
  source?: string;
  target: string;
  readOnly?: boolean;
  consistency?: string;
  bindOptions?: BindOptions;
  volumeOptions?: VolumeOptions;
  tmpfsOptions?: TmpfsOptions;
}

export interface BindOptions {
  propagation?: string;
  /** What is mounted below the source stays outside. */
  nonRecursive?: boolean;
  /** Makes a source that is missing. */
  createMountpoint?: boolean;
  /** Of a read-only mount: what is mounted below may be written to; must not be. */
  readOnlyNonRecursive?: boolean;
  readOnlyForceRecursive?: boolean;
}

export interface VolumeOptions {
  noCopy?: boolean;
  labels?: Record<string, string>;
  /** A place below the volume's root. */
  subpath?: string;
  driverConfig?: { name?: string; options?: Record<string, string> };
}

export interface TmpfsOptions {
  sizeBytes?: number;
  /** Permission bits. */
  mode?: number;
}

/** What a container may use of the host; what can be changed while it runs is part of it. */
export interface Resources {
  cpuShares: number;
  memory: number;
  nanoCpus: number;
  cgroupParent: string;
  blkioWeight: number;
  blkioWeightDevice: { path: string; weight: number }[] | null;
  blkioDeviceReadBps: ThrottleDevice[] | null;
  blkioDeviceWriteBps: ThrottleDevice[] | null;
  blkioDeviceReadIOps: ThrottleDevice[] | null;
  blkioDeviceWriteIOps: ThrottleDevice[] | null;
  cpuPeriod: number;
  cpuQuota: number;
  cpuRealtimePeriod: number;
  cpuRealtimeRuntime: number;
  cpusetCpus: string;
  cpusetMems: string;
  devices: DeviceMapping[] | null;
  deviceCgroupRules: string[] | null;
  deviceRequests: DeviceRequest[] | null;
  kernelMemory?: number;
  kernelMemoryTCP?: number;
  memoryReservation: number;
  memorySwap: number;
  memorySwappiness: number | null;
  oomKillDisable: boolean | null;
  pidsLimit: number | null;
  ulimits: Ulimit[] | null;
  cpuCount: number;
  cpuPercent: number;
  ioMaximumIOps: number;
  ioMaximumBandwidth: number;
}

/** How and on what it runs: from the request alone. Sizes in bytes, cpu times in microseconds. */
export interface HostConfig extends Resources {
  binds: string[] | null;
  containerIDFile: string;
  logConfig: LogConfig;
  networkMode: string;
  portBindings: Record<string, PortBinding[] | null> | null;
  restartPolicy: RestartPolicy;
  autoRemove: boolean;
  volumeDriver: string;
  volumesFrom: string[] | null;
  consoleSize: [number, number];
  annotations?: Record<string, string>;
  capAdd: string[] | null;
  capDrop: string[] | null;
  cgroupnsMode: string;
  dns: string[] | null;
  dnsOptions: string[] | null;
  dnsSearch: string[] | null;
  extraHosts: string[] | null;
  groupAdd: string[] | null;
  ipcMode: string;
  cgroup: string;
  links: string[] | null;
  oomScoreAdj: number;
  pidMode: string;
  privileged: boolean;
  publishAllPorts: boolean;
  readonlyRootfs: boolean;
  securityOpt: string[] | null;
  storageOpt?: Record<string, string>;
  tmpfs?: Record<string, string>;
  utsMode: string;
  usernsMode: string;
  shmSize: number;
  sysctls?: Record<string, string>;
  runtime: string;
  isolation: string;
  mounts?: MountRequest[];
  maskedPaths: string[] | null;
  readonlyPaths: string[] | null;
  init?: boolean;
}

export interface ThrottleDevice {
  path: string;
  rate: number;
}

export interface DeviceRequest {
  driver: string;
  count: number;
  deviceIDs: string[] | null;
  capabilities: string[][] | null;
  options: Record<string, string> | null;
}

/** A container's place on one network: what was asked for, and what it got while it runs. */
export interface EndpointSettings {
  ipamConfig: { ipv4Address?: string; ipv6Address?: string; linkLocalIPs?: string[] } | null;
  links: string[] | null;
  aliases: string[] | null;
  driverOpts: Record<string, string> | null;
  networkId: string;
  endpointId: string;
  gateway: string;
  ipAddress: string;
  ipPrefixLen: number;
  ipv6Gateway: string;
  globalIPv6Address: string;
  globalIPv6PrefixLen: number;
  /** In force; before the first start, what was asked for. */
  macAddress: string;
  /** What was asked for, in records. Older ones have none: there, the container's own is meant. */
  wantedMacAddress?: string;
}

/**
 * created → starting → running ⇄ paused, running → exited → starting …, any → removing → gone.
 * `starting` and `removing` are intents: written before the effect, settled at boot by what the kernel has.
 */
export type ContainerStatus =
  | 'created'
  | 'starting'
  | 'running'
  | 'paused'
  | 'restarting'
  | 'removing'
  | 'exited'
  | 'dead';

export interface ContainerState {
  status: ContainerStatus;
  /** The init process as the host numbers it; 0 when none runs. */
  pid: number;
  exitCode: number;
  /** Why the last start failed; empty if it did not. */
  error: string;
  oomKilled: boolean;
  /** Paused by the engine for a moment: a daemon that finds it so lets it run on. Never there unless it is paused. */
  isHeld?: boolean;
  /** Its anonymous volumes go with it. Only there while it is being removed. */
  takesVolumes?: boolean;
  /** RFC 3339 with nanoseconds; the zero time if never. */
  startedAt: string;
  finishedAt: string;
}

/** A mount point as inspect shows it. */
export interface MountPoint {
  type: 'bind' | 'volume' | 'tmpfs';
  /** The volume's name. */
  name?: string;
  source: string;
  destination: string;
  driver?: string;
  mode: string;
  isWritable: boolean;
  propagation: string;
  /** What it was made of, in the words of `Mounts`. Records of older daemons have none. */
  request?: MountRequest;
  /** Of a bind: its source is not made where it is missing. */
  mustExist?: boolean;
  /** It is that of another container (`VolumesFrom`). */
  isBorrowed?: boolean;
}

/** A container by another's word for it. */
export interface ContainerLink {
  containerId: string;
  /** As it was called then: whoever has that name takes its place once it is gone. */
  name: string;
  alias: string;
}

/** The whole durable record of a container. */
export interface ContainerRecord {
  id: string;
  /** Without the leading slash. */
  name: string;
  createdAt: string;
  /** The image's ID (`sha256:…`). */
  imageId: string;
  platform: { os: string; architecture: string; variant?: string };
  /** Diff IDs of the image's layers, lowest first: what keeps them from collection while the container exists. */
  diffIds: string[];
  config: ContainerConfig;
  hostConfig: HostConfig;
  endpoints: Record<string, EndpointSettings>;
  /** On the default bridge, those that it knows by words of its own. Records of older daemons have none. */
  links?: ContainerLink[];
  mounts: MountPoint[];
  /** Host ports in force while it runs, by `80/tcp`. */
  ports: Record<string, PortBinding[] | null>;
  state: ContainerState;
  restartCount: number;
  /** Stopped by a user: `unless-stopped` and `always` leave it so until the next boot or start. */
  isStoppedByUser: boolean;
  /** The OCI runtime that made it, by the name in the configuration. */
  runtime: string;
}
