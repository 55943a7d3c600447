import { fail } from '../errors.ts';
import type { CgroupLimits } from '../host/cgroup-limits.ts';
import type { Resources } from './model.ts';

/** What a container may have, and what is to be said of the rest. */
export interface CheckedResources<T extends Resources> {
  hostConfig: T;
  warnings: string[];
}

const MIN_MEMORY_BYTES = 6 * 1024 * 1024;
const MOST_CPUS = 8192;
const KERNEL_MEMORY_IS_OLD =
  'Specifying a kernel memory limit is deprecated and will be removed in a future release.';

/**
 * Checks limits against each other and against the kernel, in dockerd's order (moby, verifyPlatformContainerResources).
 * What the kernel cannot limit is taken out with a warning; what makes no sense throws 400. In an update, what is 0 or
 * empty stays as it is.
 */
export function checkResources<T extends Resources>(
  given: T,
  { limits, cpus, isUpdate = false }: { limits: CgroupLimits; cpus: number; isUpdate?: boolean },
): CheckedResources<T> {
  const hostConfig = { ...given };
  const warnings: string[] = [];
  if (hostConfig.memorySwappiness === -1) hostConfig.memorySwappiness = null; // what clients of old send for none
  checkMemory(hostConfig, limits, { isUpdate, warnings });
  checkProcesses(hostConfig, limits, warnings);
  checkCpus(hostConfig, limits, cpus, warnings);
  checkCpusets(hostConfig, limits, warnings);
  checkBlockIo(hostConfig, limits, warnings);
  return { hostConfig, warnings };
}

/** The ones that dockerd refuses before it looks at anything else. Throws 500. */
export function checkSchedulers(hostConfig: Resources, limits: Pick<CgroupLimits, 'cpuRealtime'>): void {
  const { cpuRealtimePeriod: period, cpuRealtimeRuntime: runtime } = hostConfig;
  if (hostConfig.ioMaximumBandwidth !== 0)
    throw fail.host('Invalid QoS settings: linux does not support configuration of maximum bandwidth');
  if (hostConfig.ioMaximumIOps !== 0)
    throw fail.host('Invalid QoS settings: linux does not support configuration of maximum IOPs');
  if ((period !== 0 || runtime !== 0) && !limits.cpuRealtime)
    throw fail.host('Your kernel does not support CPU real-time scheduler');
  if (period !== 0 && runtime > period)
    throw fail.host('cpu real-time runtime cannot be higher than cpu real-time period');
}

function checkMemory(
  hostConfig: Resources,
  limits: CgroupLimits,
  { isUpdate, warnings }: { isUpdate: boolean; warnings: string[] },
): void {
  if (hostConfig.memory !== 0 && hostConfig.memory < MIN_MEMORY_BYTES)
    throw fail.badRequest('Minimum memory limit allowed is 6MB');
  if (hostConfig.memory > 0 && !limits.memory) {
    warnings.push(lacks('memory limit capabilities', 'Limitation discarded.'));
    Object.assign(hostConfig, { memory: 0, memorySwap: -1 });
  }
  if (hostConfig.memory > 0 && hostConfig.memorySwap !== -1 && !limits.swap) {
    warnings.push(lacks('swap limit capabilities', 'Memory limited without swap.'));
    hostConfig.memorySwap = -1;
  }
  const { memory, memorySwap } = hostConfig;
  if (memory > 0 && memorySwap > 0 && memorySwap < memory)
    throw fail.badRequest('Minimum memoryswap limit should be larger than memory limit, see usage');
  if (memory === 0 && memorySwap > 0 && !isUpdate)
    throw fail.badRequest('You should always set the Memory limit when using Memoryswap limit, see usage');
  if (hostConfig.memorySwappiness !== null && !limits.memorySwappiness) {
    warnings.push(lacks('memory swappiness capabilities', 'Memory swappiness discarded.'));
    hostConfig.memorySwappiness = null;
  }
  const { memorySwappiness } = hostConfig;
  if (memorySwappiness !== null && (memorySwappiness < 0 || memorySwappiness > 100))
    throw fail.badRequest(`Invalid value: ${memorySwappiness}, valid memory swappiness range is 0-100`);
  checkReservation(hostConfig, limits, warnings);
}

