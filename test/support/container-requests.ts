import type { CreateRequest } from '../../src/engine/container-checks.ts';
import { emptyConfig } from '../../src/engine/image-making.ts';
import type { ContainerConfig, HostConfig } from '../../src/engine/model.ts';
import type { CgroupLimits } from '../../src/host/cgroup-limits.ts';

/** What a client asks for that asks for nothing. */
export const plainConfig: ContainerConfig = { ...emptyConfig(), image: 'app' };

export const plainHostConfig: HostConfig = {
  binds: null,
  containerIDFile: '',
  logConfig: { type: '', config: {} },
  networkMode: '',
  portBindings: null,
  restartPolicy: { name: '', maximumRetryCount: 0 },
  autoRemove: false,
  volumeDriver: '',
  volumesFrom: null,
  consoleSize: [0, 0],
  capAdd: null,
  capDrop: null,
  cgroupnsMode: '',
  dns: null,
  dnsOptions: null,
  dnsSearch: null,
  extraHosts: null,
  groupAdd: null,
  ipcMode: '',
  cgroup: '',
  links: null,
  oomScoreAdj: 0,
  pidMode: '',
  privileged: false,
  publishAllPorts: false,
  readonlyRootfs: false,
  securityOpt: null,
  utsMode: '',
  usernsMode: '',
  shmSize: 0,
  runtime: '',
  isolation: '',
  cpuShares: 0,
  memory: 0,
  nanoCpus: 0,
  cgroupParent: '',
  blkioWeight: 0,
  blkioWeightDevice: null,
  blkioDeviceReadBps: null,
  blkioDeviceWriteBps: null,
  blkioDeviceReadIOps: null,
  blkioDeviceWriteIOps: null,
  cpuPeriod: 0,
  cpuQuota: 0,
  cpuRealtimePeriod: 0,
  cpuRealtimeRuntime: 0,
  cpusetCpus: '',
  cpusetMems: '',
  devices: null,
  deviceCgroupRules: null,
  deviceRequests: null,
  memoryReservation: 0,
  memorySwap: 0,
  memorySwappiness: null,
  oomKillDisable: null,
  pidsLimit: null,
  ulimits: null,
  cpuCount: 0,
  cpuPercent: 0,
  ioMaximumIOps: 0,
  ioMaximumBandwidth: 0,
  maskedPaths: null,
  readonlyPaths: null,
};

/** A request to create a container from the image `app`. */
export function createRequest(
  o: {
    name?: string;
    config?: Partial<ContainerConfig>;
    hostConfig?: Partial<HostConfig>;
    endpoints?: CreateRequest['endpoints'];
  } = {},
): CreateRequest {
  return {
    ...(o.name !== undefined && { name: o.name }),
    config: { ...plainConfig, ...o.config },
    hostConfig: { ...plainHostConfig, ...o.hostConfig },
    endpoints: o.endpoints ?? {},
  };
}

/** A kernel of today that can limit everything, with four processors and one memory node. */
export const everyLimit: CgroupLimits = {
  version: 2,
  memory: true,
  swap: true,
  memoryReservation: true,
  memorySwappiness: true,
  oomKillDisable: true,
  kernelMemory: true,
  kernelMemoryTcp: true,
  pids: true,
  cpuShares: true,
  cpuQuota: true,
  cpuRealtime: true,
  cpuset: true,
  cpus: '0-3',
  memoryNodes: '0',
  blockWeight: true,
  blockWeightDevice: true,
  blockReadBps: true,
  blockWriteBps: true,
  blockReadIops: true,
  blockWriteIops: true,
};

/** What containers get that do not say, by default. */
export const plainDefaults = {
  logs: { driver: 'json-file', options: {}, maxBytes: 1 << 20, maxFiles: 2 },
  init: false,
  initPath: undefined,
  security: { noNewPrivileges: false, seccomp: 'default' },
  ulimits: [],
  cdiDirectories: [],
  shmBytes: 64 << 20,
  ipcMode: 'private',
  cgroupnsMode: undefined,
} as const;
