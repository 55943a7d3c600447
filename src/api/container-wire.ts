import type {
  BindOptions,
  ContainerConfig,
  DeviceMapping,
  DeviceRequest,
  EndpointSettings,
  Healthcheck,
  HostConfig,
  LogConfig,
  MountRequest,
  PortBinding,
  Resources,
  RestartPolicy,
  ThrottleDevice,
  TmpfsOptions,
  Ulimit,
  VolumeOptions,
} from '../engine/model.ts';
import {
  type Codec,
  type Decoder,
  type Fields,
  int,
  int64,
  list,
  map,
  named,
  nullable,
  pair,
  set,
  struct,
  text,
  trueOrFalse,
  uint16,
  uint32,
  uint64,
  words,
} from './wire.ts';

/**
 * A container's configuration between Docker's spelling and the engine's: every field once. What a client sends comes
 * back from inspect as it was, defaults included; what differs between API versions is in `container-gates.ts`.
 */

const texts = list(text);
const textByText = map(text);

const healthcheck = struct<Healthcheck>('HealthConfig', 'container.HealthConfig', {
  test: ['Test', nonNull(texts), 'optional'],
  interval: ['Interval', int64, 'optional'],
  timeout: ['Timeout', int64, 'optional'],
  startPeriod: ['StartPeriod', int64, 'optional'],
  startInterval: ['StartInterval', int64, 'optional'],
  retries: ['Retries', int, 'optional'],
});

export const containerConfig = struct<ContainerConfig>('ContainerConfigWrapper', 'container.Config', {
  hostname: ['Hostname', text],
  domainname: ['Domainname', text],
  user: ['User', text],
  attachStdin: ['AttachStdin', trueOrFalse],
  attachStdout: ['AttachStdout', trueOrFalse],
  attachStderr: ['AttachStderr', trueOrFalse],
  exposedPorts: ['ExposedPorts', set('nat.PortSet'), 'omitempty'],
  tty: ['Tty', trueOrFalse],
  openStdin: ['OpenStdin', trueOrFalse],
  stdinOnce: ['StdinOnce', trueOrFalse],
  env: ['Env', texts],
  cmd: ['Cmd', words],
  healthcheck: ['Healthcheck', healthcheck, 'pointer'],
  argsEscaped: ['ArgsEscaped', trueOrFalse, 'optional'],
  image: ['Image', text],
  volumes: ['Volumes', set('map[string]struct {}')],
  workingDir: ['WorkingDir', text],
  entrypoint: ['Entrypoint', words],
  networkDisabled: ['NetworkDisabled', trueOrFalse, 'optional'],
  macAddress: ['MacAddress', text, 'optional'],
  onBuild: ['OnBuild', texts],
  labels: ['Labels', textByText],
  stopSignal: ['StopSignal', text, 'optional'],
  stopTimeout: ['StopTimeout', int, 'pointer'],
  shell: ['Shell', nonNull(words), 'optional'],
});

const logConfig = struct<LogConfig>('LogConfig', 'container.LogConfig', {
  type: ['Type', text],
  config: ['Config', nonNull(textByText)],
});

export const portBinding = struct<PortBinding>('PortBinding', 'nat.PortBinding', {
  hostIp: ['HostIp', text],
  hostPort: ['HostPort', text],
});

/** Bindings by `80/tcp`. */
export const portMap: Codec<Record<string, PortBinding[] | null> | null> = map(
  list(portBinding),
  'nat.PortMap',
);

const restartPolicy = struct<RestartPolicy>('RestartPolicy', 'container.RestartPolicy', {
  name: ['Name', named('container.RestartPolicyMode')],
  maximumRetryCount: ['MaximumRetryCount', int],
});

const deviceMapping = struct<DeviceMapping>('DeviceMapping', 'container.DeviceMapping', {
  pathOnHost: ['PathOnHost', text],
  pathInContainer: ['PathInContainer', text],
  cgroupPermissions: ['CgroupPermissions', text],
});

const deviceRequest = struct<DeviceRequest>('DeviceRequest', 'container.DeviceRequest', {
  driver: ['Driver', text],
  count: ['Count', int],
  deviceIDs: ['DeviceIDs', texts],
  capabilities: ['Capabilities', list(nonNull(texts), '[][]string')],
  options: ['Options', textByText],
});

const ulimit = struct<Ulimit>('Ulimit', 'units.Ulimit', {
  name: ['Name', text],
  hard: ['Hard', int64],
  soft: ['Soft', int64],
});

const throttleDevice = struct<ThrottleDevice>('ThrottleDevice', 'blkiodev.ThrottleDevice', {
  path: ['Path', text],
  rate: ['Rate', uint64],
});

const weightDevice = struct<{ path: string; weight: number }>('WeightDevice', 'blkiodev.WeightDevice', {
  path: ['Path', text],
  weight: ['Weight', uint16],
});