function checkReservation(hostConfig: Resources, limits: CgroupLimits, warnings: string[]): void {
  if (hostConfig.memoryReservation > 0 && !limits.memoryReservation) {
    warnings.push(lacks('memory soft limit capabilities', 'Limitation discarded.'));
    hostConfig.memoryReservation = 0;
  }
  const { memory, memoryReservation, kernelMemory = 0 } = hostConfig;
  if (memoryReservation > 0 && memoryReservation < MIN_MEMORY_BYTES)
    throw fail.badRequest('Minimum memory reservation allowed is 6MB');
  if (memory > 0 && memoryReservation > memory)
    throw fail.badRequest('Minimum memory limit can not be less than memory reservation limit, see usage');
  if (kernelMemory > 0 && !limits.kernelMemory) {
    warnings.push(lacks('kernel memory limit capabilities', 'Limitation discarded.'));
    delete hostConfig.kernelMemory;
  } else if (kernelMemory > 0 && kernelMemory < MIN_MEMORY_BYTES) {
    throw fail.badRequest('Minimum kernel memory limit allowed is 6MB');
  } else if (kernelMemory > 0) {
    warnings.push(KERNEL_MEMORY_IS_OLD);
  }
}

function checkProcesses(hostConfig: Resources, limits: CgroupLimits, warnings: string[]): void {
  if (hostConfig.oomKillDisable !== null && !limits.oomKillDisable) {
    if (hostConfig.oomKillDisable)
      warnings.push('Your kernel does not support OomKillDisable. OomKillDisable discarded.');
    hostConfig.oomKillDisable = null;
  }
  if (hostConfig.oomKillDisable === true && hostConfig.memory === 0) {
    warnings.push(
      'OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.',
    );
  }
  if (hostConfig.pidsLimit !== null && !limits.pids) {
    if (hostConfig.pidsLimit > 0) warnings.push(lacks('PIDs limit capabilities', 'PIDs limit discarded.'));
    hostConfig.pidsLimit = null;
  }
}

function checkCpus(hostConfig: Resources, limits: CgroupLimits, cpus: number, warnings: string[]): void {
  const { nanoCpus } = hostConfig;
  if (nanoCpus > 0 && hostConfig.cpuPeriod > 0)
    throw fail.badRequest('Conflicting options: Nano CPUs and CPU Period cannot both be set');
  if (nanoCpus > 0 && hostConfig.cpuQuota > 0)
    throw fail.badRequest('Conflicting options: Nano CPUs and CPU Quota cannot both be set');
  if (nanoCpus > 0 && !limits.cpuQuota) {
    throw fail.badRequest(
      'NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted',
    );
  }
  if (nanoCpus < 0 || nanoCpus > cpus * 1e9) {
    throw fail.badRequest(
      `Range of CPUs is from 0.01 to ${cpus.toFixed(2)}, as there are only ${cpus} CPUs available`,
    );
  }
  if (hostConfig.cpuShares > 0 && !limits.cpuShares) {
    warnings.push(lacks('CPU shares', 'Shares discarded.'));
    hostConfig.cpuShares = 0;
  }
  if ((hostConfig.cpuPeriod !== 0 || hostConfig.cpuQuota !== 0) && !limits.cpuQuota) {
    warnings.push('Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.');
    Object.assign(hostConfig, { cpuPeriod: 0, cpuQuota: 0 });
  }
  const { cpuPeriod, cpuQuota } = hostConfig;
  if (cpuPeriod !== 0 && (cpuPeriod < 1000 || cpuPeriod > 1_000_000)) {
    throw fail.badRequest(
      'CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)',
    );
  }
  if (cpuQuota > 0 && cpuQuota < 1000)
    throw fail.badRequest('CPU cfs quota can not be less than 1ms (i.e. 1000)');
  if (hostConfig.cpuPercent > 0) {
    warnings.push('linux does not support CPU percent. Percent discarded.');
    hostConfig.cpuPercent = 0;
  }
}

