import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CgroupLayout } from './cgroup.ts';

/** What this kernel can limit by control groups: dockerd's questions, asked of the same files (moby, pkg/sysinfo). */
export interface CgroupLimits {
  readonly version: 1 | 2;
  readonly memory: boolean;
  readonly swap: boolean;
  readonly memoryReservation: boolean;
  readonly memorySwappiness: boolean;
  readonly oomKillDisable: boolean;
  readonly kernelMemory: boolean;
  readonly kernelMemoryTcp: boolean;
  readonly pids: boolean;
  readonly cpuShares: boolean;
  readonly cpuQuota: boolean;
  readonly cpuRealtime: boolean;
  readonly cpuset: boolean;
  /** The processors and memory nodes that a cpuset can have, as the kernel lists them: `0-3,6`. */
  readonly cpus: string;
  readonly memoryNodes: string;
  readonly blockWeight: boolean;
  readonly blockWeightDevice: boolean;
  readonly blockReadBps: boolean;
  readonly blockWriteBps: boolean;
  readonly blockReadIops: boolean;
  readonly blockWriteIops: boolean;
}

/** Looks at the files of the hierarchies; `root` is another machine's file system, in tests. */
export function readCgroupLimits(layout: CgroupLayout, root = '/'): CgroupLimits {
  return layout.version === 1 ? limitsOfV1(layout) : limitsOfV2(layout, root);
}

function limitsOfV1({ mounts }: CgroupLayout): CgroupLimits {
  const has = (controller: string, file: string) => {
    const mount = mounts.get(controller);
    return mount !== undefined && existsSync(join(mount, file));
  };
  const cpusets = mounts.get('cpuset') ?? '';
  return {
    version: 1,
    memory: mounts.has('memory'),
    swap: has('memory', 'memory.memsw.limit_in_bytes'),
    memoryReservation: has('memory', 'memory.soft_limit_in_bytes'),
    memorySwappiness: has('memory', 'memory.swappiness'),
    oomKillDisable: has('memory', 'memory.oom_control'),
    kernelMemory: has('memory', 'memory.kmem.limit_in_bytes'),
    kernelMemoryTcp: has('memory', 'memory.kmem.tcp.limit_in_bytes'),
    pids: mounts.has('pids'),
    cpuShares: has('cpu', 'cpu.shares'),
    cpuQuota: has('cpu', 'cpu.cfs_quota_us'),
    cpuRealtime: has('cpu', 'cpu.rt_period_us'),
    cpuset: mounts.has('cpuset'),
    cpus: textOf(join(cpusets, 'cpuset.cpus')),
    memoryNodes: textOf(join(cpusets, 'cpuset.mems')),
    blockWeight: has('blkio', 'blkio.weight'),
    blockWeightDevice: has('blkio', 'blkio.weight_device'),
    blockReadBps: has('blkio', 'blkio.throttle.read_bps_device'),
    blockWriteBps: has('blkio', 'blkio.throttle.write_bps_device'),
    blockReadIops: has('blkio', 'blkio.throttle.read_iops_device'),
    blockWriteIops: has('blkio', 'blkio.throttle.write_iops_device'),
  };
}

function limitsOfV2({ controllers, mounts }: CgroupLayout, root: string): CgroupLimits {
  const unified = mounts.get('unified') ?? '';
  const [memory, cpu, cpuset, io] = ['memory', 'cpu', 'cpuset', 'io'].map((name) => controllers.has(name));
  return {
    version: 2,
    memory: memory === true,
    swap: memory === true && limitsSwap(unified, root),
    memoryReservation: memory === true,
    memorySwappiness: false,
    oomKillDisable: false,
    kernelMemory: false,
    kernelMemoryTcp: false,
    pids: controllers.has('pids'),
    cpuShares: cpu === true,
    cpuQuota: cpu === true,
    cpuRealtime: false,
    cpuset: cpuset === true,
    cpus: textOf(join(unified, 'cpuset.cpus.effective')),
    memoryNodes: textOf(join(unified, 'cpuset.mems.effective')),
    blockWeight: io === true,
    blockWeightDevice: io === true,
    blockReadBps: io === true,
    blockWriteBps: io === true,
    blockReadIops: io === true,
    blockWriteIops: io === true,
  };
}

/** The root has no limit on swap, where others have one: the daemon's own group knows, or any below the root. */
function limitsSwap(unified: string, root: string): boolean {
  const own = /^0::(.*)$/m.exec(textOf(join(root, 'proc/self/cgroup')))?.[1] ?? '/';
  const groups = own === '/' ? directoriesIn(unified) : [own];
  return groups.some((group) => existsSync(join(unified, group, 'memory.swap.max')));
}

function directoriesIn(path: string): string[] {
  return readdirSync(path, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? [entry.name] : [],
  );
}

/** A small file's text; empty where it is not there, as for a controller that is not. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}
