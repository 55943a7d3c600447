import { statSync } from 'node:fs';
import { codeOf, fail, messageOf } from '../errors.ts';
import { deviceNumber } from '../host/device-nodes.ts';

/** A limit on what a container reads of one device or writes to it, each second: bytes or operations. */
export interface DeviceRate {
  readonly path: string;
  readonly rate: number;
}

/** Limits; absent means none. Sizes in bytes, cpu times in microseconds. */
export interface BundleResources {
  readonly memoryBytes?: number;
  readonly memoryReservationBytes?: number;
  /** Memory and swap together; -1 is no limit on swap. */
  readonly memorySwapBytes?: number;
  readonly kernelMemoryBytes?: number;
  readonly kernelMemoryTcpBytes?: number;
  /** From 0, keep all in memory, to 100. */
  readonly memorySwappiness?: number;
  readonly cpuShares?: number;
  readonly cpuQuota?: number;
  readonly cpuPeriod?: number;
  readonly cpuRealtimeRuntime?: number;
  readonly cpuRealtimePeriod?: number;
  readonly cpusetCpus?: string;
  readonly cpusetMems?: string;
  readonly pidsLimit?: number;
  readonly oomKillDisable?: boolean;
  /** From 10 to 1000. */
  readonly blockWeight?: number;
  readonly blockWeightDevices?: readonly { readonly path: string; readonly weight: number }[];
  readonly blockReadBps?: readonly DeviceRate[];
  readonly blockWriteBps?: readonly DeviceRate[];
  readonly blockReadIops?: readonly DeviceRate[];
  readonly blockWriteIops?: readonly DeviceRate[];
}

/**
 * Limits in the OCI runtime's words (runtime-spec 1.0, config-linux.md, Control groups): those of cgroup v1, which the
 * runtimes turn into v2's. Looks the devices up on the host; throws 500 in dockerd's words for one that is not there.
 */
export function ociResources(resources: BundleResources, cgroupVersion: 1 | 2): object {
  const memory = withoutAbsent({
    limit: resources.memoryBytes,
    reservation: resources.memoryReservationBytes,
    swap: resources.memorySwapBytes,
    kernel: resources.kernelMemoryBytes,
    kernelTCP: resources.kernelMemoryTcpBytes,
    swappiness: resources.memorySwappiness,
    disableOOMKiller: cgroupVersion === 1 ? resources.oomKillDisable : undefined,
  });
  const cpu = withoutAbsent({
    shares: resources.cpuShares,
    quota: resources.cpuQuota,
    period: resources.cpuPeriod,
    realtimeRuntime: resources.cpuRealtimeRuntime,
    realtimePeriod: resources.cpuRealtimePeriod,
    cpus: resources.cpusetCpus,
    mems: resources.cpusetMems,
  });
  const blockIO = withoutAbsent({
    weight: resources.blockWeight,
    weightDevice: resources.blockWeightDevices?.map(({ path, weight }) => ({ ...numbersOf(path), weight })),
    throttleReadBpsDevice: ratesOf(resources.blockReadBps),
    throttleWriteBpsDevice: ratesOf(resources.blockWriteBps),
    throttleReadIOPSDevice: ratesOf(resources.blockReadIops),
    throttleWriteIOPSDevice: ratesOf(resources.blockWriteIops),
  });
  return {
    ...(memory !== undefined && { memory }),
    ...(cpu !== undefined && { cpu }),
    ...(blockIO !== undefined && { blockIO }),
    ...(resources.pidsLimit !== undefined && { pids: { limit: resources.pidsLimit } }),
  };
}

function ratesOf(rates: readonly DeviceRate[] | undefined): object[] | undefined {
  return rates?.map(({ path, rate }) => ({ ...numbersOf(path), rate }));
}

function numbersOf(path: string): { major: number; minor: number } {
  try {
    return deviceNumber(statSync(path).rdev);
  } catch (cause) {
    const why = codeOf(cause) === 'ENOENT' ? 'no such file or directory' : messageOf(cause);
    throw fail.runtime(`stat ${path}: ${why}`, { cause });
  }
}

/** The object without its undefined fields; undefined if nothing is left. */
function withoutAbsent(fields: Record<string, unknown>): object | undefined {
  const present = Object.entries(fields).filter(([, value]) => value !== undefined);
  return present.length === 0 ? undefined : Object.fromEntries(present);
}
