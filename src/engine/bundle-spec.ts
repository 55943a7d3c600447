import { fail } from '../errors.ts';
import { defaultProfile, unconfinedProfile } from '../runtime/apparmor.ts';
import type { DeviceEdits } from '../runtime/cdi.ts';
import type { BundleSpec } from '../runtime/spec.ts';
import { initInContainer } from './init-program.ts';
import type { ContainerRecord, Resources, Ulimit } from './model.ts';
import type { BundleMount } from './mounts.ts';
import { type Donors, namespacesOf } from './namespaces.ts';
import { type SecurityDefaults, securityOf } from './security.ts';

/** What a bundle needs beyond the container's record: where things are, and who the user turned out to be. */
export interface BundlePlaces {
  rootfs: string;
  user: { uid: number; gid: number; additionalGids: number[]; home: string };
  capabilities: string[];
  mounts: BundleMount[];
  log: BundleSpec['log'];
  /** For a container that names no parent. */
  cgroupParent: string;
  /** Of containers that do not say. */
  security: SecurityDefaults;
  /** Limits of processes that the container does not set. */
  ulimits: readonly Ulimit[];
  /** The mount of the init process, if it has one. */
  init?: BundleMount;
  /** What the devices that it requests do to it. */
  edits?: DeviceEdits;
  /** Containers whose namespaces it joins. */
  donors?: Donors;
  shm?: NonNullable<BundleSpec['shm']>;
  /** Variables that tell of containers that it is linked to. */
  linked?: readonly string[];
}

/** Turns a container's record into what the OCI runtime is to run. Pure; throws 400 or 500 for bad options. */
export function bundleSpec(record: ContainerRecord, places: BundlePlaces): BundleSpec {
  const { config, hostConfig } = record;
  const security = securityOf(hostConfig, places.security);
  const { edits, linked = [] } = places;
  const more = edits?.env ?? [];
  return {
    id: record.id,
    runtime: record.runtime,
    rootfs: places.rootfs,
    isRootfsReadonly: hostConfig.readonlyRootfs,
    process: {
      args: places.init === undefined ? commandOf(record) : [initInContainer, '--', ...commandOf(record)],
      env: environmentOf(record, { home: places.user.home, tty: config.tty, linked, more }),
      cwd: config.workingDir === '' ? '/' : config.workingDir,
      user: {
        ...places.user,
        additionalGids: [...places.user.additionalGids, ...(edits?.additionalGids ?? [])],
      },
      terminal: config.tty,
      ...(hostConfig.consoleSize.some((cells) => cells > 0) && { consoleSize: hostConfig.consoleSize }),
      hasStdin: config.openStdin,
      isStdinOnce: config.stdinOnce,
      capabilities: places.capabilities,
      noNewPrivileges: security.noNewPrivileges,
      apparmor: security.apparmor || (hostConfig.privileged ? unconfinedProfile : defaultProfile),
      ...(hostConfig.oomScoreAdj !== 0 && { oomScoreAdj: hostConfig.oomScoreAdj }),
      rlimits: rlimitsOf(hostConfig, places),
    },
    hostname: config.hostname,
    domainname: config.domainname,
    namespaces: namespacesOf(hostConfig, places.donors ?? {}),
    mounts: mountsOf(places),
    shmBytes: hostConfig.shmSize,
    ...(places.shm !== undefined && { shm: places.shm }),
    resources: resourcesOf(hostConfig),
    devices: hostConfig.devices ?? [],
    ...(edits !== undefined && { nodes: edits.devices, hooks: edits.hooks }),
    deviceRules: hostConfig.deviceCgroupRules ?? [],
    isPrivileged: hostConfig.privileged,
    seccomp: hostConfig.privileged ? 'unconfined' : security.seccomp,
    maskedPaths: hostConfig.maskedPaths ?? (hostConfig.privileged ? [] : defaultMaskedPaths),
    readonlyPaths: hostConfig.readonlyPaths ?? (hostConfig.privileged ? [] : defaultReadonlyPaths),
    sysctls: hostConfig.sysctls ?? {},
    annotations: hostConfig.annotations ?? {},
    cgroupParent: hostConfig.cgroupParent || places.cgroupParent,
    log: places.log,
  };
}

