import { readFileSync } from 'node:fs';
import { join, normalize } from 'node:path';
import { codeOf } from '../errors.ts';
import type { CgroupLayout } from './cgroup.ts';
import { TICK_NS } from './facts.ts';
import { isAbsence } from './files.ts';

/** One counter of one block device. */
export interface BlockCount {
  readonly major: number;
  readonly minor: number;
  /** As the kernel spells it: `Read` and `Write` in version 1, `read` and `write` in version 2. */
  readonly op: string;
  readonly value: number;
}

/** What the processes of a cgroup, and of those below it, have used. Times in nanoseconds. */
export interface CgroupUsage {
  readonly version: 1 | 2;
  readonly cpu: {
    readonly totalNs: number;
    readonly kernelNs: number;
    readonly userNs: number;
    /** By CPU; version 1 alone counts so. */
    readonly perCpuNs?: readonly number[];
    readonly periods: number;
    readonly throttledPeriods: number;
    readonly throttledNs: number;
  };
  /** Undefined where the memory controller is not in use. */
  readonly memory?: {
    readonly usageBytes: number;
    readonly maxUsageBytes?: number;
    readonly failures?: number;
    /** Undefined where there is none. */
    readonly limitBytes?: number;
    /** The kernel's `memory.stat`. */
    readonly stat: Readonly<Record<string, number>>;
  };
  readonly pids: { readonly current: number; readonly limit?: number };
  readonly block: { readonly bytes: readonly BlockCount[]; readonly operations: readonly BlockCount[] };
}

/** Reads the counters of a cgroup; `path` is as in /proc/PID/cgroup. What is gone or not counted is 0. */
export function readCgroupUsage(layout: CgroupLayout, path: string): CgroupUsage {
  const inside = normalize(`/${path}`);
  const reader = (controller: string) => {
    const mount = layout.mounts.get(controller) ?? layout.mounts.get('unified');
    return (file: string) => (mount === undefined ? undefined : textOf(join(mount, inside, file)));
  };
  return layout.version === 2 ? unifiedUsage(reader('unified')) : oldUsage(reader);
}

type Read = (file: string) => string | undefined;

// Linux: Documentation/admin-guide/cgroup-v2.rst
function unifiedUsage(read: Read): CgroupUsage {
  const cpu = table(read('cpu.stat'));
  const usage = number(read('memory.current'));
  const limitBytes = limit(read('memory.max'));
  const pidsLimit = limit(read('pids.max'));
  const entries = deviceEntries(read('io.stat'), ['rbytes', 'wbytes']);
  return {
    version: 2,
    cpu: {
      totalNs: (cpu['usage_usec'] ?? 0) * 1000,
      kernelNs: (cpu['system_usec'] ?? 0) * 1000,
      userNs: (cpu['user_usec'] ?? 0) * 1000,
      periods: cpu['nr_periods'] ?? 0,
      throttledPeriods: cpu['nr_throttled'] ?? 0,
      throttledNs: (cpu['throttled_usec'] ?? 0) * 1000,
    },
    ...(usage !== undefined && {
      memory: {
        usageBytes: usage,
        ...(limitBytes !== undefined && { limitBytes }),
        stat: table(read('memory.stat')),
      },
    }),
    pids: {
      current: number(read('pids.current')) ?? 0,
      ...(pidsLimit !== undefined && { limit: pidsLimit }),
    },
    block: {
      bytes: entries.map((entry) => ({ ...entry, op: entry.op === 'rbytes' ? 'read' : 'write' })),
      operations: [],
    },
  };
}

// Linux: Documentation/admin-guide/cgroup-v1
function oldUsage(reader: (controller: string) => Read): CgroupUsage {
  const [cpu, cpuacct, memory] = [reader('cpu'), reader('cpuacct'), reader('memory')];
  const [pids, blkio] = [reader('pids'), reader('blkio')];
  const throttling = table(cpu('cpu.stat'));
  const ticks = table(cpuacct('cpuacct.stat'));
  const usage = number(memory('memory.usage_in_bytes'));
  const limitBytes = limit(memory('memory.limit_in_bytes'));
  const pidsLimit = limit(pids('pids.max'));
  return {
    version: 1,
    cpu: {
      totalNs: number(cpuacct('cpuacct.usage')) ?? 0,
      kernelNs: (ticks['system'] ?? 0) * TICK_NS,
      userNs: (ticks['user'] ?? 0) * TICK_NS,
      perCpuNs: (cpuacct('cpuacct.usage_percpu') ?? '').split(/\s+/).filter(Boolean).map(Number),
      periods: throttling['nr_periods'] ?? 0,
      throttledPeriods: throttling['nr_throttled'] ?? 0,
      throttledNs: throttling['throttled_time'] ?? 0,
    },
    ...(usage !== undefined && {
      memory: {
        usageBytes: usage,
        maxUsageBytes: number(memory('memory.max_usage_in_bytes')) ?? 0,
        failures: number(memory('memory.failcnt')) ?? 0,
        ...(limitBytes !== undefined && { limitBytes }),
        stat: table(memory('memory.stat')),
      },
    }),
    pids: {
      current: number(pids('pids.current')) ?? 0,
      ...(pidsLimit !== undefined && { limit: pidsLimit }),
    },
    block: {
      bytes: oldBlockCounts(blkio, 'io_service_bytes'),
      operations: oldBlockCounts(blkio, 'io_serviced'),
    },
  };
}

/** The I/O scheduler's own counters where it has some, else those of the throttle, which sees everything. */
function oldBlockCounts(read: Read, name: string): BlockCount[] {
  const scheduled = oldDeviceEntries(read(`blkio.${name}_recursive`));
  return scheduled.length > 0 ? scheduled : oldDeviceEntries(read(`blkio.throttle.${name}`));
}

/** Lines `8:0 Read 4096`; the last line is the sum of all devices. */
function oldDeviceEntries(text = ''): BlockCount[] {
  return [...text.matchAll(/^(\d+):(\d+) (\w+) (\d+)$/gm)].map(([, major, minor, op = '', value]) => ({
    major: Number(major),
    minor: Number(minor),
    op,
    value: Number(value),
  }));
}

/** Lines `8:0 rbytes=4096 wbytes=0 …`. */
function deviceEntries(text = '', keys: readonly string[]): BlockCount[] {
  return text.split('\n').flatMap((line) => {
    const [, major, minor, rest = ''] = /^(\d+):(\d+) (.*)$/.exec(line) ?? [];
    if (major === undefined) return [];
    const values = new Map(rest.split(' ').map((pair) => pair.split('=', 2) as [string, string]));
    return keys.map((op) => ({
      major: Number(major),
      minor: Number(minor),
      op,
      value: Number(values.get(op) ?? 0),
    }));
  });
}

/** Lines `name value`. */
function table(text = ''): Record<string, number> {
  return Object.fromEntries(
    [...text.matchAll(/^(\w+) (\d+)$/gm)].map(([, name = '', value]) => [name, Number(value)]),
  );
}

function number(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Number(text);
}

/** `max` is none, and so is what version 1 says instead of it: all pages that a signed long can count. */
function limit(text: string | undefined): number | undefined {
  const value = Number(text?.trim());
  return text === undefined || !(value < 2 ** 62) ? undefined : value;
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    // removed, perhaps between open and read; or a counter that this kernel has not
    if (isAbsence(cause) || codeOf(cause) === 'ENODEV' || codeOf(cause) === 'EOPNOTSUPP') return undefined;
    throw cause;
  }
}