const bindOptions = struct<BindOptions>('BindOptions', 'mount.BindOptions', {
  propagation: ['Propagation', named('mount.Propagation'), 'optional'],
  nonRecursive: ['NonRecursive', trueOrFalse, 'optional'],
  createMountpoint: ['CreateMountpoint', trueOrFalse, 'optional'],
  readOnlyNonRecursive: ['ReadOnlyNonRecursive', trueOrFalse, 'optional'],
  readOnlyForceRecursive: ['ReadOnlyForceRecursive', trueOrFalse, 'optional'],
});

const volumeOptions = struct<VolumeOptions>('VolumeOptions', 'mount.VolumeOptions', {
  noCopy: ['NoCopy', trueOrFalse, 'optional'],
  labels: ['Labels', nonNull(textByText), 'optional'],
  subpath: ['Subpath', text, 'optional'],
  driverConfig: [
    'DriverConfig',
    struct<{ name?: string; options?: Record<string, string> }>('Driver', 'mount.Driver', {
      name: ['Name', text, 'optional'],
      options: ['Options', nonNull(textByText), 'optional'],
    }),
    'pointer',
  ],
});

const tmpfsOptions = struct<TmpfsOptions>('TmpfsOptions', 'mount.TmpfsOptions', {
  sizeBytes: ['SizeBytes', int64, 'optional'],
  mode: ['Mode', uint32, 'optional'],
});

const mountRequest = struct<MountRequest>('Mount', 'mount.Mount', {
  type: ['Type', named('mount.Type'), 'omitempty'],
  source: ['Source', text, 'optional'],
  target: ['Target', text, 'omitempty'],
  readOnly: ['ReadOnly', trueOrFalse, 'optional'],
  consistency: ['Consistency', named('mount.Consistency'), 'optional'],
  bindOptions: ['BindOptions', bindOptions, 'pointer'],
  volumeOptions: ['VolumeOptions', volumeOptions, 'pointer'],
  tmpfsOptions: ['TmpfsOptions', tmpfsOptions, 'pointer'],
});

const resources: Fields<Resources> = {
  cpuShares: ['CpuShares', int64],
  memory: ['Memory', int64],
  nanoCpus: ['NanoCpus', int64],
  cgroupParent: ['CgroupParent', text],
  blkioWeight: ['BlkioWeight', uint16],
  blkioWeightDevice: ['BlkioWeightDevice', list(weightDevice)],
  blkioDeviceReadBps: ['BlkioDeviceReadBps', list(throttleDevice)],
  blkioDeviceWriteBps: ['BlkioDeviceWriteBps', list(throttleDevice)],
  blkioDeviceReadIOps: ['BlkioDeviceReadIOps', list(throttleDevice)],
  blkioDeviceWriteIOps: ['BlkioDeviceWriteIOps', list(throttleDevice)],
  cpuPeriod: ['CpuPeriod', int64],
  cpuQuota: ['CpuQuota', int64],
  cpuRealtimePeriod: ['CpuRealtimePeriod', int64],
  cpuRealtimeRuntime: ['CpuRealtimeRuntime', int64],
  cpusetCpus: ['CpusetCpus', text],
  cpusetMems: ['CpusetMems', text],
  devices: ['Devices', list(deviceMapping)],
  deviceCgroupRules: ['DeviceCgroupRules', texts],
  deviceRequests: ['DeviceRequests', list(deviceRequest)],
  kernelMemory: ['KernelMemory', int64, 'optional'],
  kernelMemoryTCP: ['KernelMemoryTCP', int64, 'optional'],
  memoryReservation: ['MemoryReservation', int64],
  memorySwap: ['MemorySwap', int64],
  memorySwappiness: ['MemorySwappiness', nullable(int64)],
  oomKillDisable: ['OomKillDisable', nullable(trueOrFalse)],
  pidsLimit: ['PidsLimit', nullable(int64)],
  ulimits: ['Ulimits', list(ulimit)],
  cpuCount: ['CpuCount', int64],
  cpuPercent: ['CpuPercent', int64],
  ioMaximumIOps: ['IOMaximumIOps', uint64],
  ioMaximumBandwidth: ['IOMaximumBandwidth', uint64],
};