function checkCpusets(hostConfig: Resources, limits: CgroupLimits, warnings: string[]): void {
  if ((hostConfig.cpusetCpus !== '' || hostConfig.cpusetMems !== '') && !limits.cpuset) {
    warnings.push(lacks('cpuset', 'Cpuset discarded.'));
    Object.assign(hostConfig, { cpusetCpus: '', cpusetMems: '' });
  }
  const { cpusetCpus, cpusetMems } = hostConfig;
  if (!isAmong(cpusetCpus, limits.cpus, 'cpus')) {
    throw fail.badRequest(
      `Requested CPUs are not available - requested ${cpusetCpus}, available: ${limits.cpus}`,
    );
  }
  if (!isAmong(cpusetMems, limits.memoryNodes, 'mems')) {
    throw fail.badRequest(
      `Requested memory nodes are not available - requested ${cpusetMems}, available: ${limits.memoryNodes}`,
    );
  }
}

/** Whether every number of a list such as `0-2,5` is in the other. Throws 400 if it is no list. */
function isAmong(wanted: string, available: string, what: 'cpus' | 'mems'): boolean {
  if (wanted === '') return true;
  const there = rangesOf(available) ?? [];
  const ranges = rangesOf(wanted);
  const complain = (why: string) => fail.badRequest(`Invalid value ${wanted} for cpuset ${what}: ${why}`);
  if (ranges === undefined) throw complain(`invalid format: ${wanted}`);
  const most = Math.max(MOST_CPUS, ...there.map(([, last]) => last));
  if (ranges.some(([, last]) => last > most)) throw complain(`value of out range, maximum is ${most}`);
  return ranges.every(([first, last]) => {
    for (let number = first; number <= last; number++)
      if (!there.some(([from, to]) => from <= number && number <= to)) return false;
    return true;
  });
}

/** First and last number of each part of a list; undefined if it is none. */
function rangesOf(list: string): [number, number][] | undefined {
  const ranges: [number, number][] = [];
  for (const part of list.split(',')) {
    const [, first, last = first] = /^\+?(\d+)(?:-\+?(\d+))?$/.exec(part) ?? [];
    if (first === undefined || Number(last) < Number(first)) return undefined;
    ranges.push([Number(first), Number(last)]);
  }
  return ranges;
}

function checkBlockIo(hostConfig: Resources, limits: CgroupLimits, warnings: string[]): void {
  if (hostConfig.blkioWeight > 0 && !limits.blockWeight) {
    warnings.push(lacks('Block I/O weight', 'Weight discarded.'));
    hostConfig.blkioWeight = 0;
  }
  const { blkioWeight } = hostConfig;
  if (blkioWeight > 0 && (blkioWeight < 10 || blkioWeight > 1000))
    throw fail.badRequest('Range of blkio weight is from 10 to 1000');
  const lists = [
    ['blkioWeightDevice', limits.blockWeightDevice, 'Block I/O weight_device', 'Weight-device'],
    ['blkioDeviceReadBps', limits.blockReadBps, 'BPS Block I/O read limit', 'Block I/O BPS read limit'],
    ['blkioDeviceWriteBps', limits.blockWriteBps, 'BPS Block I/O write limit', 'Block I/O BPS write limit'],
    ['blkioDeviceReadIOps', limits.blockReadIops, 'IOPS Block read limit', 'Block I/O IOPS read limit'],
    ['blkioDeviceWriteIOps', limits.blockWriteIops, 'IOPS Block write limit', 'Block I/O IOPS write limit'],
  ] as const;
  for (const [field, isThere, what, discarded] of lists) {
    if (isThere || (hostConfig[field] ?? []).length === 0) continue;
    warnings.push(lacks(what, `${discarded} discarded.`));
    hostConfig[field] = [];
  }
}

function lacks(what: string, consequence: string): string {
  return `Your kernel does not support ${what} or the cgroup is not mounted. ${consequence}`;
}