/** What a device mounts at a place is instead of what else would be there. */
function mountsOf({ mounts, init, edits }: BundlePlaces): BundleSpec['mounts'] {
  const given = edits?.mounts ?? [];
  const taken = new Set(given.map(({ destination }) => destination));
  const others = [...mounts, ...(init === undefined ? [] : [init])];
  return [...others.filter(({ destination }) => !taken.has(destination)), ...given];
}

function rlimitsOf({ ulimits }: Resources, places: BundlePlaces): Ulimit[] {
  const own = ulimits ?? [];
  return [...own, ...places.ulimits.filter(({ name }) => !own.some((each) => each.name === name))];
}

/** Entrypoint and command in one: what is really executed. */
export function commandOf({ config }: ContainerRecord): string[] {
  return [...(config.entrypoint ?? []), ...(config.cmd ?? [])];
}

// dockerd: oci/defaults.go
export const defaultMaskedPaths = [
  '/proc/asound',
  '/proc/acpi',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
];
export const defaultReadonlyPaths = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
];

const defaultPath = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** dockerd's order: what the engine sets, then each list, where the later wins; a bare name unsets. */
export function environmentOf(
  { config }: Pick<ContainerRecord, 'config'>,
  o: { home: string; tty: boolean; linked?: readonly string[]; more?: readonly string[] },
): string[] {
  const { home, tty, linked = [], more = [] } = o;
  const variables = new Map<string, string>();
  const preset = [defaultPath, `HOSTNAME=${config.hostname}`, ...(tty ? ['TERM=xterm'] : [])];
  for (const variable of [...preset, ...linked, ...(config.env ?? []), ...more]) {
    const [name = ''] = variable.split('=', 1);
    if (variable.includes('=')) variables.set(name, variable);
    else variables.delete(name);
  }
  if (!variables.has('HOME')) variables.set('HOME', `HOME=${home}`);
  return [...variables.values()];
}

/** The limits of a container, those that are none left out. */
export function resourcesOf(hostConfig: Resources): BundleSpec['resources'] {
  const { nanoCpus, cpuShares } = hostConfig;
  if (cpuShares < 0) throw fail.host(`invalid CPU shares (${cpuShares}): value must be a positive integer`);
  const { kernelMemory = 0, kernelMemoryTCP = 0, memorySwappiness, pidsLimit } = hostConfig;
  const periodUs = nanoCpus > 0 ? 100_000 : hostConfig.cpuPeriod;
  const quotaUs = nanoCpus > 0 ? Math.floor((nanoCpus * periodUs) / 1e9) : hostConfig.cpuQuota;
  const { cpuRealtimeRuntime, cpuRealtimePeriod, cpusetCpus, cpusetMems } = hostConfig;
  const listed = <T>(list: T[] | null) => (list !== null && list.length > 0 ? list : undefined);
  const wanted = {
    memoryBytes: positive(hostConfig.memory),
    memoryReservationBytes: positive(hostConfig.memoryReservation),
    memorySwapBytes: hostConfig.memorySwap || undefined,
    kernelMemoryBytes: positive(kernelMemory),
    kernelMemoryTcpBytes: positive(kernelMemoryTCP),
    memorySwappiness: memorySwappiness ?? undefined,
    cpuShares: cpuShares || undefined,
    cpuQuota: quotaUs || undefined,
    cpuPeriod: periodUs || undefined,
    cpuRealtimeRuntime: cpuRealtimeRuntime || undefined,
    cpuRealtimePeriod: cpuRealtimePeriod || undefined,
    cpusetCpus: cpusetCpus || undefined,
    cpusetMems: cpusetMems || undefined,
    pidsLimit: positive(pidsLimit ?? 0),
    oomKillDisable: hostConfig.oomKillDisable || undefined,
    blockWeight: hostConfig.blkioWeight || undefined,
    blockWeightDevices: listed(hostConfig.blkioWeightDevice),
    blockReadBps: listed(hostConfig.blkioDeviceReadBps),
    blockWriteBps: listed(hostConfig.blkioDeviceWriteBps),
    blockReadIops: listed(hostConfig.blkioDeviceReadIOps),
    blockWriteIops: listed(hostConfig.blkioDeviceWriteIOps),
  };
  return Object.fromEntries(Object.entries(wanted).filter(([, value]) => value !== undefined));
}

function positive(value: number): number | undefined {
  return value > 0 ? value : undefined;
}