export const hostConfig = struct<HostConfig>('HostConfig', 'container.HostConfig', {
  binds: ['Binds', texts],
  containerIDFile: ['ContainerIDFile', text],
  logConfig: ['LogConfig', logConfig],
  networkMode: ['NetworkMode', named('container.NetworkMode')],
  portBindings: ['PortBindings', portMap],
  restartPolicy: ['RestartPolicy', restartPolicy],
  autoRemove: ['AutoRemove', trueOrFalse],
  volumeDriver: ['VolumeDriver', text],
  volumesFrom: ['VolumesFrom', texts],
  consoleSize: ['ConsoleSize', pair],
  annotations: ['Annotations', nonNull(textByText), 'optional'],
  capAdd: ['CapAdd', words],
  capDrop: ['CapDrop', words],
  cgroupnsMode: ['CgroupnsMode', named('container.CgroupnsMode')],
  dns: ['Dns', texts],
  dnsOptions: ['DnsOptions', texts],
  dnsSearch: ['DnsSearch', texts],
  extraHosts: ['ExtraHosts', texts],
  groupAdd: ['GroupAdd', texts],
  ipcMode: ['IpcMode', named('container.IpcMode')],
  cgroup: ['Cgroup', named('container.CgroupSpec')],
  links: ['Links', texts],
  oomScoreAdj: ['OomScoreAdj', int],
  pidMode: ['PidMode', named('container.PidMode')],
  privileged: ['Privileged', trueOrFalse],
  publishAllPorts: ['PublishAllPorts', trueOrFalse],
  readonlyRootfs: ['ReadonlyRootfs', trueOrFalse],
  securityOpt: ['SecurityOpt', texts],
  storageOpt: ['StorageOpt', nonNull(textByText), 'optional'],
  tmpfs: ['Tmpfs', nonNull(textByText), 'optional'],
  utsMode: ['UTSMode', named('container.UTSMode')],
  usernsMode: ['UsernsMode', named('container.UsernsMode')],
  shmSize: ['ShmSize', int64],
  sysctls: ['Sysctls', nonNull(textByText), 'optional'],
  runtime: ['Runtime', text, 'omitempty'],
  isolation: ['Isolation', named('container.Isolation')],
  ...resources,
  mounts: ['Mounts', nonNull(list(mountRequest)), 'optional'],
  maskedPaths: ['MaskedPaths', texts],
  readonlyPaths: ['ReadonlyPaths', texts],
  init: ['Init', trueOrFalse, 'pointer'],
});

const ipamConfig = struct<NonNullable<EndpointSettings['ipamConfig']>>(
  'EndpointIPAMConfig',
  'network.EndpointIPAMConfig',
  {
    ipv4Address: ['IPv4Address', text, 'optional'],
    ipv6Address: ['IPv6Address', text, 'optional'],
    linkLocalIPs: ['LinkLocalIPs', nonNull(texts), 'optional'],
  },
);

/** The MAC address that was asked for is the record's own business. */
export const endpointSettings = struct<Omit<EndpointSettings, 'wantedMacAddress'>>(
  'EndpointSettings',
  'network.EndpointSettings',
  {
    ipamConfig: ['IPAMConfig', nullable(ipamConfig)],
    links: ['Links', texts],
    aliases: ['Aliases', texts],
    macAddress: ['MacAddress', text],
    networkId: ['NetworkID', text],
    endpointId: ['EndpointID', text],
    gateway: ['Gateway', text],
    ipAddress: ['IPAddress', text],
    ipPrefixLen: ['IPPrefixLen', int],
    ipv6Gateway: ['IPv6Gateway', text],
    globalIPv6Address: ['GlobalIPv6Address', text],
    globalIPv6PrefixLen: ['GlobalIPv6PrefixLen', int],
    driverOpts: ['DriverOpts', textByText],
  },
);

/** What of a container can be changed while it lives. */
export type UpdateBody = Resources & Pick<HostConfig, 'restartPolicy'>;

export const updateBody = struct<UpdateBody>('UpdateConfig', 'container.UpdateConfig', {
  ...resources,
  restartPolicy: ['RestartPolicy', restartPolicy],
});

/** What else a create request holds beside the container's configuration, which stands at its top level. */
interface CreateExtras {
  hostConfig?: HostConfig;
  networkingConfig?: { endpointsConfig: Record<string, EndpointSettings> };
}

const createExtras = struct<CreateExtras>('ContainerConfigWrapper', 'runconfig.ContainerConfigWrapper', {
  hostConfig: ['HostConfig', hostConfig, 'pointer'],
  networkingConfig: [
    'NetworkingConfig',
    struct<{ endpointsConfig: Record<string, EndpointSettings> }>(
      'NetworkingConfig',
      'network.NetworkingConfig',
      {
        endpointsConfig: ['EndpointsConfig', nonNull(map(endpointSettings))],
      },
    ),
    'pointer',
  ],
});

/** A create request as it came; no `config` if none of its keys is there. */
export interface CreateBody {
  config?: ContainerConfig;
  hostConfig: HostConfig;
  endpoints: Record<string, EndpointSettings>;
}

/** The body of a create request. */
export const createBody: Decoder<CreateBody> = {
  zero: () => ({ hostConfig: hostConfig.zero(), endpoints: {} }),
  decode: (json) => {
    const extras = createExtras.decode(json);
    return {
      ...(containerConfig.isIn(json) && { config: containerConfig.decode(json) }),
      hostConfig: extras.hostConfig ?? hostConfig.zero(),
      endpoints: extras.networkingConfig?.endpointsConfig ?? {},
    };
  },
};

/** For what the model never leaves null: Go's nil and empty are one. */
function nonNull<T extends object>(codec: Codec<T | null>): Codec<T> {
  const zero = () => (codec.go.startsWith('map') ? {} : []) as unknown as T;
  return {
    go: codec.go,
    zero,
    decode: (json, place) => codec.decode(json, place) ?? zero(),
    encode: (value) => codec.encode(value),
  };
}
